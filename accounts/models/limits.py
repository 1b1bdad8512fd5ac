"""What may be used through a row: the limits that keys, members, teams, accounts and models share."""

from typing import Any

from django.db import models
from django.utils.timezone import now


class TouchedQuerySet(models.QuerySet[Any]):
    """`update()` that keeps `updated_at` true: the in-memory copies reload when it moves."""

    def update(self, **kwargs: Any) -> int:
        kwargs.setdefault("updated_at", now())
        return super().update(**kwargs)


class Effort(models.TextChoices):
    """Reasoning efforts, weakest first. Source: docs/upstream.md#models."""

    NONE = "none", "None"
    MINIMAL = "minimal", "Minimal"
    LOW = "low", "Low"
    MEDIUM = "medium", "Medium"
    HIGH = "high", "High"
    XHIGH = "xhigh", "Extra high"
    MAX = "max", "Max"


class Limited(models.Model):
    """Limits of one row; zero and empty mean no limit. Of all rows that a request meets, each holds.

    Budgets are nano-AIU in UTC days, ISO weeks (from Monday) and billing months. `budget_is_hard`
    refuses above them, else they only warn; `budget_warn_percent` of each warns first.
    `office_hours` is `Mon-Fri 08:00-19:00 Europe/Berlin`, several joined by `;`.
    """

    requests_per_minute = models.PositiveIntegerField(default=0, db_default=0)
    tokens_per_minute = models.PositiveIntegerField(default=0, db_default=0)
    concurrency = models.PositiveIntegerField(default=0, db_default=0)
    max_context_tokens = models.PositiveIntegerField(default=0, db_default=0)
    max_output_tokens = models.PositiveIntegerField(default=0, db_default=0)
    max_effort = models.CharField(
        max_length=16, choices=Effort.choices, blank=True, default="", db_default=""
    )
    office_hours = models.CharField(max_length=200, blank=True, default="", db_default="")
    budget_day_nano_aiu = models.BigIntegerField(default=0, db_default=0)
    budget_week_nano_aiu = models.BigIntegerField(default=0, db_default=0)
    budget_month_nano_aiu = models.BigIntegerField(default=0, db_default=0)
    budget_warn_percent = models.PositiveSmallIntegerField(default=80, db_default=80)
    budget_is_hard = models.BooleanField(default=True, db_default=True)

    class Meta:
        abstract = True


class ModelRules(models.Model):
    """Which models may be used through a row: ids or `gpt-5*`. An empty allow-list allows all."""

    models_allowed = models.JSONField(default=list, blank=True)
    models_denied = models.JSONField(default=list, blank=True)

    class Meta:
        abstract = True
