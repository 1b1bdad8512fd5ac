"""Thresholds: budgets and quotas at 50, 80, 95 and 100 %, each told once per period.

Of several thresholds passed at once only the highest is told. The limit is part of what is told
once: after a raise the thresholds of the new limit are told anew.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Q, Sum

from accounts.models import Account, ApiKey, BudgetRaise, Member, Team
from usage import notices, totals
from usage.figures import nano_credits, percent
from usage.quota_summary import Summary, summary
from usage.watching import watcher

THRESHOLDS: Final = (50, 80, 95, 100)
WINDOW_NAMES: Final = {"session": "five-hour limit", "weekly": "weekly limit"}
PERIODS: Final = ("day", "week", "month")
_WORDS: Final = {"day": "the day", "week": "the week", "month": "the month"}


def starts(at: datetime) -> dict[str, datetime]:
    """When the UTC day, the ISO week and the billing month of `at` began."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}


def ends(at: datetime) -> dict[str, datetime]:
    begun = starts(at)
    month = (begun["month"] + timedelta(days=32)).replace(day=1)
    return {
        "day": begun["day"] + timedelta(days=1),
        "week": begun["week"] + timedelta(days=7),
        "month": month,
    }


def passed(share: float, thresholds: Iterable[int] = THRESHOLDS) -> int | None:
    """The highest threshold that `share` (of 100) has reached."""
    return max((t for t in thresholds if share >= t), default=None)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A key, member, team or account that has a budget."""

    kind: str
    row: Any
    column: str
    name: str
    url: str
    member_id: int | None = None
    team_id: int | None = None


@watcher
def budgets(at: datetime) -> int:
    """Tell of budgets whose spending has passed a threshold."""
    told = 0
    raises = _raises(at)
    for subjects in _with_budgets():
        if not subjects:
            continue
        spent = _spent(subjects[0].column, [s.row.pk for s in subjects], at)
        for subject in subjects:
            told += _budget(subject, spent.get(subject.row.pk, {}), raises, at)
    return told


def _with_budgets() -> Iterator[list[_Subject]]:
    has = Q(budget_day_nano_aiu__gt=0) | Q(budget_week_nano_aiu__gt=0)
    has |= Q(budget_month_nano_aiu__gt=0)
    keys = ApiKey.objects.filter(has, revoked_at=None).select_related("owner")
    yield [
        _Subject(
            "key", k, "key_id", f"Key {k.name!r} of {k.owner.username}",
            f"/dashboard/keys/{k.prefix}/", member_id=k.owner_id,
        )
        for k in keys
    ]  # fmt: skip
    yield [
        _Subject(
            "member", m, "member_id", f"Member {m.username}",
            f"/dashboard/requests/?range=cycle&member={m.pk}", member_id=m.pk,
        )
        for m in Member.objects.filter(has, is_active=True)
    ]  # fmt: skip
    yield [
        _Subject(
            "team", t, "team_id", f"Team {t.name!r}",
            f"/dashboard/reports/model/?range=cycle&team={t.pk}", team_id=t.pk,
        )
        for t in Team.objects.filter(has)
    ]  # fmt: skip
    yield [
        _Subject(
            "account", a, "account_id", f"Account {a.login}",
            f"/dashboard/requests/?range=cycle&account={a.pk}", member_id=a.owner_id,
        )
        for a in Account.objects.filter(has)
    ]  # fmt: skip


def _spent(column: str, ids: list[int], at: datetime) -> dict[int, dict[str, int]]:
    begun = starts(at)
    rows = totals.by_day(column.removesuffix("_id"), min(begun.values()), ids)
    sums = {name: Sum("nano_aiu", filter=Q(begin__gte=start)) for name, start in begun.items()}
    annotated: Iterable[Any] = rows.values("number").annotate(**sums)
    return {row["number"]: {name: row[name] or 0 for name in PERIODS} for row in annotated}


def _raises(at: datetime) -> dict[tuple[str, int, str], int]:
    """(kind, id, period) -> nano-AIU that raises of today add."""
    found: dict[tuple[str, int, str], int] = {}
    for row in BudgetRaise.objects.filter(ends_at__gt=at):
        kind = "key" if row.key_id else "member" if row.member_id else "team"
        place = (kind, getattr(row, f"{kind}_id"), row.period)
        found[place] = found.get(place, 0) + row.extra_nano_aiu
    return found


def _budget(
    subject: _Subject,
    spent: dict[str, int],
    raises: dict[tuple[str, int, str], int],
    at: datetime,
) -> int:
    told = 0
    for period in PERIODS:
        limit = getattr(subject.row, f"budget_{period}_nano_aiu")
        if not limit:
            continue
        limit += raises.get((subject.kind, subject.row.pk, period), 0)
        used = spent.get(period, 0)
        threshold = passed(used * 100 / limit, {*THRESHOLDS, subject.row.budget_warn_percent or 80})
        if threshold is not None:
            told += _tell_budget(subject, period, threshold, used=used, limit=limit, at=at)
    return told


def _tell_budget(
    subject: _Subject, period: str, threshold: int, *, used: int, limit: int, at: datetime
) -> int:
    end = ends(at)[period]
    until = f"{end:%Y-%m-%d %H:%M} UTC"
    if not subject.row.budget_is_hard:
        then = "The budget only warns: requests go on."
    elif threshold >= 100:
        then = f"Requests are refused until {until}. An administrator may raise the budget for a while."
    else:
        then = (
            f"At 100 % requests are refused until {until}. An administrator may raise it in time."
        )
    made = notices.note(
        "budget",
        f"{subject.name}: {threshold} % of the budget of {_WORDS[period]} is spent",
        f"{nano_credits(used)} of {nano_credits(limit)} credits ({percent(used * 100 / limit)}) "
        f"are spent. {then}",
        dedupe=f"budget:{subject.kind}:{subject.row.pk}:{period}:"
        f"{starts(at)[period]:%Y-%m-%d}:{threshold}:{limit}",
        detail={
            "kind": subject.kind,
            "id": subject.row.pk,
            "period": period,
            "threshold": threshold,
            "spent_nano_aiu": used,
            "budget_nano_aiu": limit,
            "url": subject.url,
        },
        member_id=subject.member_id,
        team_id=subject.team_id,
    )
    return int(made is not None)


@watcher
def quotas(at: datetime) -> int:
    """Tell of accounts whose quota, five-hour or weekly limit has passed a threshold."""
    told = 0
    for account in Account.objects.exclude(state=Account.State.PAUSED):
        said = summary(account)
        if said.percent_used is not None and said.kind in ("counted", "over"):
            told += _tell_quota(account, said, at)
        for window in said.windows:
            if window.percent_remaining is not None:
                used = 100 - window.percent_remaining
                told += _tell_window(account, window.quota_id, used, reset_at=window.reset_at)
    return told


def _tell_quota(account: Account, said: Summary, at: datetime) -> int:
    threshold = passed(said.percent_used or 0)
    if threshold is None:
        return 0
    reset = f"{said.reset_at:%Y-%m-%d %H:%M} UTC" if said.reset_at else "an unknown time"
    then = "What to do: use another account, a cheaper model, or wait for the reset."
    if threshold >= 100 and said.overage_permitted:
        then = "Extra use is allowed and will be charged."
    elif threshold < 80:
        then = "Nothing has to be done."
    cycle = f"{said.reset_at:%Y-%m-%d}" if said.reset_at else f"{at:%Y-%m}"
    made = notices.note(
        "quota",
        f"Account {account.login}: {threshold} % of the quota is used",
        f"{said.used or 0:,.1f} of {said.entitlement or 0:,.0f} {said.unit} are used; it is reset "
        f"at {reset}. {then}",
        dedupe=f"quota:{account.pk}:{cycle}:{threshold}:{said.entitlement or 0:.0f}",
        detail={"account": account.login, "threshold": threshold, "url": account_url(account)},
        member_id=account.owner_id,
    )
    return int(made is not None)


def _tell_window(account: Account, quota_id: str, used: float, *, reset_at: datetime | None) -> int:
    threshold = passed(used, (80, 95, 100))
    if threshold is None or reset_at is None:
        return 0
    name = WINDOW_NAMES.get(quota_id, quota_id)
    made = notices.note(
        "quota",
        f"Account {account.login}: {threshold} % of its {name} is used",
        f"It is reset at {reset_at:%Y-%m-%d %H:%M} UTC. At 100 % Copilot refuses requests of this "
        "account until then.",
        dedupe=f"window:{account.pk}:{quota_id}:{reset_at:%Y-%m-%dT%H}:{threshold}",
        detail={"account": account.login, "threshold": threshold, "url": account_url(account)},
        member_id=account.owner_id,
    )
    return int(made is not None)


def account_url(account: Account) -> str:
    from usage.cards import PUBLIC_HOST

    name = account.login if account.host == PUBLIC_HOST else f"{account.login}@{account.host}"
    return f"/dashboard/accounts/{name}/"
