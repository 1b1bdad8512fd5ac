"""Reconciliation: what an account's quota moved by in a UTC day, against what we recorded.

The day is bounded by the polls next to its two midnights, at most two hours away; what one day
leaves out the next one has, because both use the same poll. Between them the movement is summed poll
by poll, so that a reset within the day is seen. What our records do not explain was used outside the
gateway, or charged without being told. The method is written down in docs/accounting.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, Final

from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce
from django.utils.timezone import now

from accounts.models import Account
from usage.forecasts import MAIN_QUOTAS
from usage.models import QuotaSnapshot, Reconciliation, UsageRecord
from usage.pricing import NANO_PER_CREDIT

DAYS_REDONE: Final = 3
EDGE: Final = timedelta(hours=2)
# A fall of what is used by this share of the quota is a reset even when no reset was announced.
RESET_SHARE: Final = 0.05
Unit = Reconciliation.Unit


@dataclass(slots=True)
class Movement:
    """What GitHub counted between two polls, in the quota's unit; None: cannot be known."""

    since: datetime
    until: datetime
    used: float | None
    notes: list[str] = field(default_factory=list)


def reconcile(at: datetime | None = None) -> int:
    """The last three whole days of every account, made anew; how many rows. Run it once a day."""
    today = (at or now()).astimezone(UTC).date()
    made = 0
    for account in Account.objects.select_related("catalog"):
        for back in range(1, DAYS_REDONE + 1):
            made += reconcile_day(account, today - timedelta(days=back))
    return made


def reconcile_day(account: Account, day: date) -> int:
    """One day of one account; how many of its quotas are counted."""
    made = 0
    for quota_id in MAIN_QUOTAS:
        found = movement(account.pk, quota_id, day)
        if found is None:
            continue
        _store(account, quota_id, day, found)
        made += 1
    return made


def movement(account_id: int, quota_id: str, day: date) -> Movement | None:
    """What the quota moved by; None when the account has no such quota, or nothing is counted."""
    begin = datetime.combine(day, time.min, UTC)
    end = begin + timedelta(days=1)
    rows = list(
        QuotaSnapshot.objects.filter(
            account_id=account_id,
            quota_id=quota_id,
            source="poll",
            at__gte=begin - EDGE,
            at__lte=end + EDGE,
        ).order_by("at", "pk")
    )
    rows = [row for row in rows if used_of(row) is not None]
    if not rows:
        return None
    first, last = _edge(rows, begin), _edge(rows, end)
    if first is None or last is None or first.at >= last.at:
        missing = "start" if first is None else "end"
        return Movement(begin, end, None, [f"no poll within two hours of the day's {missing}"])
    between = [row for row in rows if first.at <= row.at <= last.at]
    return _sum(between)


def used_of(row: QuotaSnapshot) -> float | None:
    """What is used of the quota by one poll, overage included; None: nothing is counted.

    A seat of a pool has no entitlement of its own, only `credits_used`.
    """
    if row.unlimited or not row.entitlement or row.remaining is None:
        return row.credits_used
    over = max(row.overage_count, -row.remaining, 0.0)
    return row.entitlement - max(0.0, row.remaining) + over


def _edge(rows: Sequence[QuotaSnapshot], moment: datetime) -> QuotaSnapshot | None:
    """The last poll at or before the moment, else the first one after it, within two hours."""
    before = [row for row in rows if moment - EDGE <= row.at <= moment]
    if before:
        return before[-1]
    return next((row for row in rows if moment < row.at <= moment + EDGE), None)


def _sum(rows: Sequence[QuotaSnapshot]) -> Movement:
    total, notes = 0.0, list[str]()
    for before, after in pairwise(rows):
        step, note = _step(before, after)
        total += step
        if note and note not in notes:
            notes.append(note)
    return Movement(rows[0].at, rows[-1].at, total, notes)


