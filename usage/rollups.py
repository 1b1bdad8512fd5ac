"""Hourly sums of usage records: what charts, budgets and forecasts read.

A rollup is the sum of the records that began in one UTC hour, for one combination of member, key,
account, team, model, client and outcome; a tally is that of one thing alone (`usage.tallies`).
Records are added in the transaction that inserts them, so sums always equal their records; `rebuild`
makes them so again after a repair.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.timezone import now

from usage import sum_rows, tallies
from usage.histograms import MAX_BUCKET, bucket_of, merge, percentile
from usage.models import Rollup, UsageRecord
from usage.parts import COLUMNS, SUMS, Part, Summable, added, hour_of, parts_of
from usage.sum_rows import Rows, models_of

COMBINATION = (
    "hour", "member_id", "key_id", "account_id", "team_id", "model", "client", "outcome",
)  # fmt: skip
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def add(records: Iterable[Summable]) -> None:
    """Add new records to their hours. Call it in the transaction that inserts the records."""
    parts = list(parts_of(records))
    if parts:
        sum_rows.add(Rollup, COMBINATION, _combined(parts))
        tallies.add(parts)


def rebuild(since: datetime, until: datetime) -> int:
    """Make the sums of every whole hour from `since` to `until` anew; the number of rollups.

    Hours whose raw records retention has taken keep their sums: nothing is left to build from.
    """
    kept_days = getattr(settings, "USAGE_RETENTION_DAYS", 400)
    oldest = hour_of(now() - timedelta(days=kept_days)) + HOUR
    hour = max(hour_of(since), oldest)
    made = 0
    days: set[datetime] = set()
    while hour < until:
        made += _rebuild_hour(hour)
        days.add(hour.replace(hour=0))
        hour += HOUR
    for day in sorted(days):
        _tried(lambda day=day: tallies.rebuild_day(day))
    return made


def _rebuild_hour(hour: datetime) -> int:
    return _tried(lambda: _remake_hour(hour))


def _tried(work: Any) -> int:
    """Three times: the recorder may add to a sum that was new a moment ago."""
    for _ in range(3):
        try:
            with transaction.atomic():
                return int(work())
        except IntegrityError:
            continue
    return 0


def _remake_hour(hour: datetime) -> int:
    Rollup.objects.filter(hour=hour).delete()
    tallies.forget_hour(hour)
    records = UsageRecord.objects.filter(started_at__gte=hour, started_at__lt=hour + HOUR)
    parts = list(parts_of(records.only(*COLUMNS).order_by().iterator(chunk_size=2000)))
    made = Rollup.objects.bulk_create(models_of(Rollup, COMBINATION, _combined(parts)))
    tallies.make_hour(parts)
    return len(made)


def _combined(parts: Iterable[Part]) -> Rows:
    rows: Rows = {}
    for part in parts:
        like = part.like
        place = (
            like.hour, like.member_id, like.key_id, like.account_id, like.team_id, like.model,
            like.client, like.outcome,
        )  # fmt: skip
        there = rows.get(place)
        rows[place] = (
            (part.sums, dict(part.histogram))
            if there is None
            else (added(there[0], part.sums), merge(there[1], part.histogram))
        )
    return rows


__all__ = [
    "COMBINATION",
    "HOUR",
    "MAX_BUCKET",
    "SUMS",
    "add",
    "bucket_of",
    "hour_of",
    "merge",
    "percentile",
    "rebuild",
]
