"""Tallies: sums by hour and by day of one thing alone, written with the rollups and equal to them.

Rollups are as many as there are combinations: with a hundred keys that is nearly as many as records.
A page of thirty days, or the budgets of a month, read a few thousand tallies instead.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.db.models import Sum

from usage.histograms import merge
from usage.models import Rollup, Tally, UsageRecord, fields_of
from usage.parts import SUMS, Likeness, Part, added, bounded, parts_of

Kind = Tally.Kind
HOUR: Final[str] = Tally.Span.HOUR.value
DAY: Final[str] = Tally.Span.DAY.value
ONE_DAY: Final = timedelta(days=1)
PLACE: Final = ("span", "kind", "begin", "number", "name", "owner", "outcome")
# A page shows percentiles of these; a histogram must be read before it can be written.
WITH_HISTOGRAM: Final = frozenset(
    kind.value for kind in (Kind.ALL, Kind.MODEL, Kind.CLIENT, Kind.MEMBER, Kind.ACCOUNT)
)
# Keys are many, each in few records an hour: their hours would be as many as the rollups.
DAYS_ONLY: Final = frozenset((Kind.KEY.value,))
BATCH: Final = 500

Place = tuple[str, str, datetime, int, str, str, str]
Rows = dict[Place, tuple[tuple[int, ...], dict[str, int]]]


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


def models_of(rows: Rows, model: Any = Tally) -> list[Any]:
    return [
        model(
            **dict(zip(PLACE, place, strict=True)),
            **dict(zip(SUMS, bounded(sums), strict=True)),
            first_token_histogram=histogram,
        )
        for place, (sums, histogram) in rows.items()
    ]


def add(parts: Iterable[Part]) -> None:
    """Add new records' parts. In the transaction that inserts the records."""
    rows = rows_of(parts)
    # Always in the same order, so that two processes wait for each other and never both ways.
    places = sorted(rows)
    columns = fields_of(Tally)
    quote = connection.ops.quote_name
    table = quote(Tally._meta.db_table)
    least = (
        "min(%d, {old} + {new})" if connection.vendor == "sqlite" else "LEAST(%d, {old} + {new})"
    )
    adds = ", ".join(
        f"{quote(name)} = "
        + (least % _most_of(columns[name])).format(
            old=_wide(f"{table}.{quote(name)}"), new=f"excluded.{quote(name)}"
        )
        for name in SUMS
    )
    names = (*PLACE, *SUMS, "first_token_histogram")
    head = ", ".join(quote(columns[name].column) for name in names)
    statement = (
        f"INSERT INTO {table} ({head}) VALUES ({', '.join(['%s'] * len(names))}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(quote(name) for name in PLACE)}) DO UPDATE SET {adds}"
    )
    begins = {at: columns["begin"].get_db_prep_save(at, connection) for _s, _k, at, *_ in places}
    nothing = columns["first_token_histogram"].get_db_prep_save({}, connection)
    with connection.cursor() as cursor:
        cursor.executemany(
            statement,
            [
                (*place[:2], begins[place[2]], *place[3:], *bounded(rows[place][0]), nothing)
                for place in places
            ],
        )
    # These rows are locked by now: nobody else reads a histogram between reading and writing it.
    _add_histograms({place: found for place in places if (found := rows[place][1])})


def _most_of(field: Any) -> int:
    return int(connection.ops.integer_field_range(field.get_internal_type())[1] or 2**63 - 1)


def _wide(column: str) -> str:
    # SQLite counts on in floats, PostgreSQL refuses what is beyond 64 bits.
    return column if connection.vendor == "sqlite" else f"{column}::numeric"


def _add_histograms(histograms: dict[Place, dict[str, int]]) -> None:
    if not histograms:
        return
    found = Tally.objects.filter(
        span=HOUR,
        kind__in={place[1] for place in histograms},
        begin__in={place[2] for place in histograms},
    )
    field = fields_of(Tally)["first_token_histogram"]
    changed: list[tuple[int, Any]] = []
    for pk, histogram, *place in found.values_list("pk", "first_token_histogram", *PLACE):
        more = histograms.get(tuple(place))
        if more is not None:
            merged = merge(histogram, more)
            changed.append((pk, field.get_db_prep_save(merged, connection)))
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {quote(Tally._meta.db_table)} SET {quote(field.column)} = %s "  # noqa: S608
            f"WHERE {quote('id')} = %s",
            [(histogram, pk) for pk, histogram in changed],
        )


# Made anew


def forget_hour(hour: datetime) -> None:
    Tally.objects.filter(span=HOUR, kind__in=Kind.values, begin=hour).delete()


def make_hour(parts: Iterable[Part]) -> None:
    Tally.objects.bulk_create(models_of(rows_of(parts, spans=(HOUR,))), batch_size=BATCH)


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
    Tally.objects.bulk_create(models_of(rows), batch_size=BATCH)
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
