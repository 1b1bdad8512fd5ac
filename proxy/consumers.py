"""The approvals page's WebSocket: says what waits and what was decided; decisions are not made here.

Frames are JSON: `{"v": 1, "t": "hello", "waiting": [...], "decided": [...]}`, then `approval.opened`
and `approval.closed` with an `id` that grows, one row each, and how many wait. For administrators and
auditors.
"""

import asyncio
import itertools
import time
from collections import Counter, deque
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import get_user_model

from accounts import session_ages
from accounts.access import oversees
from proxy import approval
from proxy.approval_news import Event, news

PING_EVERY_S = 25.0
MAX_FRAME = 64 * 1024
MAX_FRAMES = 20
FRAMES_WINDOW_S = 10.0
MAX_SOCKETS_PER_MEMBER = 10
MAX_WAITING = 200
# Close codes: RFC 6455, and 4000 to 4999 for applications.
TOO_LARGE, TOO_MANY, NOT_SIGNED_IN, NOT_ALLOWED = 1009, 4008, 4401, 4403
_open: Counter[int] = Counter()


class ApprovalsConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """`/ws/approvals/`. Whatever a client sends is counted and thrown away."""

    async def connect(self) -> None:
        self._is_joined = False
        user = self.scope.get("user")
        if user is None or not user.is_authenticated or not user.is_active:
            await self.close(code=NOT_SIGNED_IN)
            return
        if not oversees(user):
            await self.close(code=NOT_ALLOWED)
            return
        if _open[user.pk] >= MAX_SOCKETS_PER_MEMBER:
            await self.close(code=TOO_MANY)
            return
        self._member_id: int = user.pk
        self._frames: deque[float] = deque(maxlen=MAX_FRAMES)
        self._events: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(int(time.time() * 1000))
        _open[user.pk] += 1
        self._is_joined = True
        # Listening before the snapshot is taken: what opens in between comes twice, never not.
        news.listen(self._hear)
        await self.accept()
        await self.send_json(await database_sync_to_async(self._hello)())
        self._work = [
            asyncio.create_task(self._tell(), name="approval socket"),
            asyncio.create_task(self._ping(), name="approval ping"),
        ]

    async def disconnect(self, code: int) -> None:
        if not self._is_joined:
            return
        self._is_joined = False
        news.leave(self._hear)
        for task in getattr(self, "_work", ()):
            task.cancel()
        _open[self._member_id] -= 1
        if _open[self._member_id] <= 0:
            del _open[self._member_id]

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any
    ) -> None:
        if len(text_data or "") > MAX_FRAME or len(bytes_data or b"") > MAX_FRAME:
            await self.close(code=TOO_LARGE)
            return
        at = time.monotonic()
        if len(self._frames) == MAX_FRAMES and at - self._frames[0] < FRAMES_WINDOW_S:
            await self.close(code=TOO_MANY)
            return
        self._frames.append(at)

    def _hear(self, event: Event) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        # A client that does not read misses events, and reads the page anew when it is back.
        if not self._events.full():
            self._events.put_nowait(event)

    async def _tell(self) -> None:
        while True:
            event = await self._events.get()
            count = await database_sync_to_async(approval.waiting_count)()
            await self.send_json({"v": 1, "id": next(self._numbers), **event, "waiting": count})

    def _hello(self) -> dict[str, Any]:
        return {
            "v": 1,
            "t": "hello",
            "waiting": [approval.described(row) for row in approval.waiting()],
            "decided": [approval.described(row) for row in approval.decisions()],
        }

    async def _ping(self) -> None:
        """Every 25 s: keeps the connection open, and ends it when the session or the role has ended."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            if not await database_sync_to_async(self._may_stay)():
                await self.close(code=NOT_SIGNED_IN)
                return
            await self.send_json({"v": 1, "t": "ping"})

    def _may_stay(self) -> bool:
        session = self.scope.get("session")
        if session is not None and not (
            session.session_key and session.exists(session.session_key)
        ):
            return False
        person = get_user_model().objects.filter(pk=self._member_id, is_active=True).first()
        if person is None or (session is not None and session_ages.is_over(session, person)):
            return False
        return oversees(person)
