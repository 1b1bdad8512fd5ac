"""What a key asked to keep of its exchanges: collected while the answer passes, stored after it.

Nothing is collected for a key that did not ask, and nothing is written on a request's way.
"""

import asyncio
import logging

from django.db import Error
from django.utils.timezone import now

from accounts.database import in_database
from proxy.exchange import Exchange
from usage import bodies

logger = logging.getLogger(__name__)
# The last piece of an answer may leave after its exchange has ended.
LAST_PIECE_S = 1.0
# Writes under way; the set keeps them alive.
_writing: set[asyncio.Task[None]] = set()


class Kept:
    """The bodies of one exchange, as far as they fit."""

    __slots__ = ("_exchange", "_request", "_response")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._request = exchange.raw
        self._response = bytearray()

    def add(self, data: bytes) -> None:
        """A piece of the answer, as the client gets it."""
        if len(self._response) <= bodies.MAX_BYTES:
            self._response += data

    def store(self) -> None:
        asyncio.get_running_loop().call_later(LAST_PIECE_S, self._begin_writing)

    def _begin_writing(self) -> None:
        task = asyncio.get_running_loop().create_task(self._write())
        _writing.add(task)
        task.add_done_callback(_writing.discard)

    async def _write(self) -> None:
        exchange = self._exchange
        try:
            await in_database(
                bodies.keep,
                exchange.id,
                member_id=exchange.caller.member_id,
                key_id=exchange.caller.key_id,
                request=self._request,
                response=bytes(self._response),
            )
        except Error as error:
            logger.warning("bodies of %s are not stored: %s", exchange.request_id, error)


def keep_if_asked(exchange: Exchange) -> None:
    """Collect the bodies of an exchange whose key asks for it; before its own body is read."""
    until = exchange.caller.stores_bodies_until
    if until is not None and until > now():
        exchange.kept = kept = Kept(exchange)
        exchange.leases.append(kept.store)
