"""The persons of the team: members, teams, invites, and the notice they agree to."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.timezone import now

from accounts.models.limits import Limited, ModelRules, TouchedQuerySet


class Role(models.TextChoices):
    """What a person may do. An auditor sees all that an administrator sees and changes nothing."""

    ADMIN = "admin", "Administrator"
    MEMBER = "member", "Member"
    AUDITOR = "auditor", "Auditor"


class Team(Limited, ModelRules):
    """A team with its cost centre. Its limits hold for all of its members together."""

    name = models.CharField(max_length=100, unique=True)
    cost_centre = models.CharField(max_length=100, blank=True)
    lead = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="leads",
    )
    pool = models.ForeignKey(
        "accounts.Pool", null=True, blank=True, on_delete=models.PROTECT, related_name="teams"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    objects = TouchedQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Notice(models.Model):
    """A text of acceptable use. The newest counts; members agree to it before a key works."""

    text = models.TextField()
    published_at = models.DateTimeField(default=now)
    published_by = models.CharField(max_length=150, blank=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta:
        ordering = ["-published_at", "-pk"]
        get_latest_by = ["published_at", "pk"]

    def __str__(self) -> str:
        return f"notice of {self.published_at:%Y-%m-%d %H:%M}"


class Member(AbstractUser, Limited, ModelRules):
    """A person of the team. `is_superuser` is an administrator; see `role`."""

    is_auditor = models.BooleanField(default=False, db_default=False)
    team = models.ForeignKey(
        Team, null=True, blank=True, on_delete=models.SET_NULL, related_name="members"
    )
    # Signed in by an identity provider, which then says who belongs to the team.
    is_managed = models.BooleanField(default=False, db_default=False)
    # Disabled because no group of the provider let them in; who is in one again comes back.
    left_at = models.DateTimeField(null=True, blank=True)
    notice = models.ForeignKey(
        Notice, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    notice_agreed_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)
    time_zone = models.CharField(max_length=64, blank=True)
    language = models.CharField(max_length=16, blank=True, default="", db_default="")
    theme = models.CharField(
        max_length=8,
        default="system",
        choices=[("system", "System"), ("light", "Light"), ("dark", "Dark")],
    )

    class Meta(AbstractUser.Meta):
        verbose_name = "member"
        verbose_name_plural = "members"
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(is_superuser=True, is_auditor=True),
                name="admin_or_auditor",
            )
        ]

    @property
    def display_name(self) -> str:
        return self.get_full_name() or self.get_username()

    @property
    def role(self) -> Role:
        if self.is_superuser:
            return Role.ADMIN
        return Role.AUDITOR if self.is_auditor else Role.MEMBER

    def take_role(self, role: Role) -> None:
        """Set the columns that make the role; nothing is saved."""
        self.is_superuser = role == Role.ADMIN
        self.is_auditor = role == Role.AUDITOR
        # Auditors may look into the admin, which refuses them every change.
        self.is_staff = role != Role.MEMBER


class Invite(models.Model):
    """A link by which one person joins, once, until it expires. Stored as SHA-256."""

    digest = models.BinaryField(max_length=32, unique=True)
    email = models.EmailField(blank=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.MEMBER)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.SET_NULL)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    member = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="invites",
    )

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.role} {self.email}".strip()

    @property
    def state(self) -> str:
        """open, used, revoked or expired."""
        if self.used_at:
            return "used"
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at <= now() else "open"


class GroupMapping(models.Model):
    """What membership in a group of the identity provider gives: a team, a role."""

    group = models.CharField(max_length=200, unique=True)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        ordering = ["group"]

    def __str__(self) -> str:
        return self.group


class SignInLink(models.Model):
    """A link that signs its member in once, for a while. Stored as SHA-256.

    One that an administrator makes stands for the password only: it `asks_factor`.
    """

    digest = models.BinaryField(max_length=32, unique=True)
    member = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    asks_factor = models.BooleanField(default=False, db_default=False)

    def __str__(self) -> str:
        return f"for {self.member}, until {self.expires_at:%H:%M}"
