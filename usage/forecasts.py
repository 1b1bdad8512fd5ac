"""Will the quota last? A straight line through the last days of the cycle.

The method: the pace is the fall of `remaining` between the first and the last snapshot of the past
seven days, as far as they belong to the present billing cycle (a rise of `remaining` begins a new
one). With less than six hours of snapshots the pace is what our own records of the account cost in
that time. The quota then ends at now + remaining / pace.

Members, teams and cost centres have no quota but a month (UTC): what they spent in it, and what the
rest of it costs at the pace of their last seven days. Both methods: docs/accounting.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from django.db.models import Min, Q, QuerySet, Sum
from django.utils.timezone import now

from usage import group_sums, totals
from usage.models import QuotaSnapshot, UsageRecord
from usage.pricing import NANO_PER_CREDIT

MAIN_QUOTAS = ("premium_interactions", "premium_models")
WINDOW = timedelta(days=7)
ENOUGH = timedelta(hours=6)
DAY = timedelta(days=1)
# Beyond this the line says nothing; the quota lasts.
FARTHEST_DAYS = 3650.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """`runs_out_at` is None when nothing is being used. `per_day` is in the quota's unit.

    `lasts` says that the quota reaches its reset; with an unknown reset, that it never ends.
    """

    runs_out_at: datetime | None
    lasts: bool
    per_day: float
    method: Literal["snapshots", "records"]
    reset_at: datetime | None


def forecast(account_id: int) -> Forecast | None:
    """When the account's main quota ends at the present pace; `None`: nothing counts down."""
    at = now()
    snapshots = _recent(account_id, at)
    if not snapshots:
        return None
    last = snapshots[-1]
    if last.unlimited or last.remaining is None or not last.entitlement:
        return None
    cycle = _present_cycle(snapshots)
    span = last.at - cycle[0].at
    method: Literal["snapshots", "records"]
    if span >= ENOUGH and cycle[0].remaining is not None:
        method, used, days = "snapshots", cycle[0].remaining - last.remaining, span / DAY
    else:
        method = "records"
        used, days = _own_use(account_id, max(at - WINDOW, _cycle_start(last.reset_at, at)), at)
    per_day = max(0.0, used / days) if days > 0 else 0.0
    return _line(last.remaining, per_day, method, reset_at=last.reset_at, at=at)


def _line(
    remaining: float,
    per_day: float,
    method: Literal["snapshots", "records"],
    *,
    reset_at: datetime | None,
    at: datetime,
) -> Forecast:
    if remaining <= 0:
        return Forecast(at, False, per_day, method, reset_at)
    if per_day <= 0 or remaining / per_day > FARTHEST_DAYS:
        return Forecast(None, True, per_day, method, reset_at)
    runs_out_at = at + timedelta(days=remaining / per_day)
    lasts = reset_at is not None and reset_at > at and runs_out_at >= reset_at
    return Forecast(runs_out_at, lasts, per_day, method, reset_at)


def _recent(account_id: int, at: datetime) -> list[QuotaSnapshot]:
    """Oldest first, of the quota that is counted. Header readings are left out: they lag."""
    for quota_id in MAIN_QUOTAS:
        rows = QuotaSnapshot.objects.filter(
            account_id=account_id, quota_id=quota_id, at__gte=at - WINDOW, source="poll"
        ).order_by("at")
        if found := list(rows):
            return found
    return []


def _present_cycle(snapshots: Sequence[QuotaSnapshot]) -> Sequence[QuotaSnapshot]:
    begin = 0
    for index in range(1, len(snapshots)):
        before, after = snapshots[index - 1].remaining, snapshots[index].remaining
        # A reset gives back most of the quota; small rises are corrections of GitHub's.
        grown = (after or 0) - (before or 0)
        if before is None or grown > 0.05 * (snapshots[index].entitlement or 1):
            begin = index
    return snapshots[begin:]


def _cycle_start(reset_at: datetime | None, at: datetime) -> datetime:
    """Cycles are months: the present one began a month before the reset."""
    if reset_at is None:
        return at - WINDOW
    year, month = (
        (reset_at.year - 1, 12) if reset_at.month == 1 else (reset_at.year, reset_at.month - 1)
    )
    return reset_at.replace(year=year, month=month, day=min(reset_at.day, 28))


def own_credits(account_id: int, since: datetime) -> float:
    """AI credits that our records of the account cost since then."""
    return totals.spent_since([account_id], since).get(account_id, 0) / NANO_PER_CREDIT


def cycle_start(reset_at: datetime | None) -> datetime:
    """When the present billing cycle began; the last seven days when the reset is unknown."""
    return _cycle_start(reset_at, now())


def _own_use(account_id: int, since: datetime, at: datetime) -> tuple[float, float]:
    """Credits and the days of their use, at least ENOUGH: one busy hour is no trend."""
    first = totals.first_hour(account_id, since)
    if first is None:
        return 0.0, 1.0
    return own_credits(account_id, since), max(at - first, ENOUGH) / DAY


def month_bounds(at: datetime) -> tuple[datetime, datetime]:
    """The billing month of `at`, UTC; the end is excluded."""
    start = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return start, (start + timedelta(days=32)).replace(day=1)


def month_end(rows: QuerySet[UsageRecord], *columns: str) -> dict[tuple[object, ...], int]:
    """Nano-AIU that each group of records will have cost at the end of the present month (UTC).

    What it has cost so far, and for the rest of the month the mean of the last seven days; days
    before the group's first record of these seven do not count, but at least one does.
    """
    at = now()
    start, end = month_bounds(at)
    since = at - WINDOW
    recent = Q(started_at__gte=since)
    sums = (
        rows.filter(started_at__gte=min(start, since), started_at__lt=end)
        .order_by()
        .values(*columns)
        .annotate(
            month_nano=Sum("nano_aiu", filter=Q(started_at__gte=start), default=0),
            recent_nano=Sum("nano_aiu", filter=recent, default=0),
            first_at=Min("started_at", filter=recent),
        )
    )
    left = max(timedelta(), end - at)
    return {
        tuple(row[column] for column in columns): row["month_nano"]
        + _rest_of_month(row["recent_nano"], row["first_at"], at, left)
        for row in sums
    }


def month_end_of_all(grouping: str, outcome: str = "") -> dict[tuple[object, ...], int]:
    """The same for every group of a report's grouping that nothing else narrows, by tallies."""
    at = now()
    start, end = month_bounds(at)
    since = at - WINDOW
    place = group_sums.SUMS.index("nano_aiu")
    month = group_sums.sums(grouping, outcome, start, end)
    recent = group_sums.sums(grouping, outcome, since, end)
    first = group_sums.first_times(grouping, outcome, since, end)
    left = max(timedelta(), end - at)
    nothing = [0] * len(group_sums.SUMS)
    return {
        group: month.get(group, nothing)[place]
        + _rest_of_month(recent.get(group, nothing)[place], first.get(group), at, left)
        for group in month.keys() | recent.keys()
    }


def _rest_of_month(
    recent_nano: int, first_at: datetime | None, at: datetime, left: timedelta
) -> int:
    if first_at is None:
        return 0
    days = max(1.0, min(7.0, (at - first_at) / DAY))
    return round(recent_nano / days * (left / DAY))
