"""Background work of usage. Every task may run twice or be cut off without harm."""

from datetime import datetime

from celery import shared_task

from usage import quota, retention, rollups


@shared_task
def poll_quotas() -> int:
    """Ask GitHub for the quota of every account that is due. Run it every minute."""
    return quota.poll_due()


@shared_task
def rebuild(since: str, until: str) -> int:
    """Make the rollups from `since` to `until` (ISO) anew."""
    return rollups.rebuild(datetime.fromisoformat(since), datetime.fromisoformat(until))


@shared_task
def delete_old_records() -> int:
    """Delete what is past its retention. Run it once a day."""
    return retention.delete_old()
