"""Celery's door to the catalog and to the drift canary. Every task may run twice without harm."""

import asyncio

from celery import shared_task

from accounts.claims import once_at_a_time
from proxy import affinity, approval, canary, catalog, catalog_history
from proxy.upstream.client import close_client


@shared_task
@once_at_a_time("refresh-catalogs", 600)
def refresh_catalogs() -> int:
    """Read the model lists that are older than ten minutes; how many were due."""
    due = catalog.accounts_due()
    if due:
        asyncio.run(_refresh(due))
    return len(due)


@shared_task
def forget_conversations() -> int:
    """Delete which account old conversations had. Run it once a day."""
    return affinity.forget_old()


async def _refresh(account_ids: list[int]) -> None:
    try:
        for account_id in account_ids:
            await catalog.refresh(account_id)
    finally:
        await close_client()


@shared_task
@once_at_a_time("canary", 600)
def probe_upstream() -> dict[str, int]:
    """Ask each host for what is free, with the configured versions; see `proxy.canary`."""
    return canary.run()


@shared_task
def delete_old_changes() -> int:
    """Forget changes of the model lists after 400 days. Run it once a day."""
    return catalog_history.delete_old()


@shared_task
def sweep_approvals() -> int:
    """Refuse what waits for a gateway that is gone, also when no gateway is left. Every minute."""
    return approval.sweep()
