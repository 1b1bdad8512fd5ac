"""What opened and closed in the approval queue, told to every process that wants to know.

In solo mode listeners are called directly; in a team by Redis pub/sub as well, which a thread hears.
Lossy on purpose: whoever must know also looks at the rows, within a second or a few.
"""

import json
import logging
import secrets
import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import Error, close_old_connections
from redis import Redis
from redis.exceptions import RedisError

from proxy.shared import PREFIX

Event = dict[str, Any]
Listener = Callable[[Event], None]
CHANNEL = PREFIX + "approvals"
TIMEOUT_S = 1.0
LISTEN_S = 5.0
AGAIN_S = 1.0
logger = logging.getLogger(__name__)


class News:
    """One per process. Listeners are called in the order of their coming, from any thread."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._process = secrets.token_hex(8)
        self._hearing: threading.Thread | None = None
        self._redis: Redis | None = None

    def listen(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.append(listener)
            if settings.TEAM_MODE and self._hearing is None:
                self._hearing = threading.Thread(
                    target=self._hear, name="approval news", daemon=True
                )
                self._hearing.start()

    def leave(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def tell(self, event: Event) -> None:
        """Say it to this process and to the others. Not for an event loop: it may wait for Redis."""
        self._hand_out(event)
        if not settings.TEAM_MODE:
            return
        try:
            if self._redis is None:
                self._redis = Redis.from_url(
                    settings.REDIS_URL, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
                )
            self._redis.publish(CHANNEL, json.dumps({"from": self._process, "event": event}))
        except (RedisError, OSError) as error:
            logger.warning("approval news reach this process only: %s", type(error).__name__)

    def _hand_out(self, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except (Error, RuntimeError) as error:
                # The database is away, or the listener's loop has ended: it looks for itself.
                logger.debug("a listener missed approval news: %s", error)

    def _hear(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self._subscribe()
            except (RedisError, OSError, ValueError) as error:
                logger.debug("approval news are not heard: %s", type(error).__name__)
            pause.wait(AGAIN_S)

    def _subscribe(self) -> None:
        with (
            Redis.from_url(settings.REDIS_URL, socket_connect_timeout=TIMEOUT_S) as redis,
            redis.pubsub(ignore_subscribe_messages=True) as subscription,
        ):
            subscription.subscribe(CHANNEL)
            while True:
                message = subscription.get_message(timeout=LISTEN_S)
                if message is None:
                    continue
                said = json.loads(message["data"])
                if said["from"] != self._process:
                    close_old_connections()
                    self._hand_out(said["event"])


news = News()
