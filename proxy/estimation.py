"""An estimate that somebody asks for: counted by a tokenizer, with its prices and what it would meet.

The cheap twin on a request's way is `proxy.estimates`. Nothing is sent, recorded, counted or bound.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson
from django.http import HttpRequest
from django.utils.timezone import now

from accounts.auth import Caller
from accounts.limits import Allowance
from proxy import approval_rules, catalog, counting, estimates, policies, routing
from proxy.catalog import Entry
from proxy.errors import GatewayError, InvalidRequest, Unavailable
from proxy.estimates import Estimate, Model
from proxy.exchange import Exchange
from proxy.formats import FORMATS
from proxy.limits.gate import gate
from proxy.reading import read_body
from proxy.upstream.endpoints import choose
from usage import pricing
from usage.pricing import MILLION, NANO_PER_CREDIT, Prices, Rates

PATHS: Final = {
    "chat_completions": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "gemini": "/v1beta/models/{model}:generateContent",
}
# A short answer, of the usual one.
SHORT: Final = 0.1
Json = dict[str, Any]


async def estimate(
    caller: Caller, body: Json, asked: Mapping[str, str], headers: Mapping[str, str]
) -> Json:
    """The estimate of `body` as JSON. `asked` may name `format` or `path`, and `model`.

    Raises the errors that the request itself would get: a body that is wrong, a model that does not
    exist or is not allowed.
    """
    body = dict(body)
    path = asked.get("path") or (body.pop("path", None) if "path" in body else None)
    source = _format(body, asked.get("format"), path, headers)
    model = asked.get("model") or body.get("model") or _model_in(path)
    exchange = _exchange(caller, source, {**body, "model": model}, headers)
    await read_body(exchange)
    FORMATS[source].check(exchange.body, counted=True)
    policies.check(caller, exchange.model)
    entry = _entry(caller, exchange.model)
    known = estimates.model_of(entry)
    counted = await _count(exchange, entry)
    said = exchange.estimate = estimates.of_request(exchange, known, counted_tokens=counted)
    endpoint = choose(source, entry.endpoints, entry.vendor)
    return {
        "object": "estimate",
        "model": entry.id,
        "model_asked": exchange.model,
        "format": source,
        "endpoint": endpoint.path,
        "input_tokens": said.input_tokens,
        "cached_tokens": said.cache_read_tokens,
        "output_tokens_assumed": said.output_tokens,
        "method": said.method,
        **_costs(exchange, known, said),
        "prices": _prices(caller, known, said),
        "meets": await _meets(exchange, entry, said),
    }


def _format(body: Json, name: object, path: object, headers: Mapping[str, str]) -> str:
    """The client format that is meant. Raises `InvalidRequest` when it is none of ours."""
    if name is not None:
        if not isinstance(name, str) or name not in FORMATS:
            raise InvalidRequest(f"format: one of {', '.join(FORMATS)}", param="format")
        return name
    if path is not None:
        return _format_of_path(path)
    if "contents" in body:
        return "gemini"
    if "input" in body:
        return "responses"
    if "anthropic-version" in headers or "system" in body or _has_messages_blocks(body):
        return "messages"
    if "messages" in body:
        return "chat_completions"
    raise InvalidRequest(
        "This is a body of none of the four formats: it has no messages, input or contents.",
        param="messages",
    )


def _format_of_path(path: object) -> str:
    known = {"/chat/completions": "chat_completions", "/messages": "messages"}
    known |= {"/responses": "responses", "generateContent": "gemini"}
    known |= {"streamGenerateContent": "gemini"}
    plain = path.partition("?")[0].rstrip("/") if isinstance(path, str) else ""
    found = next((f for end, f in known.items() if plain.lower().endswith(end.lower())), None)
    if found is None:
        raise InvalidRequest(f"path: one of {', '.join(PATHS.values())} is required", param="path")
    return found


def _has_messages_blocks(body: Json) -> bool:
    """Whether the conversation has what only Anthropic's format says."""
    tools = body.get("tools")
    if isinstance(tools, list) and any(isinstance(t, dict) and "input_schema" in t for t in tools):
        return True
    messages = body.get("messages")
    own = ("tool_use", "tool_result", "thinking", "document", "image")
    return isinstance(messages, list) and any(
        isinstance(block, dict) and block.get("type") in own
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
    )


def _model_in(path: object) -> str | None:
    """The model that a Gemini path names."""
    if not isinstance(path, str) or "/models/" not in path:
        return None
    return path.rpartition("/models/")[2].partition(":")[0]


def _exchange(caller: Caller, source: str, body: Json, headers: Mapping[str, str]) -> Exchange:
    request = HttpRequest()
    request.path = PATHS[source].format(model=body.get("model"))
    request._body = orjson.dumps(body)
    exchange = Exchange.begin(request, source, caller)
    exchange.records = False
    exchange.headers = {name.lower(): value for name, value in headers.items()}
    return exchange


def _entry(caller: Caller, name: str) -> Entry:
    """The model that would serve the caller. Raises `Forbidden`, `NotFound` or `Unavailable`."""
    mine = routing.candidates(caller)
    if not mine:
        raise Unavailable(routing.NOBODY, retry_after_s=30, code="no_account")
    refused: GatewayError | None = None
    for account in mine:
        if not (entries := catalog.of_account(account.id).entries):
            continue
        try:
            return policies.choose(caller, account, name, entries).entry
        except GatewayError as error:
            refused = refused or error
    raise refused or Unavailable(
        "Copilot's model list could not be read yet.", retry_after_s=10, code="no_models"
    )


