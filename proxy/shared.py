"""What the processes of a team share: one Redis client, and a word on whether Redis is there.

`client()` is None in solo mode and while Redis is away: whoever asks then goes on with what its own
process knows. The first failure opens the circuit, with one warning; a probe closes it as soon as
Redis answers again, so nothing waits for a dead Redis and nobody has to repair anything.

    found = await shared.attempt(lambda redis: redis.get(name), None)
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from django.conf import settings
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

T = TypeVar("T")
State = Literal["solo", "ready", "away"]
# Everything of ours in Redis begins with this.
PREFIX = "gateway:"
# Redis answers within a millisecond; who does not within this is as good as gone.
TIMEOUT_S = 1.0
PROBE_EVERY_S = 0.25
MAX_CONNECTIONS = 16
AWAY = (RedisError, OSError, TimeoutError)
logger = logging.getLogger(__name__)


class Shared:
    """The Redis of one process's event loop. `returned` is told before the circuit closes."""

    def __init__(self) -> None:
        self._client: Redis | None = None
        self._is_away = False
        self._probe: asyncio.Task[None] | None = None
        self.away_since: float | None = None
        self.returned: list[Callable[[Redis], Awaitable[None]]] = []

    @property
    def state(self) -> State:
        if self._client is None:
            return "solo"
        return "away" if self._is_away else "ready"

    @property
    def client(self) -> Redis | None:
        return None if self._is_away else self._client

    async def start(self) -> None:
        """Connect when there is a Redis; one that is away holds nobody up."""
        if not settings.REDIS_URL or self._client is not None:
            return
        pool = BlockingConnectionPool.from_url(
            settings.REDIS_URL,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            decode_responses=True,
            # A second try could count twice; the circuit is what copes with failures.
            retry=Retry(NoBackoff(), 0),
        )
        self._client = Redis(connection_pool=pool)
        try:
            await self._client.ping()
        except AWAY as error:
            self.failed(error)

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
        client, self._client = self._client, None
        self._probe, self._is_away, self.away_since = None, False, None
        if client is not None:
            await client.aclose()
            await client.connection_pool.disconnect()

    def failed(self, error: BaseException) -> None:
        """Redis did not answer: go on without it until a probe succeeds."""
        if self._is_away or self._client is None:
            return
        self._is_away = True
        self.away_since = time.monotonic()
        logger.warning("Redis is away, each process goes by what it knows itself: %s", error)
        self._probe = asyncio.get_running_loop().create_task(self._until_back(self._client))

    async def _until_back(self, client: Redis) -> None:
        while True:
            try:
                await client.ping()
                for tell in self.returned:
                    await tell(client)
                break
            except AWAY:
                await asyncio.sleep(PROBE_EVERY_S)
            except Exception:
                logger.exception("coming back to Redis failed")
                await asyncio.sleep(PROBE_EVERY_S)
        self._is_away, self.away_since = False, None
        logger.warning("Redis is back, limits hold over all processes again")


shared = Shared()


def client() -> Redis | None:
    """The Redis of all processes; None in solo mode and while it is away. Answers are text."""
    return shared.client


def failed(error: BaseException) -> None:
    """Say that a command failed with one of `AWAY`."""
    shared.failed(error)


async def attempt(work: Callable[[Redis], Awaitable[T]], default: T) -> T:
    """Do `work` with Redis; `default` in solo mode, while Redis is away, and when it fails."""
    redis = shared.client
    if redis is None:
        return default
    try:
        return await work(redis)
    except AWAY as error:
        shared.failed(error)
        return default
