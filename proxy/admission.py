"""May this request go on? The gates, in order: room, body, model, hours, context, limits, spacing, rule.

Each gate raises the error that the client gets, or takes a lease that the exchange gives back. Every
route that reaches the upstream passes here, and once more when its seat is known (`admit_to_seat`).
Embeddings and count_tokens are of a light class that is counted by itself; counting costs nothing.
"""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.utils.timezone import now

from accounts import book as account_book
from accounts.book import AccountView
from accounts.limits import Allowance
from accounts.models import Account
from proxy import approval_rules, pacing, policies, slowdown
from proxy.errors import Forbidden, RateLimited, ShuttingDown, Unavailable
from proxy.exchange import Exchange
from proxy.limits import ceilings
from proxy.limits.gate import gate
from proxy.rate_limit import Spacing
from proxy.reading import read_body

LIGHT = frozenset({"embeddings", "count_tokens"})
FREE = frozenset({"count_tokens"})


class Gates:
    """The limiters of this process that are nobody's own."""

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Begin anew with the present settings."""
        self.in_flight = 0
        self.draining = False
        self.spacing = Spacing(
            settings.GATEWAY_RATE_LIMIT_S,
            wait=settings.GATEWAY_RATE_LIMIT_WAIT,
            queue_limit=settings.GATEWAY_QUEUE_LIMIT,
            queue_timeout_s=settings.GATEWAY_QUEUE_TIMEOUT_S,
        )


gates = Gates()


async def admit(exchange: Exchange, *, kind: str = "generation") -> None:
    """Pass all gates of the caller. `kind` is generation, embeddings or count_tokens."""
    take_room(exchange)
    await read_body(exchange)
    caller = exchange.caller
    exchange.kind = kind
    if caller.is_auditor:
        raise Forbidden(
            "This key is an auditor's: it reads what the team has used and calls no model.",
            code="auditor_key",
        )
    policies.check(caller, exchange.model)
    if caller.allowances:
        await _enter(exchange, caller.allowances)
    if gates.spacing.spacing_s > 0:
        waited_from = time.monotonic()
        await gates.spacing.enter()
        waited_ms = int((time.monotonic() - waited_from) * 1000)
        exchange.record.queue_ms = (exchange.record.queue_ms or 0) + waited_ms
    # Asked last, and outside of here: a stream that waits for a person says so meanwhile.
    exchange.approval_rule = approval_rules.rule_for(exchange, kind)


async def admit_to_seat(exchange: Exchange, account: AccountView, model: str) -> None:
    """Pass the gates of the account and the model that will serve. A seat of before is left."""
    allowances = seat_allowances(account, model)
    if allowances or exchange.seat_hold is not None:
        gate.leave_seat(exchange)
    pacing.check(exchange, account)
    if allowances:
        await _enter(exchange, allowances, current=lambda: _seat_now(account, model), is_seat=True)


def _seat_now(account: AccountView, model: str) -> tuple[Allowance, ...]:
    """The same after a wait, in which GitHub may have limited the account. Raises `RateLimited`."""
    at = now()
    view = account_book.get(account.id) or account
    limit = view.limits.get(model)
    if view.state_at(at) == Account.State.COOLING_DOWN and view.cooldown_until is not None:
        until, reason = view.cooldown_until, view.state_reason
    elif limit is not None and limit.until > at:
        until, reason = limit.until, limit.reason
    else:
        return seat_allowances(view, model)
    raise RateLimited(
        f"The account {view.login} is cooling down: {reason or 'a limit'}",
        retry_after_s=(until - at).total_seconds(),
        code="account_cooling_down",
    )


async def _enter(
    exchange: Exchange,
    allowances: tuple[Allowance, ...],
    *,
    is_seat: bool = False,
    current: Callable[[], tuple[Allowance, ...]] | None = None,
) -> None:
    is_free = exchange.kind in FREE
    if not is_free:
        ceilings.check(exchange, allowances)
    await gate.enter(
        exchange,
        allowances,
        is_light=exchange.kind in LIGHT,
        counts_spend=not is_free,
        is_seat=is_seat,
        current=current,
    )


def seat_allowances(account: AccountView, model: str) -> tuple[Allowance, ...]:
    """The limits of an account and a model, the account's as slow as GitHub wants it now."""
    found = slowdown.allowances(account, model)
    policy = policies.allowance_of(model)
    return found if policy is None else (*found, policy)


def check_budget(exchange: Exchange) -> None:
    """Between the rounds of one request: what it has cost so far may be all that was left."""
    gate.check_budget(exchange)


def lower_ceilings(
    exchange: Exchange,
    body: dict[str, Any],
    *,
    endpoint_format: str,
    account: AccountView,
    model: str,
    efforts: tuple[str, ...],
) -> None:
    """Keep output and effort of a body that goes up within the limits of all whom it meets."""
    seat = seat_allowances(account, model)
    if seat or exchange.caller.allowances:
        allowances = (*exchange.caller.allowances, *seat)
        ceilings.lower(exchange, body, endpoint_format, allowances, efforts)


def take_room(exchange: Exchange) -> None:
    """Bound the requests in flight; beyond, an honest 503 while pages and health stay reachable."""
    if gates.draining:
        raise ShuttingDown("The gateway is shutting down.", retry_after_s=5)
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
