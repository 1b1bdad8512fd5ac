"""The list of exchanges: fifty behind a place, without reading much that does not fit.

Where filters leave a few of many, tallies tell the hours in which anything can fit, and only those
are read. A page stops looking after some ten thousand exchanges and says how far it came; "older"
goes on from there. Counts come from tallies too, or say "more than".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Q, QuerySet, Sum

from usage import filters
from usage.filters import HOUR, Filters, hour_of
from usage.group_sums import exact_pieces
from usage.models import Tally, UsageRecord
from usage.totals import Kind, Span, of_kind, with_outcome

PAGE: Final = 50
# What one page looks through, in exchanges and in queries, and what it counts of combined filters.
MAX_READ: Final = 40_000
MAX_QUERIES: Final = 60
MAX_COUNTED: Final = 10_000
# Hours without a match between two with one are read along when they hold no more than that.
GAP: Final = 500
SLICE: Final = timedelta(days=31)
TICK: Final = timedelta(microseconds=1)
# From how many characters on a text may be the beginning of an id, and a whole id of an upstream.
ID_BEGINNING: Final = 6
WHOLE_ID: Final = 16
MAX_BY_ID: Final = 500

Place = tuple[datetime, str]
Counts = dict[datetime, int]


@dataclass(frozen=True, slots=True)
class Page:
    """`after` is the next page's place, empty at the end. `is_cut`: it stopped looking before fifty."""

    rows: list[UsageRecord]
    after: str
    count: int
    is_exact: bool
    is_first: bool
    is_cut: bool = False

    @property
    def count_text(self) -> str:
        return f"{self.count:,}{'' if self.is_exact else '+'}"

    @property
    def reached(self) -> datetime | None:
        """How far back a page came that stopped looking."""
        place = read_place(self.after) if self.is_cut else None
        return place[0] if place else None


@dataclass(frozen=True, slots=True)
class Run:
    """Hours that are read with one query: `read` exchanges, `hits` at most fit."""

    start: datetime
    end: datetime
    hits: int
    read: int


def page(asked: Filters, after: str) -> Page:
    """Fifty exchanges behind the place `after` (time and id of the last row seen)."""
    place = read_place(after)
    if asked.scope is not None and asked.member not in (None, asked.scope):
        # Nobody counts what others did.
        return Page([], "", 0, is_exact=True, is_first=place is None)
    if _has_index(asked):
        found, reached = list(_rows(asked, place)[: PAGE + 1]), None
    else:
        found, reached = _walk(asked, place)
    if len(found) > PAGE:
        found = found[:PAGE]
        after = place_of(found[-1])
    else:
        after = "" if reached is None else f"{reached.astimezone(UTC).isoformat()}~"
    if place is None and not after:
        return Page(found, "", len(found), is_exact=True, is_first=True)
    count, is_exact = _count(asked)
    count = max(count, len(found) + (1 if after and reached is None else 0))
    return Page(found, after, count, is_exact, place is None, reached is not None)


def place_of(record: UsageRecord) -> str:
    return f"{record.started_at.astimezone(UTC).isoformat()}~{record.id}"


def read_place(text: str) -> Place | None:
    moment, tilde, id_ = text.partition("~")
    if not tilde or len(text) > 100 or "\x00" in text:
        return None
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    is_sane = at.tzinfo is not None and filters.FIRST_YEAR <= at.year <= filters.LAST_YEAR
    return (at, id_) if is_sane else None


def _has_index(asked: Filters) -> bool:
    """Whether an index leads to the rows: of one person, key or account, or of everything."""
    return len(_names(asked)) <= 1 and not _names(asked) - {"member", "key", "account"}


def _names(asked: Filters) -> set[str]:
    """What narrows the question; who may see own rows only asks for a member."""
    return set(asked.named) | ({"member"} if asked.scope is not None else set())


def _rows(
    asked: Filters, place: Place | None, start: datetime | None = None, end: datetime | None = None
) -> QuerySet[UsageRecord]:
    """The rows behind the place. One bound at each end: a database takes any of several."""
    start, end = start or asked.start, end or asked.end
    if place is None:
        return filters.records(replace(asked, start=start, end=end))
    at, id_ = place
    rows = filters.records(replace(asked, start=start, end=min(end, at + TICK)))
    return rows.filter(Q(started_at__lt=at) | Q(id__lt=id_))


