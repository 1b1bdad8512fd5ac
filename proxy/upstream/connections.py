"""HTTP/1.1 connections to the upstream: asyncio protocols on llhttp, kept per origin.

httpx's own pool costs quadratic time in concurrency and loses slots for good when a call is cancelled
while it waits or connects (docs/decisions/0003-own-transport.md), so connections are kept here and
httpx stays the interface (`proxy.upstream.client`). HTTP/1.1 on purpose: one HTTP/2 GOAWAY kills every
stream of its connection.

A connection carries one exchange at a time. Reading is paused while the reader lags behind, so a slow
client holds back the upstream. One timer of the pool looks after the silence of all connections: a
timer for each costs 3 us a request.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Literal, cast

import httptools

Headers = list[tuple[bytes, bytes]]
Origin = tuple[str, str, int]  # scheme, host, port
Stage = Literal["connect", "first_byte", "idle"]

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024
MAX_HEAD_BYTES = 128 * 1024
KEEP_IDLE_S = 30.0
MAX_IDLE_PER_ORIGIN = 512
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
# How exactly the limits on silence are kept.
LOOK_EVERY_S = 0.1


class ConnectFailed(Exception):
    """No connection was made: nothing has been sent."""


class Broken(Exception):
    """The connection ended early.

    `answered` tells whether a byte of the answer had come, `reused` whether it carried an earlier call.
    """

    def __init__(self, message: str, *, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered
        self.reused = False


class NotHttp(Exception):
    """The bytes that came are no HTTP answer."""


class TimedOut(Exception):
    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stage = stage


class Connection(asyncio.Protocol):
    """One connection. `send`, then `head`, then `receive` until it gives b""; or `listen` and `take`."""

    __slots__ = (
        "_active_at",
        "_answered",
        "_buffered",
        "_chunks",
        "_complete",
        "_failure",
        "_head_done",
        "_held_back",
        "_interim",
        "_keep_alive",
        "_limit_s",
        "_listener",
        "_loop",
        "_lost",
        "_parser",
        "_paused",
        "_stage",
        "_transport",
        "_until_close",
        "_waiter",
        "headers",
        "idle_since",
        "on_body",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.idle_since = 0.0
        self._lost: Exception | None = None
        self._chunks: list[bytes] = []
        # The parser's own call for each piece of a body: one of ours costs 1 us, and many come at once.
        self.on_body = self._chunks.append
        # It reads one message after the other.
        self._parser = httptools.HttpResponseParser(self)
        self._limit_s = 0.0
        self._active_at = 0.0
        self._begin()

    # One exchange.

    def _begin(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self._chunks.clear()
        self._buffered = 0
        self._head_done = False
        self._complete = False
        self._interim = False
        self._until_close = False
        self._keep_alive = False
        self._answered = False
        self._paused = False
        self._held_back = False
        self._failure: Exception | None = None
        self._stage: Stage = "first_byte"
        self._listener: Callable[[], None] | None = None

    def send(self, data: bytes, *, first_byte_timeout_s: float) -> None:
        """Write a whole request."""
        self._begin()
        if self._transport is None or self._lost is not None:
            raise Broken("The connection is closed.", answered=False)
        self._limit_s = first_byte_timeout_s
        self._active_at = self._loop.time()
        self._transport.write(data)

    async def head(self) -> None:
        """Wait for the status line and headers: `status` and `headers` are set then."""
        while not self._head_done:
            self._raise_failure()
            await self._wait(None)

    async def receive(self, timeout_s: float | None = None) -> bytes | None:
        """All that has arrived, b"" at the end, None when nothing came within `timeout_s`."""
        while (data := self.take()) is None:
            if not await self._wait(timeout_s):
                return None
        return data

    def take(self) -> bytes | None:
        """What has arrived, b"" at the end, None when there is nothing yet. Raises what went wrong."""
        chunks = self._chunks
        self._buffered = 0
        if self._paused:
            self._paused = False
            self._read_on()
        if not chunks:
            if self._complete:
                return b""
            if self._failure is not None:
                raise self._failure
            return None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return data

    def listen(self, told: Callable[[], None] | None) -> None:
        """Call `told` from now on whenever something has happened; it takes what there is.

        Without a task that waits: waking one costs 10 us, for each piece of each stream.
        """
        self._listener = told

    def hold_back(self, wanted: bool) -> None:
        """Stop reading while a listener's client does not read, so that the upstream waits as well."""
        if wanted == self._held_back:
            return
        self._held_back = wanted
        if not wanted:
            self._read_on()
        elif self._transport is not None and not self._paused:
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._paused or self._held_back or self._transport is None or self._lost is not None:
            return
        # Silence is counted from here: until now it was we who did not read.
        self._active_at = self._loop.time()
        self._transport.resume_reading()

    def expect_silence(self, timeout_s: float) -> None:
        """From now on the idle limit counts instead of the first byte's."""
        self._limit_s, self._stage = timeout_s, "idle"
        self._active_at = self._loop.time()

    def abort(self, error: Exception) -> None:
        """Make the reader raise `error` and close."""
        self._fail(error)
        self.close()

    async def _wait(self, timeout_s: float | None) -> bool:
        self._waiter = self._loop.create_future()
        handle = self._loop.call_later(timeout_s, self._wake) if timeout_s is not None else None
        before = (self._head_done, self._buffered, self._complete, self._failure)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if handle is not None:
                handle.cancel()
        return before != (self._head_done, self._buffered, self._complete, self._failure)

    def _wake(self) -> None:
        if self._listener is not None:
            self._listener()
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: Exception) -> None:
        if self._failure is None and not self._complete:
            self._failure = error
        self._wake()

    def look(self, now: float) -> None:
        """End an exchange that has been silent for too long. The pool calls it now and then."""
        if now - self._active_at < self._limit_s or not self._limit_s:
            return
        # A reader that lags behind is not the upstream's silence.
        is_waited_for = not (self._paused or self._held_back or self._chunks)
        if is_waited_for and not self._complete and self._failure is None:
            self.abort(TimedOut(self._stage))

    # Keeping.

    @property
    def is_reusable(self) -> bool:
        return (
            self._complete
            and self._failure is None
            and self._lost is None
            and not self._until_close
            and self._keep_alive
        )

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has come."""
        return self._complete

    @property
    def is_open(self) -> bool:
        return (
            self._lost is None and self._transport is not None and not self._transport.is_closing()
        )

    @property
    def is_fresh(self) -> bool:
        """Whether it may carry another exchange: open, and not idle for so long that it may be cut."""
        return self.is_open and self._loop.time() - self.idle_since < KEEP_IDLE_S

    def rest(self) -> None:
        """Put aside for the next exchange."""
        self._limit_s = 0.0
        self._listener = None
        self.idle_since = self._loop.time()

    def close(self) -> None:
        if self._transport is not None:
            # abort, not close: the upstream shall notice at once that nobody reads any more.
            self._transport.abort()

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, only of their shape.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._active_at = self._loop.time()
        self._buffered += len(data)
        if self._complete or not self._limit_s:
            # Bytes that nobody asked for: this connection cannot be trusted again.
            self.close()
            return
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(NotHttp("The upstream switched protocols."))
            self.close()
        except httptools.HttpParserError:
            error: Exception = NotHttp("The upstream's answer is not HTTP.")
            if self._head_done:
                error = Broken("The upstream's answer is malformed.", answered=True)
            self._fail(error)
            self.close()
        if self._listener is not None:
            self._listener()
            return
        if not self._head_done and self._buffered > MAX_HEAD_BYTES:
            self._fail(NotHttp("The head of the upstream's answer does not end."))
            self.close()
        if self._buffered > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or ConnectionResetError("closed")
        if self._until_close and self._head_done and exc is None and not self._complete:
            self._complete = True
            self._wake()
        elif not self._complete:
            self._fail(Broken("The upstream closed the connection.", answered=self._answered))

    # httptools callbacks.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim = True
            return
        self.status = status
        self._until_close = status not in (204, 304) and FRAMING.isdisjoint(dict(self.headers))
        # llhttp forgets it once the message is complete.
        self._keep_alive = bool(self._parser.should_keep_alive())
        self._head_done = True

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self.headers = []
            return
        self._complete = True


class Pool:
    """Idle connections per origin, newest first. Made and used on one event loop."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._ssl = ssl_context
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> Connection | None:
        """An idle connection that looks alive, or None."""
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if connection.is_fresh:
                self._open.add(connection)
                if self._timer is None:
                    self._look()
                return connection
            connection.close()
        return None

    async def connect(self, origin: Origin, timeout_s: float) -> Connection:
        """A new connection. Raises `ConnectFailed`, or `TimedOut("connect")`."""
        scheme, host, port = origin
        loop = asyncio.get_running_loop()
        context = self._tls() if scheme == "https" else None
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    host,
                    port,
                    ssl=context,
                    server_hostname=host if context else None,
                )
        except TimeoutError:
            raise TimedOut("connect") from None
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConnectFailed(type(error).__name__) from error
        self._open.add(connection)
        if self._timer is None:
            self._look()
        return connection

    def _look(self) -> None:
        """See to the connections that carry an exchange, as long as there are any."""
        self._timer = None
        if self._open:
            loop = asyncio.get_running_loop()
            now = loop.time()
            for connection in list(self._open):
                connection.look(now)
            self._timer = loop.call_later(LOOK_EVERY_S, self._look)

    def give_back(self, connection: Connection, origin: Origin) -> None:
        """Keep it if it may carry another exchange, else close it."""
        self._open.discard(connection)
        stack = self._idle.get(origin)
        if stack is None:
            stack = self._idle[origin] = []
        if connection.is_reusable and connection.is_open and len(stack) < MAX_IDLE_PER_ORIGIN:
            connection.rest()
            stack.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for stack in self._idle.values():
            for connection in stack:
                connection.close()
        self._idle.clear()
        for connection in list(self._open):
            connection.close()
        self._open.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def open_count(self) -> int:
        """Connections that carry an exchange now."""
        return len(self._open)

    def _tls(self) -> ssl.SSLContext:
        # Verification cannot be switched off: there is no setting for it.
        if self._ssl is None:
            self._ssl = ssl.create_default_context()
        return self._ssl
