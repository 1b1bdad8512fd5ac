"""Credentials: one valid credential per account, refreshed once however many ask.

In a process all askers, on whatever loop or thread, share one flight per account, run by a thread
of its own: an asker that leaves does not stop it. Across processes and hosts the row's claim
decides who asks GitHub. Source: docs/upstream.md#token-lifetime.
"""

import asyncio
import atexit
import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Final

from django.db import Error

from accounts import book, github, installations, refusals, states, token_rows
from accounts.database import in_database
from accounts.enrolment import add_account
from accounts.errors import AccountUnavailable, GitHubRefused
from accounts.hosts import copilot_host
from accounts.lifetimes import DIRECT_S, DIRECT_UNCONFIRMED_S, lifetime_s
from accounts.models import Account
from accounts.token_rows import Busy, Claim, Fetched, Ready, Want

__all__ = [
    "Credential",
    "add_account",
    "credential",
    "forget",
    "refresh_due",
    "refresh_now",
    "renew",
    "reread_host",
]
logger = logging.getLogger(__name__)

# A request refreshes in the background when less than this is left, the scheduled task earlier.
AHEAD_S: Final = 90.0
TASK_AHEAD_S: Final = 240.0
RETRY_AHEAD_S: Final = 20.0
WAIT_FOR_OTHER_S: Final = 10.0
WAIT_S: Final = 12.0
POLL_S: Final = 0.1
# Tokens that the upstream refused, per account and minute, before the gateway stops fetching.
RENEWALS_PER_MINUTE: Final = 10
AT_ONCE: Final = 8
# Installation tokens belong to an app; the document is about a person.
NO_DOCUMENT: Final = frozenset({"ghs"})
DIRECT: Final = Account.CredentialKind.DIRECT
INSTALLATION: Final = Account.CredentialKind.INSTALLATION


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request is sent with: the bearer and the only host it may go to.

    `kind` is `exchange` (a Copilot token), `direct` (the GitHub token) or `installation`.
    """

    account_id: int
    login: str
    token: str = field(repr=False)
    base_url: str
    kind: str


@dataclass(frozen=True, slots=True)
class Held:
    """A credential in memory; `ends_at` and `refresh_at` are monotonic."""

    credential: Credential
    fetched_at: datetime
    ends_at: float
    refresh_at: float

    @property
    def left_s(self) -> float:
        return self.ends_at - monotonic()


@dataclass(slots=True)
class Renewals:
    """When tokens of an account were refused lately, and which was the last."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=RENEWALS_PER_MINUTE))
    last: bytes = b""


_lock = threading.RLock()
_held: dict[int, Held] = {}
_flights: dict[int, Future[Held]] = {}
_renewals: dict[int, Renewals] = {}


async def credential(account_id: int) -> Credential:
    """The account's credential: from memory while it is good, else from the row or GitHub.

    Raises `AccountUnavailable`.
    """
    view = book.get(account_id)
    held = _held.get(account_id)
    if view is None or held is None:
        return (await _landing(_flight(account_id, Want()))).credential
    token_rows.refuse_by_state(view)
    is_newest = view.token_fetched_at is None or view.token_fetched_at <= held.fetched_at
    if view.state == Account.State.NO_SEAT or held.left_s <= 0 or not is_newest:
        return (await _landing(_flight(account_id, Want()))).credential
    if monotonic() >= held.refresh_at:
        # In the background: the request goes on with what is still good.
        _flight(account_id, Want(ahead_s=AHEAD_S))
    return held.credential


async def renew(account_id: int, *, reason: str, rejected: str | None) -> Credential:
    """A credential other than `rejected`, which the upstream refused; None: any new one.

    Many who bring the same rejected token cause one exchange; who comes late gets the new one.
    A direct credential keeps its token, its host is read anew. Raises `AccountUnavailable`.
    """
    held = _held.get(account_id)
    if held and rejected and held.credential.token != rejected and held.left_s > 0:
        return held.credential
    if rejected:
        _count_renewal(account_id, rejected)
    logger.info("account %s: renewing the credential: %s", account_id, reason)
    want = Want(rejected=rejected, force=rejected is None)
    for _ in range(3):
        renewed = (await _landing(_flight(account_id, want))).credential
        # A flight that began for others may have ended with the very token we cannot use.
        if renewed.token != rejected or renewed.kind == DIRECT:
            return renewed
    raise AccountUnavailable(
        "GitHub gives no other token.", code="refresh_failed", retry_after_s=5.0
    )


