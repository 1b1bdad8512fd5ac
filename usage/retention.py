"""Old rows go in small batches, so that nobody waits for a lock. Rollups stay: they are small."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils.timezone import now

from usage.models import QuotaSnapshot, UsageRecord

BATCH = 1000
DEFAULT_DAYS = 400


def delete_old(max_batches: int = 1000) -> int:
    """Delete records and quota snapshots older than USAGE_RETENTION_DAYS; gives back how many.

    Stops after `max_batches`; the next run goes on.
    """
    cutoff = now() - timedelta(days=getattr(settings, "USAGE_RETENTION_DAYS", DEFAULT_DAYS))
    deleted = _delete(UsageRecord, "started_at", cutoff, max_batches=max_batches)
    return deleted + _delete(QuotaSnapshot, "at", cutoff, max_batches=max_batches)


def _delete(model: type[models.Model], column: str, cutoff: datetime, *, max_batches: int) -> int:
    deleted = 0
    for _ in range(max_batches):
        old = model._default_manager.filter(**{f"{column}__lt": cutoff}).order_by(column)
        ids = list(old.values_list("pk", flat=True)[:BATCH])
        if not ids:
            break
        deleted += model._default_manager.filter(pk__in=ids).delete()[0]
    return deleted
