"""A streamed answer on its way: what arrives is passed on in the same moment, by no task of its own.

The upstream's connection tells that something has come; it is read, repaired or translated, and
written to the client, all in one call. Waking a task for each piece costs 10 us, a task and its frames
for each open stream 8 kB. One timer looks after heartbeats and stalled clients of all streams.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from functools import cached_property
from http.cookies import SimpleCookie
from typing import Any, Protocol

from django.conf import settings
from django.http import StreamingHttpResponse
from django.http.response import ResponseHeaders

from proxy.errors import GatewayError, ShuttingDown, UpstreamFailed, UpstreamTimedOut
from proxy.exchange import Exchange
from proxy.formats.canonical import Usage
from proxy.formats.contract import Passed
from proxy.formats.sse import Frame, Parser
from proxy.lean_response import plain
from proxy.upstream.client import UpstreamResponse
from proxy.upstream.failures import presentable, scrub

logger = logging.getLogger(__name__)
# After the wire's own end nothing of worth comes: the connection may close, but we do not wait long.
AFTER_END_S = 2.0
LOOK_EVERY_S = 0.2
# What may wait for a client that is asked for pieces, before the upstream has to wait, too.
MAX_WAITING_BYTES = 64 * 1024
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Pipe(Protocol):
    """One stream on its way: upstream frames in, the client's bytes out."""

    @property
    def finished(self) -> bool: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def stop_reason(self) -> str | None: ...
    @property
    def failure(self) -> GatewayError | None: ...

    def passes(self, chunk: bytes) -> Passed: ...
    def feed(self, frame: Frame) -> bytes: ...
    def end(self) -> bytes: ...
    def fail(self, error: GatewayError) -> bytes: ...


class Client(Protocol):
    """Who gets the bytes. It tells the stream to `hold_back` while it cannot take more."""

    def write(self, data: bytes) -> None: ...

    def end(self) -> None:
        """Nothing more comes."""
        ...

    def drop(self) -> None:
        """The client has not read for too long: hang up."""
        ...