async def reread_host(account_id: int, *, rejected: str) -> Credential:
    """After 421: token and host fetched anew, because they belong together.

    Source: docs/upstream.md#copilot-hosts.
    """
    return await renew(account_id, reason="the host refused the token (421)", rejected=rejected)


def refresh_now(account_id: int) -> Credential:
    """A person's wish, from synchronous code: ask GitHub now, whatever the back-off says.

    Raises `AccountUnavailable`.
    """
    flight = _flight(account_id, Want(force=True, manual=True))
    return flight.result(timeout=WAIT_FOR_OTHER_S + WAIT_S).credential


def refresh_due() -> int:
    """Refresh what ends soon and try again what is due; gives how many got a new token.

    The scheduled task's door, synchronous and idempotent.
    """
    states.end_cooldowns()
    due = list(token_rows.due(TASK_AHEAD_S).items())
    refreshed = 0
    for start in range(0, len(due), AT_ONCE):
        batch = [
            (_flight(account_id, Want(ahead_s=TASK_AHEAD_S)), before)
            for account_id, before in due[start : start + AT_ONCE]
        ]
        for flight, before in batch:
            # The failure is in the row and in the log already.
            with suppress(AccountUnavailable, TimeoutError):
                refreshed += flight.result(timeout=WAIT_FOR_OTHER_S + WAIT_S).fetched_at != before
    return refreshed


def forget(account_id: int | None = None) -> None:
    """Drop what memory holds of an account, or of all: the row decides again."""
    with _lock:
        if account_id is None:
            _held.clear()
            _renewals.clear()
        else:
            _held.pop(account_id, None)
            _renewals.pop(account_id, None)


def _count_renewal(account_id: int, rejected: str) -> None:
    """Stop when the upstream refuses token after token: asking for more would be hammering."""
    mark = hashlib.sha256(rejected.encode()).digest()
    at = monotonic()
    with _lock:
        renewals = _renewals.setdefault(account_id, Renewals())
        if renewals.last == mark:
            return
        times = renewals.times
        if len(times) == RENEWALS_PER_MINUTE and at - times[0] < 60:
            raise AccountUnavailable(
                "The upstream refuses every new token of this account.",
                code="refresh_failed",
                retry_after_s=60 - (at - times[0]),
            )
        renewals.last = mark
        times.append(at)


def _flight(account_id: int, want: Want) -> Future[Held]:
    """The flight that is under way for the account, or a new one."""
    with _lock:
        flight = _flights.get(account_id)
        if flight is None or flight.done():
            flight = _thread.submit(_obtain(account_id, want))
            _flights[account_id] = flight
        return flight


async def _landing(flight: Future[Held]) -> Held:
    """Wait for the flight without holding it: a caller that leaves does not end it for others."""
    loop = asyncio.get_running_loop()
    landed = asyncio.Event()

    def tell(_: Future[Held]) -> None:
        with suppress(RuntimeError):
            # The loop is closed when the asker is gone for good.
            loop.call_soon_threadsafe(landed.set)

    flight.add_done_callback(tell)
    try:
        async with asyncio.timeout(WAIT_S):
            await landed.wait()
    except TimeoutError:
        raise AccountUnavailable(
            "The credential could not be had in time.", code="refresh_failed", retry_after_s=5.0
        ) from None
    return flight.result()


async def _obtain(account_id: int, want: Want) -> Held:
    try:
        step = await _turn(account_id, want)
        return await _ask_github(step, want) if isinstance(step, Claim) else _hold(step)
    except Error as error:
        held = _held.get(account_id)
        if held and held.left_s > 0 and held.credential.token != want.rejected:
            return held
        logger.warning("account %s: database away: %s", account_id, error)
        raise AccountUnavailable(
            "The database cannot be reached.", code="refresh_failed", retry_after_s=5.0
        ) from None


async def _turn(account_id: int, want: Want) -> Ready | Claim:
    """Read the row until it offers a token or the right to fetch one; others have ten seconds."""
    deadline = monotonic() + WAIT_FOR_OTHER_S
    while True:
        held = _held.get(account_id)
        known = (held.credential.token, held.left_s) if held else ("", 0.0)
        step = await in_database(token_rows.begin, account_id, want, *known)
        if not isinstance(step, Busy):
            return step
        if monotonic() > deadline:
            raise AccountUnavailable(
                "Another process is refreshing the token and has not finished.",
                code="refresh_failed",
                retry_after_s=5.0,
            )
        await asyncio.sleep(POLL_S)


