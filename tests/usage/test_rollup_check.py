"""The daily look whether hourly sums equal their records."""

from collections.abc import Callable
from datetime import timedelta

from django.utils.timezone import now

from usage import rollup_check, rollups
from usage.bounds import fit
from usage.journal import Record
from usage.models import Rollup, UsageRecord


def keep(record: Record, *, summed: bool = True) -> UsageRecord:
    fields = {f.attname: getattr(record, f.attname, None) for f in UsageRecord._meta.fields}
    row = UsageRecord(**fit({k: v for k, v in fields.items() if v is not None}))
    row.save()
    if summed:
        rollups.add([row])
    return row


def test_sums_that_miss_records_are_made_anew(db: None, make_record: Callable[..., Record]) -> None:
    at = now() - timedelta(hours=5)
    keep(make_record(started_at=at, nano_aiu=100))
    keep(make_record(started_at=at, nano_aiu=23), summed=False)

    assert rollup_check.check() == {"hours": 1, "rebuilt": 1, "with deleted records": 0}

    assert sum(row.nano_aiu for row in Rollup.objects.all()) == 123
    assert rollup_check.check()["rebuilt"] == 0


def test_what_was_used_stays_used_when_its_record_is_deleted(
    db: None, make_record: Callable[..., Record]
) -> None:
    at = now() - timedelta(hours=5)
    keep(make_record(started_at=at, nano_aiu=100))
    keep(make_record(started_at=at, nano_aiu=23)).delete()

    assert rollup_check.check()["with deleted records"] == 1

    assert sum(row.nano_aiu for row in Rollup.objects.all()) == 123


def test_hours_that_are_not_over_are_left_alone(
    db: None, make_record: Callable[..., Record]
) -> None:
    keep(make_record(started_at=now(), nano_aiu=100), summed=False)

    assert rollup_check.check() == {"hours": 0, "rebuilt": 0, "with deleted records": 0}
