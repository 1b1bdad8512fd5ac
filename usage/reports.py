"""Queries for people: overview, groupings, lists and one conversation. Charts read rollups only."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.core.cache import cache
from django.db.models import Sum
from django.utils.formats import date_format
from django.utils.timezone import now
from django.utils.translation import gettext as _

from accounts.models import Account, ApiKey, Member
from usage import charts, filters, totals
from usage.filters import FAILED, HOUR, Filters
from usage.models import UsageRecord
from usage.rollups import merge, percentile

PAGE: Final = 50
GROUPINGS: Final = ("model", "member", "key", "client", "account")
MAX_GROUPS: Final = 20
MAX_CHOICES: Final = 100
TREE: Final = 500
P95_KEPT_S: Final = 300


@dataclass(slots=True)
class Sums:
    """What happened in a time: tokens, nano-AIU, outcomes, first-token histogram."""

    requests: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    nano_aiu: int = 0
    estimated_nano_aiu: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    histogram: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(self.outcomes.get(outcome, 0) for outcome in FAILED)

    @property
    def failed_share(self) -> float:
        return self.failed * 100 / self.requests if self.requests else 0.0

    @property
    def p50(self) -> float | None:
        return percentile(self.histogram, 50)

    @property
    def p95(self) -> float | None:
        return percentile(self.histogram, 95)

    @property
    def cached_share(self) -> float:
        return self.cache_read * 100 / self.input if self.input else 0.0

    @property
    def is_estimated(self) -> bool:
        return self.estimated_nano_aiu > 0

    def add(self, row: dict[str, Any]) -> None:
        self.requests += row["n"]
        self.input += row["input"]
        self.output += row["output"]
        self.cache_read += row["read"]
        self.cache_write += row["write"]
        self.nano_aiu += row["nano"]
        self.estimated_nano_aiu += row["estimated"]
        self.outcomes[row["outcome"]] = self.outcomes.get(row["outcome"], 0) + row["n"]

    def count(self, histogram: Mapping[str, int], times: int) -> None:
        for bucket, count in histogram.items():
            self.histogram[bucket] = self.histogram.get(bucket, 0) + count * times


@dataclass(frozen=True, slots=True)
class Overview:
    """Two periods and the buckets of the present one."""

    sums: Sums
    before: Sums
    starts: list[datetime]
    buckets: list[Sums]


def bucket_starts(asked: Filters) -> list[datetime]:
    """Hours, or days of the person's zone. A zone off by half an hour cuts at the hour before."""
    starts = []
    at = asked.start.astimezone(asked.zone)
    while at < asked.end:
        starts.append(at)
        if asked.by_hour:
            # Through UTC, so that a day of 23 or 25 hours has as many buckets.
            at = (at.astimezone(UTC) + HOUR).astimezone(asked.zone)
        else:
            day = at.date() + timedelta(days=1)
            at = datetime.combine(day, datetime.min.time(), asked.zone)
    return starts


def overview(asked: Filters) -> Overview:
    """Everything in the figures and the chart: one query, of rollups two."""
    starts = bucket_starts(asked)
    buckets = [Sums() for _start in starts]
    total, before = Sums(), Sums()
    index = _Index(starts, asked)
    for row, histogram, times in totals.by_hour(asked):
        place = index.of(row["hour"])
        into = before if place is None else buckets[place]
        into.count(histogram, times)
        if not row["n"]:
            continue
        into.add(row)
        if place is not None:
            total.add(row)
    total.histogram = merge(*(bucket.histogram for bucket in buckets))
    return Overview(total, before, starts, buckets)


class _Index:
    """Which bucket an hour belongs to; None when it lies in the period before."""

    def __init__(self, starts: list[datetime], asked: Filters) -> None:
        self.by_hour = asked.by_hour
        self.zone = asked.zone
        self.first = starts[0].astimezone(UTC)
        self.days = {start.date(): i for i, start in enumerate(starts)}
        self.last = len(starts) - 1

    def of(self, hour: datetime) -> int | None:
        if hour + HOUR <= self.first:
            return None
        if self.by_hour:
            return min(self.last, max(0, int((hour - self.first) / HOUR)))
        return self.days.get(hour.astimezone(self.zone).date())


