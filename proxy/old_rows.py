"""Rows of the proxy that go by themselves when their time is over; see `usage.retention`."""

from django.conf import settings

from proxy.models import Approval, CatalogChange
from usage import retention
from usage.retention import Rule


def approvals() -> Rule:
    """Who approved what is in the audit log, which stays longer."""
    return Rule("approvals", Approval, "opened_at", settings.USAGE_RETENTION_DAYS)


def catalog_changes() -> Rule:
    return Rule("catalog changes", CatalogChange, "at", settings.USAGE_RETENTION_DAYS)


retention.MORE += [approvals, catalog_changes]
