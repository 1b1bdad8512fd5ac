"""Sums of a question: from tallies where it names one thing or nothing, from rollups where more.

A question is `usage.filters.Filters`; its hours are whole ones, the first holds its beginning.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Count, F, Min, Q, QuerySet, Sum

from usage import filters
from usage.filters import FAILED, Filters, hour_of
from usage.models import Rollup, Tally
from usage.tallies import DAYS_ONLY, WITH_HISTOGRAM

Kind = Tally.Kind
Span = Tally.Span
DAY: Final = timedelta(days=1)
NUMBERED: Final = ("member", "key", "account")
NAMED: Final = ("model", "client")
COLUMNS: Final = {
    "n": "requests",
    "input": "input_tokens",
    "output": "output_tokens",
    "read": "cache_read_tokens",
    "write": "cache_write_tokens",
    "nano": "nano_aiu",
    "estimated": "estimated_nano_aiu",
}
SUMS: Final = {name: Sum(column) for name, column in COLUMNS.items()}


@dataclass(frozen=True, slots=True)
class Thing:
    """The one thing that a question is about: its kind, and what its tallies have in common."""

    kind: str
    place: Q


def thing_of(asked: Filters) -> Thing | None:
    """None when more than one thing narrows the question."""
    found: list[Thing] = []
    numbers = {"member": asked.member, "key": asked.key, "account": asked.account}
    if asked.scope is not None and asked.member is None:
        numbers["member"] = asked.scope
    elif asked.scope not in (None, asked.member):
        return None
    found += [Thing(k, Q(number=value)) for k, value in numbers.items() if value is not None]
    found += [Thing(k, Q(name=getattr(asked, k))) for k in NAMED if getattr(asked, k)]
    if not found:
        return Thing(Kind.ALL.value, Q())
    return found[0] if len(found) == 1 else None


def of_kind(kind: str, span: str, start: datetime, end: datetime) -> QuerySet[Tally]:
    return Tally.objects.filter(span=span, kind=kind, begin__gte=start, begin__lt=end).order_by()


def with_outcome(rows: QuerySet[Any], outcome: str) -> QuerySet[Any]:
    if outcome == "errors":
        return rows.filter(outcome__in=FAILED)
    return rows.filter(outcome=outcome) if outcome in filters.OUTCOMES else rows


def pieces(start: datetime, end: datetime) -> Iterator[tuple[str, datetime, datetime]]:
    """The whole UTC days of a time, and the hours at its ends: (span, from, until)."""
    first = hour_of(start)
    morning = first if first.hour == 0 else first.replace(hour=0) + DAY
    evening = hour_of(end).replace(hour=0)
    if morning >= evening:
        yield Span.HOUR.value, first, end
        return
    if first < morning:
        yield Span.HOUR.value, first, morning
    yield Span.DAY.value, morning, evening
    if evening < end:
        yield Span.HOUR.value, evening, end


def by_hour(asked: Filters) -> Iterator[tuple[dict[str, Any], dict[str, int], int]]:
    """Sums of an hour and outcome with their histogram, and how often that counts; of the period
    before, too."""
    thing = thing_of(asked)
    if thing is None or thing.kind not in WITH_HISTOGRAM:
        yield from _by_hour_of_rollups(asked)
        return
    rows = of_kind(thing.kind, Span.HOUR.value, hour_of(asked.before[0]), asked.end)
    names = ("begin", "outcome", "first_token_histogram", *COLUMNS.values())
    for hour, outcome, histogram, *sums in with_outcome(
        rows.filter(thing.place), asked.outcome
    ).values_list(*names):
        row = dict(zip(COLUMNS, sums, strict=True))
        yield row | {"hour": hour, "outcome": outcome}, histogram, 1


def _by_hour_of_rollups(asked: Filters) -> Iterator[tuple[dict[str, Any], dict[str, int], int]]:
    rows = filters.rollups(asked, with_before=True)
    sums: Iterable[Any] = rows.values("hour", "outcome").annotate(**SUMS)
    for row in sums:
        yield row, {}, 1
    # Equal ones together: most rollups are of few requests, and alike by the thousand.
    alike = rows.exclude(first_token_histogram={}).values("hour", "first_token_histogram")
    nothing = dict.fromkeys(COLUMNS, 0)
    for hour, histogram, times in alike.annotate(times=Count("pk")).values_list(
        "hour", "first_token_histogram", "times"
    ):
        yield nothing | {"hour": hour, "outcome": ""}, histogram, times


def by_group(asked: Filters, grouping: str) -> dict[Any, dict[str, int]]:
    """Id or name -> sums, with `failed`, of the question's own period."""
    column = grouping if grouping in NAMED else f"{grouping}_id"
    thing = thing_of(asked)
    if thing is None or thing.kind not in (Kind.ALL.value, grouping):
        return _summed([filters.rollups(asked).annotate(group=F(column))])
    place = thing.place if thing.kind == grouping else Q()
    column = "name" if grouping in NAMED else "number"
    found: list[QuerySet[Any]] = []
    for span, start, end in pieces(asked.start, asked.end):
        if span == Span.HOUR and grouping in DAYS_ONLY:
            rows = filters.rollups(asked).filter(hour__gte=start, hour__lt=end)
            found.append(rows.annotate(group=F(f"{grouping}_id")))
            continue
        tallies = of_kind(grouping, span, start, end).filter(place)
        found.append(with_outcome(tallies, asked.outcome).annotate(group=F(column)))
    return _summed(found)


