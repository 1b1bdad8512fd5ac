"""GitHub's device flow as a state machine on a row: terminal, page and admin share one sign-in.

`step` asks GitHub when the interval has passed, by one process at a time; `run` steps until the
end; a restart goes on where the row stands. Source: docs/upstream.md#device-flow.
"""

import asyncio
import logging
import math
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import Error
from django.db.models import Q
from django.utils.timezone import now

from accounts import audit, github, refusals
from accounts.database import in_database
from accounts.encryption import Secret, Undecryptable
from accounts.enrolment import add_account
from accounts.errors import GitHubRefused
from accounts.hosts import DOTCOM, known_host
from accounts.models import Account, DeviceLogin, Member

logger = logging.getLogger(__name__)

State = DeviceLogin.State
RUNNING: Final = frozenset({State.PENDING, State.CHECKING})
# Skewed clocks of virtual machines otherwise hit slow_down for ever.
MARGIN_S: Final = 1.0
SLOW_DOWN_S: Final = 5.0
DEFAULT_INTERVAL_S: Final = 5.0
LONGEST_INTERVAL_S: Final = 120.0
DEFAULT_LIFE_S: Final = 900.0
LONGEST_LIFE_S: Final = 3600.0
# Longer than one poll and the seat check may take.
CLAIM_S: Final = 60.0
# A sign-in that was approved is checked for so long when GitHub is away.
CHECK_FOR_S: Final = 900.0
CHECK_EVERY_S: Final = 5.0
LONGEST_SLEEP_S: Final = 30.0

_followed: dict[uuid.UUID, asyncio.Task[DeviceLogin]] = {}


async def start(
    account_type: str = Account.Plan.INDIVIDUAL,
    started_by: Member | None = None,
    host: str = DOTCOM,
) -> DeviceLogin:
    """Ask GitHub for a code. Raises `GitHubRefused` when there is none to be had."""
    place = known_host(host)
    answer = await github.start_device_flow(host=place)
    return await in_database(_create, answer, account_type, started_by, place)


async def step(login_id: uuid.UUID | str) -> DeviceLogin:
    """Go one step if it is time and nobody else does; give the row as it then stands.

    Raises `DeviceLogin.DoesNotExist`.
    """
    login, is_mine = await in_database(_claim, login_id)
    if not is_mine:
        return login
    try:
        return await _advance(login)
    except asyncio.CancelledError:
        # The next one need not wait for the claim to end.
        await asyncio.shield(in_database(_save, login))
        raise


async def run(login_id: uuid.UUID | str) -> DeviceLogin:
    """Step until the sign-in has ended, whatever process does the steps."""
    while True:
        login = await step(login_id)
        if login.state not in RUNNING:
            return login
        await asyncio.sleep(seconds_to_next(login))


def seconds_to_next(login: DeviceLogin) -> float:
    """How long to wait before the next `step`; never so long that another's end goes unseen."""
    next_at = login.next_poll_at or now()
    wait_s = (next_at - now()).total_seconds()
    if login.claimed_until is not None:
        wait_s = max(wait_s, 0.2)
    return min(max(wait_s, 0.05), LONGEST_SLEEP_S)


async def cancel(login_id: uuid.UUID | str, actor: Member | str = audit.GATEWAY) -> DeviceLogin:
    """End the sign-in; one that has ended already stays as it ended."""
    return await in_database(_cancel, login_id, actor)


def follow(login_id: uuid.UUID) -> asyncio.Task[DeviceLogin]:
    """`run` as a task of this loop that is held until it ends; one per sign-in."""
    task = _followed.get(login_id)
    if task is None or task.done():
        task = asyncio.get_running_loop().create_task(
            _run_logged(login_id), name=f"sign-in {login_id}"
        )
        _followed[login_id] = task
        task.add_done_callback(lambda _: _followed.pop(login_id, None))
    return task


async def resume_pending() -> int:
    """Follow every sign-in that has not ended, after a restart; gives how many."""
    pending = await in_database(_pending)
    for login_id in pending:
        follow(login_id)
    return len(pending)


async def stop_following() -> None:
    """Let go of the tasks at shutdown; the rows stay and are resumed by the next process."""
    tasks = list(_followed.values())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _run_logged(login_id: uuid.UUID) -> DeviceLogin:
    while True:
        try:
            return await run(login_id)
        except Error as error:
            logger.warning("sign-in %s: database away: %s", login_id, error)
            await asyncio.sleep(CHECK_EVERY_S)


async def _advance(login: DeviceLogin) -> DeviceLogin:
    try:
        secret = login.device_code.reveal()
    except Undecryptable as error:
        return await _end(login, State.FAILED, str(error))
    if login.state == State.PENDING:
        return await _poll(login, secret)
    return await _check(login, secret)


async def _poll(login: DeviceLogin, device_code: str) -> DeviceLogin:
    if login.expires_at <= now():
        return await _end(login, State.EXPIRED, refusals.BY_DEVICE_ERROR["expired_token"])
    try:
        answer = await github.poll_device_flow(device_code, host=login.host)
    except GitHubRefused as refused:
        # GitHub's trouble, not the person's: the code stays good.
        login.message = refused.message
        return await _wait(login, max(_pause_s(login), refused.retry_after_s or 0.0))
    if token := answer.get("access_token"):
        return await _approved(login, str(token))
    error = str(answer["error"])
    if error == "authorization_pending":
        login.message = ""
        return await _wait(login, _pause_s(login))
    if error == "slow_down":
        # It sticks: GitHub counts the longer interval from now on.
        slower = _seconds(answer.get("interval"), 0.0, LONGEST_INTERVAL_S)
        login.interval_s = min(max(login.interval_s + SLOW_DOWN_S, slower), LONGEST_INTERVAL_S)
        return await _wait(login, _pause_s(login))
    ends = {"expired_token": State.EXPIRED, "access_denied": State.DENIED}
    message = github.device_refusal(error, answer).message
    return await _end(login, ends.get(error, State.FAILED), message)


