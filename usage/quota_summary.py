"""An account's quota in the words that pages, `check-usage` and `GET /usage` need."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db.models import Max
from django.utils.timezone import now

from accounts.models import Account
from usage.forecasts import MAIN_QUOTAS, Forecast, cycle_start, forecast, own_credits
from usage.models import QuotaSnapshot
from usage.quota_shapes import QuotaReading, UpstreamShape, is_free, parse_quota, plan_name

STALE_AFTER = timedelta(minutes=15)
HEADERS_COUNT_FOR = timedelta(hours=6)
WINDOWS = ("session", "weekly")
SEED_KEYS = (
    "login", "access_type_sku", "assigned_date", "can_signup_for_limited", "chat_enabled",
    "copilot_plan", "organization_login_list", "organization_list", "token_based_billing",
    "quota_reset_date", "quota_reset_date_utc",
)  # fmt: skip

Kind = Literal["counted", "pooled", "unlimited", "over", "free", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One account's quota as shown.

    `kind` is how the main quota counts; `unit` the word to use; `used`, `entitlement`, `left` and
    `over` are in that unit, `None` where the kind has no such figure. `percent_used` is 0 to 100
    and more. `quotas` are all readings but the windows, `windows` the five-hour and weekly limits.
    `account_state` is the account's own (signed out, no seat, frozen ...), said beside the figures.
    """

    account_id: int
    login: str
    host: str
    plan: str
    plan_name: str
    account_state: str
    account_state_reason: str
    kind: Kind
    unit: Literal["credits", "requests"]
    entitlement: float | None
    used: float | None
    left: float | None
    over: float | None
    percent_used: float | None
    overage_permitted: bool
    overage_limit: float | None
    reset_at: datetime | None
    polled_at: datetime | None
    error: str
    is_stale: bool
    own_credits: float
    forecast: Forecast | None
    quotas: tuple[QuotaReading, ...]
    windows: tuple[QuotaReading, ...]


def summary(account: Account) -> Summary:
    """What is said of the account's quota by its document, newer headers and our records."""
    at = now()
    heard = _heard(account, at)
    quotas = tuple(_latest(_readings(account), heard))
    main = next((q for name in MAIN_QUOTAS for q in quotas if q.quota_id == name), None)
    kind = _kind(account, main)
    reset_at = (main.reset_at if main else None) or account.quota_reset_at
    polled_at = account.quota_polled_at
    measured = main if kind in ("counted", "over") else None
    return Summary(
        account_id=account.pk,
        login=account.login,
        host=account.host,
        plan=account.plan,
        plan_name=plan_name(account.plan),
        account_state=account.state,
        account_state_reason=account.state_reason,
        kind=kind,
        unit="credits" if (main.token_based_billing if main else True) else "requests",
        entitlement=measured.entitlement if measured else None,
        used=_used(main, kind),
        left=max(0.0, measured.remaining or 0.0) if measured else None,
        over=_over(main) if kind == "over" and main else None,
        percent_used=_percent_used(measured),
        overage_permitted=bool(main and main.overage_permitted),
        overage_limit=main.overage_entitlement if main else None,
        reset_at=reset_at,
        polled_at=polled_at,
        error=account.quota_error,
        is_stale=polled_at is None or at - polled_at > STALE_AFTER,
        own_credits=own_credits(account.pk, cycle_start(reset_at)),
        forecast=forecast(account.pk) if measured else None,
        quotas=quotas,
        windows=tuple(heard[name] for name in WINDOWS if name in heard),
    )


def seed_usage_json(account: Account) -> dict[str, Any]:
    """`GET /usage` as the tools of the copilot-api family read it: GitHub's document, by its keys.

    The old Free shape is given the `quota_snapshots` that such tools expect.
    """
    document: dict[str, Any] = account.quota
    answer = {key: document[key] for key in SEED_KEYS if key in document}
    answer.setdefault("copilot_plan", account.plan)
    answer.setdefault("access_type_sku", account.sku)
    reset = account.quota_reset_at
    answer.setdefault("quota_reset_date", reset.date().isoformat() if reset else "")
    snapshots = document.get("quota_snapshots")
    if isinstance(snapshots, Mapping):
        answer["quota_snapshots"] = dict(snapshots)
    else:
        answer["quota_snapshots"] = {r.quota_id: _seed_snapshot(r) for r in _readings(account)}
    for name in ("chat", "completions", "premium_interactions"):
        answer["quota_snapshots"].setdefault(name, _seed_nothing(name))
    return answer