def tokens_chart(asked: Filters, found: Overview) -> charts.Stack:
    """Input without its cached parts, so that the stack adds up to input and output."""
    fresh = [max(0, b.input - b.cache_read - b.cache_write) for b in found.buckets]
    series = [
        charts.Series(_("Cache read"), "s3", [b.cache_read for b in found.buckets]),
        charts.Series(_("Cache write"), "s4", [b.cache_write for b in found.buckets]),
        charts.Series(_("Input"), "s1", fresh),
        charts.Series(_("Output"), "s2", [b.output for b in found.buckets]),
    ]
    at = now()
    return charts.stacked(
        [bucket_label(asked, start) for start in found.starts],
        series,
        x_labels=x_labels(asked, found.starts),
        last_is_unfinished=bool(found.starts) and asked.end > at,
    )


def bucket_label(asked: Filters, start: datetime) -> str:
    day = date_format(start, "D j M")
    return f"{day} {start:%H:%M}" if asked.by_hour else day


def x_labels(asked: Filters, starts: list[datetime]) -> list[tuple[int, str]]:
    if not asked.by_hour:
        return [(i, date_format(start, "j M")) for i, start in enumerate(starts)]
    if len(starts) <= 26:
        return [(i, f"{start:%H:%M}") for i, start in enumerate(starts) if start.hour % 4 == 0]
    return [(i, date_format(start, "D j M")) for i, start in enumerate(starts) if start.hour == 0]


# Groupings.


@dataclass(frozen=True, slots=True)
class Group:
    """A line of the grouped table. `value` is what the filter of that name takes."""

    value: str
    label: str
    requests: int
    tokens: int
    nano_aiu: int
    failed: int
    share: float


def grouped(asked: Filters, grouping: str) -> tuple[list[Group], Group | None]:
    """The largest groups by credits, then requests; what is left is one line, or None."""
    found = totals.by_group(asked, grouping)
    rows = sorted(found.items(), key=lambda row: (-row[1]["nano"], -row[1]["n"], row[0]))
    names = names_of(grouping, {group for group, _sums in rows[:MAX_GROUPS]})
    most = max((sums["nano"] for _group, sums in rows), default=0)
    by_requests = most == 0
    if by_requests:
        most = max((sums["n"] for _group, sums in rows), default=0)
    lines = [
        Group(
            str(group),
            names.get(group) or str(group or _("unknown")),
            sums["n"],
            sums["input"] + sums["output"],
            sums["nano"],
            sums["failed"],
            (sums["n"] if by_requests else sums["nano"]) * 100 / most if most else 0,
        )
        for group, sums in rows[:MAX_GROUPS]
    ]
    rest = [sums for _group, sums in rows[MAX_GROUPS:]]
    if not rest:
        return lines, None
    other = Group(
        "",
        _("other"),
        sum(row["n"] for row in rest),
        sum(row["input"] + row["output"] for row in rest),
        sum(row["nano"] for row in rest),
        sum(row["failed"] for row in rest),
        0,
    )
    return lines, other


def names_of(grouping: str, ids: Iterable[Any]) -> dict[Any, str]:
    """Ids -> names of today; rows of things since deleted keep their number."""
    if grouping == "member":
        return {m.pk: m.display_name for m in Member.objects.filter(pk__in=ids)}
    if grouping == "key":
        return dict(ApiKey.objects.filter(pk__in=ids).values_list("pk", "name"))
    if grouping == "account":
        return dict(Account.objects.filter(pk__in=ids).values_list("pk", "login"))
    return {}


# What filters offer, and single exchanges.


@dataclass(frozen=True, slots=True)
class Choices:
    """What the filter bar offers: (value, text) pairs."""

    members: list[tuple[str, str]]
    keys: list[tuple[str, str]]
    accounts: list[tuple[str, str]]
    models: list[tuple[str, str]]
    clients: list[tuple[str, str]]


