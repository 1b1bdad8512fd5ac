"""May this request go on? The gates, in order: body, key limits, model, budget, rate, room, approval.

Each gate raises the error that the client gets, or takes a lease that the exchange gives back. Every
route that reaches the upstream passes here; count_tokens is of a light class that a key's own limits
do not count.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.conf import settings

from proxy import approval, catalog
from proxy.errors import (
    Forbidden,
    InvalidRequest,
    RateLimited,
    Unavailable,
    UnsupportedMediaType,
)
from proxy.exchange import Exchange
from proxy.formats import FORMATS
from proxy.rate_limit import Concurrency, PerMinute, Spacing
from proxy.upstream.initiator import decide, traits
from usage import spend

LIGHT = frozenset({"count_tokens"})
# orjson reads 1024 levels and writes 254; translation adds a few. Nobody's schema is half as deep.
MAX_LEVELS = 200


class Gates:
    """The limiters of this process."""

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Begin anew with the present settings."""
        self.in_flight = 0
        self.draining = False
        self.per_minute = PerMinute()
        self.concurrency = Concurrency()
        self.spacing = Spacing(
            settings.GATEWAY_RATE_LIMIT_S,
            wait=settings.GATEWAY_RATE_LIMIT_WAIT,
            queue_limit=settings.GATEWAY_QUEUE_LIMIT,
            queue_timeout_s=settings.GATEWAY_QUEUE_TIMEOUT_S,
        )


gates = Gates()


async def admit(exchange: Exchange, *, kind: str = "generation") -> None:
    """Pass all gates. `kind` is generation, embeddings or count_tokens."""
    take_room(exchange)
    read_body(exchange)
    check_model(exchange)
    if kind not in LIGHT:
        check_budget(exchange)
        check_key_rate(exchange)
    waited_from = time.monotonic()
    if gates.spacing.spacing_s > 0:
        await gates.spacing.enter()
    await ask_person(exchange)
    exchange.record.queue_ms = int((time.monotonic() - waited_from) * 1000)


def take_room(exchange: Exchange) -> None:
    """Bound the requests in flight; beyond, an honest 503 while pages and health stay reachable."""
    if gates.draining:
        raise Unavailable("The gateway is shutting down.", retry_after_s=5)
    if gates.in_flight >= settings.GATEWAY_MAX_IN_FLIGHT:
        raise Unavailable(
            f"{gates.in_flight} requests are in flight, which is all this gateway takes.",
            retry_after_s=2,
        )
    gates.in_flight += 1
    exchange.leases.append(_leave_room)
    exchange.enter()


def _leave_room() -> None:
    gates.in_flight -= 1


def read_body(exchange: Exchange) -> None:
    """Decode the body once and read what the gates and routing need of it."""
    exchange.body = decode_json(exchange.raw, exchange.headers.get("content-type", ""))
    exchange.raw = b""
    if exchange.complete is not None:
        exchange.body = exchange.complete(exchange.body)
    body = exchange.body
    exchange.asked = as_asked(body)
    record = exchange.record
    record.model_asked = str(body.get("model") or "")[:100]
    exchange.model = catalog.check_name(body.get("model"))
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream: a boolean is required.", param="stream")
    exchange.stream = bool(stream)
    record.streamed = exchange.stream
    source = FORMATS.get(exchange.source)
    if source is None:
        return
    exchange.gist = gist = source.gist(body)
    exchange.traits = traits(exchange.headers, exchange.path, body, exchange.source)
    exchange.decision = decide(
        gist,
        is_subagent=exchange.traits.is_subagent,
        is_compaction=exchange.traits.is_compaction,
        is_side_request=exchange.traits.is_side_request,
        client_value=exchange.headers.get("x-initiator"),
    )
    record.initiator = exchange.decision.initiator
    record.initiator_rule = exchange.decision.rule
    record.tools_sent = gist.tools
    record.messages_sent = gist.messages
    record.effort = (gist.effort or "")[:16]
    exchange.identify_conversation()


