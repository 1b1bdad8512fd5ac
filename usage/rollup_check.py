"""Do the hourly sums equal their records? Looked at once a day for the last two days.

They are written in one transaction, so that they do; this is for what came otherwise: a restored
backup, surgery in the database. Only sums that miss something are made anew: where there are fewer
records than the sums say, records were deleted, and what was used stays used.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models import Count, Sum
from django.db.models.functions import TruncHour
from django.utils.timezone import now

from usage import rollups, totals
from usage.models import Rollup, Tally, UsageRecord

LOOKED_BACK: Final = timedelta(days=2)
# Of the last hour records are still on their way.
SETTLED_AFTER: Final = timedelta(hours=1)

Sums = dict[datetime, tuple[int, int]]


def check() -> dict[str, int]:
    """Compare and repair; how many hours were looked at, made anew, and have lost records."""
    until = rollups.hour_of(now() - SETTLED_AFTER)
    kept = timedelta(days=settings.USAGE_RETENTION_DAYS)
    since = max(until - LOOKED_BACK, rollups.hour_of(now() - kept) + 2 * rollups.HOUR)
    records, sums, tallied = _records(since, until), _sums(since, until), _tallies(since, until)
    rebuilt = fewer = 0
    for hour in sorted({*records, *sums}):
        counted, summed = records.get(hour, (0, 0)), sums.get(hour, (0, 0))
        if counted == summed == tallied.get(hour, (0, 0)):
            continue
        if counted[0] < summed[0]:
            fewer += 1
            continue
        rollups.rebuild(hour, hour + rollups.HOUR)
        rebuilt += 1
    return {"hours": len({*records, *sums}), "rebuilt": rebuilt, "with deleted records": fewer}


def _records(since: datetime, until: datetime) -> Sums:
    rows = UsageRecord.objects.filter(started_at__gte=since, started_at__lt=until).order_by()
    grouped = rows.annotate(hour=TruncHour("started_at", tzinfo=UTC)).values_list("hour")
    return {
        hour: (count, nano or 0)
        for hour, count, nano in grouped.annotate(n=Count("pk"), nano=Sum("nano_aiu"))
    }


def _sums(since: datetime, until: datetime) -> Sums:
    rows = Rollup.objects.filter(hour__gte=since, hour__lt=until).order_by().values_list("hour")
    return {
        hour: (count or 0, nano or 0)
        for hour, count, nano in rows.annotate(n=Sum("requests"), nano=Sum("nano_aiu"))
    }


def _tallies(since: datetime, until: datetime) -> Sums:
    rows = totals.of_kind(Tally.Kind.ALL.value, Tally.Span.HOUR.value, since, until)
    return {
        hour: (count or 0, nano or 0)
        for hour, count, nano in rows.values_list("begin").annotate(
            n=Sum("requests"), nano=Sum("nano_aiu")
        )
    }
