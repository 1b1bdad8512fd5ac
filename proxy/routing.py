"""Where a request goes: which account's seat, which of Copilot's endpoints, with what credential.

One person, one seat: a key uses its own account, else those of its owner. Only new conversations are
placed; a conversation keeps its account, and at a limit nothing moves to another seat.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from django.utils.timezone import now

from accounts import book as account_book
from accounts import tokens
from accounts.auth import Caller
from accounts.book import AccountView
from accounts.errors import AccountUnavailable
from accounts.tokens import Credential
from proxy import catalog
from proxy.catalog import Entry
from proxy.errors import GatewayError, RateLimited, Unavailable
from proxy.exchange import Exchange
from proxy.upstream.endpoints import Endpoint, choose
from proxy.upstream.headers import Profile

MAX_BOUND = 20_000
NOBODY = (
    "No GitHub account is signed in yet. Open the gateway's dashboard and connect one under "
    "Accounts, or run `python manage.py auth`."
)


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


class Affinity:
    """Which account a conversation has: the newest `MAX_BOUND` in memory."""

    def __init__(self) -> None:
        self._bound: OrderedDict[str, int] = OrderedDict()

    def get(self, conversation: str) -> int | None:
        account_id = self._bound.get(conversation)
        if account_id is not None:
            self._bound.move_to_end(conversation)
        return account_id

    def bind(self, conversation: str, account_id: int) -> None:
        if not conversation:
            return
        self._bound[conversation] = account_id
        self._bound.move_to_end(conversation)
        if len(self._bound) > MAX_BOUND:
            self._bound.popitem(last=False)


affinity = Affinity()


class Cooldowns:
    """Models that one account must not ask for a while (a limit of that model alone)."""

    def __init__(self) -> None:
        self._until: dict[tuple[int, str], float] = {}

    def cool(self, account_id: int, model: str, seconds: float) -> None:
        self._until[account_id, model] = time.monotonic() + seconds

    def left_s(self, account_id: int, model: str) -> float:
        left = self._until.get((account_id, model), 0.0) - time.monotonic()
        if left <= 0:
            self._until.pop((account_id, model), None)
        return left


cooldowns = Cooldowns()


async def pick(exchange: Exchange) -> Route:
    """The route of an exchange. Raises `Unavailable`, `RateLimited` or `NotFound` with the reason."""
    account = place(exchange)
    record = exchange.record
    record.account_id, record.account = account.id, account.login
    credential = await credential_of(account)
    entry = catalog.resolve(exchange.model, await entries_of(account, credential))
    record.model_used = entry.id[:100]
    if (left_s := cooldowns.left_s(account.id, entry.id)) > 0:
        raise RateLimited(
            f"GitHub Copilot limits {entry.id} for the account {account.login} at the moment.",
            retry_after_s=left_s,
        )
    endpoint = choose(exchange.source, entry.endpoints, entry.vendor)
    record.target = endpoint.format
    return Route(account, credential, endpoint, entry, catalog.upstream_profile())


def candidates(caller: Caller) -> list[AccountView]:
    """The accounts that a caller may use. An account without an owner serves administrators."""
    if caller.account_id is not None:
        bound = account_book.get(caller.account_id)
        return [bound] if bound is not None else []
    own = [] if caller.member_id is None else account_book.of_owner(caller.member_id)
    if own or not caller.is_admin:
        return own
    return [a for a in account_book.all_accounts().values() if a.owner_id is None]


def place(exchange: Exchange) -> AccountView:
    """The account of this conversation: its own if it has one, else the one with most room."""
    mine = candidates(exchange.caller)
    if not mine:
        raise Unavailable(NOBODY, retry_after_s=30, code="no_account")
    by_id = {a.id: a for a in mine}
    bound = affinity.get(exchange.conversation) if exchange.conversation else None
    if bound in by_id:
        return usable(by_id[bound])
    ready = [a for a in mine if a.is_available]
    chosen = max(ready, key=_room) if ready else min(mine, key=_wait_s)
    account = usable(chosen)
    affinity.bind(exchange.conversation, account.id)
    return account


def _room(account: AccountView) -> tuple[float, int]:
    """Percent of the quota left; accounts that do not say count as full."""
    snapshots = account.quota.get("quota_snapshots")
    premium = snapshots.get("premium_interactions") if isinstance(snapshots, dict) else None
    if not isinstance(premium, dict) or premium.get("unlimited"):
        return (100.0, -account.id)
    left = premium.get("percent_remaining")
    return (float(left) if isinstance(left, int | float) else 100.0, -account.id)


def _wait_s(account: AccountView) -> tuple[float, int]:
    """Of accounts that all cannot serve, the earliest to return says most."""
    return (_cooldown_left_s(account) or float("inf"), account.id)


def _cooldown_left_s(account: AccountView) -> float:
    """Seconds until a cool-down ends, 0 when there is none."""
    if account.state_at(now()) != "cooling_down" or account.cooldown_until is None:
        return 0.0
    return (account.cooldown_until - now()).total_seconds()


def usable(account: AccountView) -> AccountView:
    """The account itself. Raises the answer for one that is out of service."""
    if left_s := _cooldown_left_s(account):
        raise RateLimited(
            f"The account {account.login} is cooling down: {account.state_reason or 'a limit'}",
            retry_after_s=left_s,
            code="account_cooling_down",
        )
    if account.is_available:
        return account
    words = {
        "needs_sign_in": "must sign in to GitHub again (dashboard, Accounts, Sign in again)",
        "no_seat": "has no Copilot seat",
        "frozen": "is frozen until an administrator releases it",
        "paused": "is paused by an administrator",
    }
    what = words.get(account.state, "is out of service")
    reason = f": {account.state_reason}" if account.state_reason else "."
    raise Unavailable(
        f"The account {account.login} {what}{reason}",
        retry_after_s=60,
        code=f"account_{account.state}",
    )


async def credential_of(account: AccountView) -> Credential:
    try:
        return await tokens.credential(account.id)
    except AccountUnavailable as error:
        raise unavailable(error) from error


def unavailable(error: AccountUnavailable) -> GatewayError:
    """An account's failure as the caller's answer."""
    wait_s = error.retry_after_s
    return Unavailable(
        error.message, retry_after_s=30 if wait_s is None else wait_s, code=error.code
    )


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
