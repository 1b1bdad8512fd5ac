"""API keys, and temporary raises of what they, members and teams may spend."""

from django.conf import settings
from django.db import models
from django.utils.timezone import now

from accounts.models.limits import Limited, ModelRules, TouchedQuerySet
from accounts.models.people import Member, Team
from accounts.models.seats import Account, Pool


class Lane(models.TextChoices):
    """Who goes first when requests wait for a slot."""

    INTERACTIVE = "interactive", "Interactive"
    BATCH = "batch", "Batch"


class ApiKey(Limited, ModelRules):
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
    # Protected: without its pool the key would go on with other seats unasked.
    pool = models.ForeignKey(
        Pool, null=True, blank=True, on_delete=models.PROTECT, related_name="api_keys"
    )
    # The batch lane waits behind people. Bulk jobs need a key of their own.
    lane = models.CharField(
        max_length=16, choices=Lane.choices, default=Lane.INTERACTIVE, db_default=Lane.INTERACTIVE
    )
    needs_approval = models.BooleanField(default=False)
    # A default of the database, so that code of before the column can still make keys.
    allows_web_search = models.BooleanField(default=False, db_default=False)
    # Bodies of its requests are kept, encrypted, until then; never without an end.
    stores_bodies_until = models.DateTimeField(null=True, blank=True)
    # The key that this one was made to replace.
    replaces = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="replaced_by"
    )
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


class BudgetRaise(models.Model):
    """More to spend for a while, with the reason: added to the budget of one key, member or team."""

    class Period(models.TextChoices):
        DAY = "day", "Day"
        WEEK = "week", "Week"
        MONTH = "month", "Billing month"

    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.CASCADE)
    member = models.ForeignKey(Member, null=True, blank=True, on_delete=models.CASCADE)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE)
    period = models.CharField(max_length=8, choices=Period.choices)
    extra_nano_aiu = models.BigIntegerField()
    reason = models.CharField(max_length=500)
    granted_by = models.CharField(max_length=150)
    ends_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=(
                    models.Q(key__isnull=False, member=None, team=None)
                    | models.Q(key=None, member__isnull=False, team=None)
                    | models.Q(key=None, member=None, team__isnull=False)
                ),
                name="raise_of_one_subject",
            ),
            models.CheckConstraint(
                condition=models.Q(extra_nano_aiu__gt=0), name="raise_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return (
            f"{self.key or self.member or self.team} +{self.extra_nano_aiu / 1e9:g} a {self.period}"
        )
