"""What keys, members, teams, accounts and models have spent in this UTC day, ISO week and month.

In nano-AIU, answered from memory: budgets ask on every request. The sum is what the rollups say, read
every few seconds, plus what this process has finished since and not yet written. So several
processes converge within seconds; what must hold at once is counted in Redis (`proxy.limits`), whose
counters begin at what is known here.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from django.db.models import Sum

from accounts.clock import now
from accounts.limits import Period, begin_of, first_day_of
from usage.bounds import MAX_NANO_AIU
from usage.journal import Record
from usage.models import Tally

REFRESH_S = 3.0
# Days that are over change only by late records and repairs.
REFRESH_PAST_S = 60.0
# Percent of a budget at which people are told.
LEVELS = (50, 80, 95, 100)
MAX_TOLD = 10_000
_KINDS = tuple(
    kind.value
    for kind in (
        Tally.Kind.KEY, Tally.Kind.MEMBER, Tally.Kind.TEAM, Tally.Kind.ACCOUNT, Tally.Kind.MODEL
    )
)  # fmt: skip
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A budget is used to `percent` of it or more: one of `LEVELS`, or its own warning level.

    `subject` is `key:7`, `name` what people call it, `begin` the first day of the period.
    """

    subject: str
    name: str
    period: Period
    begin: date
    percent: int
    spent: int
    limit: int
    is_hard: bool


# Told once in each process for each level of a period, on the event loop: they must not wait.
on_threshold: list[Callable[[Crossing], None]] = []


class _Pending(NamedTuple):
    subjects: tuple[str, ...]
    day: date
    nano_aiu: int