class Stream:
    """One answer. `begin` it with a client; `leave` it when the client has gone."""

    __slots__ = (
        "_arrivals",
        "_client",
        "_exchange",
        "_held_since",
        "_is_over",
        "_keepalive",
        "_on_end",
        "_parser",
        "_pipe",
        "_quiet_since",
        "_ready",
        "_rest",
        "_seen",
        "_sent",
        "_upstream",
        "_watch",
        "pieces",
    )

    def __init__(
        self,
        exchange: Exchange,
        upstream: UpstreamResponse,
        pipe: Pipe | None,
        parser: Parser,
        ready: bytes,
        rest: bytes = b"",
        *,
        pieces: int,
        keepalive: bytes,
        watch: Callable[[bytes], None] | None,
        on_end: Callable[["Stream"], None],
    ) -> None:
        """`ready` is what can be sent at once; without a `pipe` it is the whole answer.

        `rest` came from the upstream together with what is ready.
        `on_end` accounts for what was used.
        """
        self._exchange = exchange
        self._upstream = upstream
        self._pipe = pipe
        self._parser = parser
        self._ready = ready
        self._rest = rest
        self.pieces = pieces
        self._keepalive = keepalive
        self._watch = watch
        self._on_end = on_end
        self._client: Client | None = None
        self._is_over = False
        self._sent = 0
        # Pieces so far, and how many the last look saw: whether anything has come since.
        self._arrivals = self._seen = 0
        self._quiet_since = 0.0
        self._held_since = 0.0

    @property
    def pipe(self) -> Pipe | None:
        return self._pipe

    def begin(self, client: Client) -> None:
        """Send what there is to `client`, and what comes from now on."""
        self._client = client
        self._quiet_since = asyncio.get_running_loop().time()
        if self._ready:
            self._send(self._ready)
            self._ready = b""
        if self._pipe is None:
            self._finish("completed")
            return
        _look_after(self)
        self._upstream.listen(self._told)
        rest, self._rest = self._rest, b""
        if rest:
            self._arrived(rest)
        self._told()

    def hold_back(self, wanted: bool) -> None:
        """The client takes no more for now, or takes again: so does the upstream's connection."""
        if self._is_over:
            return
        self._held_since = asyncio.get_running_loop().time() if wanted else 0.0
        self._upstream.hold_back(wanted)

    def leave(self) -> None:
        """Nobody reads any further. What was produced is accounted for: the upstream charges for it."""
        if self._is_over:
            return
        is_said = self._pipe is None or self._pipe.finished
        # All was said: Codex hangs up at `response.completed`, before the stream's own end.
        outcome = "completed" if is_said and self._client is not None else "cancelled"
        self._client = None
        self._finish(outcome)

    def _told(self) -> None:
        while not self._is_over:
            try:
                chunk = self._upstream.take()
            except GatewayError as error:
                if self._pipe is not None and self._pipe.finished:
                    # Everything was said; how the connection ended does not matter any more.
                    self._end_quietly()
                else:
                    self._broke(error)
                return
            if chunk is None:
                return
            self._arrived(chunk)

    def _arrived(self, chunk: bytes) -> None:
        self._arrivals += 1
        try:
            self._pass(chunk)
        except Exception as error:  # noqa: BLE001 - `_broke` logs what it does not know
            self._broke(error)

    def _end_quietly(self) -> None:
        try:
            self._end()
        except Exception as error:  # noqa: BLE001 - `_broke` logs what it does not know
            self._broke(error)

    def _broke(self, error: Exception) -> None:
        """End the stream with what was raised, said in the client's own format."""
        if isinstance(error, GatewayError):
            self._fail(error, outcome_of(error))
            return
        # A bug of ours in the middle of a stream: the client must not take it for an end.
        logger.error("stream %s broke", self._exchange.request_id, exc_info=error)
        self._fail(
            GatewayError("The gateway failed in the middle of the answer."), "upstream_error"
        )

    def _pass(self, chunk: bytes) -> None:
        pipe = self._pipe
        assert pipe is not None
        if chunk and self._parser.is_at_event:
            # No reasoning and no call of a tool stands in them, which is what `watch` looks for.
            passed = pipe.passes(chunk)
            if passed.events:
                self.pieces += passed.events
                self._send(passed.out)
                chunk = chunk[passed.size :]
                if not chunk:
                    return
        frames = self._parser.feed(chunk) if chunk else self._parser.close()
        self.pieces += len(frames)
        if self._watch is not None:
            for frame in frames:
                self._watch(frame.data)
        if len(frames) == 1:
            out = pipe.feed(frames[0])
        else:
            # All events of one read go out in one write.
            out = b"".join([pipe.feed(frame) for frame in frames])
        if pipe.failure is not None:
            # The error event is in `out` already, everything is closed. It may quote a token.
            if out:
                self._send(scrub(out.decode("utf-8", "replace")).encode())
            failure = pipe.failure
            failure.message = presentable(failure.message)
            self._finish(outcome_of(failure), failure)
            return
        if out:
            self._send(out)
        if not chunk:
            self._end()

    def _end(self) -> None:
        pipe = self._pipe
        assert pipe is not None
        if not pipe.finished:
            raise UpstreamFailed("The upstream ended its answer before it was complete.")
        if out := pipe.end():
            self._send(out)
        self._finish("completed")

    def _fail(self, error: GatewayError, outcome: str) -> None:
        assert self._pipe is not None
        try:
            self._send(self._pipe.fail(error))
        finally:
            self._finish(outcome, error)

    def _send(self, data: bytes) -> None:
        self._sent += len(data)
        if self._exchange.kept is not None:
            self._exchange.kept.add(data)
        if self._client is not None:
            self._client.write(data)

    def _finish(self, outcome: str, error: GatewayError | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        _streams.discard(self)
        client = self._client
        has_begun = client is not None or self._sent > 0
        try:
            self._exchange.record.bytes_out = self._sent
            if self._pipe is not None:
                self._on_end(self)
        finally:
            self._exchange.finish(outcome, 200 if has_begun else None, error=error)
            if not self._upstream.release():
                _hold(asyncio.ensure_future(self._upstream.close()))
            self._client = None
            if client is not None:
                client.end()

    def look(self, at: float) -> None:
        """A heartbeat when nothing has come for a while; an end to what has stood still for too long."""
        if self._held_since:
            if at - self._held_since >= settings.GATEWAY_CLIENT_STALL_S:
                logger.info("a client did not read its stream for %.0f s", at - self._held_since)
                client = self._client
                self.leave()
                if client is not None:
                    client.drop()
            return
        if self._arrivals != self._seen:
            self._seen = self._arrivals
            self._quiet_since = at
            return
        quiet_s = at - self._quiet_since
        assert self._pipe is not None
        if self._pipe.finished:
            if quiet_s >= AFTER_END_S:
                self._end_quietly()
        elif quiet_s >= settings.GATEWAY_HEARTBEAT_S:
            self._quiet_since = at
            if self._keepalive:
                self._send(self._keepalive)

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The answer for whoever wants to ask for its pieces one by one."""
        client = _Waiting(self)
        self.begin(client)
        try:
            while part := await client.next():
                yield part
        finally:
            self.leave()


class _Waiting:
    """A client that is asked for what has come."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._parts: list[bytes] = []
        self._size = 0
        self._is_over = False
        self._told = asyncio.Event()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_WAITING_BYTES:
            self._stream.hold_back(True)
        self._told.set()

    def end(self) -> None:
        self._is_over = True
        self._told.set()

    drop = end

    async def next(self) -> bytes:
        """All that waits; b"" at the end."""
        while not self._parts and not self._is_over:
            self._told.clear()
            await self._told.wait()
        part = b"".join(self._parts)
        self._parts.clear()
        if self._size > MAX_WAITING_BYTES:
            self._stream.hold_back(False)
        self._size = 0
        return part


class AnswerStream(StreamingHttpResponse):
    """A stream with what it holds: `let_go` is called when it is over, also when it never began."""

    let_go: Callable[[], None]


class RelayedStream(AnswerStream):
    """Django's response around a `Stream`, whose headers are made when somebody asks for them."""

    def __init__(self, stream: Stream, headers: dict[str, str]) -> None:
        # Not Django's own: what it sets is set here, or found by the properties below.
        self.stream = stream
        self.let_go = stream.leave
        self.plain_headers = plain(HEADERS, headers)
        self.is_async = True
        self.closed = False
        self._resource_closers: list[Any] = []
        self._handler_class = None
        self._charset = None
        self._reason_phrase = None

    @cached_property
    def _iterator(self) -> AsyncGenerator[bytes, None]:
        return self.stream.parts()

    @cached_property
    def headers(self) -> Any:  # type: ignore[override]
        return ResponseHeaders(self.plain_headers)

    @cached_property
    def cookies(self) -> Any:  # type: ignore[override]
        return SimpleCookie()


def outcome_of(error: GatewayError) -> str:
    match error:
        case UpstreamTimedOut():
            return "timeout"
        case ShuttingDown():
            return "interrupted"
        case _:
            return "upstream_error"


# Every stream that is open, and the one timer that looks after them.
_streams: set[Stream] = set()
_looking: asyncio.TimerHandle | None = None
_loop: asyncio.AbstractEventLoop | None = None
_closing: set["asyncio.Future[None]"] = set()


def _look_after(stream: Stream) -> None:
    global _loop, _looking
    _streams.add(stream)
    loop = asyncio.get_running_loop()
    if _looking is None or _loop is not loop:
        _loop = loop
        _looking = loop.call_later(LOOK_EVERY_S, _look)


def _look() -> None:
    global _looking
    _looking = None
    if _streams and _loop is not None:
        at = _loop.time()
        for stream in list(_streams):
            stream.look(at)
        _looking = _loop.call_later(LOOK_EVERY_S, _look)


def _hold(closing: "asyncio.Future[None]") -> None:
    _closing.add(closing)
    closing.add_done_callback(_closing.discard)