def as_asked(body: dict[str, Any]) -> dict[str, Any]:
    """The body's own fields as the client sent them, also after quirks have changed inner ones."""
    options = body.get("stream_options")
    return {**body, "stream_options": dict(options)} if isinstance(options, dict) else dict(body)


def decode_json(raw: bytes, content_type: str) -> dict[str, Any]:
    """The JSON object of a body. Raises `InvalidRequest`, or `UnsupportedMediaType`."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        kind = content_type.partition(";")[0].strip().lower()
        if kind and kind not in ("application/json", "text/plain") and "json" not in kind:
            raise UnsupportedMediaType(
                f"The body must be JSON (application/json), not {kind[:60]!r}."
            ) from None
        if not raw:
            raise InvalidRequest("The body is empty; a JSON object is required.") from None
        raise InvalidRequest(
            f"The body is not valid JSON: {error.msg} at byte {error.pos}."
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {_kind_of(body)}.")
    if is_deeper(body, MAX_LEVELS):
        raise InvalidRequest(f"The body is nested deeper than {MAX_LEVELS} levels.")
    return body


def is_deeper(body: dict[str, Any], levels: int) -> bool:
    """Whether objects and arrays lie within one another on more than so many levels."""
    within: list[Any] = [body]
    for _ in range(levels):
        within = [
            inner
            for value in within
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is dict or type(inner) is list
        ]
        if not within:
            return False
    return True


def _kind_of(value: object) -> str:
    match value:
        case list():
            return "an array"
        case str():
            return "a string"
        case None:
            return "null"
        case bool():
            return "a boolean"
        case _:
            return "a number"


def check_model(exchange: Exchange) -> None:
    """A key with a model list may use those models only, by whatever name they are called."""
    allowed = exchange.caller.models
    if not allowed or exchange.model in allowed:
        return
    for one in catalog.book.value.by_account.values():
        entry = catalog.find(exchange.model, one.entries)
        if entry is not None and entry.id in allowed:
            return
    raise Forbidden(
        f"This API key may not use the model {exchange.model[:80]!r}. "
        f"It may use: {', '.join(allowed)}.",
        code="model_not_permitted",
        param="model",
    )


def check_budget(exchange: Exchange) -> None:
    """Hard budgets of the key, in AI credits per UTC day and month."""
    caller = exchange.caller
    if caller.key_id is None:
        return
    for limit, spent, word, ends in (
        (caller.budget_day_nano_aiu, spend.spent_today, "day", _end_of_day),
        (caller.budget_month_nano_aiu, spend.spent_this_month, "month", _end_of_month),
    ):
        if limit and (used := spent(caller.key_id)) >= limit:
            raise RateLimited(
                f"This API key has used {used / 1e9:.2f} of its {limit / 1e9:g} AI credits for this "
                f"{word}. An administrator can raise the budget.",
                code="insufficient_quota",
                retry_after_s=(ends() - datetime.now(UTC)).total_seconds(),
                should_retry=False,
            )


def _end_of_day() -> datetime:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)


def _end_of_month() -> datetime:
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def check_key_rate(exchange: Exchange) -> None:
    caller = exchange.caller
    if caller.key_id is None:
        return
    if caller.concurrency:
        leave: Callable[[], None] = gates.concurrency.enter(caller.key_id, caller.concurrency)
        exchange.leases.append(leave)
    if caller.rpm:
        gates.per_minute.enter(caller.key_id, caller.rpm)


async def ask_person(exchange: Exchange) -> None:
    """`--manual`, or a key that asks for approval: a person says yes first."""
    if not (settings.GATEWAY_MANUAL or exchange.caller.needs_approval):
        return
    if approval.queue.is_settled(exchange.conversation):
        return
    await approval.queue.ask(
        approval.new_pending(
            id=exchange.id,
            member=exchange.caller.member,
            key=exchange.caller.key_name,
            client=exchange.record.client,
            model=exchange.model,
            path=exchange.path,
            conversation=exchange.conversation,
            input_tokens=exchange.record.bytes_in // 4,
            tools=exchange.gist.tools,
            rule="--manual" if settings.GATEWAY_MANUAL else "this key asks for approval",
        )
    )
