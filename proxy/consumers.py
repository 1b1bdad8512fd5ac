"""The approvals page's WebSocket: says what waits and what was decided; decisions are not made here.

Frames are JSON: `{"v": 1, "t": "hello", "waiting": [...], "decided": [...]}`, then `approval.opened`
and `approval.closed` with an `id` that grows, one row each, and how many wait. For administrators and
auditors.
"""

import asyncio
import itertools
import time
from typing import Any

from channels.db import database_sync_to_async

from accounts.sockets import MemberSocket
from proxy import approval
from proxy.approval_news import Event, news

MAX_WAITING = 200


class ApprovalsConsumer(MemberSocket):
    """`/ws/approvals/`."""

    for_overseers = True

    async def join(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(int(time.time() * 1000))
        # Before the snapshot is taken: what opens in between comes twice, never not.
        news.listen(self._hear)

    async def leave(self) -> None:
        news.leave(self._hear)

    async def hello(self) -> dict[str, Any]:
        found: dict[str, Any] = await database_sync_to_async(self._snapshot)()
        return found

    async def tell(self) -> None:
        while True:
            event = await self._events.get()
            count = await database_sync_to_async(approval.waiting_count)()
            await self.send_json({"v": 1, "id": next(self._numbers), **event, "waiting": count})

    def _hear(self, event: Event) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        # A client that does not read misses events, and reads the page anew when it is back.
        if not self._events.full():
            self._events.put_nowait(event)

    def _snapshot(self) -> dict[str, Any]:
        return {
            "v": 1,
            "t": "hello",
            "waiting": [approval.described(row) for row in approval.waiting()],
            "decided": [approval.described(row) for row in approval.decisions()],
        }
