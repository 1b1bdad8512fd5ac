"""Who may go now: spacing between requests, requests per minute, requests at once. In this process.

Each limiter refuses with the time to wait, or lets a request queue: first come, first served, with a
bound and a time-out, so that waiters never wake together.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from proxy.errors import RateLimited


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


class PerMinute:
    """Requests of the last sixty seconds, by key: exact, never more than the limit in any minute."""

    def __init__(self) -> None:
        self._times: dict[int, deque[float]] = {}

    def enter(self, key: int, limit: int) -> None:
        """Count one request of `key`. Raises `RateLimited` with the time until one falls out."""
        now = time.monotonic()
        times = self._times.setdefault(key, deque())
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= limit:
            raise RateLimited(
                f"This API key may make {limit} requests a minute.",
                retry_after_s=max(1.0, times[0] + 60 - now),
            )
        times.append(now)


class Concurrency:
    """Requests in flight by key. A lease must be given back once; giving back twice does nothing."""

    def __init__(self) -> None:
        self._held: dict[int, int] = {}

    def enter(self, key: int, limit: int) -> Callable[[], None]:
        """Take a slot; the result gives it back. Raises `RateLimited`."""
        if self._held.get(key, 0) >= limit:
            raise RateLimited(f"This API key may have {limit} requests in flight.", retry_after_s=1)
        self._held[key] = self._held.get(key, 0) + 1
        given_back = False

        def leave() -> None:
            nonlocal given_back
            if given_back:
                return
            given_back = True
            left = self._held[key] - 1
            if left:
                self._held[key] = left
            else:
                del self._held[key]

        return leave
