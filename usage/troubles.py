"""Troubles that are told: accounts, tokens, background tasks, the journal."""

import os
import shutil
import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models import OuterRef, Subquery

from accounts.models import Account
from usage import notices
from usage.models import TaskRun
from usage.thresholds import account_url
from usage.watching import watcher

State = Account.State
FAILURES: Final = 3
COOLING_FOR: Final = timedelta(minutes=30)
LATE_BY: Final = timedelta(minutes=10)
LOOK_BACK: Final = timedelta(days=3)
MIN_FREE_BYTES: Final = 200 * 1024 * 1024


@watcher
def accounts(at: datetime) -> int:
    """Tell of accounts that are frozen, signed out, cooling for long, or fail to refresh."""
    told = 0
    for account in Account.objects.all():
        told += _state(account, at) + _refresh(account)
    return told


def _state(account: Account, at: datetime) -> int:
    reason = f" Reason: {account.state_reason}" if account.state_reason else ""
    if account.state == State.FROZEN:
        return _tell(
            account,
            "account_frozen",
            "is frozen",
            f"No request leaves through it until an administrator releases it.{reason} Find out "
            "why before releasing it: going on may cost the seat.",
        )
    if account.state in (State.NEEDS_SIGN_IN, State.NO_SEAT):
        what = "needs a sign-in" if account.state == State.NEEDS_SIGN_IN else "has no Copilot seat"
        todo = (
            "Its owner signs in again on the accounts page."
            if account.state == State.NEEDS_SIGN_IN
            else "Give the account a Copilot seat, or connect another account."
        )
        return _tell(account, "account_sign_in", what, f"Its requests are refused.{reason} {todo}")
    if account.state == State.COOLING_DOWN and account.cooldown_until is not None:
        if account.cooldown_until - account.state_changed_at < COOLING_FOR:
            return 0
        return _tell(
            account,
            "account_cooling",
            "cools down for long",
            f"Copilot asked to wait until {account.cooldown_until:%Y-%m-%d %H:%M} UTC.{reason} "
            "Its requests are refused with that time; nothing has to be done.",
        )
    return 0


def _tell(account: Account, event: str, what: str, text: str) -> int:
    made = notices.note(
        event,
        f"Account {account.login} {what}",
        text,
        # A change of state is told once, however long it lasts.
        dedupe=f"{event}:{account.pk}:{account.state_changed_at.isoformat()}",
        detail={"account": account.login, "state": account.state, "url": account_url(account)},
        member_id=account.owner_id,
    )
    return int(made is not None)


def _refresh(account: Account) -> int:
    if account.refresh_failures < FAILURES:
        return 0
    since = account.token_fetched_at or account.created_at
    made = notices.note(
        "refresh_failing",
        f"Account {account.login}: the Copilot token cannot be refreshed",
        f"{account.refresh_failures} tries have failed: {account.refresh_error} The gateway goes "
        "on trying; when the present token ends, requests of this account are refused. Look at "
        "GitHub's status, then sign in again if it lasts.",
        dedupe=f"refresh:{account.pk}:{since.isoformat()}",
        detail={
            "account": account.login,
            "failures": account.refresh_failures,
            "url": account_url(account),
        },
        member_id=account.owner_id,
    )
    return int(made is not None)


@watcher
def tasks(at: datetime) -> int:
    """Tell of background tasks whose last run failed, or whose next one is late."""
    newest = TaskRun.objects.filter(name=OuterRef("name")).order_by("-started_at", "-pk")
    rows = TaskRun.objects.filter(
        started_at__gte=at - LOOK_BACK, pk=Subquery(newest.values("pk")[:1])
    )
    told = 0
    for run in rows:
        if run.succeeded is False:
            told += _tell_task(
                run, "has failed", f"It said: {run.result or 'nothing'}", at, "failed"
            )
        elif run.next_at is not None and run.next_at + LATE_BY < at:
            told += _tell_task(
                run,
                "is late",
                f"It was due at {run.next_at:%Y-%m-%d %H:%M} UTC. See whether worker and beat run.",
                at,
                "late",
            )
    return told


def _tell_task(run: TaskRun, what: str, text: str, at: datetime, kind: str) -> int:
    made = notices.note(
        "task",
        f"Background task {run.name} {what}",
        f"{text} The health page shows its runs.",
        dedupe=f"task:{kind}:{run.name}:{at:%Y-%m-%d}",
        detail={"task": run.name, "url": "/dashboard/health/"},
    )
    return int(made is not None)


@watcher
def journal(at: datetime) -> int:
    """Tell when this machine's journal folder cannot be written, or its disk is nearly full."""
    problem = journal_problem()
    if not problem:
        return 0
    made = notices.note(
        "journal",
        "The journal cannot be trusted",
        f"{problem} Requests of which no record can be kept are served without one, or refused in "
        "strict mode. Make room, or repair the folder.",
        dedupe=f"journal:{at:%Y-%m-%d}",
        detail={"url": "/dashboard/health/"},
    )
    return int(made is not None)


def journal_problem() -> str:
    """What is wrong with the folder, in words; empty when it is well."""
    folder = settings.JOURNAL_DIR
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"Its folder cannot be written: {error.strerror}."
    finally:
        with suppress(OSError):
            probe.unlink()
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        return "Its disk has less than 200 MB left."
    return ""