def behind(asked: Filters, place: Place | None) -> QuerySet[UsageRecord]:
    """The rows of the question behind a place, for who reads them all."""
    return _rows(asked, place)


# Looking only where something can be.


def _walk(asked: Filters, place: Place | None) -> tuple[list[UsageRecord], datetime | None]:
    """The next rows, and how far it came when it stopped before the end."""
    by_id = _by_id(asked, place)
    if any(row.pk == asked.q for row in by_id):
        return by_id[: PAGE + 1], None
    found: dict[str, UsageRecord] = {}
    read = 0
    end = asked.end if place is None else min(asked.end, place[0] + TICK)
    reached = None
    for queries, run in enumerate(_runs(asked, end, PAGE + 1)):
        if len(found) > PAGE:
            break
        if queries >= MAX_QUERIES or (queries and read + run.read > MAX_READ):
            reached = run.end
            break
        rows = _rows(asked, place, max(run.start, asked.start), min(run.end, end))
        found |= {row.pk: row for row in rows[: PAGE + 1 - len(found)]}
        read += run.read
    found |= {row.pk: row for row in by_id if reached is None or row.started_at >= reached}
    ordered = sorted(found.values(), key=lambda row: (row.started_at, row.pk), reverse=True)
    return ordered[: PAGE + 1], reached


def _runs(asked: Filters, end: datetime, target: int) -> Iterator[Run]:
    """Newest first. The first ones hold `target` if all that can fit does; then more and more."""
    run: Run | None = None
    for hour, hits, read, gap in _hours(asked, end):
        if run is not None and (gap > GAP or run.hits >= target or run.read >= MAX_COUNTED):
            yield run
            target, run = target * 2, None
        if run is None:
            run = Run(hour, hour + HOUR, hits, read)
        else:
            run = Run(hour, run.end, run.hits + hits, run.read + read + gap)
    if run is not None:
        yield run


def _hours(asked: Filters, end: datetime) -> Iterator[tuple[datetime, int, int, int]]:
    """Hours with what can fit at most, what has to be read for it, and what lies between this hour
    and the one before it in this list."""
    gap = 0
    first = hour_of(asked.start)
    while end > first:
        start = max(first, hour_of(end - TICK) - SLICE)
        every = _counted(of_kind(Kind.ALL.value, Span.HOUR.value, start, end))
        parts = list(_parts(asked, start, end, every))
        for hour in sorted(every, reverse=True):
            hits = min((counts.get(hour, 0) for counts, _leads in parts), default=every[hour])
            read = min([every[hour], *(counts.get(hour, 0) for counts, leads in parts if leads)])
            if hits:
                yield hour, hits, read, gap
                gap = 0
            else:
                gap += read
        end = start


def _counted(rows: QuerySet[Tally]) -> Counts:
    return dict(rows.values_list("begin").annotate(n=Sum("requests")))


def _parts(
    asked: Filters, start: datetime, end: datetime, every: Counts
) -> Iterator[tuple[Counts, bool]]:
    """For each filter the exchanges of an hour that fit it; true where an index leads to them."""
    outcome = "completed" if asked.outcome == "retried" else asked.outcome

    def of(kind: str, place: Q) -> Counts:
        rows = of_kind(kind, Span.HOUR.value, start, end).filter(place)
        return _counted(with_outcome(rows, outcome))

    member = asked.member if asked.member is not None else asked.scope
    for kind, number in ((Kind.MEMBER.value, member), (Kind.ACCOUNT.value, asked.account)):
        if number is not None:
            yield of(kind, Q(number=number)), True
    if asked.key is not None:
        yield _of_days(Q(number=asked.key), start, end, every), True
    for kind, name in ((Kind.CLIENT.value, asked.client), (Kind.SOURCE.value, asked.endpoint)):
        if name:
            yield of(kind, Q(name=name)), False
    if asked.model:
        place = Q(name=asked.model)
        yield _together(of(Kind.MODEL.value, place), of(Kind.ASKED.value, place)), False
    if asked.outcome == "retried":
        yield of(Kind.RETRIED.value, Q()), False
    elif asked.outcome:
        yield of(Kind.ALL.value, Q()), False
    if asked.q and len(asked.q) < WHOLE_ID:
        found = []
        for kind in (Kind.MODEL.value, Kind.ASKED.value, Kind.MEMBER.value):
            if names := _names_like(asked.q, kind, start, end):
                found.append(of(kind, Q(name__in=names)))
        if names := _names_like(asked.q, Kind.KEY.value, start, end):
            found.append(_of_days(Q(name__in=names), start, end, every))
        yield _together(*found), False


