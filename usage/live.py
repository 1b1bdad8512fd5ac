"""The live feed: what happens now, handed to the pages and dropped rather than waited for.

`publish` may be called from any thread. Events are collected for a tenth of a second and sent
through the channel layer as one message per group: `live.all` for administrators and
`live.member.<id>` for the one whom the event concerns. No prompt, key or token is ever in an event.
"""

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from functools import cache
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from django.core.cache import cache as shared_cache
from redis.exceptions import RedisError

from usage.bounds import storable
from usage.journal import Record

GROUP_ALL = "live.all"
COLLECT_S = 0.1
MAX_WAITING = 2000
MAX_PER_MESSAGE = 100
SEND_TIMEOUT_S = 2.0
PROGRESS_EVERY_S = 0.5
SHARED_FOR_S = 10
MAX_NAME = 60
logger = logging.getLogger(__name__)


def member_group(member_id: int) -> str:
    return f"live.member.{member_id}"


def describe(record: Record) -> dict[str, Any]:
    """The exchange as the live page shows it, under 1 kB."""
    at = record.finished_at
    return {
        "exchange": record.id,
        "started_at": record.started_at.isoformat(),
        "finished_at": at.isoformat() if at else None,
        "outcome": record.outcome or "in_flight",
        "status": record.status,
        "member_id": record.member_id,
        "member": storable(record.member, MAX_NAME),
        "key": storable(record.key, MAX_NAME),
        "client": storable(record.client, MAX_NAME),
        "model_asked": storable(record.model_asked, MAX_NAME),
        "model_used": storable(record.model_used, MAX_NAME),
        "path": storable(record.path, MAX_NAME),
        "account": storable(record.account, MAX_NAME),
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "nano_aiu": record.nano_aiu,
        "cost_source": record.cost_source,
        "attempts": len(record.attempts),
        "first_token_ms": record.first_token_ms,
        "total_ms": record.total_ms,
    }


class Feed:
    """Events of this process on their way to the channel layer."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque()
        self._skipped = 0
        self._numbers = itertools.count(int(time.time() * 1000))
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners = 0
        self._is_scheduled = False
        self._sending: asyncio.Task[None] | None = None

    @property
    def is_heard(self) -> bool:
        """False when nobody can be listening, so that nothing needs to be made."""
        return self._loop is not None or not _layer_is_local()

    def offer(self, event: dict[str, Any]) -> None:
        """Queue `event`; when the queue is full it is counted as skipped. Never waits or raises."""
        loop = self._loop or self._own_loop()
        if loop is None:
            return
        if len(self._events) >= MAX_WAITING:
            self._skipped += 1
            return
        self._events.append({"v": 1, "id": next(self._numbers), **event})
        if not self._is_scheduled:
            self._is_scheduled = True
            try:
                loop.call_soon_threadsafe(self._begin_sending)
            except RuntimeError:
                # The loop has been closed: this process is about to end.
                self._is_scheduled = False
                self._events.clear()

    def listen(self) -> None:
        """A consumer of this process has connected. Call it in the consumer's loop.

        The layer in memory belongs to the loop of its consumers; events must be sent from there.
        """
        with self._lock:
            self._listeners += 1
            if _layer_is_local():
                self._loop = asyncio.get_running_loop()
                self._is_scheduled = False

    def leave(self) -> None:
        """A consumer has gone."""
        with self._lock:
            self._listeners -= 1
            if self._listeners == 0 and _layer_is_local():
                self._loop = None
                self._events.clear()

    def _own_loop(self) -> asyncio.AbstractEventLoop | None:
        """A loop in a thread of its own, for a shared layer; the gateway's loop stays free."""
        if _layer_is_local():
            return None
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="live feed", daemon=True
                ).start()
        return self._loop

    def _begin_sending(self) -> None:
        self._sending = asyncio.get_running_loop().create_task(self._send(), name="live feed")

    async def _send(self) -> None:
        await asyncio.sleep(COLLECT_S)
        # Set before taking: what is offered from here on schedules the next round.
        self._is_scheduled = False
        events = [self._events.popleft() for _ in range(len(self._events))]
        skipped, self._skipped = self._skipped, 0
        if skipped:
            events.append({"v": 1, "id": next(self._numbers), "t": "skipped", "n": skipped})
        layer = get_channel_layer()
        try:
            for group, part in _by_group(events):
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await layer.group_send(group, {"type": "live.events", "events": part})
        except Exception as error:  # noqa: BLE001 - any failure of any layer; the feed may be lossy
            logger.debug("live events dropped: %s", type(error).__name__)


def _by_group(events: list[dict[str, Any]]) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {GROUP_ALL: events} if events else {}
    for event in events:
        if (member_id := event.get("member_id")) is not None:
            groups.setdefault(member_group(member_id), []).append(event)
    for group, members in groups.items():
        for start in range(0, len(members), MAX_PER_MESSAGE):
            yield group, members[start : start + MAX_PER_MESSAGE]


@cache
def _layer_is_local() -> bool:
    return not settings.TEAM_MODE


feed = Feed()
_progress_at: dict[str, float] = {}


def publish(event: dict[str, Any]) -> None:
    """Send `{"t": ..., "member_id": ..., ...}` to whom it concerns. Any thread; never waits."""
    feed.offer(event)


def exchange(moment: str, record: Record) -> None:
    """Publish `exchange.<moment>`: started, first_token, progress or finished."""
    if feed.is_heard:
        feed.offer({"t": f"exchange.{moment}", **describe(record)})


def first_token(record: Record) -> None:
    exchange("first_token", record)


def progress(record: Record) -> None:
    """Publish the counts so far, at most twice a second for one exchange."""
    if not feed.is_heard:
        return
    at = time.monotonic()
    if at - _progress_at.get(record.id, 0.0) >= PROGRESS_EVERY_S:
        _progress_at[record.id] = at
        exchange("progress", record)


def finished(record: Record) -> None:
    _progress_at.pop(record.id, None)
    exchange("finished", record)


# In flight, across processes

_PROCESSES = "usage.live.processes"
_process = f"{socket.gethostname()}-{os.getpid()}"


def share_in_flight(records: list[Record]) -> None:
    """Put this process's exchanges into the shared cache for ten seconds; team mode only."""
    if not settings.TEAM_MODE:
        return
    try:
        _share(records)
    except RedisError as error:
        # The live page misses other processes' exchanges meanwhile; nothing else depends on it.
        logger.debug("in-flight exchanges not shared: %s", error)


def _share(records: list[Record]) -> None:
    at = time.time()
    known: dict[str, float] = shared_cache.get(_PROCESSES) or {}
    # Two processes writing at once lose one name until its next turn, two seconds later.
    known = {name: seen for name, seen in known.items() if at - seen < SHARED_FOR_S}
    known[_process] = at
    shared_cache.set(_PROCESSES, known, SHARED_FOR_S)
    shared_cache.set(
        f"usage.live.in_flight.{_process}", [describe(r) for r in records[:500]], SHARED_FOR_S
    )


def in_flight_elsewhere() -> list[dict[str, Any]]:
    """Exchanges in flight in the other processes, at most some seconds old."""
    if not settings.TEAM_MODE:
        return []
    names = [name for name in shared_cache.get(_PROCESSES) or {} if name != _process]
    found = shared_cache.get_many([f"usage.live.in_flight.{name}" for name in names])
    return [described for part in found.values() for described in part]
