"""The whole gateway's spacing between two requests (the seed's --rate-limit), over all processes.

It refuses with the time to wait, or lets a request queue: first come, first served, with a bound and a
time-out, so that waiters never wake together. The limits of keys and others are in `proxy.limits`.
"""

import asyncio
import time
from collections import deque

from proxy import shared
from proxy.errors import RateLimited

# Milliseconds to wait for the next turn, which is taken; negative when that is too long.
_TURN = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local spacing, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local free = tonumber(redis.call('GET', KEYS[1]) or '0')
-- A clock that has gone back must not lock everybody out.
if free > now + most + spacing * 2 then free = now end
local wait = math.max(0, free - now)
if wait > most then return -math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', now + wait + spacing), 'PX', wait + spacing + 1000)
return math.ceil(wait)
"""


class Spacing:
    """At least `spacing_s` seconds between two requests of this gateway (the seed's --rate-limit)."""

    def __init__(
        self, spacing_s: float, *, wait: bool, queue_limit: int, queue_timeout_s: float
    ) -> None:
        self.spacing_s = spacing_s
        self._wait = wait
        self._queue_limit = queue_limit
        self._queue_timeout_s = queue_timeout_s
        self._free_at = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self) -> None:
        """Return when it is this request's turn. Raises `RateLimited`."""
        if shared.client() is not None and await self._enter_shared():
            return
        now = time.monotonic()
        if not self._queue and now >= self._free_at:
            self._free_at = now + self.spacing_s
            return
        early_s = max(0.0, self._free_at - now) + len(self._queue) * self.spacing_s
        if not self._wait:
            raise RateLimited(
                f"Refused, {early_s:.0f} s too early: this gateway sends one request every "
                f"{self.spacing_s:g} s.",
                retry_after_s=early_s,
            )
        if len(self._queue) >= self._queue_limit or early_s > self._queue_timeout_s:
            raise RateLimited(
                f"{len(self._queue)} requests wait already; the queue is full.",
                retry_after_s=early_s,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        self._arm()
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await turn
        except TimeoutError:
            raise RateLimited("Waited too long for a turn.", retry_after_s=self.spacing_s) from None
        finally:
            if turn in self._queue:
                self._queue.remove(turn)

    async def _enter_shared(self) -> bool:
        """The same with every process's requests; False when Redis does not answer."""
        most_s = 0.0
        if self._wait:
            most_s = min(self._queue_timeout_s, self._queue_limit * self.spacing_s)
        spacing_ms, most_ms = int(self.spacing_s * 1000), int(most_s * 1000)
        wait_ms = await shared.attempt(
            lambda redis: redis.eval(_TURN, 1, shared.PREFIX + "spacing", spacing_ms, most_ms), None
        )
        if wait_ms is None:
            return False
        wait_s = int(wait_ms) / 1000
        if wait_s < 0:
            raise RateLimited(
                f"Refused, {-wait_s:.0f} s too early: this gateway sends one request every "
                f"{self.spacing_s:g} s.",
                retry_after_s=-wait_s,
            )
        await asyncio.sleep(wait_s)
        return True

    def _arm(self) -> None:
        if self._timer is None and self._queue:
            delay = max(0.0, self._free_at - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._grant)

    def _grant(self) -> None:
        self._timer = None
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                self._free_at = time.monotonic() + self.spacing_s
                turn.set_result(None)
                break
        self._arm()

    @property
    def waiting(self) -> int:
        return len(self._queue)
