"""The cache that a team's processes share: Redis, and each process's own memory while it is away.

Pages keep sums and counters in it, people sign in past its counters: nothing of that may end in an
error, or wait, because Redis does not answer. What was kept is then made anew, and counters begin
again in each process.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.redis import RedisCache
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

AWAY: Final = (RedisError, OSError)
# Redis answers within a millisecond; a page asks it several times.
TIMEOUT_S: Final = 1.0
TRY_AGAIN_S: Final = 2.0
CONNECTION: Final[dict[str, Any]] = {
    "socket_timeout": TIMEOUT_S,
    "socket_connect_timeout": TIMEOUT_S,
    "retry": Retry(NoBackoff(), 0),
}
logger = logging.getLogger(__name__)


class Json:
    """How values stand in Redis. By Django itself it is pickle: who writes to Redis could run code."""

    def dumps(self, value: Any) -> int | bytes:
        # Redis counts with plain numbers.
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            # Somebody else's, or an earlier version's: as if it were not there.
            return None


class _Circuit:
    """Of the process: Django makes a cache for each thread, and each would wait by itself."""

    def __init__(self) -> None:
        self.closed_until = float("-inf")
        self.is_open = True

    def failed(self, error: BaseException) -> None:
        if self.is_open:
            logger.warning("Redis is away, pages keep what they need in memory: %s", error)
        self.is_open = False
        self.closed_until = time.monotonic() + TRY_AGAIN_S

    def worked(self) -> None:
        if not self.is_open:
            logger.warning("Redis is back, pages share what they keep again")
        self.is_open = True


_circuit = _Circuit()


def _falling_back(name: str) -> Callable[..., Any]:
    def method(self: "SharedCache", *args: Any, **kwargs: Any) -> Any:
        if time.monotonic() >= _circuit.closed_until:
            try:
                found = getattr(RedisCache, name)(self, *args, **kwargs)
            except AWAY as error:
                _circuit.failed(error)
            else:
                _circuit.worked()
                return found
        meanwhile: BaseCache = caches["process"]
        return getattr(meanwhile, name)(*args, **kwargs)

    return method


OPTIONS: Final[dict[str, Any]] = {**CONNECTION, "serializer": Json}


class SharedCache(RedisCache):
    """Django's Redis cache that never raises because of Redis. `is_away` tells how it is."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, {**params, "OPTIONS": OPTIONS | params.get("OPTIONS", {})})

    add = _falling_back("add")
    get = _falling_back("get")
    set = _falling_back("set")
    touch = _falling_back("touch")
    delete = _falling_back("delete")
    get_many = _falling_back("get_many")
    has_key = _falling_back("has_key")
    incr = _falling_back("incr")
    set_many = _falling_back("set_many")
    delete_many = _falling_back("delete_many")
    clear = _falling_back("clear")

    @property
    def is_away(self) -> bool:
        return not _circuit.is_open
