"""GitHub's account document, as far as it speaks of quotas: every shape it has had.

Source: docs/upstream.md#account-document.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MAX_QUOTAS = 50
_PLAN_NAMES = {
    "free": "Free",
    "individual": "Pro",
    "individual_pro": "Pro+",
    "individual_max": "Max",
    "individual_edu": "Student",
    "business": "Business",
    "enterprise": "Enterprise",
}


class UpstreamShape(Exception):
    """The document has no place where quotas are known to stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaReading:
    """One quota at one time, in its own unit: AI credits, or requests under old contracts.

    `None` is unsaid. `remaining` and `percent_remaining` are negative in overage.
    """

    quota_id: str
    at: datetime
    entitlement: float | None = None
    remaining: float | None = None
    percent_remaining: float | None = None
    unlimited: bool = False
    overage_count: float = 0.0
    overage_permitted: bool = False
    overage_entitlement: float | None = None
    credits_used: float | None = None
    reset_at: datetime | None = None
    token_based_billing: bool = True
    source: str = "poll"

    @property
    def is_pooled(self) -> bool:
        """The seat draws on its organisation's budget: nothing of its own to count down."""
        return self.credits_used is not None and (self.unlimited or not self.entitlement)


def parse_quota(document: Mapping[str, Any], at: datetime) -> list[QuotaReading]:
    """The quotas of GitHub's account document; unknown ids are kept.

    `document["quota_snapshots"]` maps a quota id to {entitlement, remaining, unlimited, ...}; the
    old Free shape has totals in `monthly_quotas` and what is left in `limited_user_quotas`.
    Raises `UpstreamShape` when neither is there. Source: docs/upstream.md#account-document.
    """
    snapshots = document.get("quota_snapshots")
    if isinstance(snapshots, Mapping):
        pairs = list(snapshots.items())[:MAX_QUOTAS]
        return [_snapshot(document, str(k), v, at) for k, v in pairs if isinstance(v, Mapping)]
    totals = document.get("monthly_quotas")
    if isinstance(totals, Mapping):
        return _free(document, totals, at)
    raise UpstreamShape("GitHub's account document names no quotas.")


def reset_of(document: Mapping[str, Any]) -> datetime | None:
    """When the account's quotas begin anew, by the document's own dates."""
    for key in ("quota_reset_date_utc", "quota_reset_date", "limited_user_reset_date"):
        if (moment := moment_of(document.get(key))) is not None:
            return moment
    return None


def plan_name(plan: str) -> str:
    """What people call the plan; an unknown one is shown as GitHub says it."""
    return _PLAN_NAMES.get(plan, plan)


def is_free(document: Mapping[str, Any]) -> bool:
    return document.get("copilot_plan") == "free" or "monthly_quotas" in document


def number_of(value: Any) -> float | None:
    """A finite number; GitHub has sent amounts as text, too."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def moment_of(value: Any) -> datetime | None:
    """An ISO date or time, or unix seconds of which 0 means unknown."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC) if value > 0 else None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _snapshot(
    document: Mapping[str, Any], quota_id: str, values: Mapping[str, Any], at: datetime
) -> QuotaReading:
    entitlement = number_of(values.get("entitlement"))
    remaining = number_of(values.get("quota_remaining"))
    if remaining is None:
        remaining = number_of(values.get("remaining"))
    # A seat that uses up its day's chat says `has_quota` false, and so do seats in full use: it
    # decides nothing here.
    tbb = values.get("token_based_billing", document.get("token_based_billing", True))
    unlimited = values.get("unlimited") is True or entitlement == -1
    return QuotaReading(
        quota_id=quota_id[:64],
        at=at,
        entitlement=None if entitlement is not None and entitlement < 0 else entitlement,
        remaining=remaining,
        percent_remaining=number_of(values.get("percent_remaining")),
        unlimited=unlimited,
        overage_count=number_of(values.get("overage_count")) or 0.0,
        overage_permitted=values.get("overage_permitted") is True,
        overage_entitlement=number_of(values.get("overage_entitlement")),
        credits_used=number_of(values.get("credits_used")),
        reset_at=moment_of(values.get("quota_reset_at")) or reset_of(document),
        token_based_billing=tbb is not False,
    )


def _free(
    document: Mapping[str, Any], totals: Mapping[str, Any], at: datetime
) -> list[QuotaReading]:
    left = document.get("limited_user_quotas")
    remaining_of = left if isinstance(left, Mapping) else {}
    readings = []
    for quota_id, total in list(totals.items())[:MAX_QUOTAS]:
        entitlement = number_of(total)
        remaining = number_of(remaining_of.get(quota_id))
        percent = 100 * remaining / entitlement if entitlement and remaining is not None else None
        readings.append(
            QuotaReading(
                quota_id=str(quota_id)[:64],
                at=at,
                entitlement=entitlement,
                remaining=remaining,
                percent_remaining=percent,
                reset_at=reset_of(document),
                token_based_billing=False,
            )
        )
    return readings
