"""Sockets of pages while Redis is away: they end with "try again later", and pages do try again."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# RFC 6455's registry: Try Again Later.
TRY_LATER: Final = 1013
AWAY: Final = (RedisError, OSError)
logger = logging.getLogger(__name__)


class BrokerDoor:
    """Channels subscribes at Redis before and while a consumer runs; either may fail at any time."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._application(scope, receive, send)
        except AWAY as error:
            logger.info("a page's socket ends, Redis is away: %s", type(error).__name__)
            # It may be closed already.
            with suppress(RuntimeError, OSError):
                await send({"type": "websocket.close", "code": TRY_LATER})
