"""What the limits say to people: refusals with the limit and who set it, warnings, what is left."""

from datetime import datetime

from django.utils.timezone import now

from accounts.limits import WORDS, Allowance, end_of
from proxy.errors import BodyTooLarge, GatewayError, RateLimited
from proxy.limits.asking import GRACE_S, Ask, Verdict

NANO_PER_CREDIT = 1e9


def refusal(ask: Ask, verdict: Verdict, *, mean_held_s: float) -> GatewayError:
    """The answer to a request that does not get in. `retry_after_s` is when it would."""
    one, room = ask.allowances[verdict.subject], ask.rooms[verdict.subject]
    who = one.who[0].upper() + one.who[1:]
    match verdict.kind:
        case "rpm":
            light = " of this light kind" if room.rpm != one.rpm else ""
            return RateLimited(
                f"{who} may make {room.rpm} requests{light} a minute.",
                retry_after_s=max(1.0, verdict.wait_s - GRACE_S),
            )
        case "tpm":
            return RateLimited(
                f"{who} may use {room.tpm} tokens a minute; {verdict.value} are used, and this "
                f"request needs about {ask.tokens}.",
                code="tokens_rate_limited",
                retry_after_s=max(1.0, verdict.wait_s - GRACE_S),
            )
        case "tokens":
            return BodyTooLarge(
                f"{who} may use {room.tpm} tokens a minute, and this request alone needs about "
                f"{ask.tokens}. An administrator can raise the limit.",
                code="tokens_per_minute_exceeded",
            )
        case "concurrency":
            return RateLimited(
                f"{who} may have {room.concurrency} requests in flight, and {verdict.value} wait "
                "already.",
                code="queue_full",
                retry_after_s=_turn_in(verdict.value + 1, room.concurrency, mean_held_s),
            )
        case "budget" | "estimate":
            return _over_budget(ask, verdict)


def _over_budget(ask: Ask, verdict: Verdict) -> GatewayError:
    one = ask.allowances[verdict.subject]
    budget = one.budgets[verdict.which]
    moment = now()
    limit = budget.at(moment)
    who = one.who[0].upper() + one.who[1:]
    said = (
        f"{who} has used {verdict.value / NANO_PER_CREDIT:.2f} of its {limit / NANO_PER_CREDIT:g} AI "
        f"credits for this {WORDS[budget.period]}"
    )
    if verdict.kind == "estimate":
        said += f", and this request is estimated at {ask.nano_aiu / NANO_PER_CREDIT:.2f}"
    return RateLimited(
        f"{said}. An administrator can raise the budget.",
        code="insufficient_quota",
        retry_after_s=(end_of(budget.period, moment) - moment).total_seconds(),
        should_retry=False,
    )


def waited_too_long(
    ask: Ask, verdict: Verdict, waited_s: float, mean_held_s: float
) -> GatewayError:
    one, room = ask.allowances[verdict.subject], ask.rooms[verdict.subject]
    who = one.who[0].upper() + one.who[1:]
    return RateLimited(
        f"{who} may have {room.concurrency} requests in flight; none ended within {waited_s:g} s.",
        code="queue_timeout",
        retry_after_s=_turn_in(verdict.value + 1, room.concurrency, mean_held_s),
    )


def _turn_in(place: int, slots: int, mean_held_s: float) -> float:
    """When a slot is likely to be free for somebody at this place of the queue."""
    return max(1.0, place / max(1, slots) * mean_held_s)


def warning(ask: Ask, sums: tuple[int, ...], moment: datetime) -> str:
    """`key ci 82% of day` for each budget beyond its warning level; empty when none is."""
    found = []
    at = iter(sums)
    for one, room in zip(ask.allowances, ask.rooms, strict=True):
        if not room.budgets:
            continue
        for budget in one.budgets:
            spent, limit = next(at), budget.at(moment)
            if limit and spent * 100 >= limit * (one.warn_percent or 100):
                found.append(f"{_sendable(one.name)} {spent * 100 // limit}% of {budget.period}")
    return ", ".join(found)


def _sendable(name: str) -> str:
    """Names are people's own words, a header takes ASCII only."""
    kept = "".join(c if " " <= c <= "~" and c != "," else "?" for c in name)
    return kept[:80]


def left(
    one: Allowance, used: dict[str, int], sums: list[int], moment: datetime
) -> dict[str, object]:
    """One subject's limits as JSON: what is used of each window, and when it begins anew."""
    found: dict[str, object] = {"subject": one.subject, "name": one.name}
    for name, limit, key in (
        ("requests_per_minute", one.rpm, "requests"),
        ("tokens_per_minute", one.tpm, "tokens"),
        ("concurrency", one.concurrency, "in_flight"),
    ):
        if limit:
            found[name] = {"limit": limit, "used": used[key], "left": max(0, limit - used[key])}
    if one.rpm or one.tpm:
        found["window_s"] = 60
    if one.concurrency:
        found["waiting"] = used["waiting"]
    budgets = []
    for budget, spent in zip(one.budgets, sums, strict=True):
        limit = budget.at(moment)
        budgets.append(
            {
                "period": budget.period,
                "limit_credits": limit / NANO_PER_CREDIT,
                "used_credits": spent / NANO_PER_CREDIT,
                "left_credits": max(0, limit - spent) / NANO_PER_CREDIT,
                "raised_credits": (limit - budget.nano_aiu) / NANO_PER_CREDIT,
                "is_hard": one.budget_is_hard,
                "resets_at": end_of(budget.period, moment).isoformat(),
            }
        )
    if budgets:
        found["budgets"] = budgets
    ceilings = {
        "max_context_tokens": one.max_context_tokens,
        "max_output_tokens": one.max_output_tokens,
        "max_effort": one.max_effort,
        "office_hours": one.office_hours.text if one.office_hours is not None else "",
    }
    found.update({name: value for name, value in ceilings.items() if value})
    return found
