"""How much of an account's quota is left, for placing conversations: in memory, never asked for.

The least of what the month, the week and five hours leave counts. Readings come from the stored
history (every process's) and, newer, from the answers that this process has just had.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from django.db.models import OuterRef, Subquery
from django.utils.timezone import now

from accounts.models import Account
from accounts.snapshots import Snapshot
from usage.models import QuotaSnapshot
from usage.quota_summary import WINDOWS

FULL: Final = 100.0
# One reading of each kind at most; the older name of the month's quota counts where it still stands.
MONTHLY: Final = ("premium_interactions", "premium_models")
KINDS: Final = (*MONTHLY, *WINDOWS)
RELOAD_EVERY_S: Final = 15


@dataclass(frozen=True, slots=True)
class Left:
    """What one limit leaves: percent until `reset_at`, when it is full again."""

    percent: float
    at: datetime
    reset_at: datetime | None

    def now(self, at: datetime) -> float:
        return FULL if self.reset_at is not None and self.reset_at <= at else self.percent


class HeaderReading(Protocol):
    """What an answer's headers say of one quota. Source: docs/upstream.md#quota-headers."""

    @property
    def unlimited(self) -> bool: ...
    @property
    def percent_remaining(self) -> float | None: ...
    @property
    def overage_permitted(self) -> bool | None: ...
    @property
    def resets_at(self) -> datetime | None: ...


Readings = Mapping[tuple[int, str], Left]
_heard: dict[tuple[int, str], Left] = {}


def percent_left(account_id: int) -> float:
    """0 to 100; an account of which nothing is known counts as full."""
    at = now()
    return min(_left(account_id, kind, at) for kind in KINDS)


def returns_at(account_id: int) -> datetime | None:
    """When the limits that are used up are full again; None when none is, or nobody has said."""
    at = now()
    ends = [
        left.reset_at
        for kind in KINDS
        if (left := _newest(account_id, kind)) and left.now(at) <= 0 and left.reset_at
    ]
    return max(ends, default=None)


def reset_of(account_id: int, kind: str) -> datetime | None:
    """When that limit begins anew, if it lies ahead."""
    left = _newest(account_id, kind)
    return left.reset_at if left and left.reset_at and left.reset_at > now() else None


def note(account_id: int, readings: Mapping[str, HeaderReading]) -> None:
    """Remember what an answer's headers said."""
    at = now()
    for kind in KINDS:
        said = readings.get(kind)
        if said is not None:
            _heard[account_id, kind] = Left(_percent(said), at, said.resets_at)


def _percent(said: HeaderReading | QuotaSnapshot) -> float:
    if said.unlimited or said.percent_remaining is None:
        return FULL
    # Beyond the entitlement it goes on, for money: the last choice, but a choice.
    return max(said.percent_remaining, 1.0 if said.overage_permitted else 0.0)


def window(account_id: int, kind: str) -> Left | None:
    """The newest reading of one limit: `session`, `weekly`, or a quota of the month."""
    return _newest(account_id, kind)


def _left(account_id: int, kind: str, at: datetime) -> float:
    newest = _newest(account_id, kind)
    return FULL if newest is None else newest.now(at)


def _newest(account_id: int, kind: str) -> Left | None:
    heard, stored = _heard.get((account_id, kind)), snapshot.value.get((account_id, kind))
    if heard is None or stored is None:
        return heard or stored
    return heard if heard.at >= stored.at else stored


def _load() -> Readings:
    newest = QuotaSnapshot.objects.filter(account_id=OuterRef("pk")).order_by("-at")
    columns = {kind: Subquery(newest.filter(quota_id=kind).values("pk")[:1]) for kind in KINDS}
    ids = Account.objects.order_by().values_list(*columns.values())
    wanted = [pk for row in ids for pk in row if pk is not None]
    rows = QuotaSnapshot.objects.filter(pk__in=wanted)
    return {(r.account_id, r.quota_id): Left(_percent(r), r.at, r.reset_at) for r in rows}


_nothing: Readings = {}
snapshot: Snapshot[Readings] = Snapshot(
    "room", lambda: int(time.monotonic() / RELOAD_EVERY_S), _load, _nothing
)
