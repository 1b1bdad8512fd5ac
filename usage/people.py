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
from usage.cards import Budget, Meter, Tone
from usage.figures import credit_number
from usage.models import Rollup
from usage.reports import KeyUse

By = Literal["member_id", "team_id"]
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
    rows = Rollup.objects.all()
    return _sums(rows if ids is None else rows.filter(**{f"{by}__in": list(ids)}), by)


def in_team(team: Team) -> dict[int, Spent]:
    """What each member spent while in the team, by member."""
    return _sums(Rollup.objects.filter(team_id=team.pk), "member_id")


def _sums(rows: QuerySet[Rollup], by: By) -> dict[int, Spent]:
    begins = starts(now())
    sums: dict[str, Any] = {
        period: Sum("nano_aiu", filter=Q(hour__gte=begins[period])) for period in PERIODS
    }
    sums["requests"] = Sum("requests", filter=Q(hour__gte=begins["month"]))
    found: Iterable[Any] = (
        rows.filter(hour__gte=min(begins.values())).order_by().values(by).annotate(**sums)
    )
    return {row[by]: Spent(*(row[name] or 0 for name in (*PERIODS, "requests"))) for row in found}


def seven_days(by: By, ids: Iterable[int] | None = None) -> dict[int, KeyUse]:
    """Nano-AIU of seven UTC days, by member or team, in one query."""
    first = starts(now())["day"] - timedelta(days=6)
    rows = Rollup.objects.filter(hour__gte=first)
    if ids is not None:
        rows = rows.filter(**{f"{by}__in": list(ids)})
    days: dict[int, list[int]] = {}
    for number, hour, nano in rows.values_list(by, "hour").annotate(nano=Sum("nano_aiu")):
        line = days.setdefault(number, [0] * 7)
        line[min(6, max(0, (hour - first).days))] += nano
    return {number: KeyUse(sum(line), line) for number, line in days.items()}


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