def _step(before: QuotaSnapshot, after: QuotaSnapshot) -> tuple[float, str]:
    """The movement between two polls that follow each other, and what is to be said of it."""
    was, became = used_of(before), used_of(after)
    assert was is not None
    assert became is not None
    moved = became - was
    if _is_reset(before, after, moved):
        # What was used between the last poll and the reset is in no figure any more.
        return became, (
            f"reset between {before.at:%H:%M} and {after.at:%H:%M} UTC; use just before it is unseen"
        )
    if before.entitlement != after.entitlement:
        if before.credits_used is not None and after.credits_used is not None:
            # It moves with use only.
            moved = after.credits_used - before.credits_used
        old, new = before.entitlement or 0, after.entitlement or 0
        return moved, f"entitlement went from {old:,.0f} to {new:,.0f}"
    if moved < 0:
        return moved, "GitHub gave back a part"
    return moved, ""


def _is_reset(before: QuotaSnapshot, after: QuotaSnapshot, moved: float) -> bool:
    if before.reset_at is not None and after.reset_at is not None:
        # The next reset is announced with the reset itself, which may come late.
        return after.reset_at > before.reset_at and before.reset_at <= after.at
    return moved < -RESET_SHARE * (before.entitlement or used_of(before) or 1)


def _store(account: Account, quota_id: str, day: date, found: Movement) -> None:
    legacy = not account.token_based_billing
    notes = list(found.notes)
    if legacy:
        recorded, estimated = _requests(account, found.since, found.until), 0
        notes.insert(0, "old contract: premium requests, by multiplier")
    else:
        recorded, estimated = _recorded(account.pk, found.since, found.until)
    moved = None if found.used is None else round(found.used * NANO_PER_CREDIT)
    Reconciliation.objects.update_or_create(
        account_id=account.pk,
        day=day,
        quota_id=quota_id,
        defaults={
            "account": account.login,
            "unit": Unit.REQUESTS if legacy else Unit.CREDITS,
            "since": found.since,
            "until": found.until,
            "quota_nano_aiu": moved,
            "recorded_nano_aiu": recorded,
            "estimated_nano_aiu": estimated,
            "unexplained_nano_aiu": None if moved is None else moved - recorded,
            "note": "; ".join(notes)[:200],
            "made_at": now(),
        },
    )


def _ended(account_id: int, since: datetime, until: datetime) -> Any:
    """What is charged is charged when it ends."""
    rows = UsageRecord.objects.annotate(ended_at=Coalesce("finished_at", "started_at"))
    # `started_at` has the index: nothing runs for a day.
    return rows.filter(
        account_id=account_id,
        started_at__gte=since - timedelta(days=1),
        started_at__lt=until,
        ended_at__gte=since,
        ended_at__lt=until,
    ).order_by()


def _recorded(account_id: int, since: datetime, until: datetime) -> tuple[int, int]:
    """Nano-AIU of our records in all, and the estimated part of it."""
    sums = _ended(account_id, since, until).aggregate(
        all=Sum("nano_aiu"), estimated=Sum("nano_aiu", filter=Q(cost_source="estimated"))
    )
    return sums["all"] or 0, sums["estimated"] or 0


def _requests(account: Account, since: datetime, until: datetime) -> int:
    """Premium requests (times 10^9): calls of the user, times the model's multiplier.

    Calls of the agent are free. Source: docs/upstream.md#billing.
    """
    multipliers = multipliers_of(account)
    rows = _ended(account.pk, since, until).filter(
        initiator="user", upstream_status__gte=200, upstream_status__lt=300
    )
    counted = rows.values_list("model_used").annotate(n=Count("pk"))
    return sum(round(multipliers.get(model, 1.0) * NANO_PER_CREDIT) * n for model, n in counted)


def multipliers_of(account: Account) -> dict[str, float]:
    """Model -> what one request of the user counts, by the account's own model list."""
    catalog = getattr(account, "catalog", None)
    entries: Iterable[Any] = catalog.entries if catalog is not None else []
    found = {}
    for entry in entries:
        billing = entry.get("billing") if isinstance(entry, dict) else None
        if isinstance(billing, dict) and isinstance(billing.get("multiplier"), int | float):
            premium = billing.get("is_premium", True) is not False
            found[str(entry.get("id"))] = float(billing["multiplier"]) if premium else 0.0
    return found


def of_account(account_id: int, days: int = 14) -> list[Reconciliation]:
    """The newest days of one account; its page shows them."""
    since = now().date() - timedelta(days=days)
    return list(Reconciliation.objects.filter(account_id=account_id, day__gte=since))
