"""Closed months: summed once, equal to the records, never changed, signed off once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from accounts.models import AuditEntry, Member
from usage import closing
from usage.models import ClosedLine, ClosedMonth, Notification, UsageRecord

pytestmark = pytest.mark.django_db(transaction=True)
OCTOBER = date(2026, 10, 1)
_count = iter(range(10**6))


def record(started: datetime, nano: int = 1, **values: Any) -> UsageRecord:
    return UsageRecord.objects.create(
        **{
            "id": f"c{next(_count)}",
            "started_at": started,
            "outcome": "completed",
            "source": "messages",
            "member_id": 1,
            "member": "ben",
            "key": "laptop",
            "account": "mona-dev",
            "team": "octo",
            "cost_centre": "4711",
            "model_used": "claude-opus-5",
            "nano_aiu": nano,
            "cost_source": "exact",
            "input_tokens": 10,
            "output_tokens": 1,
        }
        | values
    )


def october() -> None:
    record(datetime(2026, 10, 1, tzinfo=UTC), 1_000_000_001)
    record(datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC), 2)
    record(
        datetime(2026, 10, 9, tzinfo=UTC),
        7,
        cost_source="estimated",
        model_used="",
        model_asked="gpt",
    )
    record(datetime(2026, 10, 9, tzinfo=UTC), 5, team="", cost_centre="", member_id=None, member="")
    record(datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC), 100)
    record(datetime(2026, 11, 1, tzinfo=UTC), 100)


def test_the_lines_are_the_months_records_to_the_nano() -> None:
    october()
    done = closing.close(OCTOBER, "gateway")
    lines = list(done.lines.all())
    assert (done.records, done.nano_aiu) == (4, 1_000_000_015)
    assert sum(line.nano_aiu for line in lines) == done.nano_aiu
    assert sum(line.estimated_nano_aiu for line in lines) == 7
    assert {line.model for line in lines} == {"claude-opus-5", "gpt"}
    assert closing.is_untouched(done)
    assert AuditEntry.objects.get(action="month.closed").detail["digest"] == done.digest


def test_a_record_that_comes_later_changes_nothing_and_is_not_lost(settings: Any) -> None:
    settings.USAGE_RETENTION_DAYS = 36_500
    october()
    done = closing.close(OCTOBER, "gateway")
    before = list(done.lines.values())
    assert closing.after_closing(done) == []

    record(datetime(2026, 10, 20, tzinfo=UTC), 50)
    record(datetime(2026, 10, 20, tzinfo=UTC), 60, member="cleo", member_id=2)
    UsageRecord.objects.filter(nano_aiu=5).delete()

    done.refresh_from_db()
    assert list(done.lines.values()) == before
    assert closing.is_untouched(done)
    late = {row.line["member"]: (row.requests, row.nano_aiu) for row in closing.after_closing(done)}
    assert late == {"ben": (1, 50), "cleo": (1, 60), "": (-1, -5)}


def test_a_changed_line_is_found_out() -> None:
    october()
    done = closing.close(OCTOBER, "gateway")
    ClosedLine.objects.filter(nano_aiu=7).update(nano_aiu=8)
    assert not closing.is_untouched(done)


def test_a_month_is_closed_once_by_whoever_is_first() -> None:
    october()

    def work(_n: int) -> bool:
        try:
            closing.close(OCTOBER, "gateway")
        except closing.NotClosable:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(work, range(3))).count(True) == 1
    assert ClosedMonth.objects.get().records == 4
    assert sum(ClosedLine.objects.values_list("requests", flat=True)) == 4


def test_a_month_that_is_not_over_stays_open() -> None:
    with pytest.raises(closing.NotClosable, match="not over before 2026-11-01"):
        closing.close(OCTOBER, "gateway", at=datetime(2026, 10, 31, 23, tzinfo=UTC))
    assert not ClosedMonth.objects.exists()


def test_the_task_waits_for_the_second_and_closes_once() -> None:
    october()
    assert closing.close_due(datetime(2026, 11, 1, 23, 59, tzinfo=UTC)) == 0
    assert closing.close_due(datetime(2026, 11, 2, 0, 0, tzinfo=UTC)) == 1
    assert closing.close_due(datetime(2026, 11, 2, 0, 5, tzinfo=UTC)) == 0
    assert ClosedMonth.objects.get().month == OCTOBER
    assert closing.close_due(datetime(2027, 1, 2, 9, tzinfo=UTC)) == 1
    assert Notification.objects.filter(event="closing").count() == 2


def test_signing_off_is_done_once() -> None:
    ada, bea = (Member.objects.create_superuser(name) for name in ("ada", "bea"))
    done = closing.close(OCTOBER, ada)
    assert closing.sign_off(done, ada)
    assert not closing.sign_off(done, bea)
    done.refresh_from_db()
    assert done.signed_off_by == "ada"


def test_what_retention_takes_is_no_correction(settings: Any) -> None:
    october()
    done = closing.close(OCTOBER, "gateway")
    UsageRecord.objects.all().delete()
    settings.USAGE_RETENTION_DAYS = (datetime.now(UTC) - datetime(2026, 10, 5, tzinfo=UTC)).days
    assert closing.after_closing(done) == []
    assert timedelta(days=1) == closing.GRACE
