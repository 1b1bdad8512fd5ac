"""May this request go on? The gates, in order: body, key limits, model, budget, rate, room, approval.

Each gate raises the error that the client gets, or takes a lease that the exchange gives back. Every
route that reaches the upstream passes here; count_tokens is of a light class that a key's own limits
do not count.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.conf import settings

from proxy import approval, catalog
from proxy.errors import Forbidden, RateLimited, Unavailable
from proxy.exchange import Exchange
from proxy.rate_limit import Concurrency, PerMinute, Spacing
from proxy.reading import read_body
from usage import spend

LIGHT = frozenset({"count_tokens"})


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