async def _approved(login: DeviceLogin, token: str) -> DeviceLogin:
    login.state = State.CHECKING
    login.device_code = Secret.of(token)
    login.expires_at = now() + timedelta(seconds=CHECK_FOR_S)
    login.message = ""
    await in_database(_save, login, keep_claim=True)
    if login.state != State.CHECKING:
        return login
    return await _check(login, token)


async def _check(login: DeviceLogin, token: str) -> DeviceLogin:
    """Prove the seat and store the account."""
    try:
        account = await add_account(
            token,
            account_type=login.account_type,
            owner=login.started_by,
            host=login.host,
            actor=login.started_by,
        )
    except GitHubRefused as refused:
        is_passing = (
            refused.status in (0, 429)
            or refused.status >= 500
            or (refused.reason in refusals.PASSING | {refusals.RATE_LIMITED, refusals.UNREADABLE})
        )
        if is_passing and refused.reason != refusals.UNUSABLE and login.expires_at > now():
            login.message = refused.message
            return await _wait(login, max(CHECK_EVERY_S, refused.retry_after_s or 0.0))
        state = State.NO_SEAT if refused.status == 403 else State.FAILED
        return await _end(login, state, refused.message)
    login.account = account
    return await _end(login, State.CONNECTED, f"Connected as {account.login}.")


async def _wait(login: DeviceLogin, seconds: float) -> DeviceLogin:
    login.next_poll_at = now() + timedelta(seconds=seconds)
    return await in_database(_save, login)


async def _end(login: DeviceLogin, state: str, message: str) -> DeviceLogin:
    login.state, login.message = state, message
    login.device_code = Secret("")
    login.next_poll_at = None
    return await in_database(_save, login)


def _pause_s(login: DeviceLogin) -> float:
    return login.interval_s + float(getattr(settings, "GATEWAY_DEVICE_FLOW_MARGIN_S", MARGIN_S))


def _seconds(given: object, default: float, longest: float) -> float:
    """A number of seconds from GitHub, also as text in a form's answer."""
    try:
        value = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return min(value, longest) if math.isfinite(value) and value > 0 else default


def _create(
    answer: Mapping[str, Any], account_type: str, started_by: Member | None, host: str
) -> DeviceLogin:
    life_s = _seconds(answer.get("expires_in"), DEFAULT_LIFE_S, LONGEST_LIFE_S)
    login = DeviceLogin(
        id=uuid.uuid4(),
        user_code=str(answer["user_code"])[:32],
        verification_uri=str(answer["verification_uri"])[:255],
        interval_s=_seconds(answer.get("interval"), DEFAULT_INTERVAL_S, LONGEST_INTERVAL_S),
        expires_at=now() + timedelta(seconds=life_s),
        account_type=account_type,
        host=host,
        started_by=started_by,
    )
    login.device_code = Secret.of(str(answer["device_code"]))
    login.next_poll_at = now() + timedelta(seconds=_pause_s(login))
    login.save(force_insert=True)
    audit.record(started_by or audit.GATEWAY, "sign_in.started", login.user_code, {"host": host})
    return login


def _claim(login_id: uuid.UUID | str) -> tuple[DeviceLogin, bool]:
    """The row, and whether it is this caller's turn."""
    at = now()
    due = Q(next_poll_at=None) | Q(next_poll_at__lte=at)
    # Written while the clock was ahead.
    due |= Q(next_poll_at__gt=at + timedelta(seconds=LONGEST_LIFE_S))
    free = Q(claimed_until=None) | Q(claimed_until__lt=at)
    free |= Q(claimed_until__gt=at + timedelta(seconds=2 * CLAIM_S))
    won = DeviceLogin.objects.filter(due, free, pk=login_id, state__in=RUNNING).update(
        claimed_until=at + timedelta(seconds=CLAIM_S)
    )
    login = DeviceLogin.objects.select_related("account", "started_by").get(pk=login_id)
    return login, bool(won)


def _save(login: DeviceLogin, *, keep_claim: bool = False) -> DeviceLogin:
    """Write the step's outcome, unless somebody has cancelled meanwhile."""
    login.claimed_until = login.claimed_until if keep_claim else None
    written = DeviceLogin.objects.filter(pk=login.pk, state__in=RUNNING).update(
        state=login.state,
        message=login.message,
        interval_s=login.interval_s,
        device_code=login.device_code,
        expires_at=login.expires_at,
        next_poll_at=login.next_poll_at,
        claimed_until=login.claimed_until,
        account=login.account,
        updated_at=now(),
    )
    if not written:
        login.refresh_from_db()
    elif login.state not in RUNNING:
        detail = {"message": login.message, "account": str(login.account or "")}
        audit.record(
            login.started_by or audit.GATEWAY, f"sign_in.{login.state}", login.user_code, detail
        )
    return login


def _cancel(login_id: uuid.UUID | str, actor: Member | str) -> DeviceLogin:
    ended = DeviceLogin.objects.filter(pk=login_id, state__in=RUNNING).update(
        state=State.CANCELLED,
        message="Cancelled.",
        device_code=Secret(""),
        next_poll_at=None,
        claimed_until=None,
        updated_at=now(),
    )
    login = DeviceLogin.objects.select_related("account", "started_by").get(pk=login_id)
    if ended:
        audit.record(actor, "sign_in.cancelled", login.user_code)
    return login


def _pending() -> list[uuid.UUID]:
    return list(DeviceLogin.objects.filter(state__in=RUNNING).values_list("pk", flat=True))
