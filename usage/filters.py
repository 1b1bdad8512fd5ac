"""What a page is asked to show: range, filters and place in the list, read from the URL.

Wild values are ignored, never an error: an address may be typed, shortened or old.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.timezone import now

from usage.models import Rollup, UsageRecord

RANGES: Final = ("24h", "7d", "30d", "cycle")
OUTCOMES: Final = tuple(UsageRecord.Outcome.values)
HOUR: Final = timedelta(hours=1)
MAX_DAYS: Final = 400
MAX_TEXT: Final = 100
FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2200
MAX_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Filters:
    """One question. Times are aware; `end` is excluded. None and empty mean everything.

    `scope` is the member whose rows may be seen at all, None for an administrator.
    """

    start: datetime
    end: datetime
    zone: tzinfo
    scope: int | None
    range: str = "24h"
    member: int | None = None
    key: int | None = None
    account: int | None = None
    model: str = ""
    endpoint: str = ""
    client: str = ""
    outcome: str = ""
    q: str = ""
    named: dict[str, str] = field(default_factory=dict)

    @property
    def is_narrowed(self) -> bool:
        return bool(self.named)

    @property
    def by_hour(self) -> bool:
        """Hours up to a week, days of the person's zone above."""
        return self.end - self.start <= timedelta(days=7, hours=1)

    @property
    def last_day(self) -> datetime:
        """A moment of the last day that is included, for people, who count days."""
        return self.end - timedelta(seconds=1)

    @property
    def before(self) -> tuple[datetime, datetime]:
        """The period of the same length that ended when this one began."""
        return self.start - (self.end - self.start), self.start


def read(query: QueryDict, *, zone: tzinfo, scope: int | None, default: str = "24h") -> Filters:
    chosen = query.get("range", "")
    chosen = chosen if chosen in RANGES else default
    start, end = _bounds(chosen, zone)
    first, last = _date(query.get("from", "")), _date(query.get("to", ""))
    if first and last and first <= last and (last - first).days <= MAX_DAYS:
        chosen = "custom"
        start = datetime.combine(first, time.min, zone)
        end = datetime.combine(last + timedelta(days=1), time.min, zone)
    numbers = {name: _number(query.get(name, "")) for name in ("member", "key", "account")}
    texts = {name: query.get(name, "")[:MAX_TEXT] for name in ("model", "client", "endpoint", "q")}
    texts = {name: text.replace("\x00", "").strip() for name, text in texts.items()}
    outcome = query.get("outcome", "")
    outcome = outcome if outcome in (*OUTCOMES, "retried", "errors") else ""
    named = {name: str(value) for name, value in numbers.items() if value is not None}
    named |= {name: text for name, text in texts.items() if text}
    if outcome:
        named["outcome"] = outcome
    return Filters(
        start=start,
        end=end,
        zone=zone,
        scope=scope,
        range=chosen,
        outcome=outcome,
        named=named,
        member=numbers["member"],
        key=numbers["key"],
        account=numbers["account"],
        model=texts["model"],
        client=texts["client"],
        endpoint=texts["endpoint"],
        q=texts["q"],
    )


def _bounds(chosen: str, zone: tzinfo) -> tuple[datetime, datetime]:
    at = now()
    end = at.replace(minute=0, second=0, microsecond=0) + HOUR
    if chosen == "cycle":
        # Credits are reset at the first of the month, UTC. Source: docs/upstream.md#billing.
        utc = at.astimezone(UTC)
        return utc.replace(day=1, hour=0, minute=0, second=0, microsecond=0), end
    if chosen == "30d":
        today = at.astimezone(zone).date()
        midnight = datetime.combine(today + timedelta(days=1), time.min, zone)
        return datetime.combine(today - timedelta(days=29), time.min, zone), midnight
    hours = 24 if chosen == "24h" else 7 * 24
    return end - hours * HOUR, end


def _date(text: str) -> date | None:
    try:
        found = date.fromisoformat(text[:10])
    except ValueError:
        return None
    # Near the ends of the calendar a day more or a zone's offset cannot be counted any more.
    return found if FIRST_YEAR <= found.year <= LAST_YEAR else None


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    return min(int(text), MAX_ID)


def rollups(filters: Filters, *, with_before: bool = False) -> QuerySet[Rollup]:
    """The rollups of the question; endpoint and text do not exist there and are not asked."""
    start = filters.before[0] if with_before else filters.start
    rows = Rollup.objects.filter(hour__gte=hour_of(start), hour__lt=filters.end)
    for name in ("member", "key", "account"):
        if (value := getattr(filters, name)) is not None:
            rows = rows.filter(**{f"{name}_id": value})
    if filters.scope is not None:
        rows = rows.filter(member_id=filters.scope)
    if filters.model:
        rows = rows.filter(model=filters.model)
    if filters.client:
        rows = rows.filter(client=filters.client)
    if filters.outcome in OUTCOMES:
        rows = rows.filter(outcome=filters.outcome)
    elif filters.outcome == "errors":
        rows = rows.filter(outcome__in=FAILED)
    return rows


def hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


FAILED: Final = ("upstream_error", "timeout", "interrupted")


def visible(scope: int | None) -> QuerySet[UsageRecord]:
    """Every exchange that a person may see."""
    rows = UsageRecord.objects.all()
    return rows if scope is None else rows.filter(member_id=scope)


def records(filters: Filters) -> QuerySet[UsageRecord]:
    """The exchanges of the question, newest first."""
    rows = UsageRecord.objects.filter(started_at__gte=filters.start, started_at__lt=filters.end)
    return narrowed(rows, filters).order_by("-started_at", "-id")


def narrowed(rows: QuerySet[UsageRecord], filters: Filters) -> QuerySet[UsageRecord]:
    """What every filter but the time leaves."""
    if filters.scope is not None:
        rows = rows.filter(member_id=filters.scope)
    for name in ("member", "key", "account"):
        if (value := getattr(filters, name)) is not None:
            rows = rows.filter(**{f"{name}_id": value})
    if filters.model:
        rows = rows.filter(Q(model_used=filters.model) | Q(model_asked=filters.model))
    if filters.client:
        rows = rows.filter(client=filters.client)
    if filters.endpoint:
        rows = rows.filter(source=filters.endpoint)
    if filters.outcome == "errors":
        rows = rows.filter(outcome__in=FAILED)
    elif filters.outcome == "retried":
        rows = (
            rows.filter(outcome="completed").exclude(attempts=[]).filter(attempts__1__isnull=False)
        )
    elif filters.outcome:
        rows = rows.filter(outcome=filters.outcome)
    if filters.q:
        rows = rows.filter(
            Q(id__startswith=filters.q)
            | Q(model_used__icontains=filters.q)
            | Q(model_asked__icontains=filters.q)
            | Q(member__icontains=filters.q)
            | Q(key__icontains=filters.q)
            | Q(upstream_request_id=filters.q)
        )
    return rows