def _names_like(text: str, kind: str, start: datetime, end: datetime) -> list[str]:
    """The few names among many rows: a database takes long to compare each row's."""
    days = of_kind(kind, Span.DAY.value, start.replace(hour=0), end)
    names = days.values_list("name", flat=True).distinct()
    return [name for name in names if text.casefold() in name.casefold()]


def _of_days(place: Q, start: datetime, end: datetime, every: Counts) -> Counts:
    """Keys have days only: each hour of such a day may hold all of them."""
    morning = start.replace(hour=0)
    days = _counted(of_kind(Kind.KEY.value, Span.DAY.value, morning, end).filter(place))
    if not days:
        return {}
    return {
        hour: min(n, days[day])
        for hour, n in every.items()
        if (day := hour.astimezone(UTC).replace(hour=0)) in days
    }


def _together(*counts: Mapping[datetime, int]) -> Counts:
    found: Counts = {}
    for each in counts:
        for hour, n in each.items():
            found[hour] = found.get(hour, 0) + n
    return found


def _by_id(asked: Filters, place: Place | None) -> list[UsageRecord]:
    """Rows whose id begins with the text; bounds and order are looked at here, so that the database
    takes the index of the ids."""
    if not ID_BEGINNING <= len(asked.q) <= 32:
        return []
    rows = UsageRecord.objects.filter(id__gte=asked.q, id__lt=asked.q + "\U0010ffff").order_by()
    fitting = filters.narrowed(rows, replace(asked, q=""))
    return [
        row
        for row in sorted(fitting[:MAX_BY_ID], key=lambda r: (r.started_at, r.pk), reverse=True)
        if asked.start <= row.started_at < asked.end
        and (place is None or (row.started_at, row.pk) < place)
    ]


# Counting.


def _count(asked: Filters) -> tuple[int, bool]:
    """How many there are, and whether that is exact: it is of everything and of one filter."""
    names = _names(asked)
    is_more = asked.outcome == "retried" and names > {"outcome"}
    if "q" in names or len(names - {"outcome"}) > 1 or is_more:
        return _counted_in_part(asked)
    oldest = UsageRecord.objects.order_by("started_at", "id").values_list("started_at", flat=True)
    start = max(asked.start, oldest.first() or asked.end)
    if start >= asked.end:
        return 0, True
    # Tallies stay when retention takes their records: what began before in the hour is not counted.
    kind = "key" if asked.key is not None else ""
    return sum(
        _of_piece(asked, span, since, until)
        for span, since, until in exact_pieces(start, asked.end, kind)
    ), True


def _of_piece(asked: Filters, span: str, start: datetime, end: datetime) -> int:
    if not span:
        return _rows(asked, None, start, end).count()
    place, kinds = Q(), [Kind.ALL.value]
    member = asked.member if asked.member is not None else asked.scope
    for kind, number in (("member", member), ("key", asked.key), ("account", asked.account)):
        if number is not None:
            place, kinds = Q(number=number), [kind]
    if asked.model:
        place, kinds = Q(name=asked.model), [Kind.MODEL.value, Kind.ASKED.value]
    for kind, name in ((Kind.CLIENT.value, asked.client), (Kind.SOURCE.value, asked.endpoint)):
        if name:
            place, kinds = Q(name=name), [kind]
    if asked.outcome == "retried":
        kinds = [Kind.RETRIED.value]
    sums = 0
    for kind in kinds:
        rows = with_outcome(of_kind(kind, span, start, end).filter(place), asked.outcome)
        sums += rows.aggregate(n=Sum("requests"))["n"] or 0
    return sums


def _counted_in_part(asked: Filters) -> tuple[int, bool]:
    """Of the newest exchanges only, where several filters leave what no tally counts."""
    total = read = 0
    for queries, run in enumerate(_runs(asked, asked.end, MAX_COUNTED)):
        if queries >= MAX_QUERIES or (queries and read + run.read > MAX_COUNTED):
            return total, False
        total += _rows(asked, None, max(run.start, asked.start), min(run.end, asked.end)).count()
        read += run.read
    return max(total, len(_by_id(asked, None))), True
