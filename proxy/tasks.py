"""Celery's door to the catalog."""

import asyncio

from celery import shared_task

from proxy import catalog
from proxy.upstream.client import close_client


@shared_task
def refresh_catalogs() -> int:
    """Read the model lists that are older than ten minutes; how many were due."""
    due = catalog.accounts_due()
    if due:
        asyncio.run(_refresh(due))
    return len(due)


async def _refresh(account_ids: list[int]) -> None:
    try:
        for account_id in account_ids:
            await catalog.refresh(account_id)
    finally:
        await close_client()
