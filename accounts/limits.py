"""What a request may use, read from the rows it meets: a key, its owner, the team, a seat, a model.

An `Allowance` is one row's limits in memory. Rows without limits have none, so that requests nobody
limits cost nothing.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal

from django.utils.timezone import now

from accounts import hours
from accounts.hours import Hours
from accounts.models import BudgetRaise, Limited

Period = Literal["day", "week", "month"]
PERIODS: tuple[Period, ...] = ("day", "week", "month")
WORDS = {"day": "day", "week": "week", "month": "billing month"}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Raise:
    """More to spend until `ends_at`."""

    nano_aiu: int
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Budget:
    """Nano-AIU a period, and what is added to it for a while."""

    period: Period
    nano_aiu: int
    raises: tuple[Raise, ...] = ()

    def at(self, moment: datetime) -> int:
        if not self.raises:
            return self.nano_aiu
        return self.nano_aiu + sum(r.nano_aiu for r in self.raises if r.ends_at > moment)


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits of one subject; zero, empty and None are no limit.

    `subject` is stable (`key:7`, `member:3`, `team:1`, `account:2`, `model:gpt-5*`), `who` names it
    in sentences (`the team Research`), `name` on its own (`team Research`).
    """

    subject: str
    who: str
    name: str
    rpm: int = 0
    tpm: int = 0
    concurrency: int = 0
    max_context_tokens: int = 0
    max_output_tokens: int = 0
    max_effort: str = ""
    office_hours: Hours | None = None
    budgets: tuple[Budget, ...] = ()
    budget_is_hard: bool = True
    warn_percent: int = 80

    @property
    def is_counted(self) -> bool:
        """Whether something of it is counted over requests."""
        return bool(self.rpm or self.tpm or self.concurrency or self.budgets)

    @property
    def has_ceilings(self) -> bool:
        return bool(
            self.max_context_tokens
            or self.max_output_tokens
            or self.max_effort
            or self.office_hours is not None
        )


Raises = Mapping[tuple[str, str], tuple[Raise, ...]]


def allowance(
    row: Limited, subject: str, who: str, name: str, raises: Raises | None = None
) -> Allowance | None:
    """The limits of `row`, None when it has none."""
    budgets = tuple(
        Budget(period, amount, (raises or {}).get((subject, period), ()))
        for period in PERIODS
        if (amount := int(getattr(row, f"budget_{period}_nano_aiu")))
    )
    found = Allowance(
        subject=subject,
        who=who,
        name=name,
        rpm=row.requests_per_minute,
        tpm=row.tokens_per_minute,
        concurrency=row.concurrency,
        max_context_tokens=row.max_context_tokens,
        max_output_tokens=row.max_output_tokens,
        max_effort=row.max_effort if row.max_effort in EFFORTS else "",
        office_hours=_hours(row.office_hours, who),
        budgets=budgets,
        budget_is_hard=row.budget_is_hard,
        warn_percent=row.budget_warn_percent,
    )
    return found if found.is_counted or found.has_ceilings else None


def _hours(text: str, who: str) -> Hours | None:
    try:
        return hours.parse(text)
    except ValueError as error:
        # Forms refuse such a text; one that came another way must not stop the gateway.
        logger.warning("office hours of %s are ignored: %s", who, error)
        return None


def raises_now() -> Raises:
    """Raises that have not ended, by subject and period. Queries."""
    found: dict[tuple[str, str], tuple[Raise, ...]] = {}
    rows = BudgetRaise.objects.filter(ends_at__gt=now()).values_list(
        "key_id", "member_id", "team_id", "period", "extra_nano_aiu", "ends_at"
    )
    for key_id, member_id, team_id, period, extra, ends_at in rows:
        subject = next(
            f"{kind}:{pk}"
            for kind, pk in (("key", key_id), ("member", member_id), ("team", team_id))
            if pk is not None
        )
        at = (subject, period)
        found[at] = (*found.get(at, ()), Raise(int(extra), ends_at))
    return found


def present(*allowances: Allowance | None) -> tuple[Allowance, ...]:
    return tuple(a for a in allowances if a is not None)


# Periods: days, ISO weeks and months of UTC.


@lru_cache(maxsize=64)
def first_day_of(period: Period, day: date) -> date:
    """The first day of the period that a day of UTC is in."""
    return begin_of(period, datetime(day.year, day.month, day.day, tzinfo=UTC)).date()


def begin_of(period: Period, moment: datetime) -> datetime:
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case "day":
            return midnight
        case "week":
            return midnight - timedelta(days=midnight.weekday())
        case "month":
            return midnight.replace(day=1)


def end_of(period: Period, moment: datetime) -> datetime:
    begin = begin_of(period, moment)
    match period:
        case "day":
            return begin + timedelta(days=1)
        case "week":
            return begin + timedelta(days=7)
        case "month":
            return (begin + timedelta(days=32)).replace(day=1)


def exceeds(effort: str, ceiling: str) -> bool:
    """Whether `effort` is above `ceiling`, and so has to be lowered."""
    if effort not in EFFORTS or ceiling not in EFFORTS:
        return False
    return EFFORTS.index(effort) > EFFORTS.index(ceiling)


def strictest_effort(allowances: Iterable[Allowance]) -> Allowance | None:
    found = [a for a in allowances if a.max_effort]
    return min(found, key=lambda a: EFFORTS.index(a.max_effort), default=None)
