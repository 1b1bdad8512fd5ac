"""What each key has spent today and this month (UTC), in nano-AIU, answered from memory.

Budgets ask on every request. The sum is what the rollups say, read every few seconds, plus what
this process has finished since and not yet written; so several processes converge within seconds.
"""

import threading
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from django.db.models import Sum
from django.utils.timezone import now

from usage.bounds import MAX_NANO_AIU
from usage.journal import Record
from usage.models import Rollup

REFRESH_S = 3.0
# Days that are over change only by late records and repairs.
REFRESH_PAST_S = 60.0


class _Pending(NamedTuple):
    key_id: int
    day: date
    nano_aiu: int


class Spend:
    """The sums of one process. Any thread may ask; the recorder's writer refreshes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._day = date.min
        self._today: dict[int, int] = {}
        self._earlier: dict[int, int] = {}
        self._earlier_read_at = float("-inf")
        self._read_at = float("-inf")
        self._pending: dict[str, _Pending] = {}
        self._pending_days: dict[tuple[int, date], int] = {}
        self._settled: set[str] = set()

    def add(self, record: Record) -> None:
        """A request has ended; counted from now on. A second end of the same id counts nothing."""
        key_id, nano_aiu = record.key_id, record.nano_aiu
        if type(key_id) is not int or type(nano_aiu) is not int or nano_aiu <= 0:
            return
        day = record.started_at.astimezone(UTC).date()
        # As much as the row will hold.
        spent = _Pending(key_id, day, min(nano_aiu, MAX_NANO_AIU))
        with self._lock:
            if record.id not in self._pending:
                self._pending[record.id] = spent
                self._count(spent, spent.nano_aiu)

    def settle(self, ids: Iterable[str]) -> None:
        """These are committed: the next refresh finds them in the rollups."""
        with self._lock:
            self._settled.update(i for i in ids if i in self._pending)

    def spent_today(self, key_id: int) -> int:
        day = now().astimezone(UTC).date()
        with self._lock:
            stored = self._today.get(key_id, 0) if day == self._day else 0
            return stored + self._pending_days.get((key_id, day), 0)

    def spent_this_month(self, key_id: int) -> int:
        day = now().astimezone(UTC).date()
        with self._lock:
            stored = 0
            if (day.year, day.month) == (self._day.year, self._day.month):
                stored = self._today.get(key_id, 0) + self._earlier.get(key_id, 0)
            return stored + sum(
                nano
                for (key, at), nano in self._pending_days.items()
                if key == key_id and (at.year, at.month) == (day.year, day.month)
            )

    def refresh(self) -> None:
        """Read the sums anew. Raises `django.db.Error` when the database is away."""
        midnight = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        with self._lock:
            # Whatever is settled before the query is in its answer.
            settled = set(self._settled)
            late = any(self._pending[i].day < midnight.date() for i in settled)
            is_old = time.monotonic() - self._earlier_read_at >= REFRESH_PAST_S
            reads_past = late or is_old or self._day != midnight.date()
        today = _sums(midnight, midnight + timedelta(days=1))
        earlier = _sums(midnight.replace(day=1), midnight) if reads_past else None
        with self._lock:
            self._day, self._today = midnight.date(), today
            self._read_at = time.monotonic()
            if earlier is not None:
                self._earlier, self._earlier_read_at = earlier, time.monotonic()
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
        key = (spent.key_id, spent.day)
        total = self._pending_days.get(key, 0) + nano_aiu
        if total:
            self._pending_days[key] = total
        else:
            self._pending_days.pop(key, None)


def _sums(since: datetime, until: datetime) -> dict[int, int]:
    rows = (
        Rollup.objects.filter(hour__gte=since, hour__lt=until, key_id__gt=0)
        .values_list("key_id")
        .annotate(total=Sum("nano_aiu"))
    )
    return {key_id: int(total or 0) for key_id, total in rows}


spend = Spend()


def spent_today(key_id: int) -> int:
    """Nano-AIU of requests that began since 00:00 UTC."""
    return spend.spent_today(key_id)


def spent_this_month(key_id: int) -> int:
    """Nano-AIU of requests that began since 00:00 UTC of the first of the month."""
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
