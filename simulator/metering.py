"""Metering: counting tokens, the prompt cache, prices in nano-AIU and the ledger.

Source: docs/upstream.md (copilot_usage, quota headers).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote

from simulator.prompts import Prompt
from simulator.state import NANO_PER_CREDIT, Account, Charge, Json, State

CACHE_ENTRIES = 50_000
RESET_DATE = "2026-12-01"
RESET_UTC = "2026-12-01T00:00:00Z"
RESET_UNIX = 1796083200

_RESET_QUOTED = quote(RESET_UTC)
_FREE_QUOTA = f"ent=-1&ov=0.0&ovPerm=false&rem=100.0&rst={_RESET_QUOTED}"
_WINDOW = f"ent=1000&rem=88.0&rst={_RESET_QUOTED}"


def count_tokens(words: str) -> int:
    """Count about as a tokenizer would: four characters make a token."""
    return (len(words) + 3) // 4


@dataclass(slots=True)
class Usage:
    """Tokens of one call by kind. `input` excludes cached tokens, as `copilot_usage` does."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write


def measure_prompt(state: State, account: Account, model_id: str, prompt: Prompt) -> Usage:
    """Count the prompt and look up which prefix of it this account sent to this model before.

    Remembers every prefix, so the same call again reads from the cache.
    """
    is_claude = model_id.startswith("claude")
    cacheable = len(prompt.parts)
    if is_claude and (prompt.cache_until or state.config.claude_cache_needs_markers):
        cacheable = prompt.cache_until
    digest = hashlib.blake2b(f"{account.login}|{model_id}".encode(), digest_size=16)
    total = read = written = 0
    cache = state.prompt_cache
    for number, part in enumerate(prompt.parts):
        total += part.tokens
        if number >= cacheable:
            continue
        digest.update(part.text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
        key = digest.digest()
        if key in cache:
            read = total
            cache.move_to_end(key)
        else:
            cache[key] = total
        written = total
    while len(cache) > CACHE_ENTRIES:
        cache.popitem(last=False)
    usage = Usage(cache_read=read)
    if is_claude and prompt.cache_until:
        usage.cache_write = max(0, written - read)
    usage.input = total - read - usage.cache_write
    return usage


def tier_of(entry: Json, prompt_tokens: int) -> Json | None:
    """Return the price tier that applies to a prompt of that size, or None if unpriced."""
    prices = entry.get("billing", {}).get("token_prices")
    if not isinstance(prices, dict) or "default" not in prices:
        return None
    default: Json = prices["default"]
    long: Json | None = prices.get("long_context")
    if long is not None and prompt_tokens > default.get("context_max", 1 << 60):
        return long
    return default


def copilot_usage(entry: Json, usage: Usage) -> Json | None:
    """Return `copilot_usage` with the exact cost, or None for a model without prices."""
    tier = tier_of(entry, usage.prompt)
    if tier is None:
        return None
    batch = entry["billing"]["token_prices"].get("batch_size", 1_000_000)
    kinds = [
        ("input", usage.input, tier.get("input_price", 0)),
        ("cache_read", usage.cache_read, tier.get("cache_read_price", 0)),
        ("cache_write", usage.cache_write, tier.get("cache_write_price")),
        ("output", usage.output, tier.get("output_price", 0)),
    ]
    details: list[Json] = []
    total = 0
    for kind, tokens, price in kinds:
        if price is None:
            continue
        cost = round(price * NANO_PER_CREDIT)
        total += tokens * cost // batch
        details.append(
            {
                "batch_size": batch,
                "cost_per_batch": cost,
                "token_count": tokens,
                "token_type": kind,
            }
        )
    return {"token_details": details, "total_nano_aiu": total}


def charge(
    state: State,
    account: Account,
    *,
    entry: Json,
    usage: Usage,
    path: str,
    initiator: str,
    outcome: str,
) -> None:
    """Write one call into the ledger and take it from the account's budget.

    Also cut and abandoned streams are charged, for what was produced until then.
    """
    priced = copilot_usage(entry, usage) if account.token_based_billing else None
    nano = int(priced["total_nano_aiu"]) if priced is not None else 0
    account.quota_lag.append(account.used)
    account.credits_used_nano += nano
    if not account.token_based_billing and initiator != "agent":
        account.premium_used += entry.get("billing", {}).get("multiplier", 0)
    state.charges += 1
    line = Charge(
        n=state.charges,
        login=account.login,
        model=str(entry["id"]),
        path=path,
        input=usage.input,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        output=usage.output,
        nano_aiu=nano,
        outcome=outcome,
        initiator=initiator,
    )
    state.ledger.append(line)
    sums = state.totals.setdefault((line.login, line.model), _no_sums())
    for kind in ("input", "cache_read", "cache_write", "output", "nano_aiu"):
        sums[kind] += getattr(line, kind)
    sums["requests"] += 1


def _no_sums() -> Json:
    kinds = ("requests", "input", "cache_read", "cache_write", "output", "nano_aiu")
    return dict.fromkeys(kinds, 0)


def ledger_document(state: State) -> Json:
    """Return the ledger: sums per account and model, the newest lines, and the grand total."""
    accounts: dict[str, Json] = {}
    for (login, model), sums in state.totals.items():
        accounts.setdefault(login, {})[model] = dict(sums)
    names = Charge.__slots__
    return {
        "accounts": accounts,
        "requests": [{name: getattr(line, name) for name in names} for line in state.ledger],
        "total_nano_aiu": sum(sums["nano_aiu"] for sums in state.totals.values()),
    }


def percent_left(account: Account, used: float) -> float:
    if account.unlimited or account.entitlement <= 0:
        return 100.0
    return round((account.entitlement - used) / account.entitlement * 100, 1)


def quota_headers(state: State, account: Account) -> list[tuple[str, str]]:
    """Return the quota headers of a successful answer; their values lag a few calls behind."""
    lag = state.config.quota_lag_calls
    while len(account.quota_lag) > max(lag, 1):
        account.quota_lag.popleft()
    used = account.quota_lag[0] if account.quota_lag and lag else account.used
    unlimited = account.unlimited or account.pooled
    values = (
        f"ent={-1 if unlimited else int(account.entitlement)}"
        f"&ov={0.0 if unlimited else max(0.0, used - account.entitlement):.1f}"
        f"&ovPerm={'true' if account.overage_permitted else 'false'}"
        f"&rem={percent_left(account, used):.1f}&rst={_RESET_QUOTED}"
    )
    if account.token_based_billing and not unlimited:
        values += f"&totRem={account.entitlement - used:.1f}"
    return [
        ("x-quota-snapshot-chat", _FREE_QUOTA),
        ("x-quota-snapshot-completions", _FREE_QUOTA),
        ("x-quota-snapshot-premium_interactions", values),
        ("x-usage-ratelimit-session", _WINDOW),
        ("x-usage-ratelimit-weekly", _WINDOW),
    ]
