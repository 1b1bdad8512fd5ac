"""The page of one key: rotated, extended, limited, bound to a seat, told to store bodies."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils.timezone import now

from accounts import keys
from accounts.models import Account, ApiKey, AuditEntry, Member, Pool
from usage import bodies
from usage.models import StoredBody, UsageRecord


@pytest.fixture
def key(ben: Member) -> ApiKey:
    made, _ = keys.create("laptop", ben, requests_per_minute=7)
    return made


def path(key: ApiKey, action: str = "") -> str:
    return f"/dashboard/keys/{key.prefix}/{action}"


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))


def test_a_member_rotates_a_key_and_sees_the_new_secret_once(as_ben: Client, key: ApiKey) -> None:
    shown = as_ben.post(path(key, "rotate/"), {"grace_h": "24"})
    assert shown.status_code == 200
    new = ApiKey.objects.get(replaces=key)
    assert new.prefix in shown.content.decode()
    assert new.requests_per_minute == 7
    key.refresh_from_db()
    assert key.expires_at is not None
    assert timedelta(hours=23) < key.expires_at - now() <= timedelta(hours=24)
    assert "key.rotated" in actions()
    assert f"{new.prefix}…" in as_ben.get(path(key)).content.decode()


def test_a_revoked_key_is_not_rotated(as_ben: Client, key: ApiKey, ben: Member) -> None:
    keys.revoke(key, actor=ben)
    as_ben.post(path(key, "rotate/"), {"grace_h": "0"})
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("grace", ["", "-1", "5", "x"])
def test_a_strange_grace_is_refused(as_ben: Client, key: ApiKey, grace: str) -> None:
    assert as_ben.post(path(key, "rotate/"), {"grace_h": grace}).status_code == 400
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("action", ["extend/", "limits/", "seat/", "copy-limits/"])
def test_a_member_does_not_change_what_an_administrator_set(
    as_ben: Client, key: ApiKey, action: str
) -> None:
    sent = {"last_day": "", "requests_per_minute": "1000", "budget_warn_percent": "80"}
    assert as_ben.post(path(key, action), sent).status_code == 404
    key.refresh_from_db()
    assert key.requests_per_minute == 7
    assert "limits/" not in as_ben.get(path(key)).content.decode()


def test_an_administrator_limits_extends_and_copies(
    as_ada: Client, key: ApiKey, ben: Member
) -> None:
    other, _ = keys.create("ci", ben)
    sent = {"concurrency": "2", "budget_day": "1.5", "budget_warn_percent": "70"}
    assert as_ada.post(path(key, "limits/"), sent).status_code == 302
    key.refresh_from_db()
    assert (key.concurrency, key.budget_day_nano_aiu) == (2, 1_500_000_000)
    assert key.requests_per_minute == 0
    day = (now() + timedelta(days=10)).date().isoformat()
    assert as_ada.post(path(key, "extend/"), {"last_day": day}).status_code == 302
    assert as_ada.post(path(other, "copy-limits/"), {"source": key.pk}).status_code == 302
    other.refresh_from_db()
    assert (other.concurrency, other.budget_warn_percent) == (2, 70)
    assert other.expires_at is None
    assert actions()[-3:] == ["key.limits_changed", "key.extended", "key.limits_copied"]


def test_a_key_gets_no_seat_of_another_person(
    as_ada: Client, key: ApiKey, cleo: Member, ben: Member
) -> None:
    hers = Account.objects.create(login="cleo-dev", owner=cleo)
    his = Account.objects.create(login="ben-dev", owner=ben)
    sent = {"lane": "batch", "account": hers.pk}
    assert as_ada.post(path(key, "seat/"), sent).status_code == 400
    pool = Pool.objects.create(name="build")
    both = {"lane": "batch", "account": his.pk, "pool": pool.pk}
    assert as_ada.post(path(key, "seat/"), both).status_code == 400
    assert as_ada.post(path(key, "seat/"), {**sent, "account": his.pk}).status_code == 302
    key.refresh_from_db()
    assert (key.account, key.lane) == (his, "batch")


def test_bodies_are_stored_until_a_day_that_is_near(as_ben: Client, key: ApiKey) -> None:
    far = (now() + timedelta(days=31)).date().isoformat()
    assert as_ben.post(path(key, "store/"), {"last_day": far}).status_code == 400
    near = (now() + timedelta(days=3)).date().isoformat()
    assert as_ben.post(path(key, "store/"), {"last_day": near}).status_code == 302
    key.refresh_from_db()
    assert key.stores_bodies_until is not None
    assert as_ben.post(path(key, "store/"), {"last_day": ""}).status_code == 302
    key.refresh_from_db()
    assert key.stores_bodies_until is None


def exchange_of(member: Member, number: int = 1) -> str:
    record = UsageRecord.objects.create(
        id=f"{number:024x}",
        started_at=now(),
        outcome="completed",
        source="messages",
        member_id=member.pk,
    )
    bodies.keep(
        record.pk,
        member_id=member.pk,
        key_id=None,
        request=b'{"text": "tea for two", "token": "ghp_abcdef123456"}',
        response=b"data: fine",
    )
    return record.pk


def test_who_reads_bodies_is_written_down(
    as_ben: Client, as_ada: Client, as_cleo: Client, ben: Member
) -> None:
    exchange = exchange_of(ben)
    where = f"/dashboard/requests/{exchange}/bodies/"
    assert as_cleo.post(where).status_code == 404
    assert as_ben.get(where).status_code == 405
    shown = as_ben.post(where).content.decode()
    assert "tea for two" in shown
    assert "ghp_abcdef" not in shown
    assert as_ada.post(where).status_code == 200
    readers = AuditEntry.objects.filter(action="body.read").values_list("actor", flat=True)
    assert sorted(readers) == ["ada", "ben"]
    assert b"tea for two" not in str(StoredBody.objects.values_list("request")).encode()


def test_an_auditor_reads_no_bodies(client: Client, ben: Member) -> None:
    auditor = Member.objects.create_user("aud", is_auditor=True)
    exchange = exchange_of(ben)
    client.force_login(auditor)
    assert client.get(f"/dashboard/requests/{exchange}/").status_code == 200
    assert client.post(f"/dashboard/requests/{exchange}/bodies/").status_code == 403


def test_members_delete_their_own_bodies(
    as_ben: Client, as_cleo: Client, ben: Member, cleo: Member
) -> None:
    first, second, other = exchange_of(ben, 1), exchange_of(ben, 2), exchange_of(cleo, 3)
    as_ben.post(f"/dashboard/requests/{other}/bodies/delete/")
    as_ben.post(f"/dashboard/requests/{first}/bodies/delete/")
    assert sorted(StoredBody.objects.values_list("pk", flat=True)) == [second, other]
    assert as_ben.get("/dashboard/privacy/").status_code == 200
    as_ben.post("/dashboard/privacy/delete/")
    assert list(StoredBody.objects.values_list("pk", flat=True)) == [other]