async def _count(exchange: Exchange, entry: Entry) -> int:
    """Input tokens by the tokenizer, of the body as the upstream would get it."""
    endpoint = choose(exchange.source, entry.endpoints, entry.vendor)
    body = exchange.body
    if endpoint.format != exchange.source and exchange.source != "messages":
        source, target = FORMATS[exchange.source], FORMATS[endpoint.format]
        body = target.build_request(source.parse_request(body), entry.facts).body
    return await counting.count_locally(body, entry.vendor)


def _costs(exchange: Exchange, model: Model, said: Estimate) -> Json:
    """Low: the cache holds and the answer is short. High: no cache, the longest answer allowed."""
    if model.prices is None:
        return {"credits": None, "nano_aiu": None}
    fresh = msgspec.structs.replace(
        said,
        cache_read_tokens=0,
        cache_write_tokens=said.input_tokens if said.cache_write_tokens else 0,
        output_tokens=max(said.output_tokens, estimates.longest_answer(exchange, model)),
    )
    short = msgspec.structs.replace(said, output_tokens=int(said.output_tokens * SHORT))
    low, high = (pricing.cost(one, model.prices) for one in (short, fresh))
    return {
        "credits": {
            "low": _credits(low),
            "expected": _credits(said.nano_aiu),
            "high": _credits(high),
        },
        "nano_aiu": said.nano_aiu,
    }


def _credits(nano_aiu: int) -> float:
    return round(nano_aiu / NANO_PER_CREDIT, 6)


def _prices(caller: Caller, model: Model, said: Estimate) -> Json | None:
    """Credits for a million tokens, whose they are and of which day."""
    if model.prices is None or model.entry is None:
        return None
    prices = model.prices
    rates = prices.rates_for(said.input_tokens)
    is_long = rates is not prices.rates
    own = model.entry.prices is not None
    if own:
        read = [catalog.of_account(a.id).fetched_at for a in routing.candidates(caller)]
        newest = max((at for at in read if at is not None), default=None)
        source, date = "catalog", None if newest is None else newest.date().isoformat()
    elif (dated := pricing.price_in_force(model.id)) is not None:
        source, date = "price_table", dated.valid_from.isoformat()
    else:
        source, date = "published", pricing.prices_date()
    return {
        "source": source,
        "date": date,
        "tier": "long_context" if is_long else "default",
        "credits_per_million_tokens": _rates(rates, prices),
    }


def _rates(rates: Rates, prices: Prices) -> Json:
    named = {
        "input": rates.input,
        "cache_read": rates.cache_read,
        "cache_write": rates.cache_write,
        "output": rates.output,
    }
    return {
        name: None if rate is None else _credits(rate * MILLION // prices.batch_size)
        for name, rate in named.items()
    }


async def _meets(exchange: Exchange, entry: Entry, said: Estimate) -> list[Json]:
    """The limits that this request would meet, and whether it fits into each."""
    caller, facts = exchange.caller, entry.facts
    found: list[Json] = []
    asked = exchange.gist.max_output_tokens
    if facts.max_prompt_tokens:
        found.append(_limit("context", said.input_tokens, facts.max_prompt_tokens, of=entry.id))
    if asked is not None and facts.max_output_tokens:
        found.append(_limit("output", asked, facts.max_output_tokens, of=entry.id))
    policy = policies.allowance_of(entry.id)
    allowances = caller.allowances if policy is None else (*caller.allowances, policy)
    for one, left in zip(allowances, await gate.left(allowances), strict=True):
        found += _windows(one, left, said)
        found += _ceilings(one, said, asked)
    found += [
        {"limit": "approval", "rule": rule, "fits": approval_rules.is_settled(exchange, rule)}
        for rule in approval_rules.asking(exchange)
    ]
    return found


def _windows(one: Allowance, left: Mapping[str, Any], said: Estimate) -> Iterator[Json]:
    """What of a subject's limits is counted: requests, tokens, requests at once, budgets."""
    takes = {
        "requests_per_minute": 1,
        "tokens_per_minute": said.input_tokens + said.output_tokens,
        "concurrency": 1,
    }
    for name, takes_n in takes.items():
        if (window := left.get(name)) is not None:
            yield {
                "limit": name,
                "of": one.name,
                "used": window["used"],
                "allowed": window["limit"],
                "fits": window["used"] + takes_n <= window["limit"],
            }
    for budget in left.get("budgets", ()):
        yield {
            "limit": f"budget_{budget['period']}",
            "of": one.name,
            "unit": "credits",
            "used": budget["used_credits"],
            "allowed": budget["limit_credits"],
            "is_hard": budget["is_hard"],
            "resets_at": budget["resets_at"],
            "fits": _credits(said.nano_aiu) <= budget["left_credits"],
        }


def _ceilings(one: Allowance, said: Estimate, asked: int | None) -> Iterator[Json]:
    """What of a subject's limits each request meets by itself."""
    if one.max_context_tokens:
        yield _limit("context", said.input_tokens, one.max_context_tokens, of=one.name)
    if one.max_output_tokens and asked is not None:
        # Not refused: the gateway lowers what is asked for.
        yield _limit("output", asked, one.max_output_tokens, of=one.name)
    if one.office_hours is not None:
        yield {
            "limit": "office_hours",
            "of": one.name,
            "hours": one.office_hours.text,
            "fits": one.office_hours.is_open(now()),
        }


def _limit(name: str, used: int, allowed: int, *, of: str) -> Json:
    return {
        "limit": name,
        "of": of,
        "unit": "tokens",
        "used": used,
        "allowed": allowed,
        "fits": used <= allowed,
    }
