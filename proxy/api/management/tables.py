"""The rows that administrators manage over HTTP, and what of them is shown and written."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.timezone import now

from accounts import hours
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    BudgetRaise,
    GitHubApp,
    GroupMapping,
    Invite,
    Member,
    Notice,
    Pool,
    Team,
    UpstreamProfile,
)
from accounts.models.limits import Limited
from proxy import policies
from proxy.api.management.resources import Resource
from proxy.models import (
    Approval,
    ApprovalRule,
    CatalogChange,
    ModelAlias,
    ModelPolicy,
)
from usage import bodies, channels
from usage.models import (
    Channel,
    ClosedMonth,
    Delivery,
    Notification,
    Price,
    QuotaSnapshot,
    Reconciliation,
    Removal,
    TaskRun,
)

LIMITS = tuple(field.attname for field in Limited._meta.fields)
MODEL_RULES = ("models_allowed", "models_denied")


def columns(model: Any, *, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    return tuple(f.attname for f in model._meta.concrete_fields if f.attname not in without)


def granted_by(row: BudgetRaise, by: Member) -> None:
    row.granted_by = by.get_username()
    if not row.reason.strip():
        raise ValidationError({"reason": "A raise needs its reason."})


def channel_is_sound(row: Channel, by: Member) -> None:
    if row.member_id and row.team_id:
        raise ValidationError("A channel is a member's or a team's, not both.")
    try:
        channels.check_address(row.kind, row.address.reveal())
    except ValueError as error:
        raise ValidationError({"address": str(error)}) from None


def alias_is_sound(row: ModelAlias, by: Member) -> None:
    _check("pattern", policies.check_pattern, row.pattern)


def policy_is_sound(row: ModelPolicy, by: Member) -> None:
    row.model = row.model.strip().lower()
    _check("model", policies.check_pattern, row.model)
    if row.fallback:
        others = ModelPolicy.objects.exclude(fallback="").exclude(pk=row.pk)
        known = dict(others.values_list("model", "fallback"))
        _check("fallback", policies.check_fallback, row.model, row.fallback, known)


def key_is_sound(row: ApiKey, by: Member) -> None:
    """One person, one seat: nobody else's account, and not a pool beside it; bodies for a while only."""
    account = row.account
    if account is not None and account.owner_id not in (None, row.owner_id):
        raise ValidationError({"account_id": "This account belongs to another member."})
    if account is not None and row.pool_id is not None:
        raise ValidationError({"pool_id": "An account or a pool, not both."})
    until = row.stores_bodies_until
    # To the end of the last day, in whatever zone.
    if until is not None and until > now() + bodies.MAX_ASKED + timedelta(days=1):
        most = bodies.MAX_ASKED.days
        raise ValidationError({"stores_bodies_until": f"At most {most} days from now."})


def rule_is_sound(row: ApprovalRule, by: Member) -> None:
    _check("outside_hours", hours.parse, row.outside_hours)


def _check(column: str, rule: Callable[..., object], *values: object) -> None:
    try:
        rule(*values)
    except ValueError as error:
        raise ValidationError({column: str(error)}) from None


