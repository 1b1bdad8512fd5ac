"""API keys: made and shown once, stored as SHA-256, revoked within a second everywhere.

The key ring is the in-memory copy that `accounts.auth` reads: no database on a request's way.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict, Unpack

from django.conf import settings
from django.db.models import Count, F, Max, Q
from django.utils.timezone import now

from accounts import acceptable_use, audit
from accounts.limits import Allowance, Raises, allowance, present, raises_now
from accounts.members import solo_member
from accounts.models import Account, ApiKey, BudgetRaise, Lane, Member, ModelRules, Notice, Team
from accounts.snapshots import Snapshot

MARK = "cgw_"
PREFIX_CHARS = len(MARK) + 8
# Why a key may not call although it is valid: its owner has not agreed to the newest notice.
NOT_AGREED = "notice"


@dataclass(frozen=True, slots=True)
class ModelRule:
    """Which models one row lets through: ids or `gpt-5*`; empty `allowed` lets all through.

    `who` names the row in the answer to a caller who is refused.
    """

    who: str
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity behind a key. Zero and empty mean no limit; budgets are in nano-AIU.

    `key_id` is None for the solo person without a key. `account_id` is the account the key is
    bound to; None leaves the choice to routing.
    """

    key_id: int | None
    key_name: str
    key_prefix: str
    member_id: int
    member: str
    is_admin: bool
    account_id: int | None = None
    model_rules: tuple[ModelRule, ...] = ()
    rpm: int = 0
    concurrency: int = 0
    budget_day_nano_aiu: int = 0
    budget_month_nano_aiu: int = 0
    needs_approval: bool = False
    allows_web_search: bool = False
    expires_at: datetime | None = None
    team_id: int | None = None
    team: str = ""
    cost_centre: str = ""
    pool_id: int | None = None
    is_auditor: bool = False
    is_batch: bool = False
    stores_bodies_until: datetime | None = None
    created_at: datetime | None = None
    # Of the key, its owner and the team, as far as they limit anything.
    allowances: tuple[Allowance, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A key in memory. `refusal` is why it may not call (revoked, inactive, notice), empty when it
    may.
    """

    caller: Caller
    refusal: str


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every key by its digest, and the person of solo mode."""

    entries: Mapping[bytes, Entry] = field(default_factory=dict)
    solo: Caller | None = None


class Limits(TypedDict, total=False):
    """What a key may be limited to; the names are those of `ApiKey`."""

    account: Account | None
    models_allowed: list[str]
    requests_per_minute: int
    concurrency: int
    budget_day_nano_aiu: int
    budget_month_nano_aiu: int
    needs_approval: bool
    allows_web_search: bool
    is_admin: bool
    expires_at: datetime | None


def create(
    name: str,
    owner: Member,
    *,
    actor: Member | str | None = None,
    address: str = "",
    **limits: Unpack[Limits],
) -> tuple[ApiKey, str]:
    """Make a key for `owner`. The secret is given back this once and stored nowhere."""
    secret = MARK + secrets.token_urlsafe(32)
    while find(secret[:PREFIX_CHARS]) is not None:
        secret = MARK + secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        name=name,
        owner=owner,
        prefix=secret[:PREFIX_CHARS],
        digest=digest_of(secret),
        **limits,
    )
    audit.record(actor or owner, "key.created", key, {"owner": owner.get_username()}, address)
    ring.refresh(force=True)
    return key, secret


def revoke(key: ApiKey, *, actor: Member | str, address: str = "") -> bool:
    """Refuse the key from now on. False when it was revoked before; the first time stands."""
    at = now()
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=at)
    if not changed:
        return False
    key.revoked_at = at
    audit.record(actor, "key.revoked", key, address=address)
    ring.refresh(force=True)
    return True


def find(prefix: str) -> ApiKey | None:
    """The key of that visible prefix, `cgw_` included."""
    return ApiKey.objects.select_related("owner", "account").filter(prefix=prefix).first()


def mark_used(times: Mapping[int, datetime]) -> None:
    """Write when keys were last used. Leaves `updated_at` alone, so that no ring reloads."""
    for key_id, at in times.items():
        ApiKey.objects.filter(pk=key_id).exclude(last_used_at__gte=at).update(
            last_used_at=at, updated_at=F("updated_at")
        )


