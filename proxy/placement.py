"""Which of the caller's seats serves: the one that the conversation has, else the one with most room.

Only new conversations are placed, by health, quota left, load and weight. At a limit a request fails
with the reason and the time of return; it never goes to another seat in silence. Only in a pool
whose failover an administrator switched on may go on elsewhere what no conversation binds.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

from accounts import book as account_book
from accounts import pools
from accounts.book import AccountView, ModelLimit
from accounts.clock import now
from accounts.pools import seats_of
from proxy import catalog, histories
from proxy.affinity import affinity
from proxy.errors import Conflict, GatewayError, PaymentRequired, RateLimited, Unavailable
from proxy.exchange import Exchange
from usage import room

NOBODY: Final = (
    "No GitHub account is signed in yet. Open the gateway's dashboard and connect one under "
    "Accounts, or run `python manage.py auth`."
)
NOT_YOURS: Final = (
    "This API key is bound to a GitHub account that belongs to somebody else or was removed. "
    "An administrator can give it another one."
)
EMPTY_POOL: Final = (
    "The pool of this API key holds no GitHub account. An administrator can add one."
)
GONE: Final = (
    "The GitHub account that this conversation began with is not there for you any more. Its history "
    "is bound to it: begin a new conversation."
)
# What an account's state says to who waits for it, and when to ask again.
WORDS: Final = {
    "needs_sign_in": "must sign in to GitHub again (dashboard, Accounts, Sign in again)",
    "no_seat": "has no Copilot seat",
    "frozen": "is frozen until an administrator releases it",
    "paused": "is paused",
}
ASK_AGAIN_S: Final = 60.0
# Share of the weight that an account keeps however little it has left.
LEAST_SHARE: Final = 0.1


class Load:
    """Requests in flight in this process, by account. Other processes spread theirs likewise."""

    def __init__(self) -> None:
        self._seats: dict[str, int] = {}
        self._counts: Counter[int] = Counter()

    def of(self, account_id: int) -> int:
        return self._counts[account_id]

    def sit(self, exchange: Exchange, account_id: int) -> None:
        """The exchange is with that account from now on; its end frees the place."""
        if exchange.id not in self._seats:
            exchange.leases.append(lambda: self._rise(exchange.id))
        self._rise(exchange.id)
        self._seats[exchange.id] = account_id
        self._counts[account_id] += 1

    def _rise(self, exchange_id: str) -> None:
        account_id = self._seats.pop(exchange_id, None)
        if account_id is not None:
            self._counts[account_id] -= 1
            if self._counts[account_id] <= 0:
                del self._counts[account_id]


class Turns:
    """Smooth weighted turns: in the long run each gets its share, in the short run they alternate."""

    def __init__(self) -> None:
        self._credit: dict[int, float] = {}

    def next(self, weights: dict[int, float]) -> int:
        """The account whose turn it is; `weights` are more than 0."""
        total = sum(weights.values())
        for account_id, weight in weights.items():
            self._credit[account_id] = self._credit.get(account_id, 0.0) + weight / total
        chosen = max(weights, key=lambda account_id: (self._credit[account_id], -account_id))
        self._credit[chosen] -= 1.0
        return chosen


load = Load()
turns = Turns()


async def place(exchange: Exchange) -> AccountView:
    """The account of this exchange. Raises the reason why there is none, with the time of return."""
    mine = seats_of(exchange.caller)
    if not mine:
        raise nobody(exchange)
    is_shared = matters(mine)
    bound = await _bound(exchange, mine, is_shared)
    if bound is not None:
        return bound
    account = choose(mine, exchange.model)
    exchange.is_bound = pools.has_failover(account) and histories.is_signed(exchange.body)
    if exchange.conversation:
        first = await affinity.bind(exchange.conversation, account.id, is_shared=is_shared)
        if first != account.id:
            # Another process has just placed it, or it was moved from an account that is gone.
            account = next((a for a in mine if a.id == first), account)
            if account.id != first:
                await affinity.move(exchange.conversation, account.id, is_shared=is_shared)
    return usable(account)


def matters(mine: list[AccountView]) -> bool:
    """Whether a conversation's account is kept beyond this process: it could have another one."""
    return len(mine) > 1 or mine[0].pool_id is not None


