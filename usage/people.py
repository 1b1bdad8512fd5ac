"""What people and teams have spent: seven days by member, and the nearer of each budget.

From rollups, so at most seconds old; what refuses requests counts by itself (`proxy.limits`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from django.db.models import Max, Q, QuerySet, Sum
from django.utils.timezone import now
from django.utils.translation import gettext as _

from accounts.models import ApiKey, BudgetRaise, Limited, Member, Team
from usage import reports, totals
from usage.cards import Budget, Meter, Tone
from usage.figures import credit_number
from usage.models import Rollup
from usage.reports import KeyUse

By = Literal["member", "team"]
PERIODS: Final = ("day", "week", "month")


@dataclass(frozen=True, slots=True)
class Spent:
    """Nano-AIU of the UTC day, the ISO week and the UTC month, and requests of the month."""

    day: int = 0
    week: int = 0
    month: int = 0
    requests: int = 0


def starts(at: datetime) -> dict[str, datetime]:
    """When the present day, week and billing month began, in UTC."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
    }


def spent(by: By, ids: Iterable[int] | None = None) -> dict[int, Spent]:
    """Sums of all that `ids` names (None: everybody), in one query."""
    begins = starts(now())
    rows = totals.by_day(by, min(begins.values()), ids)
    return _sums(rows, "number", "begin")


def in_team(team: Team) -> dict[int, Spent]:
    """What each member spent while in the team, by member."""
    first = min(starts(now()).values())
    return _sums(Rollup.objects.filter(team_id=team.pk, hour__gte=first), "member_id", "hour")


def _sums(rows: QuerySet[Any], number: str, begin: str) -> dict[int, Spent]:
    begins = starts(now())
    sums: dict[str, Any] = {
        period: Sum("nano_aiu", filter=Q(**{f"{begin}__gte": begins[period]})) for period in PERIODS
    }
    this_month = Q(**{f"{begin}__gte": begins["month"]})
    sums["n_requests"] = Sum("requests", filter=this_month)
    found: Iterable[Any] = rows.order_by().values(number).annotate(**sums)
    names = (*PERIODS, "n_requests")
    return {row[number]: Spent(*(row[name] or 0 for name in names)) for row in found}


def seven_days(by: By, ids: Iterable[int] | None = None) -> dict[int, KeyUse]:
    """Nano-AIU of seven UTC days, by member or team, in one query."""
    return reports.seven_days(by, ids)


def raised(kind: Literal["member", "team"]) -> dict[int, dict[str, int]]:
    """Raises that have not ended: id -> period -> nano-AIU."""
    rows = BudgetRaise.objects.filter(ends_at__gt=now(), **{f"{kind}__isnull": False})
    found: dict[int, dict[str, int]] = {}
    for number, period, extra in rows.values_list(f"{kind}_id", "period", "extra_nano_aiu"):
        of_one = found.setdefault(number, {})
        of_one[period] = of_one.get(period, 0) + extra
    return found


def budget_of(row: Limited, use: Spent, extra: Mapping[str, int]) -> Budget | None:
    """The nearest of a row's budgets, raises included; None when it has none."""
    words = {"day": _("today"), "week": _("this week"), "month": _("this month")}
    choices: list[tuple[int, int, str]] = []
    for period in PERIODS:
        limit = getattr(row, f"budget_{period}_nano_aiu")
        if limit:
            choices.append((getattr(use, period), limit + extra.get(period, 0), words[period]))
    if not choices:
        return None
    used, limit, when = max(choices, key=lambda choice: choice[0] / choice[1])
    share = used * 100 / limit
    tone: Tone = "bad" if share >= 100 else "warn" if share >= row.budget_warn_percent else "ok"
    text = _("%(spent)s of %(limit)s %(when)s") % {
        "spent": credit_number(used / 1e9),
        "limit": credit_number(limit / 1e9),
        "when": when,
    }
    return Budget(text, Meter(f"{min(100.0, share):.2f}%", tone, "", text))


def last_seen(ids: Iterable[int]) -> dict[int, datetime]:
    """The newest use of each member's keys; sign-ins are on the member itself."""
    rows = ApiKey.objects.filter(owner_id__in=list(ids), last_used_at__isnull=False)
    return dict(rows.order_by().values_list("owner_id").annotate(at=Max("last_used_at")))


def members_of(team: Team) -> list[Member]:
    return list(Member.objects.filter(team=team).order_by("username"))
