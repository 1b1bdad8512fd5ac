"""The admin of usage: read-only, no slower with more rows, taken away as files; channels."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from accounts.encryption import Secret
from accounts.models import AuditEntry, Member
from copilot_site import celery
from usage.journal import Record
from usage.models import Channel, QuotaSnapshot, Rollup, StoredBody, UsageRecord
from usage.recorder import Recorder

# The app of this process: without it a task goes to Celery's default broker.
assert celery.app.conf.broker_url == "memory://"
MakeRecord = Callable[..., Record]
LISTS = ("usagerecord", "rollup", "quotasnapshot")


@pytest.fixture
def ada(db: None, settings: Any, tmp_path: Path) -> Client:
    settings.STATIC_ROOT = tmp_path
    # The hashed names of static files are made by collectstatic, not by tests.
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}
    member = Member.objects.create(username="ada", is_superuser=True, is_staff=True)
    client = Client(SERVER_NAME="localhost")
    client.force_login(member)
    return client


@pytest.fixture
def rows(db: None, make_record: MakeRecord) -> list[Record]:
    recorder = Recorder()
    records = [make_record(started_at=now() - timedelta(days=40 * n)) for n in range(3)]
    for record in records:
        recorder.finish(record)
    recorder.flush()
    QuotaSnapshot.objects.create(account_id=1, quota_id="chat")
    return records


@pytest.mark.parametrize("name", LISTS)
def test_lists_open_and_offer_no_change(ada: Client, rows: list[Record], name: str) -> None:
    page = ada.get(reverse(f"admin:usage_{name}_changelist"))
    assert page.status_code == 200
    assert ada.get(reverse(f"admin:usage_{name}_add")).status_code == 403
    assert ada.post(reverse(f"admin:usage_{name}_delete", args=["1"])).status_code in (302, 403)


def test_a_record_is_found_by_its_id_and_only_shown(ada: Client, rows: list[Record]) -> None:
    address = reverse("admin:usage_usagerecord_changelist")
    page = ada.get(address, {"q": rows[1].id}).content.decode()
    assert rows[1].id in page
    assert rows[2].id not in page
    shown = reverse("admin:usage_usagerecord_change", args=[rows[1].id])
    assert ada.get(shown).status_code == 200
    assert ada.post(shown, {"outcome": "completed"}).status_code == 403


def test_the_date_hierarchy_leads_to_each_month(
    ada: Client, make_record: MakeRecord, db: None
) -> None:
    recorder = Recorder()
    for month in (1, 3, 12):
        at = datetime(2025, month, 31, 23, tzinfo=UTC)
        recorder.finish(make_record(id=f"in-month-{month}", started_at=at))
    recorder.flush()
    address = reverse("admin:usage_usagerecord_changelist")

    page = ada.get(address).content.decode()
    assert all(f"started_at__month={month}" in page for month in (1, 3, 12))

    march = {"started_at__year": "2025", "started_at__month": "3"}
    page = ada.get(address, march).content.decode()
    assert "in-month-3" in page
    assert "in-month-1" not in page


def test_a_list_costs_the_same_with_more_rows(
    ada: Client, make_record: MakeRecord, django_assert_max_num_queries: Callable[..., object]
) -> None:
    recorder = Recorder()
    for _ in range(120):
        recorder.finish(make_record())
    recorder.flush()
    with django_assert_max_num_queries(12):  # type: ignore[attr-defined]
        ada.get(reverse("admin:usage_usagerecord_changelist"))


def test_a_search_asks_an_index(
    ada: Client, make_record: MakeRecord, rows: list[Record], django_assert_max_num_queries: Any
) -> None:
    recorder = Recorder()
    recorder.finish(make_record(id="talk-1", conversation="conv-7"))
    recorder.flush()
    address = reverse("admin:usage_usagerecord_changelist")

    assert "talk-1" in ada.get(address, {"q": "conv-7"}).content.decode()
    assert ada.get(address, {"q": "x\x00y"}).status_code == 200
    for odd in ("%", "'; drop", "9" * 400):
        assert "talk-1" not in ada.get(address, {"q": odd}).content.decode()
    found = UsageRecord.objects.filter(pk="talk-1") | UsageRecord.objects.filter(
        conversation="conv-7"
    )
    assert "SCAN" not in found.order_by().explain()


# Files.


def test_what_the_list_shows_is_taken_away_as_a_file(ada: Client, make_record: MakeRecord) -> None:
    recorder = Recorder()
    recorder.finish(make_record(id="evil", client="=HYPERLINK(1)"))
    recorder.finish(make_record(id="timeout", outcome="timeout"))
    recorder.flush()
    address = reverse("admin:usage_usagerecord_changelist")

    assert "export.csv?outcome=completed" in ada.get(
        address, {"outcome": "completed"}
    ).content.decode().replace("__exact", "")
    answer = ada.get(f"{address}export.csv", {"outcome__exact": "completed"})
    text = b"".join(answer.streaming_content).decode()  # type: ignore[arg-type]
    (row,) = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert (row["id"], row["client"]) == ("evil", "'=HYPERLINK(1)")
    assert "attachment" in answer["Content-Disposition"]

    answer = ada.get(f"{address}export.jsonl")
    lines = b"".join(answer.streaming_content).decode().splitlines()  # type: ignore[arg-type]
    found = [json.loads(line) for line in lines]
    assert {row["id"] for row in found} == {"evil", "timeout"}
    assert found[0]["nano_aiu"] == 1000
    assert AuditEntry.objects.filter(action="usagerecord.exported").count() == 2


def test_the_audit_log_is_taken_away_by_who_may_see_it(ada: Client) -> None:
    for name in ("key.revoked", "member.disabled"):
        AuditEntry.objects.create(actor="ada", action=name, target="+1", detail={"a": "b"})
    address = reverse("admin:accounts_auditentry_changelist")
    auditor = Client(SERVER_NAME="localhost")
    auditor.force_login(Member.objects.create_user("aud", is_auditor=True, is_staff=True))
    member = Client(SERVER_NAME="localhost")
    member.force_login(Member.objects.create_user("mia", is_staff=True))

    answer = auditor.get(f"{address}export.csv", {"about": "key"})

    text = b"".join(answer.streaming_content).decode()  # type: ignore[arg-type]
    (row,) = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert (row["action"], row["target"], row["detail"]) == ("key.revoked", "'+1", '{"a": "b"}')
    assert member.get(f"{address}export.csv").status_code == 403
    assert Client(SERVER_NAME="localhost").get(f"{address}export.csv").status_code == 302
    shown = ada.get(address, {"q": "member.disabled"}).content.decode()
    assert "member.disabled</td>" in shown
    assert "key.revoked</td>" not in shown


# Rollups.


def test_rollups_are_rebuilt_by_a_task_for_a_range(ada: Client) -> None:
    address = reverse("admin:usage_rollup_rebuild")

    assert address in ada.get(reverse("admin:usage_rollup_changelist")).content.decode()
    assert ada.get(address).status_code == 200
    for wrong in (
        {},
        {"first": "2026-11-02", "last": "2026-11-01"},
        {"first": "2020-01-01", "last": "2026-01-01"},
    ):
        assert ada.post(address, wrong).status_code == 400
    said = ada.post(address, {"first": "2026-11-01", "last": "2026-11-02"}, follow=True)

    assert "rebuilds 2026-11-01 to 2026-11-02" in str([str(m) for m in said.context["messages"]])
    entry = AuditEntry.objects.get(action="rollup.rebuild_asked")
    assert entry.detail == {"since": "2026-11-01", "until": "2026-11-02"}
    assert not Rollup.objects.exists()


# Bodies.


def test_stored_bodies_are_counted_never_read_and_may_be_removed(ada: Client) -> None:
    StoredBody.objects.create(
        exchange_id="e1",
        request=Secret.of("my prompt"),
        response=Secret.of("its answer"),
        request_bytes=1234,
        expires_at=now() + timedelta(days=1),
    )
    sealed = StoredBody.objects.get().request.ciphertext
    change = reverse("admin:usage_storedbody_change", args=["e1"])

    for url in (reverse("admin:usage_storedbody_changelist"), change):
        text = ada.get(url).content.decode()
        assert "1234" in text.replace(",", "")
        assert "my prompt" not in text
        assert sealed not in text
    assert ada.post(change, {"request": "x"}).status_code == 403
    ada.post(reverse("admin:usage_storedbody_delete", args=["e1"]), {"post": "yes"})

    assert not StoredBody.objects.exists()
    assert AuditEntry.objects.filter(actor="ada", action="body.deleted", target="e1").exists()


# Channels.


def test_a_channels_address_goes_in_and_its_secret_is_shown_once(ada: Client) -> None:
    add = reverse("admin:usage_channel_add")
    good = {"name": "ops", "kind": "webhook", "digest": "at_once", "is_enabled": "on",
            "wanted": ["budget"], "new_address": "https://hooks.example.org/T1/secret-path"}  # fmt: skip

    assert ada.post(add, {**good, "new_address": ""}).status_code == 200
    assert ada.post(add, {**good, "new_address": "javascript:alert(1)"}).status_code == 200
    shown = ada.post(add, good)
    channel = Channel.objects.get()
    secret = channel.secret.reveal()
    assert secret.startswith("cgwh_")
    assert secret in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]

    change = reverse("admin:usage_channel_change", args=[channel.pk])
    page = ada.get(change).content.decode()
    assert "secret-path" not in page
    assert secret not in page
    ada.post(change, {**good, "name": "ops 2", "new_address": "", "kind": "mail"})
    channel.refresh_from_db()
    assert (channel.name, channel.kind, channel.events) == ("ops 2", "webhook", ["budget"])
    assert channel.address.reveal().endswith("secret-path")
    renewed = ada.post(reverse("admin:usage_channel_renew_secret", args=[channel.pk]))
    channel.refresh_from_db()
    assert channel.secret.reveal() in renewed.content.decode()
    assert channel.secret.reveal() != secret
    ada.post(reverse("admin:usage_channel_disable", args=[channel.pk]))
    channel.refresh_from_db()
    assert not channel.is_enabled
    written = AuditEntry.objects.filter(actor="ada").values_list("action", flat=True)
    assert {
        "channel.added",
        "channel.changed",
        "channel.secret_renewed",
        "channel.disabled",
    } <= set(written)


# The audit log.


def test_d25_the_audit_log_cannot_be_changed(ada: Client) -> None:
    entry = AuditEntry.objects.create(actor="ada", action="x.y")
    address = reverse("admin:accounts_auditentry_change", args=[entry.pk])

    assert ada.post(address, {"actor": "ben"}).status_code == 403
    ada.post(reverse("admin:accounts_auditentry_delete", args=[entry.pk]), {"post": "yes"})
    ada.post(
        reverse("admin:accounts_auditentry_changelist"),
        {"action": "delete_selected", "_selected_action": [str(entry.pk)], "post": "yes"},
    )

    assert AuditEntry.objects.get(pk=entry.pk).actor == "ada"
