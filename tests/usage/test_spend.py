"""Spend counters: budgets see every finished request at once, every process within seconds."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils.timezone import now

from usage import rollups, spend
from usage.journal import Record
from usage.models import Tally
from usage.recorder import Recorder
from usage.spend import Spend

MakeRecord = Callable[..., Record]
pytestmark = pytest.mark.django_db(transaction=True)


def summed(at: datetime, **values: Any) -> None:
    """Sums as another process has written them."""
    rollups.add([Record(id="", started_at=at, outcome="completed", **values)])


def test_a_finish_counts_at_once_and_only_once(recorder: Recorder, make_record: MakeRecord) -> None:
    record = make_record(started_at=now(), nano_aiu=500)
    recorder.finish(record)
    assert spend.spent_today(7) == spend.spent_this_month(7) == 500
    recorder.finish(record)
    assert spend.spent_today(7) == 500
    assert recorder.flush()
    assert spend.spent_today(7) == 500, "written, not yet read again"
    spend.refresh()
    assert spend.spent_today(7) == spend.spent_this_month(7) == 500
    spend.refresh()
    assert spend.spent_today(7) == 500
    assert spend.spent_today(8) == 0


def test_another_process_sees_it_after_a_refresh(
    recorder: Recorder, make_record: MakeRecord
) -> None:
    other = Spend()
    other.refresh()
    recorder.finish(make_record(started_at=now(), nano_aiu=500))
    assert recorder.flush()
    assert other.spent_today(7) == 0

    other.add(make_record(started_at=now(), nano_aiu=40))
    other.refresh()

    assert other.spent_today(7) == other.spent_this_month(7) == 540


def test_budgets_hold_from_the_first_request_after_a_start(journal_dir: Path) -> None:
    summed(now(), key_id=7, nano_aiu=9)
    recorder = Recorder(journal_dir)
    recorder.start()
    assert spend.spent_today(7) == 9
    recorder.stop()


def test_a_page_without_a_recorder_reads_the_sums_itself() -> None:
    summed(now(), key_id=7, nano_aiu=9)
    assert spend.spent_today(7) == 0
    spend.refresh_if_old()
    assert spend.spent_today(7) == 9
    Tally.objects.all().delete()
    spend.refresh_if_old()
    assert spend.spent_today(7) == 9, "read a moment ago"


def test_days_and_months_begin_at_midnight_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = datetime(2026, 11, 20, 12, tzinfo=UTC)
    monkeypatch.setattr("usage.spend.now", lambda: clock)
    for hour, nano in (
        (datetime(2026, 10, 31, 23, tzinfo=UTC), 1),
        (datetime(2026, 11, 1, 0, tzinfo=UTC), 10),
        (datetime(2026, 11, 19, 23, tzinfo=UTC), 100),
        (datetime(2026, 11, 20, 0, tzinfo=UTC), 1000),
    ):
        summed(hour, key_id=7, nano_aiu=nano)
    sums = Spend()
    sums.refresh()
    assert (sums.spent_today(7), sums.spent_this_month(7)) == (1000, 1110)

    clock = datetime(2026, 11, 21, 0, 0, 1, tzinfo=UTC)
    assert (sums.spent_today(7), sums.spent_this_month(7)) == (0, 1110), "before any refresh"
    clock = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)
    assert (sums.spent_today(7), sums.spent_this_month(7)) == (0, 0)


def test_a_request_that_began_yesterday_counts_for_the_month_once_stored(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = datetime(2026, 11, 20, 0, 5, tzinfo=UTC)
    monkeypatch.setattr("usage.spend.now", lambda: clock)
    sums = Spend()
    sums.refresh()
    late = make_record(started_at=clock - timedelta(minutes=10), nano_aiu=30)
    sums.add(late)
    assert (sums.spent_today(7), sums.spent_this_month(7)) == (0, 30)
    with transaction.atomic():
        rollups.add([late])
    sums.settle([late.id])

    sums.refresh()

    assert (sums.spent_today(7), sums.spent_this_month(7)) == (0, 30)


def test_a_midnight_without_a_database_begins_a_new_day(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
    monkeypatch.setattr("usage.spend.now", lambda: clock)
    sums = Spend()
    sums.add(make_record(started_at=clock, nano_aiu=5))
    assert sums.spent_today(7) == 5
    clock += timedelta(minutes=2)
    assert (sums.spent_today(7), sums.spent_this_month(7)) == (0, 5)


def test_everybody_whose_budget_a_request_counts_against_is_summed(
    make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A Wednesday: the week begins in the month before.
    clock = datetime(2026, 12, 2, 12, tzinfo=UTC)
    monkeypatch.setattr("usage.spend.now", lambda: clock)
    for hour, nano in (
        (datetime(2026, 11, 29, 23, tzinfo=UTC), 1),
        (datetime(2026, 11, 30, 0, tzinfo=UTC), 10),
        (datetime(2026, 12, 1, 0, tzinfo=UTC), 100),
        (datetime(2026, 12, 2, 0, tzinfo=UTC), 1000),
    ):
        summed(
            hour, key_id=7, member_id=1, team_id=5, account_id=3, model_used="gpt-4.1",
            nano_aiu=nano,
        )  # fmt: skip
    sums = Spend()
    sums.refresh()
    sums.add(make_record(started_at=clock, team_id=5, model_used="gpt-4.1", nano_aiu=5))
    for subject in ("key:7", "member:1", "team:5", "account:3", "model:gpt-4.1"):
        assert sums.spent(subject, "day") == 1005
        assert sums.spent(subject, "week") == 1115
        assert sums.spent(subject, "month") == 1105
    assert sums.spent_of_models(lambda model: model.startswith("gpt-"), "week") == 1115
    assert sums.spent("team:6", "month") == 0
    clock = datetime(2026, 12, 7, 0, 0, 1, tzinfo=UTC)
    assert [sums.spent("team:5", p) for p in ("day", "week", "month")] == [0, 0, 1105]