def choices(scope: int | None) -> Choices:
    """At most four queries; a member is offered own keys only and no other members."""
    keys = ApiKey.objects.all() if scope is None else ApiKey.objects.filter(owner_id=scope)
    members = (
        [(str(m.pk), m.display_name) for m in Member.objects.order_by("username")[:MAX_CHOICES]]
        if scope is None
        else []
    )
    models, clients = totals.seen(scope, now() - timedelta(days=90))
    accounts = Account.objects.values_list("pk", "login")[:MAX_CHOICES]
    return Choices(
        members,
        [(str(pk), name) for pk, name in keys.values_list("pk", "name")[:MAX_CHOICES]],
        [(str(pk), login) for pk, login in accounts],
        [(name, name) for name in models[:MAX_CHOICES]],
        [(name, name) for name in clients[:MAX_CHOICES]],
    )


def slow_after_ms(models: Iterable[str]) -> dict[str, float]:
    """p95 of the first token of the last seven days by model; kept for five minutes."""
    wanted = {model for model in models if model}
    kept = cache.get_many([_p95_key(model) for model in wanted])
    known: dict[str, float | None] = {
        model: kept[_p95_key(model)] for model in wanted if _p95_key(model) in kept
    }
    missing = [model for model in wanted if model not in known]
    if missing:
        sums: dict[str, dict[str, int]] = {model: {} for model in missing}
        for model, histogram in totals.first_tokens(missing, now() - timedelta(days=7)):
            sums[model] = merge(sums[model], histogram)
        # A percentile of a handful says nothing.
        found = {
            model: percentile(h, 95) if sum(h.values()) >= 20 else None for model, h in sums.items()
        }
        cache.set_many({_p95_key(model): value for model, value in found.items()}, P95_KEPT_S)
        known |= found
    return {model: value for model, value in known.items() if value}


def _p95_key(model: str) -> str:
    # A digest, because what an upstream calls its models may hold what cache keys may not.
    return f"p95:{hashlib.sha256(model.encode('utf-8', 'replace')).hexdigest()}"


def find(exchange_id: str, scope: int | None) -> UsageRecord | None:
    return filters.visible(scope).filter(pk=exchange_id[:32].replace("\x00", "")).first()


def conversation(conversation_id: str, scope: int | None) -> list[UsageRecord]:
    """The exchanges of a conversation in order of time, at most five hundred."""
    rows = filters.visible(scope).filter(conversation=conversation_id[:64].replace("\x00", ""))
    return list(rows.order_by("started_at", "id")[:TREE])


def latest(scope: int | None, count: int = PAGE) -> list[UsageRecord]:
    return list(filters.visible(scope)[:count])


# Keys and accounts.


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Seven days of a key: nano-AIU in all and by UTC day, oldest first."""

    nano_aiu: int
    days: list[int]


def key_use(ids: Iterable[int]) -> dict[int, KeyUse]:
    """One query for every key of the page."""
    return seven_days("key", ids)


def seven_days(kind: str, ids: Iterable[int] | None = None) -> dict[int, KeyUse]:
    """Nano-AIU of seven UTC days, by id of what tallies count, in one query."""
    today = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=6)
    days: dict[int, list[int]] = {}
    rows = totals.by_day(kind, first, ids)
    for number, begin, nano in rows.values_list("number", "begin").annotate(nano=Sum("nano_aiu")):
        line = days.setdefault(number, [0] * 7)
        line[min(6, (begin - first).days)] += nano
    return {number: KeyUse(sum(line), line) for number, line in days.items()}


def last_errors(account_id: int, count: int = 10) -> list[UsageRecord]:
    rows = UsageRecord.objects.filter(account_id=account_id, outcome__in=FAILED)
    return list(rows.filter(started_at__gte=now() - timedelta(days=7))[:count])


def first_since(member_id: int, since: datetime) -> UsageRecord | None:
    """The first exchange of a member after a time: what the set-up page listens for."""
    rows = UsageRecord.objects.filter(member_id=member_id, started_at__gte=since)
    return rows.order_by("started_at", "id").first()


def has_any(scope: int | None) -> bool:
    return filters.visible(scope).exists()
