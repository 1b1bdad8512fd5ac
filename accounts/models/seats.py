"""The seats: GitHub accounts, pools of the organisation's, sign-ins, and how we present ourselves."""

from django.conf import settings
from django.db import models
from django.utils.timezone import now

from accounts.encryption import EncryptedTextField, no_secret
from accounts.models.limits import Limited, TouchedQuerySet


class Pool(models.Model):
    """Seats owned by the organisation, which keys or teams of it share. Never personal accounts.

    `failover` lets what no conversation binds move on to another seat of the pool when one fails.
    """

    name = models.CharField(max_length=100, unique=True)
    failover = models.BooleanField(default=False)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class GitHubApp(models.Model):
    """An App of the organisation that may ask Copilot in its name.

    `issuer` is the App's client id or id. Source: docs/upstream.md#installation-tokens.
    """

    name = models.CharField(max_length=100, unique=True)
    issuer = models.CharField(max_length=64)
    private_key = EncryptedTextField(blank=True, default=no_secret)
    host = models.CharField(max_length=255, default="github.com")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        verbose_name = "GitHub App"

    def __str__(self) -> str:
        return self.name


class Account(Limited):
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
        INSTALLATION = "installation", "Installation token of a GitHub App"

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
    # Only seats of the organisation are pooled; a personal account serves its owner.
    pool = models.ForeignKey(
        Pool, null=True, blank=True, on_delete=models.PROTECT, related_name="accounts"
    )
    # Its share of the new conversations; 0: it gets no new ones and keeps those that it has.
    weight = models.PositiveSmallIntegerField(default=1, db_default=1)
    app = models.ForeignKey(
        GitHubApp, null=True, blank=True, on_delete=models.PROTECT, related_name="accounts"
    )
    installation_id = models.BigIntegerField(null=True, blank=True)
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
    # Models out of reach while the account serves others: {model: see `book.ModelLimit`}.
    model_limits = models.JSONField(default=dict, blank=True)

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
            models.CheckConstraint(
                condition=models.Q(pool=None) | models.Q(owner=None),
                name="pooled_seat_has_no_owner",
            ),
            models.CheckConstraint(
                condition=~models.Q(credential_kind="installation")
                | models.Q(app__isnull=False, installation_id__isnull=False),
                name="installation_has_its_app",
            ),
        ]

    def __str__(self) -> str:
        return self.login


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