async def _ask_github(claim: Claim, want: Want) -> Held:
    account = claim.account
    sent_at = monotonic()
    try:
        fetched = await fetch(claim)
    except GitHubRefused as refused:
        unavailable = await in_database(token_rows.store_failure, claim, refused, want.rejected)
        if unavailable.code == "refresh_failed" and claim.still and not want.force:
            return _hold(claim.still, refresh_in_s=RETRY_AHEAD_S)
        with _lock:
            _held.pop(account.pk, None)
        raise unavailable from None
    try:
        ready = await in_database(token_rows.store, claim, fetched)
    except Error as error:
        # The token is good although the row cannot say so.
        logger.warning("account %s: token not stored: %s", account.login, error)
        ready = Ready(
            account_id=account.pk,
            login=account.login,
            token=fetched.token,
            base_url=fetched.base_url,
            kind=fetched.kind,
            fetched_at=claim.at,
            lifetime_s=fetched.lifetime_s,
            left_s=fetched.lifetime_s,
        )
    return _hold(ready, since=sent_at)


async def fetch(claim: Claim) -> Fetched:
    """Ask GitHub for what the account's kind of token needs. Raises `GitHubRefused`."""
    account, token = claim.account, claim.github_token
    if account.credential_kind == INSTALLATION:
        return await _fetch_installation(account)
    if account.credential_kind == DIRECT:
        return await _fetch_direct(claim)
    try:
        answer = await github.exchange(token, host=account.host)
    except GitHubRefused as refused:
        if refused.reason != refusals.NOT_ALLOWED:
            raise
        # GitHub hides the exchange from this kind of token; perhaps it may be sent directly.
        with suppress(GitHubRefused):
            return await _fetch_direct(claim)
        raise
    base_url = copilot_host(answer, account)
    return Fetched(answer["token"], base_url, account.credential_kind, lifetime_s(answer), answer)


async def _fetch_installation(account: Account) -> Fetched:
    app, number = account.app, account.installation_id
    if app is None or number is None:
        raise GitHubRefused(refusals.APP_WITHOUT_KEY, status=0, reason=refusals.UNUSABLE)
    given = await installations.fetch(app, number)
    base_url = copilot_host({}, account)
    return Fetched(given.token, base_url, INSTALLATION, given.lifetime_s)


async def _fetch_direct(claim: Claim) -> Fetched:
    account, token = claim.account, claim.github_token
    try:
        document = await github.account_document(token, host=account.host)
    except GitHubRefused as refused:
        # Others than those keep their host while GitHub is away.
        has_none = account.token_kind in NO_DOCUMENT and refused.status in (403, 404)
        is_away = token_rows.verdict(refused, 1)[0] is None and account.credential_kind == DIRECT
        if not has_none and not (is_away and account.api_base):
            raise
        base_url = account.api_base or copilot_host({}, account)
        life_s = DIRECT_S if has_none else DIRECT_UNCONFIRMED_S
        return Fetched(token, base_url, DIRECT, life_s)
    if document.get("chat_enabled") is False:
        raise GitHubRefused(refusals.TEXTS[refusals.NO_CHAT], status=403, reason=refusals.NO_CHAT)
    return Fetched(token, copilot_host(document, account), DIRECT, DIRECT_S, document)


def _hold(ready: Ready, *, since: float | None = None, refresh_in_s: float | None = None) -> Held:
    """Keep the credential in memory. `since` is when its request was sent, monotonic."""
    at = monotonic()
    ends_at = (at if since is None else since) + ready.left_s
    refresh_at = ends_at - min(AHEAD_S, ready.lifetime_s / 4)
    if refresh_in_s is not None:
        refresh_at = at + refresh_in_s
    held = Held(
        Credential(ready.account_id, ready.login, ready.token, ready.base_url, ready.kind),
        ready.fetched_at,
        ends_at,
        refresh_at,
    )
    with _lock:
        _held[ready.account_id] = held
    return held


class Thread:
    """The thread whose loop runs the flights; started on first use, anew after a fork."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def submit(self, flight: Coroutine[Any, Any, Held]) -> Future[Held]:
        return asyncio.run_coroutine_threadsafe(flight, self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with _lock:
            if self._loop is None or self._pid != os.getpid():
                if self._pid not in (0, os.getpid()):
                    _flights.clear()
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._run, name="credentials", daemon=True).start()
            return self._loop

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def stop(self) -> None:
        if self._loop is not None and self._pid == os.getpid() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)


_thread = Thread()
atexit.register(_thread.stop)
