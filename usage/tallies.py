"""Tallies: sums by hour and by day of one thing alone, written with the rollups and equal to them.

Rollups are as many as there are combinations: with a hundred keys that is nearly as many as records.
A page of thirty days, or the budgets of a month, read a few thousand tallies instead.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Sum

from usage import sum_rows
from usage.histograms import merge
from usage.models import Rollup, Tally, UsageRecord
from usage.parts import SUMS, Likeness, Part, added, parts_of
from usage.sum_rows import Rows, models_of

Kind = Tally.Kind
HOUR: Final[str] = Tally.Span.HOUR.value
DAY: Final[str] = Tally.Span.DAY.value
ONE_DAY: Final = timedelta(days=1)
PLACE: Final = ("span", "kind", "begin", "number", "name", "owner", "outcome")
# A page shows percentiles of these.
WITH_HISTOGRAM: Final = frozenset(
    kind.value for kind in (Kind.ALL, Kind.MODEL, Kind.CLIENT, Kind.MEMBER, Kind.ACCOUNT)
)
# Keys are many, each in few records an hour: their hours would be as many as the rollups.
DAYS_ONLY: Final = frozenset((Kind.KEY.value,))
BATCH: Final = 500


def things_of(like: Likeness) -> Iterator[tuple[str, int, str, str]]:
    """Kind, number, name and owner of everything that a part counts for."""
    yield Kind.ALL.value, 0, "", ""
    yield Kind.MODEL.value, 0, like.model, ""
    if like.asked:
        yield Kind.ASKED.value, 0, like.asked, ""
    yield Kind.CLIENT.value, 0, like.client, ""
    yield Kind.SOURCE.value, 0, like.source, ""
    yield Kind.MEMBER.value, like.member_id, like.member, ""
    yield Kind.KEY.value, like.key_id, like.key, like.member
    yield Kind.ACCOUNT.value, like.account_id, like.account, ""
    yield Kind.TEAM.value, like.team_id, like.team, ""
    yield Kind.COST_CENTRE.value, 0, like.cost_centre, ""
    if like.is_retried:
        yield Kind.RETRIED.value, 0, "", ""


def rows_of(parts: Iterable[Part], *, spans: tuple[str, ...] = (HOUR, DAY)) -> Rows:
    rows: Rows = {}
    for part in parts:
        like = part.like
        begins = {HOUR: like.hour, DAY: like.hour.replace(hour=0)}
        for kind, number, name, owner in things_of(like):
            for span in spans:
                if span == HOUR and kind in DAYS_ONLY:
                    continue
                has_histogram = span == HOUR and kind in WITH_HISTOGRAM
                place = (span, kind, begins[span], number, name, owner, like.outcome)
                there = rows.get(place)
                if there is None:
                    rows[place] = part.sums, dict(part.histogram) if has_histogram else {}
                    continue
                sums, histogram = there
                if has_histogram:
                    histogram = merge(histogram, part.histogram)
                rows[place] = added(sums, part.sums), histogram
    return rows


def add(parts: Iterable[Part]) -> None:
    """Add new records' parts. In the transaction that inserts the records."""
    sum_rows.add(Tally, PLACE, rows_of(parts))


# Made anew


def forget_hour(hour: datetime) -> None:
    Tally.objects.filter(span=HOUR, kind__in=Kind.values, begin=hour).delete()


def make_hour(parts: Iterable[Part]) -> None:
    Tally.objects.bulk_create(
        models_of(Tally, PLACE, rows_of(parts, spans=(HOUR,))), batch_size=BATCH
    )


def rebuild_day(day: datetime) -> int:
    """The sums of a UTC day from those of its hours; call it in a transaction.

    Keys have no hours: theirs come from the rollups, with the names that the day's records say.
    """
    Tally.objects.filter(span=DAY, kind__in=Kind.values, begin=day).delete()
    hours = Tally.objects.filter(
        span=HOUR, kind__in=Kind.values, begin__gte=day, begin__lt=day + ONE_DAY
    )
    by = ("kind", "number", "name", "owner", "outcome")
    rows: Rows = {
        (DAY, row["kind"], day, row["number"], row["name"], row["owner"], row["outcome"]): (
            tuple(row[f"sum_{name}"] for name in SUMS),
            {},
        )
        for row in hours.order_by().values(*by).annotate(**{f"sum_{n}": Sum(n) for n in SUMS})
    }
    rows |= _keys_of(day)
    Tally.objects.bulk_create(models_of(Tally, PLACE, rows), batch_size=BATCH)
    return len(rows)


def _keys_of(day: datetime) -> Rows:
    """What the rollups of a day say of keys. The names are those of its records, as far as they are
    there; of a key that was renamed on that day the records are summed by name."""
    records = UsageRecord.objects.filter(started_at__gte=day, started_at__lt=day + ONE_DAY)
    names: dict[int, set[tuple[str, str]]] = {}
    for key_id, key, member in records.order_by().values_list("key_id", "key", "member").distinct():
        names.setdefault(key_id or 0, set()).add((key, member))
    rollups = Rollup.objects.filter(hour__gte=day, hour__lt=day + ONE_DAY)
    rows: Rows = {}
    for row in (
        rollups.order_by()
        .values_list("key_id", "outcome")
        .annotate(**{f"sum_{name}": Sum(name) for name in SUMS})
    ):
        key_id, outcome, *sums = row
        known = names.get(key_id, {("", "")})
        if len(known) == 1:
            ((key, member),) = known
            rows[DAY, Kind.KEY.value, day, key_id, key, member, outcome] = tuple(sums), {}
    renamed = [key_id for key_id, known in names.items() if len(known) > 1]
    if 0 in renamed:
        parts = parts_of(records.filter(key_id=None).iterator(chunk_size=2000))
        rows |= _of_keys(parts)
    if renamed:
        rows |= _of_keys(parts_of(records.filter(key_id__in=renamed).iterator(chunk_size=2000)))
    return rows


def _of_keys(parts: Iterable[Part]) -> Rows:
    return {
        place: sums
        for place, sums in rows_of(parts, spans=(DAY,)).items()
        if place[1] == Kind.KEY.value
    }