def _summed(parts: list[QuerySet[Any]]) -> dict[Any, dict[str, int]]:
    found: dict[Any, dict[str, int]] = {}
    failed = Sum("requests", filter=Q(outcome__in=FAILED), default=0)
    for rows in parts:
        for row in rows.order_by().values("group").annotate(**SUMS, failed=failed):
            group = row.pop("group")
            there = found.get(group)
            found[group] = row if there is None else {name: there[name] + row[name] for name in row}
    return found


def by_day(kind: str, start: datetime, ids: Iterable[int] | None = None) -> QuerySet[Tally]:
    """The day tallies of numbered things from the UTC day of `start` on."""
    day = hour_of(start).replace(hour=0)
    rows = Tally.objects.filter(span=Span.DAY.value, kind=kind, begin__gte=day).order_by()
    return rows if ids is None else rows.filter(number__in=list(ids))


def spent_since(account_ids: Iterable[int], since: datetime) -> dict[int, int]:
    """Nano-AIU of each account's hours that begin from `since` on."""
    sums = _hours_of(account_ids, since).values_list("number").annotate(nano=Sum("nano_aiu"))
    return {number: int(nano or 0) for number, nano in sums}


def first_hour(account_id: int, since: datetime) -> datetime | None:
    """The first hour from `since` on in which the account was used."""
    found: datetime | None = _hours_of([account_id], since).aggregate(m=Min("begin"))["m"]
    return found


def _hours_of(account_ids: Iterable[int], since: datetime) -> QuerySet[Tally]:
    rows = Tally.objects.filter(span=Span.HOUR.value, kind=Kind.ACCOUNT.value, begin__gte=since)
    return rows.filter(number__in=list(account_ids)).order_by()


def seen(scope: int | None, since: datetime) -> tuple[list[str], list[str]]:
    """Names of models and clients in use since then, by everybody or by one member."""
    if scope is not None:
        # By the index of members: what others use is not theirs to see.
        rows = Rollup.objects.filter(member_id=scope, hour__gte=since).order_by()
        pairs = list(rows.values_list("model", "client").distinct()[:1000])
        return sorted({m for m, _c in pairs if m}), sorted({c for _m, c in pairs if c})
    days = Tally.objects.filter(span=Span.DAY.value, begin__gte=since).order_by()
    names = [
        days.filter(kind=kind).exclude(name="").values_list("name", flat=True).distinct()[:1000]
        for kind in NAMED
    ]
    return sorted(names[0]), sorted(names[1])


def first_tokens(models: Iterable[str], since: datetime) -> Iterable[tuple[str, dict[str, int]]]:
    """Histograms of first-token times since then, by model."""
    rows = Tally.objects.filter(
        span=Span.HOUR.value, kind=Kind.MODEL.value, begin__gte=since, name__in=list(models)
    )
    return rows.order_by().values_list("name", "first_token_histogram")
