"""The live page's WebSocket: sends what happens now, takes nothing but a closing.

Frames are JSON: `{"v": 1, "id": 481, "t": "exchange.started", ...}`; the first is `hello` with what
is in flight and the last exchanges, so that a page that comes back needs nothing else.
"""

import asyncio
import time
from collections import Counter, deque
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import get_user_model

from accounts import second_factor, session_ages
from accounts.access import oversees
from usage import live
from usage.journal import Record
from usage.models import UsageRecord
from usage.recorder import recorder

PING_EVERY_S = 25.0
LAST = 50
MAX_FRAME = 64 * 1024
MAX_FRAMES = 20
FRAMES_WINDOW_S = 10.0
MAX_SOCKETS_PER_MEMBER = 10
# Close codes: RFC 6455, and 4000 to 4999 for applications.
TOO_LARGE, TOO_MANY, NOT_SIGNED_IN = 1009, 4008, 4401
_open: Counter[int] = Counter()


class LiveConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """`/ws/live/`: members see their own exchanges, administrators and auditors all."""

    async def connect(self) -> None:
        self._is_joined = False
        user = self.scope.get("user")
        if user is None or not user.is_authenticated or not user.is_active:
            await self.close(code=NOT_SIGNED_IN)
            return
        if await database_sync_to_async(second_factor.owes_one)(user):
            await self.close(code=NOT_SIGNED_IN)
            return
        if _open[user.pk] >= MAX_SOCKETS_PER_MEMBER:
            await self.close(code=TOO_MANY)
            return
        self._member_id: int = user.pk
        self._sees_all: bool = oversees(user)
        self._group = live.GROUP_ALL if self._sees_all else live.member_group(user.pk)
        self._frames: deque[float] = deque(maxlen=MAX_FRAMES)
        # First, because it fails while Redis is away: nothing is counted yet that would stay counted.
        await self.channel_layer.group_add(self._group, self.channel_name)
        _open[user.pk] += 1
        self._is_joined = True
        live.feed.listen()
        await self.accept()
        await self.send_json(await self._hello())
        self._pinging = asyncio.create_task(self._ping(), name="live ping")

    async def disconnect(self, code: int) -> None:
        if not self._is_joined:
            return
        self._is_joined = False
        if hasattr(self, "_pinging"):
            self._pinging.cancel()
        live.feed.leave()
        _open[self._member_id] -= 1
        if _open[self._member_id] <= 0:
            del _open[self._member_id]
        await self.channel_layer.group_discard(self._group, self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any
    ) -> None:
        """Nothing is asked of us here: whatever comes is counted and thrown away."""
        if len(text_data or "") > MAX_FRAME or len(bytes_data or b"") > MAX_FRAME:
            await self.close(code=TOO_LARGE)
            return
        at = time.monotonic()
        if len(self._frames) == MAX_FRAMES and at - self._frames[0] < FRAMES_WINDOW_S:
            await self.close(code=TOO_MANY)
            return
        self._frames.append(at)

    async def live_events(self, message: dict[str, Any]) -> None:
        """What the feed sends to our group."""
        for event in message["events"]:
            await self.send_json(event)

    async def _hello(self) -> dict[str, Any]:
        own = [live.describe(record) for record in recorder.in_flight()]
        elsewhere = await database_sync_to_async(live.in_flight_elsewhere)()
        return {
            "v": 1,
            "t": "hello",
            "in_flight": [e for e in own + elsewhere if self._may_see(e)],
            "last": await database_sync_to_async(self._last)(),
        }

    def _may_see(self, event: dict[str, Any]) -> bool:
        return self._sees_all or event["member_id"] == self._member_id

    def _last(self) -> list[dict[str, Any]]:
        records = UsageRecord.objects.order_by("-started_at", "-id")
        if not self._sees_all:
            records = records.filter(member_id=self._member_id)
        return [live.describe(_as_record(row)) for row in records[:LAST]]

    async def _ping(self) -> None:
        """Every 25 s: keeps the connection open, and ends it when the session has ended."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            if not await database_sync_to_async(self._is_signed_in)():
                await self.close(code=NOT_SIGNED_IN)
                return
            await self.send_json({"v": 1, "t": "ping"})

    def _is_signed_in(self) -> bool:
        session = self.scope.get("session")
        if session is not None and not (
            session.session_key and session.exists(session.session_key)
        ):
            return False
        person = get_user_model().objects.filter(pk=self._member_id, is_active=True).first()
        if person is None or (session is not None and session_ages.is_over(session, person)):
            return False
        return oversees(person) == self._sees_all


def _as_record(row: UsageRecord) -> Record:
    return Record(**{name: getattr(row, name) for name in Record.__struct_fields__})
