"""What was used and what it cost: one record per request, hourly rollups, quota history."""

from typing import Any

from django.db import models
from django.utils.timezone import now


class UsageRecord(models.Model):
    """One exchange, exactly once. Names beside ids, so that history survives deletions.

    Tokens: `input_tokens` includes cache reads and writes. Cost is integer nano-AIU
    (10^9 = 1 AI credit = 0.01 USD). Times ending in `_ms` count from `started_at`.
    """

    class Outcome(models.TextChoices):
        COMPLETED = "completed", "ok"
        CANCELLED = "cancelled", "client gone"
        UPSTREAM_ERROR = "upstream_error", "failed"
        TIMEOUT = "timeout", "timed out"
        REFUSED = "refused", "refused"
        INTERRUPTED = "interrupted", "interrupted"

    class CostSource(models.TextChoices):
        EXACT = "exact", "Said by the upstream"
        ESTIMATED = "estimated", "Computed from prices"
        NONE = "none", "Not charged"

    id = models.CharField(max_length=32, primary_key=True)
    started_at = models.DateTimeField(db_index=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    upstream_status = models.PositiveSmallIntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    stop_reason = models.CharField(max_length=32, blank=True)

    source = models.CharField(max_length=24)
    target = models.CharField(max_length=24, blank=True)
    path = models.CharField(max_length=200, blank=True)
    streamed = models.BooleanField(default=False)
    model_asked = models.CharField(max_length=100, blank=True)
    model_used = models.CharField(max_length=100, blank=True)
    effort = models.CharField(max_length=16, blank=True)
    client = models.CharField(max_length=100, blank=True)

    member_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    member = models.CharField(max_length=150, blank=True)
    key_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    key = models.CharField(max_length=120, blank=True)
    account_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    account = models.CharField(max_length=100, blank=True)
    conversation = models.CharField(max_length=64, blank=True, db_index=True)
    parent = models.CharField(max_length=64, blank=True)
    upstream_request_id = models.CharField(max_length=100, blank=True)

    initiator = models.CharField(max_length=8, blank=True)
    initiator_rule = models.CharField(max_length=64, blank=True)
    dropped = models.JSONField(default=list, blank=True)
    quirks = models.JSONField(default=list, blank=True)
    attempts = models.JSONField(default=list, blank=True)

    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cache_read_tokens = models.PositiveIntegerField(default=0)
    cache_write_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    usage_estimated = models.BooleanField(default=False)
    nano_aiu = models.BigIntegerField(default=0)
    cost_source = models.CharField(
        max_length=16, choices=CostSource.choices, default=CostSource.NONE
    )

    queue_ms = models.PositiveIntegerField(default=0)
    upstream_ms = models.PositiveIntegerField(null=True, blank=True)
    first_token_ms = models.PositiveIntegerField(null=True, blank=True)
    total_ms = models.PositiveIntegerField(default=0)
    bytes_in = models.PositiveBigIntegerField(default=0)
    bytes_out = models.PositiveBigIntegerField(default=0)
    tools_sent = models.PositiveIntegerField(default=0)
    messages_sent = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["-started_at", "-id"]
        indexes = [
            models.Index(fields=["-started_at", "-id"], name="usage_newest"),
            models.Index(fields=["member_id", "-started_at"], name="usage_by_member"),
            models.Index(fields=["key_id", "-started_at"], name="usage_by_key"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.model_used or self.model_asked} {self.outcome}"


class Rollup(models.Model):
    """Sums of one UTC hour for one combination; charts read these, never raw records."""

    hour = models.DateTimeField()
    member_id = models.BigIntegerField(default=0)
    key_id = models.BigIntegerField(default=0)
    account_id = models.BigIntegerField(default=0)
    model = models.CharField(max_length=100, blank=True)
    client = models.CharField(max_length=100, blank=True)
    outcome = models.CharField(max_length=16)

    requests = models.PositiveIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    nano_aiu = models.BigIntegerField(default=0)
    estimated_nano_aiu = models.BigIntegerField(default=0)
    total_ms = models.BigIntegerField(default=0)
    # Counts of first-token times in sqrt(2)-spaced buckets, for percentiles over any range.
    first_token_histogram = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "member_id", "key_id", "account_id", "model", "client", "outcome"],
                name="one_rollup_per_combination",
            )
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00 {self.model} {self.outcome}"


class QuotaSnapshot(models.Model):
    """What GitHub said of an account's quota at one time. Source: docs/upstream.md#quota."""

    account_id = models.BigIntegerField()
    quota_id = models.CharField(max_length=64)
    at = models.DateTimeField(default=now)
    entitlement = models.FloatField(null=True, blank=True)
    remaining = models.FloatField(null=True, blank=True)
    percent_remaining = models.FloatField(null=True, blank=True)
    unlimited = models.BooleanField(default=False)
    overage_count = models.FloatField(default=0)
    overage_permitted = models.BooleanField(default=False)
    credits_used = models.FloatField(null=True, blank=True)
    reset_at = models.DateTimeField(null=True, blank=True)
    source = models.CharField(max_length=16, default="poll")

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["account_id", "quota_id", "-at"], name="quota_history")]

    def __str__(self) -> str:
        return f"{self.quota_id} {self.remaining} at {self.at:%Y-%m-%d %H:%M}"


def fields_of(model: type[models.Model]) -> dict[str, Any]:
    """Name -> field of a model's own columns; exports and the journal name them so."""
    return {field.attname: field for field in model._meta.concrete_fields}
