"""Retention: old rows go in batches, sums stay."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils.timezone import now

from usage import retention, rollups, tasks
from usage.journal import Record
from usage.models import QuotaSnapshot, Rollup, UsageRecord
from usage.recorder import Recorder

MakeRecord = Callable[..., Record]


@pytest.mark.django_db(transaction=True)
def test_p23_only_old_rows_go_and_their_sums_stay(
    make_record: MakeRecord, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.USAGE_RETENTION_DAYS = 30  # type: ignore[attr-defined]
    monkeypatch.setattr(retention, "BATCH", 2)
    recorder = Recorder()
    for days in (1, 29, 31, 32, 33, 34, 35):
        recorder.finish(make_record(started_at=now() - timedelta(days=days)))
    recorder.flush()
    QuotaSnapshot.objects.create(account_id=1, quota_id="chat", at=now() - timedelta(days=31))

    assert retention.delete_old(max_batches=1) == 3
    assert tasks.delete_old_records() == 3
    assert tasks.delete_old_records() == 0

    assert UsageRecord.objects.count() == 2
    rollups.rebuild(now() - timedelta(days=60), now())
    assert sum(r.requests for r in Rollup.objects.all()) == 7


@pytest.mark.django_db
def test_sessions_that_have_ended_are_not_kept() -> None:
    """Anybody who begins a sign-in at a provider leaves a row."""
    for name, hours in (("ended", -1), ("live", 1)):
        at = now() + timedelta(hours=hours)
        Session.objects.create(session_key=name, session_data="", expire_date=at)

    assert retention.delete_old() == 1
    assert [row.session_key for row in Session.objects.all()] == ["live"]