class Spend:
    """The sums of one process. Any thread may ask; the recorder's writer refreshes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._day = date.min
        self._today: dict[str, int] = {}
        # Of the present week and month, without today.
        self._week: dict[str, int] = {}
        self._month: dict[str, int] = {}
        self._earlier_read_at = float("-inf")
        self._read_at = float("-inf")
        self._pending: dict[str, _Pending] = {}
        self._pending_days: dict[str, dict[date, int]] = {}
        self._settled: set[str] = set()
        self._told: dict[tuple[str, Period], tuple[date, int]] = {}

    def add(self, record: Record) -> None:
        """A request has ended; counted from now on. A second end of the same id counts nothing."""
        nano_aiu = record.nano_aiu
        if type(nano_aiu) is not int or nano_aiu <= 0:
            return
        day = record.started_at.astimezone(UTC).date()
        # As much as the row will hold.
        spent = _Pending(subjects_of(record), day, min(nano_aiu, MAX_NANO_AIU))
        with self._lock:
            if record.id not in self._pending:
                self._pending[record.id] = spent
                self._count(spent, spent.nano_aiu)

    def settle(self, ids: Iterable[str]) -> None:
        """These are committed: the next refresh finds them in the rollups."""
        with self._lock:
            self._settled.update(i for i in ids if i in self._pending)

    def spent(self, subject: str, period: Period) -> int:
        """Nano-AIU of requests of `subject` that began in the present period."""
        moment = now()
        today = moment.astimezone(UTC).date()
        with self._lock:
            stored = self._stored(subject, period, today)
            pending = self._pending_days.get(subject)
            if not pending:
                return stored
            if period == "day":
                return stored + pending.get(today, 0)
            begin = first_day_of(period, today)
            return stored + sum(nano for at, nano in pending.items() if begin <= at <= today)

    def spent_of_models(self, fits: Callable[[str], bool], period: Period) -> int:
        """Nano-AIU of the present period of all models that `fits` says belong together."""
        with self._lock:
            names = {
                subject
                for known in (self._today, self._week, self._month, self._pending_days)
                for subject in known
                if subject.startswith("model:")
            }
        return sum(self.spent(name, period) for name in names if fits(name[6:]))

    def _stored(self, subject: str, period: Period, today: date) -> int:
        if today != self._day and not _same(period, today, self._day):
            return 0
        stored = self._today.get(subject, 0)
        match period:
            case "week":
                return stored + self._week.get(subject, 0)
            case "month":
                return stored + self._month.get(subject, 0)
        return stored

    def notice(
        self,
        subject: str,
        name: str,
        period: Period,
        *,
        spent: int,
        limit: int,
        warn_percent: int,
        is_hard: bool,
    ) -> None:
        """Tell the listeners when a budget has passed another level."""
        if limit <= 0 or spent * 100 < limit * min(LEVELS[0], warn_percent or LEVELS[0]):
            return
        reached = [n for n in (*LEVELS, warn_percent) if n and spent * 100 >= limit * n]
        level = max(reached)
        begin = begin_of(period, now()).date()
        key = (subject, period)
        if self._told.get(key, (date.min, 0)) >= (begin, level):
            return
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told[key] = (begin, level)
        crossing = Crossing(subject, name, period, begin, level, spent, limit, is_hard)
        for tell in on_threshold:
            try:
                tell(crossing)
            except Exception:
                # A message that is lost must not cost the request whose end brought it about.
                logger.exception("nobody could be told of a budget")

    def spent_today(self, key_id: int) -> int:
        return self.spent(f"key:{key_id}", "day")

    def spent_this_month(self, key_id: int) -> int:
        return self.spent(f"key:{key_id}", "month")

    def refresh(self) -> None:
        """Read the sums anew. Raises `django.db.Error` when the database is away."""
        moment = now()
        midnight = begin_of("day", moment)
        with self._lock:
            # Whatever is settled before the query is in its answer.
            settled = set(self._settled)
            late = any(self._pending[i].day < midnight.date() for i in settled)
            is_old = time.monotonic() - self._earlier_read_at >= REFRESH_PAST_S
            reads_past = late or is_old or self._day != midnight.date()
        today = _sums(midnight, midnight + timedelta(days=1))
        week = _sums(begin_of("week", moment), midnight) if reads_past else {}
        month = _sums(begin_of("month", moment), midnight) if reads_past else {}
        with self._lock:
            self._day, self._today = midnight.date(), today
            self._read_at = time.monotonic()
            if reads_past:
                self._week, self._month = week, month
                self._earlier_read_at = time.monotonic()
            for exchange_id in settled:
                # Another thread may have refreshed meanwhile.
                if spent := self._pending.pop(exchange_id, None):
                    self._count(spent, -spent.nano_aiu)
            self._settled -= settled

    @property
    def age_s(self) -> float:
        """Seconds since the sums were read; infinite before the first time."""
        return time.monotonic() - self._read_at

    def forget(self) -> None:
        """Begin anew, as a new process does."""
        self.__init__()  # type: ignore[misc]

    def _count(self, spent: _Pending, nano_aiu: int) -> None:
        for subject in spent.subjects:
            days = self._pending_days.setdefault(subject, {})
            total = days.get(spent.day, 0) + nano_aiu
            if total:
                days[spent.day] = total
                continue
            days.pop(spent.day, None)
            if not days:
                del self._pending_days[subject]


def _same(period: Period, one: date, other: date) -> bool:
    """Whether two days are of the same week or month."""
    if period == "week":
        return one.isocalendar()[:2] == other.isocalendar()[:2]
    return period == "month" and (one.year, one.month) == (other.year, other.month)


def subjects_of(record: Record) -> tuple[str, ...]:
    """Everything whose budget a record counts against."""
    found = [
        f"{kind}:{number}"
        for kind, number in (
            ("key", record.key_id),
            ("member", record.member_id),
            ("team", record.team_id),
            ("account", record.account_id),
        )
        if type(number) is int and number > 0
    ]
    if model := record.model_used or record.model_asked:
        found.append(f"model:{model}")
    return tuple(found)


def _sums(since: datetime, until: datetime) -> dict[str, int]:
    if since >= until:
        return {}
    rows = (
        Tally.objects.filter(
            span=Tally.Span.DAY.value,
            kind__in=_KINDS,
            begin__gte=since,
            begin__lt=until,
            nano_aiu__gt=0,
        )
        .order_by()
        .values_list("kind", "number", "name")
    )
    found: dict[str, int] = {}
    for kind, number, name, total in rows.annotate(total=Sum("nano_aiu")):
        which = name if kind == Tally.Kind.MODEL else number
        if which:
            subject = f"{kind}:{which}"
            found[subject] = found.get(subject, 0) + int(total or 0)
    return found


spend = Spend()


def spent(subject: str, period: Period) -> int:
    """Nano-AIU of `key:7`, `member:3`, `team:1`, `account:2` or `model:gpt-4.1` in this period."""
    return spend.spent(subject, period)


def spent_today(key_id: int) -> int:
    """Nano-AIU of a key's requests that began since 00:00 UTC."""
    return spend.spent_today(key_id)


def spent_this_month(key_id: int) -> int:
    """Nano-AIU of a key's requests that began since 00:00 UTC of the first of the month."""
    return spend.spent_this_month(key_id)


def refresh() -> None:
    """Read the sums from the database now. Raises `django.db.Error` when it is away."""
    spend.refresh()


def refresh_if_old() -> None:
    """For pages: a process without a running recorder has nobody else who reads the sums.

    Not for a request's way: it may query. Raises `django.db.Error` when the database is away.
    """
    if spend.age_s > 2 * REFRESH_S:
        spend.refresh()
