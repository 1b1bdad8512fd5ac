"""The admin of usage: read-only, and no slower with more rows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from accounts.models import Member
from usage.journal import Record
from usage.models import QuotaSnapshot
from usage.recorder import Recorder

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
