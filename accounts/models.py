"""Who may call and with whose seat: members, GitHub accounts, API keys, sign-ins, the audit log."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.timezone import now

from accounts.encryption import EncryptedTextField, no_secret


class TouchedQuerySet(models.QuerySet[Any]):
    """`update()` that keeps `updated_at` true: the in-memory copies reload when it moves."""

    def update(self, **kwargs: Any) -> int:
        kwargs.setdefault("updated_at", now())
        return super().update(**kwargs)


class Member(AbstractUser):
    """A person of the team. `is_superuser` is an administrator."""

    updated_at = models.DateTimeField(auto_now=True, db_index=True)
    time_zone = models.CharField(max_length=64, blank=True)
    theme = models.CharField(
        max_length=8,
        default="system",
        choices=[("system", "System"), ("light", "Light"), ("dark", "Dark")],
    )

    class Meta(AbstractUser.Meta):
        verbose_name = "member"

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.get_username()


class Account(models.Model):
    """A GitHub account whose Copilot seat is used. Secrets are ciphertext in the database."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        COOLING_DOWN = "cooling_down", "Cooling down"
        NEEDS_SIGN_IN = "needs_sign_in", "Needs sign-in"
        NO_SEAT = "no_seat", "No seat"
        FROZEN = "frozen", "Frozen"
        PAUSED = "paused", "Paused"

    class CredentialKind(models.TextChoices):
        """How the GitHub token becomes a bearer. Source: docs/upstream.md#token-kinds."""

        EXCHANGE = "exchange", "Exchanged for a Copilot token"
        DIRECT = "direct", "Sent as it is"

    class Plan(models.TextChoices):
        """What the operator says with --account-type; the account's documents overrule it."""

        INDIVIDUAL = "individual", "Individual"
        BUSINESS = "business", "Business"
        ENTERPRISE = "enterprise", "Enterprise"

    login = models.CharField(max_length=100)
    host = models.CharField(max_length=255, default="github.com")
    github_id = models.BigIntegerField(null=True, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="accounts",
    )
    account_type = models.CharField(max_length=16, choices=Plan.choices, default=Plan.INDIVIDUAL)
    credential_kind = models.CharField(
        max_length=16, choices=CredentialKind.choices, default=CredentialKind.EXCHANGE
    )
    token_kind = models.CharField(max_length=16, blank=True)
    github_token = EncryptedTextField(blank=True, default=no_secret)

    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    state_reason = models.TextField(blank=True)
    state_changed_at = models.DateTimeField(default=now)
    cooldown_until = models.DateTimeField(null=True, blank=True)

    # The Copilot token, or for direct credentials only the host. The lifetime counts from
    # `token_fetched_at`; the upstream's own clock is never trusted.
    copilot_token = EncryptedTextField(blank=True, default=no_secret)
    token_fetched_at = models.DateTimeField(null=True, blank=True)
    token_lifetime_s = models.PositiveIntegerField(default=0)
    api_base = models.CharField(max_length=255, blank=True)
    refresh_claimed_until = models.DateTimeField(null=True, blank=True)
    refresh_failures = models.PositiveIntegerField(default=0)
    refresh_error = models.TextField(blank=True)
    refresh_not_before = models.DateTimeField(null=True, blank=True)

    # What GitHub's account document said last. Source: docs/upstream.md#account-document.
    plan = models.CharField(max_length=64, blank=True)
    sku = models.CharField(max_length=100, blank=True)
    token_based_billing = models.BooleanField(default=True)
    quota = models.JSONField(default=dict, blank=True)
    quota_reset_at = models.DateTimeField(null=True, blank=True)
    quota_polled_at = models.DateTimeField(null=True, blank=True)
    quota_error = models.TextField(blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["login"]
        constraints = [
            models.UniqueConstraint(fields=["host", "login"], name="account_once_per_host"),
        ]

    def __str__(self) -> str:
        return self.login


class ApiKey(models.Model):
    """A caller's key: SHA-256 of `cgw_` + 32 random bytes, shown once. Zero or empty means no limit."""

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.SET_NULL, related_name="api_keys"
    )
    models_allowed = models.JSONField(default=list, blank=True)
    requests_per_minute = models.PositiveIntegerField(default=0)
    concurrency = models.PositiveIntegerField(default=0)
    budget_day_nano_aiu = models.BigIntegerField(default=0)
    budget_month_nano_aiu = models.BigIntegerField(default=0)
    needs_approval = models.BooleanField(default=False)
    # A default of the database, so that code of before the column can still make keys.
    allows_web_search = models.BooleanField(default=False, db_default=False)
    is_admin = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def state(self) -> str:
        """active, expired or revoked."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= now():
            return "expired"
        return "active"


class DeviceLogin(models.Model):
    """One run of GitHub's device flow, shared by terminal, page and admin."""

    class State(models.TextChoices):
        PENDING = "pending", "Waiting for GitHub"
        CHECKING = "checking", "Checking the seat"
        CONNECTED = "connected", "Connected"
        DENIED = "denied", "Denied"
        EXPIRED = "expired", "Expired"
        NO_SEAT = "no_seat", "No seat"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    id = models.UUIDField(primary_key=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    user_code = models.CharField(max_length=32)
    # While the seat is checked: the GitHub token, so that a restart in between loses nothing.
    device_code = EncryptedTextField()
    verification_uri = models.CharField(max_length=255)
    interval_s = models.FloatField(default=5)
    expires_at = models.DateTimeField()
    account_type = models.CharField(max_length=16, default=Account.Plan.INDIVIDUAL)
    host = models.CharField(max_length=255, default="github.com")
    # When GitHub may be asked again, and until when one process is asking.
    next_poll_at = models.DateTimeField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    account = models.ForeignKey(Account, null=True, blank=True, on_delete=models.SET_NULL)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    message = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.user_code} ({self.state})"


class SignInLink(models.Model):
    """A link that signs its member in once, for ten minutes. Stored as SHA-256."""

    digest = models.BinaryField(max_length=32, unique=True)
    member = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"for {self.member}, until {self.expires_at:%H:%M}"


class UpstreamProfile(models.Model):
    """How the gateway presents itself to GitHub and Copilot: dated data, changed without a release.

    Source of the shipped defaults: docs/upstream.md#request-headers.
    """

    name = models.CharField(max_length=64, unique=True)
    is_active = models.BooleanField(default=False)
    valid_from = models.DateField()
    client_id = models.CharField(max_length=64)
    scope = models.CharField(max_length=100, blank=True, default="read:user")
    api_version = models.CharField(max_length=16)
    rest_api_version = models.CharField(max_length=16)
    integration_id = models.CharField(max_length=64)
    editor_version = models.CharField(max_length=64)
    plugin_version = models.CharField(max_length=64)
    user_agent = models.CharField(max_length=100)
    accepted_betas = models.JSONField(default=list)
    note = models.TextField(blank=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["-valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_active"],
                condition=models.Q(is_active=True),
                name="one_active_upstream_profile",
            )
        ]

    def __str__(self) -> str:
        return self.name


class AuditEntry(models.Model):
    """Who did what to what, when and from where. Rows are only ever added."""

    at = models.DateTimeField(default=now, db_index=True)
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=64, db_index=True)
    target = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    address = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
