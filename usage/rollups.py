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
from django.db import IntegrityError, connection, transaction
from django.utils.timezone import now

from usage import tallies
from usage.histograms import MAX_BUCKET, bucket_of, merge, percentile
from usage.models import Rollup, UsageRecord, fields_of
from usage.parts import COLUMNS, MOST, SUMS, Part, Summable, added, bounded, hour_of, parts_of

COMBINATION = (
    "hour", "member_id", "key_id", "account_id", "team_id", "model", "client", "outcome",
)  # fmt: skip
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def add(records: Iterable[Summable]) -> None:
    """Add new records to their hours. Call it in the transaction that inserts the records."""
    parts = list(parts_of(records))
    if parts:
        _store(_combined(parts))
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
    made = Rollup.objects.bulk_create(_combined(parts).values())
    tallies.make_hour(parts)
    return len(made)


def _combined(parts: Iterable[Part]) -> dict[tuple[Any, ...], Rollup]:
    sums: dict[tuple[Any, ...], tuple[int, ...]] = {}
    histograms: dict[tuple[Any, ...], dict[str, int]] = {}
    for part in parts:
        like = part.like
        key = (
            like.hour, like.member_id, like.key_id, like.account_id, like.team_id, like.model,
            like.client, like.outcome,
        )  # fmt: skip
        sums[key] = added(sums[key], part.sums) if key in sums else part.sums
        histograms[key] = merge(histograms.get(key, {}), part.histogram)
    return {
        key: Rollup(
            **dict(zip(COMBINATION, key, strict=True)),
            **dict(zip(SUMS, bounded(sums[key]), strict=True)),
            first_token_histogram=histograms[key],
        )
        for key in sums
    }


def _key(rollup: Rollup) -> tuple[Any, ...]:
    return tuple(getattr(rollup, name) for name in COMBINATION)


def _empty(like: Rollup) -> Rollup:
    return Rollup(**{name: getattr(like, name) for name in COMBINATION}, first_token_histogram={})


def _sum_into(total: Rollup, part: Rollup) -> None:
    for name in SUMS:
        setattr(total, name, min(MOST, getattr(total, name) + getattr(part, name)))
    total.first_token_histogram = merge(total.first_token_histogram, part.first_token_histogram)


def _store(parts: dict[tuple[Any, ...], Rollup]) -> None:
    # Always in the same order, so that two processes wait for each other and never both ways.
    wanted = [parts[key] for key in sorted(parts)]
    Rollup.objects.bulk_create([_empty(part) for part in wanted], ignore_conflicts=True)
    rows = Rollup.objects.select_for_update().filter(
        hour__in={part.hour for part in wanted},
        key_id__in={part.key_id for part in wanted},
        model__in={part.model for part in wanted},
    )
    changed = []
    for row in rows.order_by("pk"):
        part = parts.get(_key(row))
        if part is not None:
            _sum_into(row, part)
            changed.append(row)
    _update(changed)


def _update(rows: list[Rollup]) -> None:
    # `bulk_update` builds one expression per cell, which costs ten times the statements themselves
    # and, in the gateway's process, the time of its streams.
    columns = fields_of(Rollup)
    fields = [columns[name] for name in (*SUMS, "first_token_histogram")]
    quote = connection.ops.quote_name
    sets = ", ".join(f"{quote(field.column)} = %s" for field in fields)
    statement = f"UPDATE {quote(Rollup._meta.db_table)} SET {sets} WHERE {quote('id')} = %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(
            statement,
            [
                (*(f.get_db_prep_save(getattr(row, f.attname), connection) for f in fields), row.pk)
                for row in rows
            ],
        )


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