RESOURCES: tuple[Resource, ...] = (
    Resource(
        "teams",
        "team",
        Team,
        ("id", "name", "cost_centre", "lead_id", "pool_id", *LIMITS, *MODEL_RULES, "created_at"),
        ("name", "cost_centre", "lead_id", "pool_id", *LIMITS, *MODEL_RULES),
        filters=("name", "cost_centre", "lead_id", "pool_id"),
    ),
    Resource(
        "pools",
        "pool",
        Pool,
        ("id", "name", "failover", "note", "created_at"),
        ("name", "failover", "note"),
        filters=("name",),
    ),
    Resource(
        "apps",
        "GitHub App",
        GitHubApp,
        ("id", "name", "issuer", "host", "private_key", "created_at"),
        ("name", "issuer", "host", "private_key"),
        filters=("name", "host"),
    ),
    Resource(
        "raises",
        "raise",
        BudgetRaise,
        (
            "id", "key_id", "member_id", "team_id", "period", "extra_nano_aiu", "reason",
            "granted_by", "ends_at", "created_at",
        ),
        ("key_id", "member_id", "team_id", "period", "extra_nano_aiu", "reason", "ends_at"),
        filters=("key_id", "member_id", "team_id", "period"),
        newest_first=True,
        check=granted_by,
    ),
    Resource(
        "group-mappings",
        "group mapping",
        GroupMapping,
        ("id", "group", "team_id", "role"),
        ("group", "team_id", "role"),
        filters=("group", "team_id", "role"),
    ),
    Resource(
        "upstream-profiles",
        "upstream profile",
        UpstreamProfile,
        columns(UpstreamProfile),
        columns(UpstreamProfile, without=("id", "updated_at")),
        filters=("is_active",),
    ),
    Resource(
        "model-aliases",
        "alias",
        ModelAlias,
        ("id", "pattern", "model", "note", "is_enabled"),
        ("pattern", "model", "note", "is_enabled"),
        check=alias_is_sound,
        filters=("pattern", "model", "is_enabled"),
    ),
    Resource(
        "model-policies",
        "model policy",
        ModelPolicy,
        ("id", "model", "is_enabled", "plans", "fallback", "note", *LIMITS),
        ("model", "is_enabled", "plans", "fallback", "note", *LIMITS),
        check=policy_is_sound,
        filters=("model", "is_enabled"),
    ),
    Resource(
        "approval-rules",
        "approval rule",
        ApprovalRule,
        columns(ApprovalRule, without=("updated_at",)),
        columns(ApprovalRule, without=("id", "updated_at")),
        check=rule_is_sound,
        filters=("is_enabled", "team_id", "key_id"),
    ),
    Resource(
        "prices",
        "price",
        Price,
        columns(Price, without=("updated_at",)),
        columns(Price, without=("id", "updated_at")),
        filters=("model", "valid_from"),
    ),
    Resource(
        "channels",
        "channel",
        Channel,
        (
            "id", "name", "kind", "member_id", "team_id", "address", "secret", "events", "digest",
            "is_enabled", "created_at",
        ),
        (
            "name", "kind", "member_id", "team_id", "address", "secret", "events", "digest",
            "is_enabled",
        ),
        filters=("kind", "member_id", "team_id", "is_enabled"),
        check=channel_is_sound,
    ),
    # What only the gateway writes.
    Resource(
        "audit",
        "audit entry",
        AuditEntry,
        columns(AuditEntry),
        filters=("actor", "action", "target"),
        newest_first=True,
    ),
    Resource(
        "catalog-changes",
        "catalog change",
        CatalogChange,
        columns(CatalogChange),
        filters=("account_id", "kind", "model"),
        newest_first=True,
    ),
    Resource(
        "approval-log",
        "approval",
        Approval,
        columns(Approval),
        filters=("state", "member_id", "key_id", "model"),
        newest_first=True,
    ),
    Resource(
        "quota-snapshots",
        "quota snapshot",
        QuotaSnapshot,
        columns(QuotaSnapshot),
        filters=("account_id", "quota_id"),
        newest_first=True,
    ),
    Resource(
        "reconciliations",
        "reconciliation",
        Reconciliation,
        columns(Reconciliation),
        filters=("account_id", "day", "quota_id"),
        newest_first=True,
    ),
    Resource(
        "closed-months",
        "closed month",
        ClosedMonth,
        columns(ClosedMonth),
        filters=("month",),
        newest_first=True,
    ),
    Resource(
        "notifications",
        "notification",
        Notification,
        columns(Notification),
        filters=("event", "member_id", "team_id"),
        newest_first=True,
    ),
    Resource(
        "deliveries",
        "delivery",
        Delivery,
        columns(Delivery, without=("claimed_until",)),
        filters=("state", "channel_id", "notification_id"),
        newest_first=True,
    ),
    Resource(
        "task-runs",
        "task run",
        TaskRun,
        columns(TaskRun),
        filters=("name", "succeeded"),
        newest_first=True,
    ),
    Resource(
        "removals",
        "removal",
        Removal,
        columns(Removal),
        filters=("kind",),
        newest_first=True,
    ),
)  # fmt: skip

# Rows whose writing has rules of its own: see `members`, `keys` and `seats`.
MEMBERS = Resource(
    "members",
    "member",
    Member,
    (
        "id", "username", "email", "first_name", "last_name", "is_active", "is_superuser",
        "is_auditor", "is_managed", "team_id", "notice_id", "notice_agreed_at", "last_login",
        "date_joined", *LIMITS, *MODEL_RULES,
    ),
    ("email", "first_name", "last_name", "team_id", *LIMITS, *MODEL_RULES),
    adds=False,
    removes=False,
    filters=("username", "email", "team_id", "is_active", "is_superuser", "is_auditor"),
)  # fmt: skip
KEYS = Resource(
    "keys",
    "API key",
    ApiKey,
    (
        "id", "name", "prefix", "owner_id", "account_id", "pool_id", "lane", "needs_approval",
        "allows_web_search", "is_admin", "stores_bodies_until", "replaces_id", "expires_at",
        "revoked_at", "created_at", "last_used_at", *LIMITS, *MODEL_RULES,
    ),
    (
        "name", "account_id", "pool_id", "lane", "needs_approval", "allows_web_search",
        "stores_bodies_until", "expires_at", *LIMITS, *MODEL_RULES,
    ),
    adds=False,
    removes=False,
    check=key_is_sound,
    filters=("name", "prefix", "owner_id", "account_id", "pool_id", "is_admin"),
)  # fmt: skip
ACCOUNTS = Resource(
    "accounts",
    "account",
    Account,
    (
        "id", "login", "host", "owner_id", "pool_id", "weight", "app_id", "installation_id",
        "account_type", "credential_kind", "token_kind", "state", "state_reason",
        "state_changed_at", "cooldown_until", "plan", "sku", "token_based_billing", "quota",
        "quota_reset_at", "quota_polled_at", "quota_error", "token_fetched_at",
        "token_lifetime_s", "refresh_failures", "refresh_error", "created_at", *LIMITS,
    ),
    ("weight", *LIMITS),
    adds=False,
    removes=False,
    filters=("login", "host", "owner_id", "pool_id", "state", "credential_kind"),
)  # fmt: skip
INVITES = Resource(
    "invites",
    "invite",
    Invite,
    (
        "id",
        "email",
        "role",
        "team_id",
        "invited_by_id",
        "created_at",
        "expires_at",
        "used_at",
        "revoked_at",
        "member_id",
    ),
    filters=("email", "role", "team_id", "member_id"),
    newest_first=True,
)
NOTICES = Resource(
    "notices",
    "notice",
    Notice,
    ("id", "text", "published_at", "published_by"),
    newest_first=True,
)