async def _bound(
    exchange: Exchange, mine: list[AccountView], is_shared: bool
) -> AccountView | None:
    """The account that the conversation has; None when it may be placed.

    Raises why that account cannot serve: what a conversation binds does not move.
    """
    conversation = exchange.conversation
    if not conversation:
        return None
    by_id = {a.id: a for a in mine}
    found = await affinity.find(conversation, is_shared=is_shared)
    account = by_id.get(found) if found is not None else None
    if found is not None and is_shared and (account is None or not account.is_available):
        # Another process may have moved it meanwhile.
        found = await affinity.find(conversation, is_shared=True, afresh=True)
        account = by_id.get(found) if found is not None else None
    if found is None:
        return None
    # A client's own name for a session also stands on its side requests, which have no history. A
    # hash of the first words alone says nothing of the next conversation that begins with them.
    begins = not exchange.is_named and not histories.continues(exchange.body)
    if account is None:
        if not begins:
            raise Conflict(GONE, code="conversation_account_gone")
        return await _anew(exchange, mine, is_shared)
    exchange.is_bound = not begins
    others = [a for a in mine if a.id != account.id]
    if account.is_available or not begins or not others or not _may_leave(account):
        return usable(account)
    return await _anew(exchange, others, is_shared)


async def _anew(exchange: Exchange, mine: list[AccountView], is_shared: bool) -> AccountView:
    """Another account for what only begins like a conversation that there was."""
    chosen = usable(choose(mine, exchange.model))
    await affinity.move(exchange.conversation, chosen.id, is_shared=is_shared)
    return chosen


def _may_leave(account: AccountView) -> bool:
    """A beginning may be placed anew: at a limit only with failover, else when a person must act."""
    is_at_limit = account.state_at(now()) == "cooling_down"
    return not is_at_limit or pools.has_failover(account)


def nobody(exchange: Exchange) -> GatewayError:
    """Why the caller has no seat at all."""
    caller = exchange.caller
    if caller.account_id is not None:
        return Unavailable(NOT_YOURS, retry_after_s=30, code="no_account")
    text = EMPTY_POOL if caller.pool_id is not None else NOBODY
    return Unavailable(text, retry_after_s=30, code="no_account")


def choose(mine: list[AccountView], model: str) -> AccountView:
    """The account for a new conversation. Raises the earliest return when none can serve."""
    ready = [a for a in mine if a.is_available and limit_of(a, model) is None]
    if not ready:
        raise earliest(mine, model)
    if len(ready) == 1:
        return ready[0]
    # Each preference holds among those that fit it, and none of them refuses by itself.
    for prefers in (_has_model(model), _has_token, _has_room, _takes_new):
        ready = [a for a in ready if prefers(a)] or ready
    if len(ready) == 1:
        return ready[0]
    weights = {a.id: _weight(a) for a in ready}
    chosen = turns.next(weights)
    return next(a for a in ready if a.id == chosen)


def _has_model(model: str) -> Callable[[AccountView], bool]:
    def prefers(account: AccountView) -> bool:
        entries = catalog.of_account(account.id).entries
        return not entries or catalog.find(model, entries) is not None

    return prefers


def _has_token(account: AccountView) -> bool:
    return not account.has_failing_token


def _has_room(account: AccountView) -> bool:
    return room.percent_left(account.id) > 0


def _takes_new(account: AccountView) -> bool:
    return account.weight > 0


def _weight(account: AccountView) -> float:
    share = LEAST_SHARE + (1 - LEAST_SHARE) * room.percent_left(account.id) / 100
    return max(account.weight, 1) * share / (1 + load.of(account.id))


# Limits.


def limit_of(account: AccountView, model: str) -> ModelLimit | None:
    """The limit of this model alone that the account is under, by whatever name it is called."""
    if not account.limits:
        return None
    limit = account.limits.get(model)
    if limit is None:
        entry = catalog.find(model, catalog.of_account(account.id).entries)
        limit = None if entry is None else account.limits.get(entry.id)
    return limit if limit is not None and limit.until > now() else None


