"""What the gateway knows of models, and what waits for a person: catalogs, policies, approvals."""

from django.db import models
from django.utils.timezone import now

from accounts.models import ApiKey, Limited, Team, TouchedQuerySet


class ModelAlias(models.Model):
    """A name that clients use for one of Copilot's ids. `pattern` may end in `*`."""

    pattern = models.CharField(max_length=100, unique=True)
    model = models.CharField(max_length=100)
    note = models.CharField(max_length=200, blank=True)
    is_enabled = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["pattern"]
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return f"{self.pattern} → {self.model}"


class Catalog(models.Model):
    """The model list of one account as Copilot last gave it; kept when a refresh fails.

    Source: docs/upstream.md#models.
    """

    account = models.OneToOneField(
        "accounts.Account", on_delete=models.CASCADE, related_name="catalog"
    )
    entries = models.JSONField(default=list)
    fetched_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.account} ({len(self.entries)} models)"


class ModelPolicy(Limited):
    """What the team does with a model: `model` is an id or `gpt-5*`; the longest that fits counts.

    `plans` names the plans whose accounts may serve it (empty: all). `fallback` serves in its place
    where it is missing or not enabled, disclosed to the client.
    """

    model = models.CharField(max_length=100, unique=True)
    is_enabled = models.BooleanField(default=True)
    plans = models.JSONField(default=list, blank=True)
    fallback = models.CharField(max_length=100, blank=True)
    note = models.CharField(max_length=200, blank=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["model"]
        verbose_name_plural = "model policies"

    def __str__(self) -> str:
        return self.model


class CatalogChange(models.Model):
    """What changed in an account's model list between two refreshes."""

    class Kind(models.TextChoices):
        ADDED = "added", "Added"
        REMOVED = "removed", "Removed"
        PRICE = "price", "Price"
        LIMITS = "limits", "Limits"
        ENDPOINTS = "endpoints", "Endpoints"
        POLICY = "policy", "Terms"

    at = models.DateTimeField(default=now, db_index=True)
    account = models.ForeignKey(
        "accounts.Account", on_delete=models.CASCADE, related_name="catalog_changes"
    )
    kind = models.CharField(max_length=16, choices=Kind.choices)
    model = models.CharField(max_length=100, db_index=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["-at", "model"]

    def __str__(self) -> str:
        return f"{self.model}: {self.kind}"


class UpstreamProbe(models.Model):
    """What the drift canary heard last at one host: whether our versions and headers are taken.

    `kind` is `models` (the Copilot API's list) or `account` (GitHub's account document). `since` is
    when the state began. Source: docs/upstream.md#api-version.
    """

    class State(models.TextChoices):
        OK = "ok", "Accepted"
        OUTDATED = "outdated", "Told to update"
        REFUSED = "refused", "Refused"
        UNCLEAR = "unclear", "No answer to judge by"

    host = models.CharField(max_length=255)
    kind = models.CharField(max_length=16)
    state = models.CharField(max_length=16, choices=State.choices)
    status = models.PositiveSmallIntegerField(default=0)
    # Which header is refused, where the answer names one, and what we sent in it.
    header = models.CharField(max_length=64, blank=True)
    sent = models.CharField(max_length=200, blank=True)
    message = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField(default=now)
    since = models.DateTimeField(default=now)

    class Meta:
        ordering = ["host", "kind"]
        constraints = [models.UniqueConstraint(fields=["host", "kind"], name="probed_once")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.host}: {self.state}"


class ConversationSeat(models.Model):
    """Which account a conversation has; kept as long as its history may come back.

    It outlives the account: what began with a seat that is gone is not moved in silence.
    """

    conversation = models.CharField(max_length=64, primary_key=True)
    account_id = models.BigIntegerField()
    bound_at = models.DateTimeField(default=now)
    seen_at = models.DateTimeField(default=now, db_index=True)

    def __str__(self) -> str:
        return f"{self.conversation} on account {self.account_id}"


class ApprovalRule(models.Model):
    """When a person is asked. All conditions that are set must hold; one rule that fits is enough."""

    name = models.CharField(max_length=100, unique=True)
    is_enabled = models.BooleanField(default=True)
    # Ids or `claude-opus*`; empty: any model.
    for_models = models.JSONField(default=list, blank=True)
    above_nano_aiu = models.BigIntegerField(default=0)
    above_context_tokens = models.PositiveIntegerField(default=0)
    key_younger_than_h = models.PositiveIntegerField(default=0)
    # `Mon-Fri 08:00-19:00 Europe/Berlin`: asks outside of them.
    outside_hours = models.CharField(max_length=200, blank=True)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE)
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.CASCADE)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Approval(models.Model):
    """One request that a person was asked about, and the answer. No prompt text."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Approved"
        REFUSED = "refused", "Refused"
        TIMED_OUT = "timed_out", "Out of time"
        GONE = "gone", "Client gone"
        LOST = "lost", "Refused by a restart"

    class Scope(models.TextChoices):
        ONCE = "once", "Once"
        CONVERSATION = "conversation", "This conversation"
        HOUR = "hour", "An hour"

    id = models.CharField(max_length=32, primary_key=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    scope = models.CharField(max_length=16, choices=Scope.choices, blank=True)
    opened_at = models.DateTimeField(default=now, db_index=True)
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=150, blank=True)
    # The process that holds the request; one that is gone has lost it.
    holder = models.CharField(max_length=64, blank=True)
    # When it last said that it is there, by the database's clock.
    seen_at = models.DateTimeField(null=True, blank=True)
    member_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    member = models.CharField(max_length=150, blank=True)
    key_id = models.BigIntegerField(null=True, blank=True)
    key = models.CharField(max_length=120, blank=True)
    client = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=100, blank=True)
    path = models.CharField(max_length=200, blank=True)
    conversation = models.CharField(max_length=64, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    estimated_nano_aiu = models.BigIntegerField(null=True, blank=True)
    tools = models.PositiveIntegerField(default=0)
    rule = models.CharField(max_length=200, blank=True)
    # When an approval for an hour, or for the conversation, ends.
    settles_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-opened_at"]
        indexes = [
            models.Index(fields=["state", "expires_at"], name="approvals_waiting"),
            models.Index(fields=["settles_until"], name="approvals_settling"),
            models.Index(fields=["-decided_at"], name="approvals_decided"),
        ]

    def __str__(self) -> str:
        return f"{self.member} {self.model}: {self.state}"