def _readings(account: Account) -> list[QuotaReading]:
    try:
        return parse_quota(account.quota, account.quota_polled_at or now())
    except UpstreamShape:
        return []


def _heard(account: Account, at: datetime) -> dict[str, QuotaReading]:
    """The newest header reading of each quota, unless it is from a past window."""
    rows = QuotaSnapshot.objects.filter(
        account_id=account.pk, source="header", at__gte=at - HEADERS_COUNT_FOR
    )
    newest = rows.order_by().values("quota_id").annotate(newest=Max("at"))
    wanted = {row["quota_id"]: row["newest"] for row in newest}
    found = {}
    for row in rows.filter(at__in=wanted.values()):
        if wanted[row.quota_id] == row.at and (row.reset_at is None or row.reset_at > at):
            found[row.quota_id] = _reading(row)
    return found


def _reading(row: QuotaSnapshot) -> QuotaReading:
    names = {field.name for field in fields(QuotaReading)} - {
        "overage_entitlement",
        "token_based_billing",
    }
    return QuotaReading(**{name: getattr(row, name) for name in names})


def _latest(polled: list[QuotaReading], heard: dict[str, QuotaReading]) -> list[QuotaReading]:
    """What was polled, with newer figures of headers in their place."""
    latest = []
    for reading in polled:
        header = heard.get(reading.quota_id)
        is_counted = not (reading.unlimited or reading.is_pooled)
        if is_counted and header and header.at > reading.at and header.remaining is not None:
            latest.append(_updated(reading, header))
        else:
            latest.append(reading)
    return latest


def _updated(reading: QuotaReading, header: QuotaReading) -> QuotaReading:
    known = {field.name: getattr(reading, field.name) for field in fields(QuotaReading)}
    known |= {
        "at": header.at,
        "remaining": header.remaining,
        "percent_remaining": header.percent_remaining,
        "overage_count": header.overage_count,
        "overage_permitted": header.overage_permitted,
    }
    return QuotaReading(**known)


def _kind(account: Account, main: QuotaReading | None) -> Kind:
    if is_free(account.quota) and (main is None or not main.entitlement):
        return "free"
    if main is None:
        return "unknown"
    if main.is_pooled:
        return "pooled"
    if main.unlimited:
        return "unlimited"
    if main.entitlement is None or main.remaining is None:
        return "unknown"
    if main.entitlement == 0:
        # Nothing of its own and nothing said to be used: a seat of a pool before its first use.
        return "pooled" if account.plan in ("business", "enterprise") else "unknown"
    return "over" if _over(main) > 0 else "counted"


def _over(main: QuotaReading) -> float:
    return max(main.overage_count, -(main.remaining or 0.0), 0.0)


def _used(main: QuotaReading | None, kind: Kind) -> float | None:
    if main is None:
        return None
    if kind == "pooled":
        return main.credits_used or 0.0
    if kind in ("counted", "over"):
        remaining = max(0.0, main.remaining or 0.0)
        return (main.entitlement or 0.0) - remaining + _over(main)
    return main.credits_used


def _percent_used(main: QuotaReading | None) -> float | None:
    if main is None or not main.entitlement:
        return None
    return 100 * (main.entitlement - (main.remaining or 0.0)) / main.entitlement


def _seed_snapshot(reading: QuotaReading) -> dict[str, Any]:
    return {
        "quota_id": reading.quota_id,
        "entitlement": reading.entitlement or 0,
        "remaining": reading.remaining or 0,
        "quota_remaining": reading.remaining or 0,
        "percent_remaining": reading.percent_remaining or 0,
        "unlimited": reading.unlimited,
        "overage_count": reading.overage_count,
        "overage_permitted": reading.overage_permitted,
    }


def _seed_nothing(name: str) -> dict[str, Any]:
    return {
        "quota_id": name,
        "entitlement": 0,
        "remaining": 0,
        "quota_remaining": 0,
        "percent_remaining": 0,
        "unlimited": False,
        "overage_count": 0,
        "overage_permitted": False,
    }
