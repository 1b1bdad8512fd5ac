"""Forecasts that are told: a quota that ends before its reset, a budget that the month will pass."""

from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q
from django.utils.timezone import now

from accounts.models import Account, ApiKey, Member, Team
from usage import notices
from usage.figures import nano_credits
from usage.forecasts import month_bounds, month_end
from usage.models import UsageRecord
from usage.quota_summary import Summary, summary
from usage.thresholds import account_url

SOON: Final = timedelta(days=1)
# A line through a month's first hours says nothing.
FIRST_DAYS: Final = timedelta(days=3)


def tell(at: datetime | None = None) -> int:
    """Look at every account's quota and every budget of the month; how many new notices."""
    at = at or now()
    told = sum(_quota(account, summary(account), at) for account in Account.objects.all())
    start, _ = month_bounds(at)
    if at - start >= FIRST_DAYS:
        told += _budgets(at)
    return told


def _quota(account: Account, said: Summary, at: datetime) -> int:
    line = said.forecast
    if line is None or line.lasts or line.runs_out_at is None or said.reset_at is None:
        return 0
    if not at < line.runs_out_at < said.reset_at:
        return 0
    is_soon = line.runs_out_at - at <= SOON
    made = notices.note(
        "forecast",
        f"Account {account.login}: the {said.unit} end before the reset",
        f"{said.left or 0:,.1f} {said.unit} are left; at {line.per_day:,.1f} a day they end "
        f"{line.runs_out_at:%Y-%m-%d %H:%M} UTC, the reset is {said.reset_at:%Y-%m-%d %H:%M} UTC. "
        "Use cheaper models, set budgets, or allow extra use at GitHub.",
        dedupe=f"forecast:{account.pk}:{said.reset_at:%Y-%m-%d}:{'soon' if is_soon else 'ahead'}",
        detail={
            "account": account.login,
            "runs_out_at": line.runs_out_at.isoformat(),
            "url": account_url(account),
        },
        member_id=account.owner_id,
    )
    return int(made is not None)


def _budgets(at: datetime) -> int:
    has = Q(budget_month_nano_aiu__gt=0)
    told = 0
    rows: list[tuple[str, str, ApiKey | Member | Team, str, int | None, int | None]] = [
        ("key", f"Key {k.name!r} of {k.owner.username}", k, f"/dashboard/keys/{k.prefix}/",
         k.owner_id, None)
        for k in ApiKey.objects.filter(has, revoked_at=None).select_related("owner")
    ]  # fmt: skip
    rows += [
        ("member", f"Member {m.username}", m, f"/dashboard/requests/?range=cycle&member={m.pk}",
         m.pk, None)
        for m in Member.objects.filter(has, is_active=True)
    ]  # fmt: skip
    rows += [
        ("team", f"Team {t.name!r}", t, f"/dashboard/reports/model/?range=cycle&team={t.pk}",
         None, t.pk)
        for t in Team.objects.filter(has)
    ]  # fmt: skip
    expected = {
        kind: month_end(UsageRecord.objects.exclude(**{f"{kind}_id": None}), f"{kind}_id")
        for kind in {row[0] for row in rows}
    }
    for kind, name, row, url, member_id, team_id in rows:
        likely = expected[kind].get((row.pk,), 0)
        budget = row.budget_month_nano_aiu
        if likely <= budget:
            continue
        made = notices.note(
            "forecast",
            f"{name} will pass the budget of the month",
            f"At the pace of the last seven days the month will cost {nano_credits(likely)} "
            f"credits; the budget is {nano_credits(budget)}. Raise it in time, or use less.",
            dedupe=f"forecast:{kind}:{row.pk}:{at:%Y-%m}:{budget}",
            detail={"kind": kind, "id": row.pk, "expected_nano_aiu": likely, "url": url},
            member_id=member_id,
            team_id=team_id,
        )
        told += int(made is not None)
    return told