def digest_of(secret: str) -> bytes:
    """SHA-256: keys are 32 random bytes, there is nothing to guess that a slow hash would slow."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _revision() -> object:
    # The counts move also when `updated_at` does not: a host whose clock is behind, a bulk update.
    keys = ApiKey.objects.aggregate(
        n=Count("pk"), at=Max("updated_at"), revoked=Count("revoked_at"), last=Max("pk")
    )
    members = Member.objects.aggregate(
        n=Count("pk"),
        at=Max("updated_at"),
        active=Count("pk", filter=Q(is_active=True)),
        admins=Count("pk", filter=Q(is_superuser=True)),
    )
    teams = Team.objects.aggregate(n=Count("pk"), at=Max("updated_at"))
    notices = Notice.objects.aggregate(n=Count("pk"), at=Max("updated_at"), last=Max("pk"))
    raises = BudgetRaise.objects.aggregate(n=Count("pk"), at=Max("updated_at"))
    tables = (keys, members, teams, notices, raises)
    return (*(value for table in tables for value in table.values()), settings.REQUIRE_KEYS)


def _load() -> KeyRing:
    entries: dict[bytes, Entry] = {}
    notice = acceptable_use.current()
    raises = raises_now()
    for key in ApiKey.objects.select_related("owner__team"):
        entries[bytes(key.digest)] = Entry(_caller(key, raises), _refusal(key, notice))
    return KeyRing(entries, None if settings.REQUIRE_KEYS else _solo_caller(raises))


def _refusal(key: ApiKey, notice: Notice | None) -> str:
    if key.revoked_at:
        return "revoked"
    if not key.owner.is_active:
        return "inactive"
    return NOT_AGREED if notice is not None and key.owner.notice_id != notice.pk else ""


def _caller(key: ApiKey, raises: Raises) -> Caller:
    return Caller(
        key_id=key.pk,
        key_name=key.name,
        key_prefix=key.prefix,
        member_id=key.owner_id,
        member=key.owner.get_username(),
        # A key is never more than its owner.
        is_admin=key.is_admin and key.owner.is_superuser,
        account_id=key.account_id,
        model_rules=model_rules(key.owner, key),
        rpm=key.requests_per_minute,
        concurrency=key.concurrency,
        budget_day_nano_aiu=key.budget_day_nano_aiu,
        budget_month_nano_aiu=key.budget_month_nano_aiu,
        needs_approval=key.needs_approval,
        allows_web_search=key.allows_web_search,
        expires_at=key.expires_at,
        pool_id=key.pool_id,
        is_batch=key.lane == Lane.BATCH,
        stores_bodies_until=key.stores_bodies_until,
        created_at=key.created_at,
        allowances=_allowances(key.owner, raises, key),
        **_person(key.owner),
    )


def model_rules(member: Member, key: ApiKey | None = None) -> tuple[ModelRule, ...]:
    """The rules that hold for a member's requests, with those of the key they come by."""
    rows: list[tuple[str, ModelRules | None]] = [
        ("this API key", key),
        (f"the member {member.get_username()}", member),
        (f"the team {member.team}", member.team),
    ]
    rules = [
        ModelRule(who, _names(row.models_allowed), _names(row.models_denied))
        for who, row in rows
        if row is not None
    ]
    return tuple(rule for rule in rules if rule.allowed or rule.denied)


def _allowances(member: Member, raises: Raises, key: ApiKey | None = None) -> tuple[Allowance, ...]:
    """The limits of a key, of its owner and of the team, in this order, as far as there are any."""
    name, team = member.get_username(), member.team
    return present(
        allowance(key, f"key:{key.pk}", "this API key", f"key {key.name}", raises)
        if key is not None
        else None,
        allowance(member, f"member:{member.pk}", f"the member {name}", f"member {name}", raises),
        allowance(team, f"team:{team.pk}", f"the team {team}", f"team {team}", raises)
        if team is not None
        else None,
    )


def _names(column: object) -> tuple[str, ...]:
    """Names of a JSON column, which an administrator's own hand may have filled."""
    names = column if isinstance(column, list | tuple) else [column] if column else []
    return tuple(dict.fromkeys(name for one in names if (name := str(one).strip())))


class Person(TypedDict):
    """What a caller is by its member, not by its key."""

    team_id: int | None
    team: str
    cost_centre: str
    is_auditor: bool


def _person(member: Member) -> Person:
    team = member.team
    return Person(
        team_id=None if team is None else team.pk,
        team="" if team is None else team.name,
        cost_centre="" if team is None else team.cost_centre,
        is_auditor=member.is_auditor,
    )


def _solo_caller(raises: Raises) -> Caller | None:
    member = solo_member()
    if not member.is_active:
        return None
    return Caller(
        key_id=None,
        key_name="",
        key_prefix="",
        member_id=member.pk,
        member=member.get_username(),
        is_admin=member.is_superuser,
        allows_web_search=settings.GATEWAY_WEB_SEARCH,
        model_rules=model_rules(member),
        allowances=_allowances(member, raises),
        **_person(member),
    )


ring: Snapshot[KeyRing] = Snapshot("API keys", _revision, _load, KeyRing())
