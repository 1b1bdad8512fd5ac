"""What was used and what it cost: one record per request, hourly rollups, quota history."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.timezone import now

from accounts.encryption import EncryptedTextField, no_secret
from accounts.models import TouchedQuerySet
from usage.models.sums import Rollup as Rollup
from usage.models.sums import Tally as Tally


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
    # Found by the indexes below, which begin with them: each index is a tenth of a record's writing.
    started_at = models.DateTimeField()
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

    member_id = models.BigIntegerField(null=True, blank=True)
    member = models.CharField(max_length=150, blank=True)
    key_id = models.BigIntegerField(null=True, blank=True)
    key = models.CharField(max_length=120, blank=True)
    account_id = models.BigIntegerField(null=True, blank=True)
    account = models.CharField(max_length=100, blank=True)
    conversation = models.CharField(max_length=64, blank=True, db_index=True)
    parent = models.CharField(max_length=64, blank=True)
    upstream_request_id = models.CharField(max_length=100, blank=True)

    # The team and its cost centre at the time: a later move changes no past month.
    team_id = models.BigIntegerField(null=True, blank=True)
    team = models.CharField(max_length=100, blank=True, default="", db_default="")
    cost_centre = models.CharField(max_length=100, blank=True, default="", db_default="")

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
    # What we thought before sending; the bill is `nano_aiu`.
    estimated_nano_aiu = models.BigIntegerField(default=0, db_default=0)
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
            models.Index(fields=["account_id", "-started_at"], name="usage_by_account"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.model_used or self.model_asked} {self.outcome}"


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


class Reconciliation(models.Model):
    """One account's day: what GitHub's quota moved by, what we recorded, the rest unexplained.

    In nano-AIU, or under old contracts in premium requests times 10^9, see `unit`. `unexplained` is
    use outside the gateway, or what was charged and not told to us.
    """

    class Unit(models.TextChoices):
        CREDITS = "credits", "AI credits"
        REQUESTS = "requests", "Premium requests"

    account_id = models.BigIntegerField()
    account = models.CharField(max_length=100)
    day = models.DateField()
    quota_id = models.CharField(max_length=64)
    unit = models.CharField(
        max_length=16, choices=Unit.choices, default=Unit.CREDITS, db_default=Unit.CREDITS
    )
    since = models.DateTimeField()
    until = models.DateTimeField()
    quota_nano_aiu = models.BigIntegerField(null=True, blank=True)
    recorded_nano_aiu = models.BigIntegerField(default=0)
    estimated_nano_aiu = models.BigIntegerField(default=0)
    unexplained_nano_aiu = models.BigIntegerField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)
    made_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-day", "account"]
        constraints = [
            models.UniqueConstraint(
                fields=["account_id", "day", "quota_id"], name="reconciled_once_a_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.account} on {self.day}"


class ClosedMonth(models.Model):
    """A billing month (UTC) that is closed: its figures do not change any more."""

    month = models.DateField(unique=True)
    closed_at = models.DateTimeField(default=now)
    closed_by = models.CharField(max_length=150)
    records = models.BigIntegerField(default=0)
    nano_aiu = models.BigIntegerField(default=0)
    # SHA-256 over its lines, in their order: proof that nobody has changed them since.
    digest = models.CharField(max_length=64)
    signed_off_by = models.CharField(max_length=150, blank=True)
    signed_off_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-month"]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class ClosedLine(models.Model):
    """What one member used of one model through one key, for one cost centre, in a closed month."""

    closing = models.ForeignKey(ClosedMonth, on_delete=models.CASCADE, related_name="lines")
    cost_centre = models.CharField(max_length=100, blank=True)
    team = models.CharField(max_length=100, blank=True)
    member_id = models.BigIntegerField(default=0)
    member = models.CharField(max_length=150, blank=True)
    key = models.CharField(max_length=120, blank=True)
    account = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=100, blank=True)
    requests = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    nano_aiu = models.BigIntegerField(default=0)
    estimated_nano_aiu = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["cost_centre", "team", "member", "key", "account", "model"]

    def __str__(self) -> str:
        return f"{self.member} {self.model} {self.nano_aiu}"


class Price(models.Model):
    """A published price in force from `valid_from`, in nano-AIU per million tokens.

    Overrules the shipped table, never what the upstream says itself. `above_tokens` is the tier: it
    counts when the input is longer.
    """

    model = models.CharField(max_length=100)
    valid_from = models.DateField()
    above_tokens = models.PositiveIntegerField(default=0)
    input_nano_aiu = models.BigIntegerField()
    output_nano_aiu = models.BigIntegerField()
    cache_read_nano_aiu = models.BigIntegerField(null=True, blank=True)
    cache_write_nano_aiu = models.BigIntegerField(null=True, blank=True)
    source = models.CharField(max_length=200, blank=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["model", "-valid_from", "above_tokens"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "valid_from", "above_tokens"], name="one_price_a_day_and_tier"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from}"


class TaskRun(models.Model):
    """The heartbeat of background work: one run, how it ended, when the next is due."""

    name = models.CharField(max_length=100)
    task_id = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField(default=now)
    finished_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    succeeded = models.BooleanField(null=True, blank=True)
    result = models.CharField(max_length=500, blank=True)
    next_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-started_at"]
        indexes = [models.Index(fields=["name", "-started_at"], name="task_runs_by_name")]

    def __str__(self) -> str:
        return f"{self.name} at {self.started_at:%Y-%m-%d %H:%M}"


class Channel(models.Model):
    """Where notices go: somebody's, a team's, or (both empty) the administrators'."""

    class Kind(models.TextChoices):
        MAIL = "mail", "Mail"
        WEBHOOK = "webhook", "Signed webhook"
        SLACK = "slack", "Slack-style chat"
        TEAMS = "teams", "Teams-style chat"

    class Digest(models.TextChoices):
        AT_ONCE = "at_once", "At once"
        HOURLY = "hourly", "Every hour"
        DAILY = "daily", "Every day"

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    member = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="channels",
    )
    team = models.ForeignKey(
        "accounts.Team", null=True, blank=True, on_delete=models.CASCADE, related_name="channels"
    )
    # A chat webhook's address is a secret itself.
    address = EncryptedTextField(blank=True, default=no_secret)
    secret = EncryptedTextField(blank=True, default=no_secret)
    # Kinds of event; empty: all.
    events = models.JSONField(default=list, blank=True)
    digest = models.CharField(max_length=16, choices=Digest.choices, default=Digest.AT_ONCE)
    is_enabled = models.BooleanField(default=True)
    last_digest_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


