"""Old rows go in small batches, so that nobody waits for a lock; each run leaves its proof.

Rollups and closed months stay: they are small, and sums name no prompt. A `Removal` says what was
past its time, how many rows went, and how many of them are left (none, or the next run goes on).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import models
from django.utils.timezone import now

from accounts import audit
from accounts.models import AuditEntry, DeviceLogin, Invite, SignInLink
from usage.models import (
    Notification,
    QuotaSnapshot,
    Removal,
    StoredBody,
    TaskRun,
    UsageRecord,
)

BATCH = 1000
DEFAULT_DAYS = 400
# Entries of the audit log stay a year at least, whatever records may.
AUDIT_DAYS = 366
LEFTOVERS_DAYS = 30


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of `model` whose `column` lies more than `days` back may go."""

    kind: str
    model: type[models.Model]
    column: str
    days: int


def rules() -> tuple[Rule, ...]:
    days = getattr(settings, "USAGE_RETENTION_DAYS", DEFAULT_DAYS)
    return (
        Rule("usage records", UsageRecord, "started_at", days),
        Rule("quota snapshots", QuotaSnapshot, "at", days),
        Rule("stored bodies", StoredBody, "expires_at", 0),
        Rule("audit entries", AuditEntry, "at", max(days, AUDIT_DAYS)),
        Rule("notifications", Notification, "at", days),
        Rule("task runs", TaskRun, "started_at", LEFTOVERS_DAYS),
        Rule("sign-ins to GitHub", DeviceLogin, "expires_at", LEFTOVERS_DAYS),
        Rule("sign-in links", SignInLink, "expires_at", LEFTOVERS_DAYS),
        Rule("invites", Invite, "expires_at", days),
        # They open nothing any more, and say who came from where.
        Rule("sessions", Session, "expire_date", 0),
    )


# Rules of packages above this one.
MORE: list[Callable[[], Rule]] = []


def delete_old(max_batches: int = 1000) -> int:
    """Delete what is past its time; gives back how many rows.

    Each rule stops after `max_batches`; the next run goes on.
    """
    every = [*rules(), *(more() for more in MORE)]
    return sum(apply(rule, max_batches) for rule in every)


def apply(rule: Rule, max_batches: int) -> int:
    """One rule, with its proof where it removed or left something."""
    cutoff = now() - timedelta(days=rule.days)
    removed = _delete(rule.model, rule.column, cutoff, max_batches=max_batches)
    left = _old(rule.model, rule.column, cutoff).count() if removed else 0
    if removed:
        Removal.objects.create(
            kind=rule.kind, actor=audit.GATEWAY, before=cutoff, removed=removed, left=left
        )
    return removed


def _old(model: type[models.Model], column: str, cutoff: datetime) -> models.QuerySet[Any]:
    return model._default_manager.filter(**{f"{column}__lt": cutoff})


def _delete(model: type[models.Model], column: str, cutoff: datetime, *, max_batches: int) -> int:
    deleted = 0
    for _ in range(max_batches):
        ids = list(
            _old(model, column, cutoff).order_by(column).values_list("pk", flat=True)[:BATCH]
        )
        if not ids:
            break
        deleted += model._default_manager.filter(pk__in=ids).delete()[0]
    return deleted
