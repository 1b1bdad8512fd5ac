"""Keys and callers: who may call, and that every refusal looks the same."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.utils.timezone import now

from accounts import auth, keys, profiles
from accounts.auth import Caller, Refused, Unavailable, authenticate
from accounts.keys import MARK, Limits
from accounts.members import solo_member
from accounts.models import Account, ApiKey, AuditEntry, Member, UpstreamProfile
from accounts.snapshots import refresh_all


def call(query: str | None = None, /, *, gemini: bool = False, **headers: str) -> Caller:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return authenticate(named, query, allow_query=gemini, loopback=True)


def why(query: str | None = None, *, gemini: bool = False, **headers: str) -> str:
    with pytest.raises(Refused) as refused:
        call(query, gemini=gemini, **headers)
    assert str(refused.value) == Refused.message
    return refused.value.reason


def test_x02_a_key_is_shown_once_and_stored_as_a_hash(ben: Member) -> None:
    key, secret = keys.create("laptop", ben)

    assert secret.startswith("cgw_")
    assert len(secret) > 40
    assert key.prefix == secret[:12]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_apikey")
        assert secret not in repr(cursor.fetchall())
    assert keys.find(key.prefix) == key
    assert AuditEntry.objects.get(action="key.created").target == str(key)


@pytest.mark.parametrize("header", ["authorization", "x_api_key", "x_goog_api_key"])
def test_a_key_is_taken_from_any_of_three_headers(ben: Member, header: str) -> None:
    key, secret = keys.create("laptop", ben)
    value = f"Bearer {secret}" if header == "authorization" else secret

    named = {header.replace("_", "-"): value}
    caller = authenticate(named, None, allow_query=False, loopback=True)
    assert caller.key_id == key.pk


def test_a_key_in_the_query_counts_on_gemini_paths_only(ben: Member) -> None:
    _, secret = keys.create("laptop", ben)

    assert call(secret, gemini=True).member == "ben"
    assert why(secret, gemini=False) == "missing"


def test_the_same_key_twice_is_one_key_and_two_keys_are_a_conflict(ben: Member) -> None:
    _, secret = keys.create("laptop", ben)
    _, other = keys.create("desk", ben)

    assert call(authorization=f"bearer {secret}", x_api_key=secret).member == "ben"
    assert why(authorization=f"Bearer {secret}", x_api_key=other) == "conflict"
    assert why(authorization=f"Bearer {secret}", x_api_key="sk-other") == "conflict"


def test_limits_reach_the_caller(ben: Member, ada: Member) -> None:
    account = Account.objects.create(login="octocat")
    limits: Limits = {
        "account": account,
        "models_allowed": ["gpt-5.4"],
        "requests_per_minute": 7,
        "concurrency": 2,
        "budget_day_nano_aiu": 5,
        "budget_month_nano_aiu": 9,
        "needs_approval": True,
        "is_admin": True,
    }
    _, mine = keys.create("ben's", ben, **limits)
    _, hers = keys.create("ada's", ada, is_admin=True)

    caller = call(x_api_key=mine)

    assert caller.account_id == account.pk
    assert [rule.allowed for rule in caller.model_rules] == [("gpt-5.4",)]
    assert (caller.rpm, caller.concurrency) == (7, 2)
    assert (caller.budget_day_nano_aiu, caller.budget_month_nano_aiu) == (5, 9)
    assert caller.needs_approval
    # A key is never more than its owner.
    assert not caller.is_admin
    assert call(x_api_key=hers).is_admin


@pytest.mark.parametrize(
    "value",
    ["", " ", "wrong", "cgw_wrong", "x" * 100_000, "\x00", "ÿ\udcff", "'; DROP TABLE", "Bearer"],
)
def test_wrong_and_hostile_keys_are_refused_alike(ben: Member, value: str) -> None:
    keys.create("laptop", ben)

    assert why(x_api_key=value) in {"missing", "unknown", "hostile"}
    assert why(authorization=f"Bearer {value}") in {"missing", "unknown", "hostile"}


class Watched(dict[bytes, Any]):
    """Keys by their digest, and what was looked up."""

    def __init__(self, entries: Any) -> None:
        super().__init__(entries)
        self.asked: list[object] = []

    def get(self, key: bytes, default: Any = None) -> Any:
        self.asked.append(key)
        return super().get(key, default)

    def __iter__(self) -> Any:
        raise AssertionError("keys are not gone through one by one")

    values = items = keys = __iter__  # type: ignore[assignment]


def test_a11_right_and_wrong_keys_take_the_same_steps(ben: Member) -> None:
    """One digest, one lookup by it: how much of a wrong key is right cannot be measured."""
    _, secret = keys.create("laptop", ben)
    keys.create("desk", ben)
    ring = keys.ring.value
    entries = Watched(ring.entries)
    keys.ring.value = replace(ring, entries=entries)
    wrong = [secret[:-1] + "!", secret[:5] + "!" + secret[6:], MARK + "x" * 43, secret + "x"]
    for value in (secret, *wrong):
        headers = {"authorization": f"Bearer {value}"}
        entries.asked.clear()
        if value == secret:
            assert authenticate(headers, None, allow_query=False, loopback=False).member == "ben"
        else:
            with pytest.raises(Refused):
                authenticate(headers, None, allow_query=False, loopback=False)
        assert entries.asked == [sha256(value.encode()).digest()]


def test_a_revoked_key_is_refused_and_its_revocation_stands(ben: Member, ada: Member) -> None:
    key, secret = keys.create("laptop", ben)

    assert keys.revoke(key, actor=ada)
    at = ApiKey.objects.get().revoked_at
    assert not keys.revoke(key, actor=ada)

    assert why(x_api_key=secret) == "revoked"
    assert ApiKey.objects.get().revoked_at == at
    assert AuditEntry.objects.filter(action="key.revoked", actor="ada").count() == 1


def test_a_revocation_elsewhere_is_seen_when_the_ring_is_read_again(ben: Member) -> None:
    key, secret = keys.create("laptop", ben)
    # Another host, whose clock is a day behind.
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=now(), updated_at=now() - timedelta(days=1))

    refresh_all()

    assert why(x_api_key=secret) == "revoked"


def test_an_expired_key_is_refused(ben: Member) -> None:
    _, secret = keys.create("laptop", ben, expires_at=now() - timedelta(seconds=1))
    _, good = keys.create("desk", ben, expires_at=now() + timedelta(hours=1))

    assert why(x_api_key=secret) == "expired"
    assert call(x_api_key=good).expires_at is not None


def test_a05_keys_of_inactive_members_are_refused(ben: Member) -> None:
    _, secret = keys.create("laptop", ben)
    Member.objects.filter(pk=ben.pk).update(is_active=False)

    refresh_all()

    with pytest.raises(Refused) as refused:
        call(x_api_key=secret)
    assert refused.value.reason == "inactive"
    assert refused.value.caller is not None
    assert refused.value.caller.member_id == ben.pk


def test_authentication_asks_the_database_nothing(
    ben: Member, django_assert_num_queries: object
) -> None:
    _, secret = keys.create("laptop", ben)

    with django_assert_num_queries(0):  # type: ignore[operator]
        call(x_api_key=secret)
        why(x_api_key="cgw_unknown")


def test_p02_known_keys_outlive_the_database_by_a_minute(ben: Member) -> None:
    _, secret = keys.create("laptop", ben)
    assert keys.ring.loaded_at is not None

    keys.ring.loaded_at -= auth.MAX_AGE_S - 5
    assert call(x_api_key=secret).member == "ben"

    keys.ring.loaded_at -= 10
    with pytest.raises(Unavailable):
        call(x_api_key=secret)


def test_solo_mode_takes_any_key_but_never_a_revoked_one(
    transactional_db: None, settings: object
) -> None:
    settings.REQUIRE_KEYS = False  # type: ignore[attr-defined]
    owner = solo_member()
    key, secret = keys.create("laptop", owner)

    for caller in (
        call(),
        call(x_api_key="dummy"),
        call(authorization="Bearer sk-x", x_api_key="y"),
    ):
        assert (caller.key_id, caller.member, caller.is_admin) == (None, "owner", True)
    assert call(x_api_key=secret).key_id == key.pk

    keys.revoke(key, actor=owner)
    assert why(x_api_key=secret) == "revoked"
    assert why(x_api_key="cgw_never-was") == "unknown"


def test_solo_mode_asks_strangers_for_a_key(transactional_db: None, settings: object) -> None:
    settings.REQUIRE_KEYS = False  # type: ignore[attr-defined]
    _, secret = keys.create("laptop", solo_member())

    with pytest.raises(Refused):
        authenticate({}, None, allow_query=False, loopback=False)
    known = authenticate({"x-api-key": secret}, None, allow_query=False, loopback=False)
    assert known.key_name == "laptop"


def test_the_solo_member_is_one_administrator_without_a_password(transactional_db: None) -> None:
    owner = solo_member()

    assert solo_member() == owner
    assert owner.is_superuser
    assert not owner.has_usable_password()


def test_last_use_is_written_without_reloading_the_ring(ben: Member) -> None:
    key, _ = keys.create("laptop", ben)
    before = ApiKey.objects.get().updated_at
    late, early = now(), now() - timedelta(minutes=1)

    keys.mark_used({key.pk: late})
    keys.mark_used({key.pk: early})

    row = ApiKey.objects.get()
    assert row.last_used_at == late
    assert row.updated_at == before


def test_the_shipped_profile_is_the_active_row(transactional_db: None) -> None:
    # A transactional test before this one has emptied the tables.
    UpstreamProfile.objects.all().delete()
    migration = import_module("accounts.migrations.0002_default_profile")
    migration.add(apps, None)
    row = UpstreamProfile.objects.get()

    assert row.is_active
    assert profiles.profile_of(row) == profiles.SHIPPED
    assert "setting" in row.note


def test_a_changed_profile_is_used_without_a_release(transactional_db: None) -> None:
    UpstreamProfile.objects.all().delete()
    assert profiles.active_profile() == profiles.SHIPPED

    UpstreamProfile.objects.create(
        name="next",
        is_active=True,
        valid_from=now().date(),
        client_id="Iv1.ours",
        api_version="2027-01-01",
        rest_api_version="2025-04-01",
        integration_id="vscode-chat",
        editor_version="vscode/1.150.0",
        plugin_version="copilot-chat/0.70.0",
        user_agent="GitHubCopilotChat/0.70.0",
        accepted_betas=["effort-2025-11-24"],
    )
    refresh_all()

    assert profiles.active_profile().client_id == "Iv1.ours"
    assert profiles.active_profile().accepted_betas == {"effort-2025-11-24"}