class Notification(models.Model):
    """Something worth telling, once: `dedupe` is unique for the thing and its time."""

    dedupe = models.CharField(max_length=200, unique=True)
    event = models.CharField(max_length=64, db_index=True)
    at = models.DateTimeField(default=now, db_index=True)
    title = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    detail = models.JSONField(default=dict, blank=True)
    # Whom it concerns beside the administrators.
    member_id = models.BigIntegerField(null=True, blank=True)
    team_id = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return self.title


class Delivery(models.Model):
    """One notification on its way to one channel, tried again with back-off."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        SENT = "sent", "Sent"
        FAILED = "failed", "Given up"

    notification = models.ForeignKey(
        Notification, on_delete=models.CASCADE, related_name="deliveries"
    )
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(default=now, db_index=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["next_try_at"]
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["notification", "channel"], name="delivered_once")
        ]

    def __str__(self) -> str:
        return f"{self.notification} to {self.channel}"


class StoredBody(models.Model):
    """The bodies of one exchange, encrypted and redacted, because its key asked for it."""

    exchange_id = models.CharField(max_length=32, primary_key=True)
    member_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    key_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    request = EncryptedTextField(blank=True, default=no_secret)
    response = EncryptedTextField(blank=True, default=no_secret)
    request_bytes = models.PositiveBigIntegerField(default=0)
    response_bytes = models.PositiveBigIntegerField(default=0)
    is_cut = models.BooleanField(default=False)
    stored_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "stored bodies"

    def __str__(self) -> str:
        return f"bodies of {self.exchange_id}"


class Removal(models.Model):
    """Proof of one retention run: what was past its time, and that none of it is left."""

    at = models.DateTimeField(default=now)
    kind = models.CharField(max_length=32)
    actor = models.CharField(max_length=150)
    before = models.DateTimeField(null=True, blank=True)
    removed = models.BigIntegerField(default=0)
    left = models.BigIntegerField(default=0)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.removed} {self.kind} on {self.at:%Y-%m-%d}"


def fields_of(model: type[models.Model]) -> dict[str, Any]:
    """Name -> field of a model's own columns; exports and the journal name them so."""
    return {field.attname: field for field in model._meta.concrete_fields}
