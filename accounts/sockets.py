"""A page's WebSocket: who may open it, for how long, and how much it may say.

The pages only listen: whatever a client sends is counted and thrown away.
"""

import asyncio
import time
from collections import Counter, deque
from typing import Any, ClassVar

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import get_user_model

from accounts import second_factor, session_ages
from accounts.access import oversees
from accounts.models import Member

PING_EVERY_S = 25.0
MAX_FRAME = 64 * 1024
MAX_FRAMES = 20
FRAMES_WINDOW_S = 10.0
MAX_SOCKETS_PER_MEMBER = 10
# Close codes: RFC 6455, and 4000 to 4999 for applications.
TOO_LARGE, TOO_MANY, NOT_SIGNED_IN, NOT_ALLOWED = 1009, 4008, 4401, 4403


class MemberSocket(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """The socket of a signed-in member; it is closed when the session or the role ends.

    A subclass joins what it listens to in `join`, leaves it in `leave`, and gives its first frame in
    `hello`; in `tell` it sends what it hears, unless a group of the channel layer does.
    """

    for_overseers: ClassVar[bool] = False
    _open: ClassVar[Counter[int]]

    def __init_subclass__(cls) -> None:
        cls._open = Counter()

    async def join(self) -> None:
        """Begin to listen; before `hello`, so that nothing is missed in between."""

    async def leave(self) -> None:
        """Listen no more."""

    async def hello(self) -> dict[str, Any]:
        """The first frame: with it a page that comes back needs nothing else."""
        return {"v": 1, "t": "hello"}

    async def tell(self) -> None:
        """Send until cancelled."""

    async def connect(self) -> None:
        self._is_joined = False
        user = self.scope.get("user")
        refusal = await self._refusal(user)
        if refusal is not None:
            await self.close(code=refusal)
            return
        self.member_id: int = user.pk
        self.sees_all: bool = oversees(user)
        self._frames: deque[float] = deque(maxlen=MAX_FRAMES)
        # First, because it may fail while Redis is away: nothing is counted yet that would stay so.
        await self.join()
        self._open[self.member_id] += 1
        self._is_joined = True
        await self.accept()
        await self.send_json(await self.hello())
        self._tasks = [asyncio.ensure_future(self._ping()), asyncio.ensure_future(self.tell())]

    async def _refusal(self, user: Member | None) -> int | None:
        if user is None or not user.is_authenticated or not user.is_active:
            return NOT_SIGNED_IN
        if await database_sync_to_async(second_factor.owes_one)(user):
            return NOT_SIGNED_IN
        if self.for_overseers and not oversees(user):
            return NOT_ALLOWED
        return TOO_MANY if self._open[user.pk] >= MAX_SOCKETS_PER_MEMBER else None

    async def disconnect(self, code: int) -> None:
        if not self._is_joined:
            return
        self._is_joined = False
        for task in getattr(self, "_tasks", ()):
            task.cancel()
        self._open[self.member_id] -= 1
        if self._open[self.member_id] <= 0:
            del self._open[self.member_id]
        await self.leave()

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

    async def _ping(self) -> None:
        """Every 25 s: keeps the connection open, and ends it when the session or the role has ended."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            if not await database_sync_to_async(self.may_stay)():
                await self.close(code=NOT_SIGNED_IN)
                return
            await self.send_json({"v": 1, "t": "ping"})

    def may_stay(self) -> bool:
        """Whether session, account and role are still those that opened it. Queries."""
        session = self.scope.get("session")
        if session is not None and not (
            session.session_key and session.exists(session.session_key)
        ):
            return False
        person = get_user_model().objects.filter(pk=self.member_id, is_active=True).first()
        if person is None or (session is not None and session_ages.is_over(session, person)):
            return False
        return oversees(person) == self.sees_all