def limited(account: AccountView, model: str, limit: ModelLimit) -> GatewayError:
    """The answer while a model's limit lasts, in the words of who set it."""
    wait_s = max(1.0, (limit.returns_at - now()).total_seconds())
    error: GatewayError
    if limit.kind == "quota_exceeded":
        error = PaymentRequired(
            f"The account {account.login} has used up its quota for {model}: {limit.reason}",
            retry_after_s=wait_s,
        )
    else:
        error = RateLimited(
            f"GitHub Copilot limits {model} for the account {account.login} at the moment: "
            f"{limit.reason}",
            retry_after_s=wait_s,
        )
    error.is_of_account = True
    return error


def earliest(mine: list[AccountView], model: str) -> GatewayError:
    """Of accounts that all cannot serve, the one that returns first tells why and when."""
    # Ids differ, so that the views themselves are never compared.
    returns = [(at, a.id, a) for a in mine if (at := _returns_at(a, model)) is not None]
    account = min(returns)[2] if returns else min(mine, key=lambda a: a.id)
    return refusal(account, model)


def refusal(account: AccountView, model: str) -> GatewayError:
    """Why the account cannot serve this model now."""
    try:
        usable(account)
    except GatewayError as error:
        return error
    limit = limit_of(account, model)
    if limit is not None:
        return limited(account, model, limit)
    return Unavailable(f"The account {account.login} cannot serve now.", retry_after_s=ASK_AGAIN_S)


def _returns_at(account: AccountView, model: str) -> datetime | None:
    """When the account serves this model again by itself; None when a person must act first."""
    at, ends = now(), []
    state = account.state_at(at)
    if state == "cooling_down" and account.cooldown_until is not None:
        ends.append(account.cooldown_until)
    elif state != "active":
        return None
    if (limit := limit_of(account, model)) is not None:
        ends.append(limit.returns_at)
    return max(ends, default=None)


def usable(account: AccountView) -> AccountView:
    """The account itself. Raises the answer for one that is out of service."""
    at = now()
    state = account.state_at(at)
    if state == "active":
        return account
    if state == "cooling_down" and account.cooldown_until is not None:
        raise RateLimited(
            f"The account {account.login} is cooling down: {account.state_reason or 'a limit'}",
            retry_after_s=max(1.0, (account.cooldown_until - at).total_seconds()),
            code="account_cooling_down",
        )
    what = WORDS.get(state, "is out of service")
    reason = f": {account.state_reason}" if account.state_reason else "."
    raise Unavailable(
        f"The account {account.login} {what}{reason}",
        retry_after_s=ASK_AGAIN_S,
        code=f"account_{state}",
    )


def still_there(account_id: int) -> None:
    """Before each call: an account that was frozen, paused or removed meanwhile is asked no more."""
    account = account_book.get(account_id)
    if account is None:
        raise Conflict(GONE, code="conversation_account_gone")
    if account.state in ("frozen", "paused"):
        usable(account)


# Failover.


def may_move(exchange: Exchange, account: AccountView) -> bool:
    """Whether another seat of the pool could take over, should this one fail."""
    return (
        pools.has_failover(account) and not exchange.is_bound and bool(_others(exchange, account))
    )


def _others(exchange: Exchange, account: AccountView) -> list[AccountView]:
    tried = {*exchange.tried, account.id}
    mine = seats_of(exchange.caller)
    return [a for a in mine if a.pool_id == account.pool_id and a.id not in tried]


async def next_seat(exchange: Exchange, account: AccountView, error: GatewayError) -> AccountView:
    """The seat that takes over from `account`, which failed with `error`; else raises that error.

    Never for what says something of the request, and never after a word of abuse or terms.
    """
    if not error.is_of_account or not may_move(exchange, account):
        raise error
    others = _others(exchange, account)
    exchange.tried.append(account.id)
    try:
        chosen = choose(others, exchange.model)
    except GatewayError as last:
        _tell_earliest(error, last)
        raise error from None
    await affinity.move(exchange.conversation, chosen.id, is_shared=True)
    return chosen


def _tell_earliest(error: GatewayError, other: GatewayError) -> None:
    if other.retry_after_s is not None and error.retry_after_s is not None:
        error.retry_after_s = min(error.retry_after_s, other.retry_after_s)
