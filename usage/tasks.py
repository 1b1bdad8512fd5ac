"""Background work of usage. Every task may run twice or be cut off without harm."""

from datetime import datetime

from asgiref.sync import async_to_sync
from celery import shared_task

from accounts.models import Account
from usage import (
    closing,
    deliveries,
    large_exports,
    outlooks,
    quota,
    reconciliation,
    retention,
    rollup_check,
    rollups,
    thresholds,  # noqa: F401  its watchers
    troubles,  # noqa: F401
    unusual,  # noqa: F401
    watching,
)


@shared_task
def poll_quotas() -> int:
    """Ask GitHub for the quota of every account that is due. Run it every minute."""
    return quota.poll_due()


@shared_task
def poll_account(account_id: int) -> str:
    """Ask GitHub for one account's quota now, as an administrator asked; what came of it, in words."""
    account = Account.objects.filter(pk=account_id).first()
    if account is None:
        return "the account is gone"
    if async_to_sync(quota.poll_account)(account):
        return f"{account.login}: polled"
    account.refresh_from_db(fields=["quota_error"])
    return f"{account.login}: {account.quota_error}"


@shared_task
def rebuild(since: str, until: str) -> int:
    """Make the rollups from `since` to `until` (ISO) anew."""
    return rollups.rebuild(datetime.fromisoformat(since), datetime.fromisoformat(until))


@shared_task
def delete_old_records() -> int:
    """Delete what is past its retention. Run it once a day."""
    return retention.delete_old()


@shared_task
def watch_thresholds() -> int:
    """Look at budgets, quotas, accounts, tasks and approvals; note what is worth it. Every minute."""
    return watching.watch()


@shared_task
def deliver_notifications() -> int:
    """Send notices that are due to channels that want them at once. Run it every half minute."""
    return deliveries.deliver()


@shared_task
def send_digests() -> int:
    """Send what has gathered for hourly and daily channels. Run it every five minutes."""
    return deliveries.send_digests()


@shared_task
def reconcile() -> int:
    """Compare quotas with records for the last three days. Run it every few hours."""
    return reconciliation.reconcile()


@shared_task
def forecast() -> int:
    """Tell of quotas and budgets that will not last. Run it every hour."""
    return outlooks.tell()


@shared_task
def close_month() -> int:
    """Close last month once its second day has begun (UTC). Run it every few hours."""
    return closing.close_due()


@shared_task
def write_export(member_id: int, query: str, kind: str, zone: str, export_id: str) -> str:
    """Write a large export for somebody and tell them."""
    return large_exports.write(member_id, query, kind, zone=zone, export_id=export_id)


@shared_task
def check_rollups() -> dict[str, int]:
    """Compare the hourly sums of two days with their records. Run it once a day."""
    return rollup_check.check()
