"""Quotas of accounts: read from GitHub every five minutes and from answers, kept as history.

Polling never stands in the way of requests: when it fails, the last values stay, with their age and
the reason.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.core.cache import cache
from django.db.models import Q
from django.utils.timezone import now

from accounts.database import in_database
from accounts.encryption import Undecryptable
from accounts.errors import GitHubRefused
from accounts.models import Account
from usage import live
from usage.bounds import storable
from usage.forecasts import MAIN_QUOTAS, Forecast, forecast
from usage.models import QuotaSnapshot
from usage.quota_shapes import QuotaReading, UpstreamShape, is_free, parse_quota, reset_of
from usage.quota_summary import Summary, seed_usage_json, summary

__all__ = [
    "MAIN_QUOTAS",
    "Forecast",
    "QuotaReading",
    "Summary",
    "UpstreamShape",
    "forecast",
    "from_headers",
    "is_free",
    "parse_quota",
    "poll_account",
    "poll_due",
    "seed_usage_json",
    "store",
    "store_heard",
    "summary",
]

INSTALLATION = Account.CredentialKind.INSTALLATION
POLL_EVERY = timedelta(minutes=5)
# When gateways poll themselves: the worker has missed three of its turns.
OVERDUE = 3 * POLL_EVERY
POLL_TIMEOUT_S = 10.0
MAX_BACK_OFF = timedelta(hours=1)
AT_ONCE = 4
# Unchanged readings are written once an hour, so that a line through them has points.
UNCHANGED_EVERY = timedelta(hours=1)
logger = logging.getLogger(__name__)


class HeaderReading(Protocol):
    """What an answer's headers say of one quota. Source: docs/upstream.md#quota-headers."""

    @property
    def entitlement(self) -> float | None: ...
    @property
    def unlimited(self) -> bool: ...
    @property
    def remaining(self) -> float | None: ...
    @property
    def percent_remaining(self) -> float | None: ...
    @property
    def overage(self) -> float | None: ...
    @property
    def overage_permitted(self) -> bool | None: ...
    @property
    def resets_at(self) -> datetime | None: ...


# Storing


def store(account: Account, document: Mapping[str, Any], at: datetime | None = None) -> None:
    """Keep GitHub's account document and a snapshot of each of its quotas.

    Raises `UpstreamShape` when it names no quotas; then the last document stays.
    """
    at = at or now()
    readings = parse_quota(document, at)
    kept = {str(k): v for k, v in document.items() if k != "analytics_tracking_id"}
    account.plan = storable(_text(document.get("copilot_plan")), 64)
    account.sku = storable(_text(document.get("access_type_sku")), 100)
    account.token_based_billing = document.get("token_based_billing", True) is not False
    account.quota = _storable_document(kept)
    account.quota_reset_at = _reset(document, readings)
    account.quota_polled_at = at
    account.quota_error = ""
    account.save(
        update_fields=[
            "plan", "sku", "token_based_billing", "quota", "quota_reset_at", "quota_polled_at",
            "quota_error", "updated_at",
        ]
    )  # fmt: skip
    _keep(account.pk, readings)
    live.publish({"t": "quota.changed", "account_id": account.pk, "member_id": account.owner_id})


def _keep(account_id: int, readings: list[QuotaReading]) -> None:
    """Add snapshots of what has changed, or was last written an hour ago."""
    rows = []
    for reading in readings:
        last = QuotaSnapshot.objects.filter(
            account_id=account_id, quota_id=reading.quota_id, source=reading.source
        ).first()
        if last is None or reading.at - last.at >= UNCHANGED_EVERY or _differs(last, reading):
            rows.append(_row(account_id, reading))
    QuotaSnapshot.objects.bulk_create(rows)


_KEPT = (
    "entitlement", "remaining", "percent_remaining", "unlimited", "overage_count",
    "overage_permitted", "credits_used", "reset_at",
)  # fmt: skip


def _differs(row: QuotaSnapshot, reading: QuotaReading) -> bool:
    return any(getattr(row, name) != getattr(reading, name) for name in _KEPT)


def _row(account_id: int, reading: QuotaReading) -> QuotaSnapshot:
    return QuotaSnapshot(
        account_id=account_id,
        quota_id=storable(reading.quota_id, 64),
        at=reading.at,
        source=reading.source,
        **{name: getattr(reading, name) for name in _KEPT},
    )


def _reset(document: Mapping[str, Any], readings: list[QuotaReading]) -> datetime | None:
    by_id = {reading.quota_id: reading for reading in readings}
    for quota_id in MAIN_QUOTAS:
        if quota_id in by_id and by_id[quota_id].reset_at:
            return by_id[quota_id].reset_at
    return reset_of(document)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _storable_document(value: Any, depth: int = 8) -> Any:
    if isinstance(value, Mapping):
        items = list(value.items())[:200] if depth else []
        return {storable(str(k), 200): _storable_document(v, depth - 1) for k, v in items}
    if isinstance(value, list):
        return [_storable_document(v, depth - 1) for v in value[:200]] if depth else []
    return storable(value, 2000) if isinstance(value, str) else value


# Polling


def has_document(account: Account) -> bool:
    """Whether GitHub tells plan and quota. Source: docs/upstream.md#installation-tokens."""
    return account.credential_kind != INSTALLATION and account.token_kind != "ghs"  # noqa: S105


