"""Rollups equal the sums of their records; percentiles are near the truth."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from usage import rollups
from usage.journal import Record
from usage.models import Rollup, UsageRecord
from usage.recorder import Recorder

MakeRecord = Callable[..., Record]
NINE = datetime(2026, 11, 20, 9, tzinfo=UTC)


def varied(make_record: MakeRecord) -> list[Record]:
    return [
        make_record(
            started_at=NINE + timedelta(minutes=17 * n),
            key_id=n % 3 or None,
            model_used="gpt-5.5" if n % 2 else "",
            outcome="completed" if n % 5 else "cancelled",
            cost_source="exact" if n % 4 else "estimated",
            nano_aiu=n * 1000,
            first_token_ms=n * 10 if n % 7 else None,
        )
        for n in range(60)
    ]


def totals() -> list[tuple[object, ...]]:
    names = [f.attname for f in Rollup._meta.concrete_fields if f.attname != "id"]
    return sorted((tuple(str(getattr(r, n)) for n in names) for r in Rollup.objects.all()), key=str)


@pytest.mark.django_db(transaction=True)
def test_sums_equal_their_records_whatever_the_batches(
    recorder: Recorder, make_record: MakeRecord
) -> None:
    for number, record in enumerate(varied(make_record)):
        recorder.finish(record)
        if number % 13 == 0:
            recorder.flush()
    assert recorder.flush()

    for name in ("input_tokens", "output_tokens", "nano_aiu", "total_ms"):
        raw = UsageRecord.objects.aggregate(s=Sum(name))["s"]
        assert Rollup.objects.aggregate(s=Sum(name))["s"] == raw, name
    estimated = UsageRecord.objects.filter(cost_source="estimated").aggregate(s=Sum("nano_aiu"))
    assert Rollup.objects.aggregate(s=Sum("estimated_nano_aiu"))["s"] == estimated["s"]
    histograms = rollups.merge(*(r.first_token_histogram for r in Rollup.objects.all()))
    assert sum(histograms.values()) == UsageRecord.objects.exclude(first_token_ms=None).count()


@pytest.mark.django_db(transaction=True)
def test_rebuilding_changes_nothing_that_was_right(
    recorder: Recorder, make_record: MakeRecord
) -> None:
    for record in varied(make_record):
        recorder.finish(record)
    assert recorder.flush()
    right = totals()

    Rollup.objects.filter(hour=NINE).delete()
    Rollup.objects.filter(hour=NINE + rollups.HOUR).update(requests=999)
    rollups.rebuild(NINE, NINE + timedelta(hours=20))
    assert totals() == right
    rollups.rebuild(NINE, NINE + timedelta(hours=20))
    assert totals() == right


@pytest.mark.django_db
def test_hours_whose_records_are_gone_keep_their_sums(settings: object) -> None:
    settings.USAGE_RETENTION_DAYS = 30  # type: ignore[attr-defined]
    old = rollups.hour_of(datetime.now(UTC) - timedelta(days=60))
    Rollup.objects.create(hour=old, outcome="completed", requests=5)

    rollups.rebuild(old, old + timedelta(hours=2))

    assert Rollup.objects.get().requests == 5


def test_buckets_are_spaced_by_the_root_of_two() -> None:
    assert [rollups.bucket_of(ms) for ms in (0, 0.5, 1, 1.4, 1.5, 2, 3, 4, 1024)] == [
        0, 0, 0, 0, 1, 2, 3, 4, 20,
    ]  # fmt: skip
    assert rollups.bucket_of(10**9) == rollups.MAX_BUCKET


@given(st.integers(1, 600_000))
def test_a_bucket_holds_its_times(ms: int) -> None:
    bucket = rollups.bucket_of(ms)
    assert 2 ** (bucket / 2) <= ms * (1 + 1e-6)
    assert ms < 2 ** ((bucket + 1) / 2) * (1 + 1e-6)


@given(st.lists(st.integers(1, 600_000), min_size=1, max_size=200), st.floats(0, 100))
def test_percentiles_are_within_a_bucket_of_the_truth(times: list[int], p: float) -> None:
    histogram: dict[str, int] = {}
    for ms in times:
        bucket = str(rollups.bucket_of(ms))
        histogram[bucket] = histogram.get(bucket, 0) + 1
    times.sort()
    rank = max(0, -int(-p / 100 * len(times) // 1) - 1)
    found = rollups.percentile(histogram, p)
    assert found is not None
    assert times[min(rank, len(times) - 1)] / 2 <= found <= times[min(rank + 1, len(times) - 1)] * 2


def test_no_times_have_no_percentile() -> None:
    assert rollups.percentile({}, 50) is None
