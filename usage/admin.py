"""The admin of usage: everything is read-only, and fast with a million records."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin

from usage.models import QuotaSnapshot, Rollup, UsageRecord
from usage.pricing import NANO_PER_CREDIT

COUNT_UP_TO = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than 10,000 rows: counting a million costs more than showing them."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, models.QuerySet):
            return len(rows)
        return int(rows.order_by()[:COUNT_UP_TO].count())


class PeriodQuerySet(models.QuerySet[Any]):
    """Offers every period between the first row and the last in the date hierarchy.

    Asking which of them hold rows reads the whole table: a second for every 300,000 rows.
    """

    def datetimes(self, field_name: str, kind: str, *args: Any, **kwargs: Any) -> Any:
        ends = self.aggregate(first=models.Min(field_name), last=models.Max(field_name))
        if ends["first"] is None:
            return []
        period = _start(localtime(ends["first"]), kind)
        periods = []
        while period <= localtime(ends["last"]):
            periods.append(period)
            period = _start(period + _STEP[kind], kind)
        return periods


# Longer than the period and shorter than two of them; `_start` cuts the rest.
_STEP = {"year": timedelta(days=370), "month": timedelta(days=32), "day": timedelta(hours=26)}


def _start(moment: datetime, kind: str) -> datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return {"year": day.replace(month=1, day=1), "month": day.replace(day=1), "day": day}[kind]


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows that only the recorder writes."""

    show_full_result_count = False
    list_per_page = 50
    paginator = BoundedPaginator
    actions = None

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return PeriodQuerySet(self.model).order_by(*self.ordering)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin):
    date_hierarchy = "started_at"
    list_display = (
        "id", "started_at", "outcome", "status", "member", "key", "model_used", "credits",
        "account",
    )  # fmt: skip
    list_filter = ("outcome", "source", "cost_source", "streamed")
    search_fields = ("=id",)
    search_help_text = "The whole id of an exchange"
    ordering = ("-started_at", "-id")

    @admin.display(description="AI credits", ordering="nano_aiu")
    def credits(self, record: UsageRecord) -> str:
        mark = "≈ " if record.cost_source == UsageRecord.CostSource.ESTIMATED else ""
        return f"{mark}{record.nano_aiu / NANO_PER_CREDIT:.2f}"


@admin.register(Rollup)
class RollupAdmin(ReadOnlyAdmin):
    date_hierarchy = "hour"
    list_display = ("hour", "model", "client", "outcome", "requests", "nano_aiu")
    list_filter = ("outcome",)
    ordering = ("-hour", "-id")


@admin.register(QuotaSnapshot)
class QuotaSnapshotAdmin(ReadOnlyAdmin):
    date_hierarchy = "at"
    list_display = (
        "at", "account_id", "quota_id", "remaining", "entitlement", "credits_used", "source",
    )  # fmt: skip
    list_filter = ("quota_id", "source")
    ordering = ("-at", "-id")
