"""Fair shares of an account's five-hour and weekly limits, where several members use the account.

The method, on purpose a simple one. A window is used evenly when as much of it is used as of its time
has passed. While an account is ahead of that pace, and at least half of the window is used, whoever has
had more than an equal part of what the even pace allows waits for the pace to catch up with him; all
others go on. Members are counted who have used the account within the window, each by the credits of
his requests. An account that one person uses is never paced: what he leaves himself is his affair.

    used      part of the window that is used, as GitHub says (0 to 1)
    passed    part of its time that has passed
    mine      used x (my credits / everybody's credits of the window)
    refused   used >= HALF, used > passed + SLACK, mine > (passed + SLACK) / members
    wait      until passed + SLACK is no longer below `mine x members`, or below `used`

See docs/limits.md#fair-shares.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Sum
from django.utils.timezone import now

from accounts.book import AccountView
from accounts.snapshots import Snapshot
from proxy.errors import RateLimited
from proxy.exchange import Exchange
from usage import room
from usage.models import Rollup

LENGTHS: Final = {"session": timedelta(hours=5), "weekly": timedelta(days=7)}
WORDS: Final = {"session": "five-hour", "weekly": "weekly"}
HALF: Final = 0.5
SLACK: Final = 0.05
RELOAD_EVERY_S: Final = 15


@dataclass(frozen=True, slots=True)
class Shares:
    """What each member has used of one account's window, in nano-AIU."""

    by_member: Mapping[int, int]

    def part_of(self, member_id: int) -> float:
        total = sum(self.by_member.values())
        return self.by_member.get(member_id, 0) / total if total else 0.0


def check(exchange: Exchange, account: AccountView) -> None:
    """Refuse who is ahead of a fair share while the account is ahead of its pace. `RateLimited`."""
    shares_of = snapshot.value
    if not shares_of:
        return
    for kind in LENGTHS:
        shares = shares_of.get((account.id, kind))
        if shares is None or len(shares.by_member) < 2:
            continue
        wait_s = wait_for(account.id, kind, shares, exchange.caller.member_id, now())
        if wait_s > 0:
            part = shares.part_of(exchange.caller.member_id)
            raise RateLimited(
                f"The account {account.login} is ahead of the even pace of its {WORDS[kind]} limit, "
                f"and {part:.0%} of what {len(shares.by_member)} members have used of it is yours. "
                "The others go on; you may again when the pace has caught up.",
                code="fair_share",
                retry_after_s=wait_s,
            )


def wait_for(account_id: int, kind: str, shares: Shares, member_id: int, at: datetime) -> float:
    """Seconds until the member may go on; 0 when that is now."""
    left = room.window(account_id, kind)
    if left is None or left.reset_at is None:
        return 0.0
    length = LENGTHS[kind]
    passed = 1 - (left.reset_at - at) / length
    # A reading of a window that is over, or of no window at all.
    if not 0 <= passed <= 1:
        return 0.0
    used = 1 - left.percent / 100
    mine = used * shares.part_of(member_id) * len(shares.by_member)
    pace = passed + SLACK
    if used < HALF or used <= pace or mine <= pace:
        return 0.0
    return max(1.0, (min(used, mine, 1.0) - pace) * length.total_seconds())


def _load() -> dict[tuple[int, str], Shares]:
    """The shares of each window that is at least half used; hardly ever are there any."""
    found: dict[tuple[int, str], Shares] = {}
    at = now()
    for account_id, kind in list(room.snapshot.value):
        left = room.window(account_id, kind) if kind in LENGTHS else None
        if left is None or left.reset_at is None or left.reset_at <= at:
            continue
        if left.percent / 100 > 1 - HALF:
            continue
        begin = left.reset_at - LENGTHS[kind]
        rows = (
            Rollup.objects.filter(
                account_id=account_id,
                hour__gte=begin.replace(minute=0, second=0, microsecond=0),
                nano_aiu__gt=0,
                member_id__gt=0,
            )
            .order_by()
            .values_list("member_id")
            .annotate(total=Sum("nano_aiu"))
        )
        found[account_id, kind] = Shares({member: int(total) for member, total in rows})
    return found


_nobody: Mapping[tuple[int, str], Shares] = {}
snapshot: Snapshot[Mapping[tuple[int, str], Shares]] = Snapshot(
    "fair shares", lambda: int(time.monotonic() / RELOAD_EVERY_S), _load, _nobody
)
