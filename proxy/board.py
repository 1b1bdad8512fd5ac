"""Facts that hold for a while and for every process: one looks, all know within half a second.

Each process reads from its own copy, so a request's way costs nothing; with Redis the copies follow
one hash there. Times are left in seconds, by Redis's own clock.
"""

import json
import logging
import time
from typing import Any, NamedTuple

from django.conf import settings
from redis import Redis as WaitingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy import shared

KEY = shared.PREFIX + "board"
# Gives the present time, then name and value of all that still holds; forgets the rest.
_READ = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local all, found = redis.call('HGETALL', KEYS[1]), {tostring(time[1]) .. '.' .. time[2]}
for at = 1, #all, 2 do
  local until_ms = tonumber(string.match(all[at + 1], '^%d+'))
  if until_ms == nil or until_ms <= now then redis.call('HDEL', KEYS[1], all[at])
  else
    found[#found + 1] = all[at]
    found[#found + 1] = string.format('%.0f', until_ms - now)
    found[#found + 1] = string.match(all[at + 1], '^%d+|(.*)$')
  end
end
return found
"""
_WRITE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f|%s', now + tonumber(ARGV[2]), ARGV[3]))
redis.call('EXPIRE', KEYS[1], 2678400)
"""
logger = logging.getLogger(__name__)


class Fact(NamedTuple):
    value: dict[str, Any]
    until: float


class Board:
    """The copy of one process. On its event loop only."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        # Not sent yet, because Redis was away or the loop had no turn: value and end, None to remove.
        self._unsent: dict[str, Fact | None] = {}

    def put(self, name: str, value: dict[str, Any], for_s: float) -> None:
        fact = Fact(value, time.monotonic() + for_s)
        self.facts[name] = fact
        if settings.REDIS_URL:
            self._unsent[name] = fact

    def remove(self, name: str) -> None:
        self.facts.pop(name, None)
        if settings.REDIS_URL:
            self._unsent[name] = None

    def get(self, name: str) -> dict[str, Any] | None:
        fact = self.facts.get(name)
        if fact is None:
            return None
        if fact.until <= time.monotonic():
            del self.facts[name]
            return None
        return fact.value

    def left_s(self, name: str) -> float:
        fact = self.facts.get(name)
        return 0.0 if fact is None else max(0.0, fact.until - time.monotonic())

    async def sync(self, redis: Redis) -> None:
        """Tell what is new here, then take over what all know. Raises one of `shared.AWAY`."""
        unsent, self._unsent = self._unsent, {}
        try:
            for name, fact in unsent.items():
                if fact is None:
                    await redis.hdel(KEY, name)
                    continue
                left_ms = int((fact.until - time.monotonic()) * 1000)
                if left_ms > 0:
                    value = json.dumps(fact.value)
                    await redis.eval(_WRITE, 1, KEY, name, left_ms, value)
            found = await redis.eval(_READ, 1, KEY)
        except shared.AWAY:
            self._unsent = {**unsent, **self._unsent}
            raise
        at = time.monotonic()
        facts = _read(found, at)
        for name, fact in self._unsent.items():
            # Said here while the answer was on its way.
            if fact is None:
                facts.pop(name, None)
            else:
                facts[name] = fact
        self.facts = facts


def _read(found: list[Any], at: float) -> dict[str, Fact]:
    facts = {}
    for name, left_ms, value in zip(found[1::3], found[2::3], found[3::3], strict=True):
        try:
            facts[str(name)] = Fact(dict(json.loads(value)), at + int(left_ms) / 1000)
        except (ValueError, TypeError):
            logger.warning("an unreadable fact on the board: %r", name)
    return facts


board = Board()


def look() -> dict[str, Fact]:
    """All facts, for pages: a process of pages keeps no copy and asks Redis. It may wait."""
    if not settings.REDIS_URL or shared.shared.state != "solo":
        return dict(board.facts)
    try:
        with WaitingRedis.from_url(
            settings.REDIS_URL,
            socket_timeout=shared.TIMEOUT_S,
            socket_connect_timeout=shared.TIMEOUT_S,
            decode_responses=True,
        ) as redis:
            found: Any = redis.eval(_READ, 1, KEY)
    except (RedisError, OSError):
        return {}
    return _read(found, time.monotonic())
