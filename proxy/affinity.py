"""Which account a conversation has: kept as long as its history may come back.

Three places know it: this process's memory, Redis for all processes of a team, and the database,
which is written in the background and read at the start. On a request's way only the first is
asked, and Redis for a conversation that this process has not met.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import Error
from django.utils.timezone import now
from redis.asyncio import Redis

from accounts.database import in_database
from proxy import shared
from proxy.models import ConversationSeat

MAX_BOUND: Final = 20_000
KEPT_FOR: Final = timedelta(days=30)
KEPT_S: Final = int(KEPT_FOR.total_seconds())
WRITE_EVERY_S: Final = 0.25
RETRY_EVERY_S: Final = 2.0
DELETE_AT_ONCE: Final = 1000
# A conversation that goes on is marked as seen so often, not with each request.
SEEN_EVERY_S: Final = 6 * 3600.0
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Bound:
    """A conversation's account; `kept_at` is when it was last stored beyond memory, monotonic."""

    account_id: int
    kept_at: float = float("-inf")


class Affinity:
    """The accounts of conversations, newest `MAX_BOUND` in memory."""

    def __init__(self) -> None:
        self._bound: OrderedDict[str, Bound] = OrderedDict()
        self._unwritten: dict[str, tuple[int, datetime]] = {}
        self._dirty: asyncio.Event | None = None

    def get(self, conversation: str) -> int | None:
        """What this process knows."""
        bound = self._bound.get(conversation)
        return None if bound is None else bound.account_id

    async def find(self, conversation: str, *, is_shared: bool, afresh: bool = False) -> int | None:
        """The conversation's account. `is_shared`: it matters beyond this process.

        `afresh` asks the other processes also about what this one knows.
        """
        bound = self._bound.get(conversation)
        if bound is not None:
            self._bound.move_to_end(conversation)
            if is_shared and time.monotonic() - bound.kept_at > SEEN_EVERY_S:
                await self._keep(conversation, bound)
        if not is_shared or (bound is not None and not afresh):
            return None if bound is None else bound.account_id
        found = await shared.attempt(lambda redis: redis.get(_name(conversation)), None)
        if isinstance(found, str) and found.isdigit():
            self._remember(conversation, int(found)).kept_at = time.monotonic()
            return int(found)
        return None if bound is None else bound.account_id

    async def bind(self, conversation: str, account_id: int, *, is_shared: bool) -> int:
        """Give a new conversation its account; the account of who was first counts."""
        if not conversation:
            return account_id
        if is_shared:
            account_id = await shared.attempt(
                lambda redis: _set_if_new(redis, conversation, account_id), account_id
            )
        bound = self._remember(conversation, account_id)
        if is_shared:
            bound.kept_at = time.monotonic()
            self._note(conversation, account_id)
        return account_id

    async def move(self, conversation: str, account_id: int, *, is_shared: bool) -> None:
        """Give a conversation that nothing binds yet another account."""
        if not conversation:
            return
        bound = self._remember(conversation, account_id)
        if is_shared:
            await self._keep(conversation, bound)

    async def _keep(self, conversation: str, bound: Bound) -> None:
        bound.kept_at = time.monotonic()
        self._note(conversation, bound.account_id)
        value = str(bound.account_id)
        await shared.attempt(lambda redis: redis.set(_name(conversation), value, ex=KEPT_S), None)

    def _remember(self, conversation: str, account_id: int) -> Bound:
        bound = self._bound.get(conversation)
        if bound is None:
            bound = self._bound[conversation] = Bound(account_id)
            if len(self._bound) > MAX_BOUND:
                self._bound.popitem(last=False)
        bound.account_id = account_id
        self._bound.move_to_end(conversation)
        return bound

    # The database.

    def _note(self, conversation: str, account_id: int) -> None:
        if len(self._unwritten) < MAX_BOUND or conversation in self._unwritten:
            self._unwritten[conversation] = (account_id, now())
        if self._dirty is not None:
            self._dirty.set()

    def preload(self) -> int:
        """Read the newest conversations from the database; how many. Uses the ORM."""
        rows = ConversationSeat.objects.filter(seen_at__gte=now() - KEPT_FOR)
        newest = list(
            rows.order_by("-seen_at").values_list("conversation", "account_id")[:MAX_BOUND]
        )
        kept_at = time.monotonic()
        for conversation, account_id in reversed(newest):
            if conversation not in self._bound:
                self._bound[conversation] = Bound(account_id, kept_at)
        return len(newest)

    async def keep_writing(self) -> None:
        """Write what is new in batches, until cancelled."""
        self._dirty = asyncio.Event()
        if self._unwritten:
            self._dirty.set()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await asyncio.sleep(WRITE_EVERY_S)
            if not await self.flush():
                await asyncio.sleep(RETRY_EVERY_S)
                self._dirty.set()

    async def flush(self) -> bool:
        """Write what is unwritten; False when the database is away, and then nothing is lost."""
        taken, self._unwritten = self._unwritten, {}
        if not taken:
            return True
        try:
            await in_database(_write, taken)
        except Error as error:
            logger.warning("conversations' accounts are written later: %s", error)
            self._unwritten = {**taken, **self._unwritten}
            return False
        return True


async def _set_if_new(redis: Redis, conversation: str, account_id: int) -> int:
    """Redis decides which process was first."""
    name = _name(conversation)
    earlier = await redis.set(name, str(account_id), nx=True, get=True, ex=KEPT_S)
    return int(earlier) if isinstance(earlier, str) and earlier.isdigit() else account_id


def _name(conversation: str) -> str:
    return f"{shared.PREFIX}seat:{conversation}"


def _write(taken: dict[str, tuple[int, datetime]]) -> None:
    ConversationSeat.objects.bulk_create(
        (
            ConversationSeat(conversation=c, account_id=account_id, bound_at=at, seen_at=at)
            for c, (account_id, at) in taken.items()
        ),
        batch_size=500,
        update_conflicts=True,
        unique_fields=["conversation"],
        update_fields=["account_id", "seen_at"],
    )


def forget_old() -> int:
    """Delete the conversations that nobody has gone on with for `KEPT_FOR`; how many."""
    deleted = 0
    while True:
        old = ConversationSeat.objects.filter(seen_at__lt=now() - KEPT_FOR)
        names = list(old.values_list("pk", flat=True)[:DELETE_AT_ONCE])
        if not names:
            return deleted
        deleted += ConversationSeat.objects.filter(pk__in=names).delete()[0]


affinity = Affinity()
