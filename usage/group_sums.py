"""Sums of report groups over any time: tallies for its whole hours and days, records for the rest.

Both have the names of their time, so that a group is the same in both and the sums are those of the
records, to the nano-AIU. Only for questions that nothing narrows but an outcome.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Case, Count, F, Min, Q, QuerySet, Sum, Value, When

from usage.filters import FAILED, HOUR, hour_of
from usage.models import Tally, UsageRecord
from usage.tallies import DAYS_ONLY
from usage.totals import of_kind, pieces, with_outcome

Place = tuple[object, ...]
DAY: Final = timedelta(days=1)
# The columns that make a group; the last one is its name.
GROUPINGS: Final[dict[str, tuple[str, ...]]] = {
    "model": ("model",),
    "member": ("member_id", "member"),
    "key": ("key_id", "member", "key"),
    "client": ("client",),
    "account": ("account_id", "account"),
    "team": ("team_id", "team"),
    "cost_centre": ("cost_centre",),
}
SUMS: Final = (
    "requests", "failed", "input_tokens", "cache_read_tokens", "cache_write_tokens",
    "output_tokens", "reasoning_tokens", "nano_aiu", "estimated_nano_aiu",
)  # fmt: skip
_PLAIN: Final = SUMS[2:-1]
_NAMES: Final = tuple(f"sum_{name}" for name in SUMS)


def of_records(rows: QuerySet[UsageRecord], grouping: str) -> dict[Place, list[int]]:
    """The sums of some records in the order of `SUMS`."""
    columns = record_columns(grouping)
    found = named(rows.order_by()).values(*columns)
    found = found.annotate(
        sum_requests=Count("pk"),
        sum_failed=Count("pk", filter=Q(outcome__in=FAILED)),
        **{f"sum_{name}": Sum(name) for name in _PLAIN},
        sum_estimated_nano_aiu=Sum("nano_aiu", filter=Q(cost_source="estimated"), default=Value(0)),
    )
    return {tuple(row[c] for c in columns): [row[name] for name in _NAMES] for row in found}


def _of_tallies(rows: QuerySet[Tally], grouping: str) -> dict[Place, list[int]]:
    columns = _tally_columns(grouping)
    found: Iterable[Any] = rows.values(*columns).annotate(
        sum_requests=Sum("requests"),
        sum_failed=Sum("requests", filter=Q(outcome__in=FAILED), default=0),
        **{f"sum_{name}": Sum(name) for name in (*_PLAIN, "estimated_nano_aiu")},
    )
    return {_place(row, columns): [int(row[name]) for name in _NAMES] for row in found}


def named(rows: QuerySet[UsageRecord]) -> Any:
    return rows.annotate(
        of_model=Case(When(model_used="", then=F("model_asked")), default=F("model_used"))
    )


def record_columns(grouping: str) -> tuple[str, ...]:
    return tuple("of_model" if c == "model" else c for c in GROUPINGS[grouping])


def _tally_columns(grouping: str) -> tuple[str, ...]:
    return {1: ("name",), 2: ("number", "name"), 3: ("number", "owner", "name")}[
        len(GROUPINGS[grouping])
    ]


def _place(row: Mapping[str, Any], columns: tuple[str, ...]) -> Place:
    """As a record says it, which has no number where a tally has zero."""
    return tuple((row[c] or None) if c == "number" else row[c] for c in columns)


def sums(grouping: str, outcome: str, start: datetime, end: datetime) -> dict[Place, list[int]]:
    """The sums of every group of the records from `start` to `end`."""
    total: dict[Place, list[int]] = {}
    for span, since, until in exact_pieces(start, end, grouping):
        if span:
            part = _of_tallies(_tallies(grouping, outcome, span, since, until), grouping)
        else:
            part = of_records(_records(outcome, since, until), grouping)
        for place, values in part.items():
            there = total.get(place)
            total[place] = (
                values if there is None else list(map(sum, zip(there, values, strict=True)))
            )
    return total


def exact_pieces(
    start: datetime, end: datetime, kind: str = ""
) -> Iterator[tuple[str, datetime, datetime]]:
    """Whole days and hours (hours not of keys), and with an empty span what tallies do not tell."""
    by_days = kind in DAYS_ONLY
    first, last = _up(start, by_days=by_days), _down(end, by_days=by_days)
    if first >= last:
        yield "", start, end
        return
    if start < first:
        yield "", start, first
    yield from pieces(first, last)
    if last < end:
        yield "", last, end


def _down(moment: datetime, *, by_days: bool) -> datetime:
    hour = hour_of(moment)
    return hour.replace(hour=0) if by_days else hour


def _up(moment: datetime, *, by_days: bool) -> datetime:
    below = _down(moment, by_days=by_days)
    return below if below == moment else below + (DAY if by_days else HOUR)


def _tallies(
    grouping: str, outcome: str, span: str, start: datetime, end: datetime
) -> QuerySet[Tally]:
    return with_outcome(of_kind(grouping, span, start, end), outcome)


def _records(outcome: str, start: datetime, end: datetime) -> QuerySet[UsageRecord]:
    rows = UsageRecord.objects.filter(started_at__gte=start, started_at__lt=end).order_by()
    return with_outcome(rows, outcome)


def first_times(
    grouping: str, outcome: str, since: datetime, end: datetime
) -> dict[Place, datetime]:
    """When each group's first record of a time began."""
    by_days = grouping in DAYS_ONLY
    span, length = (Tally.Span.DAY, DAY) if by_days else (Tally.Span.HOUR, HOUR)
    edge = min(end, _up(since, by_days=by_days))
    found = _first_of_records(grouping, _records(outcome, since, edge))
    columns = _tally_columns(grouping)
    rows: Any = _tallies(grouping, outcome, span.value, edge, end).values(*columns)
    later: dict[datetime, list[Place]] = {}
    for row in rows.annotate(first=Min("begin")):
        place = _place(row, columns)
        if place not in found:
            later.setdefault(row["first"].astimezone(UTC), []).append(place)
    for begin, places in later.items():
        exact = _first_of_records(grouping, _records(outcome, begin, min(end, begin + length)))
        # A record that was deleted is in the sums still.
        found |= {place: exact.get(place, begin) for place in places}
    return found


def _first_of_records(grouping: str, rows: QuerySet[UsageRecord]) -> dict[Place, datetime]:
    columns = record_columns(grouping)
    found = named(rows).values(*columns).annotate(first=Min("started_at"))
    return {tuple(row[c] for c in columns): row["first"] for row in found}