async def poll_account(account: Account) -> bool:
    """Ask GitHub once and store the answer; False when that failed, with the reason stored.

    Installations of an App have no such document: for them nothing is asked and nothing failed.
    """
    from accounts.github import account_document

    if not has_document(account):
        return True
    if account.state == Account.State.FROZEN:
        # Until a person has looked, nothing of this account goes to GitHub.
        return False
    try:
        token = account.github_token.reveal()
        async with asyncio.timeout(POLL_TIMEOUT_S):
            document = await account_document(token, host=account.host)
        await in_database(store, account, document)
    except TimeoutError:
        await in_database(_failed, account, "GitHub did not answer within 10 s.", None)
    except GitHubRefused as error:
        await in_database(_failed, account, error.message, error.retry_after_s)
    except (UpstreamShape, Undecryptable) as error:
        await in_database(_failed, account, str(error), None)
    except (ValueError, TypeError, AttributeError) as error:
        # A document that is no document: its text may hold anything and is not kept.
        reason = f"GitHub's answer could not be read ({type(error).__name__})."
        await in_database(_failed, account, reason, None)
    else:
        # Not here: the cache may be at the other end of a network, and the loop waits for nobody.
        await in_database(cache.delete, _back_off_key(account.pk))
        return True
    return False


def _failed(account: Account, reason: str, retry_after_s: float | None) -> None:
    """Keep the last values, store why there are no newer ones and when to ask again."""
    failures, _ = cache.get(_back_off_key(account.pk)) or (0, None)
    wait = min(MAX_BACK_OFF, POLL_EVERY * 2 ** min(failures, 6))
    if retry_after_s is not None:
        wait = max(wait, timedelta(seconds=min(max(retry_after_s, 1), 86_400)))
    # Two accounts that failed together do not ask together again.
    not_before = now() + wait * random.uniform(0.9, 1.1)  # noqa: S311
    cache.set(_back_off_key(account.pk), (failures + 1, not_before.timestamp()), 2 * 86_400)
    logger.warning("quota of %s not read: %s", account.login, reason)
    Account.objects.filter(pk=account.pk).update(quota_error=storable(reason, 500))
    account.quota_error = storable(reason, 500)
    live.publish({"t": "quota.changed", "account_id": account.pk, "member_id": account.owner_id})


def _back_off_key(account_id: int) -> str:
    return f"usage.quota.back_off.{account_id}"


def due_accounts(at: datetime) -> list[Account]:
    """Accounts whose quota is older than five minutes, the oldest first.

    The age at which an account is due differs from account to account by up to a minute, so that
    they spread over time.
    """
    waiting = Account.objects.exclude(
        state__in=[Account.State.NEEDS_SIGN_IN, Account.State.FROZEN, Account.State.PAUSED]
    ).filter(Q(quota_polled_at=None) | Q(quota_polled_at__lte=at - POLL_EVERY))
    waiting = waiting.exclude(credential_kind=INSTALLATION).exclude(token_kind="ghs")  # noqa: S106
    due = []
    for account in waiting.order_by("quota_polled_at"):
        spread = timedelta(seconds=account.pk * 17 % 60)
        polled_at = account.quota_polled_at
        _, not_before = cache.get(_back_off_key(account.pk)) or (0, None)
        if polled_at is not None and polled_at > at - POLL_EVERY - spread:
            continue
        if not_before is None or not_before <= at.timestamp():
            due.append(account)
    return due


def poll_due() -> int:
    """Poll every account that is due; gives back how many were asked. Run it in a worker thread."""
    due = _claimed(due_accounts(now()))
    if due:
        asyncio.run(_poll_all(due))
    return len(due)


async def poll_overdue() -> int:
    """Poll what no worker has polled for a while, on a gateway's loop; how many were asked.

    Raises `django.db.Error` when the database is away.
    """
    overdue = await in_database(_overdue)
    if overdue:
        await _poll_all(overdue)
    return len(overdue)


def _overdue() -> list[Account]:
    before = now() - OVERDUE
    due = due_accounts(now())
    # Those that were never polled are polled when a gateway meets them.
    return _claimed(a for a in due if a.quota_polled_at and a.quota_polled_at < before)


def _claimed(accounts: Iterable[Account]) -> list[Account]:
    # Another process may look at the same minute: who adds the key asks.
    return [a for a in accounts if cache.add(f"usage.quota.polling.{a.pk}", 1, 60)]


async def _poll_all(accounts: list[Account]) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def poll(account: Account) -> None:
        async with slots:
            await poll_account(account)

    async with asyncio.TaskGroup() as group:
        for account in accounts:
            group.create_task(poll(account))


# Readings from answers

_heard: dict[tuple[int, str], QuotaReading] = {}
_heard_lock = threading.Lock()


def from_headers(account_id: int, readings: Mapping[str, HeaderReading]) -> None:
    """Remember what an answer's headers said; the recorder's writer stores it. Never waits."""
    if not readings:
        return
    at = now()
    with _heard_lock:
        for quota_id, said in list(readings.items())[:20]:
            _heard[(account_id, quota_id)] = QuotaReading(
                quota_id=quota_id[:64],
                at=at,
                entitlement=said.entitlement if said.entitlement != -1 else None,
                remaining=said.remaining,
                percent_remaining=said.percent_remaining,
                unlimited=said.unlimited,
                overage_count=said.overage or 0.0,
                overage_permitted=bool(said.overage_permitted),
                reset_at=said.resets_at,
                source="header",
            )


def store_heard() -> None:
    """Write what headers said since the last time. Raises `django.db.Error`, forgetting none."""
    with _heard_lock:
        heard = dict(_heard)
    for (account_id, _), reading in heard.items():
        _keep(account_id, [reading])
    with _heard_lock:
        for key, reading in heard.items():
            if _heard.get(key) is reading:
                del _heard[key]
