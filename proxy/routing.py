"""Where a request goes: which account's seat, which of Copilot's endpoints, with what credential."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

from accounts import book as account_book
from accounts import tokens
from accounts.book import AccountView, ModelLimit
from accounts.clock import now
from accounts.errors import AccountUnavailable
from accounts.pools import seats_of as candidates
from accounts.tokens import Credential
from proxy import catalog, placement, policies
from proxy.affinity import affinity
from proxy.catalog import Entry
from proxy.errors import GatewayError, Unavailable
from proxy.exchange import Exchange
from proxy.placement import NOBODY, next_seat, place
from proxy.upstream.endpoints import Endpoint, choose
from proxy.upstream.headers import Profile

__all__ = [
    "NOBODY",
    "Route",
    "affinity",
    "candidates",
    "cooldowns",
    "credential_of",
    "elsewhere",
    "entries_of",
    "pick",
    "unavailable",
    "warm",
]

# Failures to get a credential that say nothing of the request.
WITHOUT_CREDENTIAL = frozenset({"needs_sign_in", "no_seat", "refresh_failed"})


@dataclass(frozen=True, slots=True)
class Route:
    """The account, credential, endpoint and model that one exchange goes to."""

    account: AccountView
    credential: Credential
    endpoint: Endpoint
    entry: Entry
    profile: Profile

    def through(self, endpoint: Endpoint) -> "Route":
        """The same account and model by another endpoint."""
        return replace(self, endpoint=endpoint)


class Cooldowns:
    """Models that one account must not ask for a while (a limit of that model alone)."""

    async def cool(
        self,
        account_id: int,
        model: str,
        seconds: float,
        *,
        kind: str = "rate_limited",
        reason: str = "",
        returns_in_s: float | None = None,
    ) -> None:
        """`returns_in_s` is when the limit ends by what GitHub says, if later than we ask again."""
        at = now()
        until = at + timedelta(seconds=seconds)
        returns_at = until if returns_in_s is None else at + timedelta(seconds=returns_in_s)
        limit = ModelLimit(kind, until, max(until, returns_at), reason[:300])
        await account_book.limit_model(account_id, model, limit)

    def left_s(self, account_id: int, model: str) -> float:
        account = account_book.get(account_id)
        limit = None if account is None else account.limits.get(model)
        return 0.0 if limit is None else max(0.0, (limit.until - now()).total_seconds())


cooldowns = Cooldowns()


async def pick(exchange: Exchange) -> Route:
    """The route of an exchange. Raises `Unavailable`, `RateLimited` or `NotFound` with the reason."""
    return await _route_by(exchange, await place(exchange))


async def elsewhere(exchange: Exchange, route: Route, error: GatewayError) -> Route:
    """The route by another seat of the pool, after `error`; raises it when nothing may move."""
    return await _route_by(exchange, await next_seat(exchange, route.account, error))


async def _route_by(exchange: Exchange, account: AccountView) -> Route:
    while True:
        try:
            return await _route(exchange, account)
        except GatewayError as error:
            account = await next_seat(exchange, account, error)


async def _route(exchange: Exchange, account: AccountView) -> Route:
    record = exchange.record
    record.account_id, record.account = account.id, account.login
    credential = await credential_of(account)
    entries = await entries_of(account, credential)
    chosen = policies.choose(exchange.caller, account, exchange.model, entries)
    entry, exchange.fallback = chosen.entry, chosen.fallback
    record.model_used = entry.id[:100]
    if (limit := placement.limit_of(account, entry.id)) is not None:
        raise placement.limited(account, entry.id, limit)
    endpoint = choose(exchange.source, entry.endpoints, entry.vendor)
    record.target = endpoint.format
    return Route(account, credential, endpoint, entry, catalog.upstream_profile())


async def credential_of(account: AccountView) -> Credential:
    try:
        return await tokens.credential(account.id)
    except AccountUnavailable as error:
        raise unavailable(error) from error


def unavailable(error: AccountUnavailable) -> GatewayError:
    """An account's failure as the caller's answer."""
    wait_s = error.retry_after_s
    answer = Unavailable(
        error.message, retry_after_s=30 if wait_s is None else wait_s, code=error.code
    )
    answer.is_of_account = error.code in WITHOUT_CREDENTIAL
    return answer


async def entries_of(account: AccountView, credential: Credential) -> dict[str, Entry]:
    """The account's models; read from Copilot when nothing is stored yet."""
    known = catalog.of_account(account.id)
    if not known.entries:
        await catalog.fetch_missing(account.id, credential)
        known = catalog.of_account(account.id)
    if not known.entries:
        raise Unavailable(
            "Copilot's model list could not be read yet.", retry_after_s=10, code="no_models"
        )
    return known.entries


async def warm(account_id: int) -> None:
    """Get credential and models of an account before the first request needs them."""
    account = account_book.get(account_id)
    if account is not None and account.is_available:
        credential = await credential_of(account)
        async with asyncio.timeout(30):
            await entries_of(account, credential)
