"""HTTP as uvicorn serves it, with a short way for what comes all the time: a plain POST to the API.

ASGI passes a request on in messages, each through several awaits, and a task watches whether the
client is still there: 60 us a request, 15 us a piece of a stream. On the short way the view is called
with the whole body, the answer is written in one piece, a stream writes straight to the connection,
and the server itself tells when the client has gone. Everything else (other methods, pages, sockets,
uploads in pieces, requests in a pipeline) goes uvicorn's way, through the same handler.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from copilot_site import heads
from copilot_site.connection import PatientProtocol
from copilot_site.handler import STRANGERS_BYTES, GatewayHandler, close_response
from copilot_site.heads import Head
from proxy.api.callers import is_known
from proxy.errors import RequestTimedOut
from proxy.lean_request import LeanRequest, plain_headers
from proxy.lean_response import LeanResponse
from proxy.streaming import RelayedStream, Stream

# Above this uvicorn's way is taken: there the limit on a body is seen to.
MAX_SHORT_BYTES = 64 * 1024 * 1024
# What takes longer to read than everything else of a request together.
LARGE_BYTES = 64 * 1024
SLOW = ("transfer-encoding", "content-encoding", "expect", "upgrade")


class GatewayProtocol(PatientProtocol):
    """One client's connection."""

    # Set by the server, once the application is loaded.
    handler: GatewayHandler
    max_body_bytes = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # The request that is being read, and the one that is being answered, on the short way.
        self._arriving: Turn | None = None
        self._active: Turn | None = None
        self._rests_since = 0.0
        self._rest_check: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        if self.is_in_head or not self.is_between_requests():
            super().data_received(data)
            return
        request = heads.sliced(data)
        head = None if request is None else heads.known.get(request.key)
        if request and head and len(request.body) <= self.max_body_bytes:
            self._head_since = None
            self._unset_keepalive_if_required()
            self.url = head.url
            self._active = self.cycle = Turn(self, head, keep_alive=True)  # type: ignore[assignment]
            self._active.start(request.body)
            return
        super().data_received(data)
        turn = self._active
        if request is not None and turn is not None and turn.keep_alive:
            heads.keep(request, turn.head)

    # The parser tells, in this order.

    def on_message_begin(self) -> None:
        self.is_in_head = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        view = self.handler.short_views.get(self.url)
        if view is not None and self.is_between_requests():
            headers = plain_headers(self.headers)
            if self._is_short(headers):
                head = Head(view, headers, self.headers, self.url)
                keeps = self.parser.should_keep_alive()
                self._arriving = self.cycle = Turn(self, head, keep_alive=keeps)  # type: ignore[assignment]
                self.is_in_head = False
                return
        url, known, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(known)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._arriving is not None:
            self._arriving.parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._arriving is not None:
            self._active, self._arriving = self._arriving, None
            parts = self._active.parts
            self._active.start(parts[0] if len(parts) == 1 else b"".join(parts))
        else:
            super().on_message_complete()

    def owes_body(self) -> bool:
        return self._arriving is not None or super().owes_body()

    def give_up_body(self) -> None:
        if self._arriving is None:
            super().give_up_body()
        else:
            self.refuse(RequestTimedOut("The request's body stopped arriving."))

    def _is_short(self, headers: dict[str, str]) -> bool:
        length = headers.get("content-length", "")
        return (
            length.isdecimal()
            and self._may_bring(int(length), headers)
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not any(name in headers for name in SLOW)
        )

    def _may_bring(self, size: int, headers: dict[str, str]) -> bool:
        """Whether a body is held without anybody's looking; the others are seen to on uvicorn's way."""
        if size <= STRANGERS_BYTES:
            return size <= self.max_body_bytes
        if size > min(MAX_SHORT_BYTES, self.max_body_bytes):
            return False
        path = self.url.decode("ascii")
        return is_known(LeanRequest.short(path, headers, b"", self.client, self.headers))

    # The connection tells.

    def connection_lost(self, exc: Exception | None) -> None:
        if self._arriving is not None:
            self._arriving.leave()
        if self._active is not None:
            self._active.leave()
        if self._rest_check is not None:
            self._rest_check.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._active is not None:
            self._active.hold_back(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._active is not None:
            self._active.hold_back(False)

    # A turn tells.

    def turn_complete(self, keep_alive: bool) -> None:
        """The answer is written."""
        self._active = None
        if not keep_alive:
            self.transport.close()
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._rests_since = self.loop.time()
        if self._rest_check is None:
            # One timer for many requests; uvicorn makes one after each.
            self._rest_check = self.loop.call_later(self.timeout_keep_alive, self._check_rest)

    def _check_rest(self) -> None:
        """Hang up on a client that has asked nothing for a while."""
        self._rest_check = None
        if self._is_handed_over:
            return
        left_s = float(self.timeout_keep_alive)
        if self.is_between_requests():
            left_s -= self.loop.time() - self._rests_since
        if left_s <= 0:
            self.transport.close()
        else:
            self._rest_check = self.loop.call_later(left_s, self._check_rest)


class Turnstile:
    """Large bodies begin one in each turn of the event loop: streams wait for one of them at most.

    Eight that have arrived together would be read one after the other before anybody looks at what
    else has come.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def enter(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        self._waiting.append(begin)
        if len(self._waiting) == 1:
            loop.call_soon(self._let_in, loop)

    def _let_in(self, loop: asyncio.AbstractEventLoop) -> None:
        begin = self._waiting.popleft()
        if self._waiting:
            loop.call_soon(self._let_in, loop)
        begin()


turnstile = Turnstile()


class Turn:
    """One request on the short way, and its answer. Uvicorn takes it for its own cycle."""

    __slots__ = (
        "_protocol",
        "_stream",
        "_task",
        "disconnected",
        "head",
        "keep_alive",
        "parts",
        "response_complete",
    )

    def __init__(self, protocol: GatewayProtocol, head: Head, *, keep_alive: bool) -> None:
        self._protocol = protocol
        self.head = head
        # Of the body, as the parser tells of them.
        self.parts: list[bytes] = []
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self._task: asyncio.Task[None] | None = None
        self._stream: Stream | None = None

    @property
    def message_event(self) -> "Turn":
        # What uvicorn sets when the connection is lost; here `leave` is called.
        return self

    def set(self) -> None:
        """Nobody waits."""

    def start(self, body: bytes) -> None:
        """The body is there."""
        self.parts = []
        protocol, head = self._protocol, self.head
        request = LeanRequest.short(
            head.url.decode("ascii"), head.headers, body, protocol.client, head.raw_headers
        )
        if len(body) < LARGE_BYTES:
            self._begin_serving(request)
        else:
            turnstile.enter(protocol.loop, lambda: self._begin_serving(request))

    def _begin_serving(self, request: LeanRequest) -> None:
        if self.disconnected:
            return
        self._task = self._protocol.loop.create_task(self._serve(request))
        self._protocol.tasks.add(self._task)

    async def _serve(self, request: LeanRequest) -> None:
        response: HttpResponseBase | None = None
        try:
            response = await self._protocol.handler.respond(request, self.head.view)
            if self.disconnected:
                await close_response(response)
            elif type(response) is RelayedStream:
                self._begin(response)
            elif response.streaming:
                await self._pass_on(response)
            else:
                self._write_whole(response)
        except asyncio.CancelledError:
            # The client left. What had to be recorded has been, in the steps' own `finally`.
            if response is not None:
                await close_response(response)
            if not self.disconnected:
                self._hang_up()
                raise
        except Exception:
            self._protocol.logger.exception("Exception in ASGI application\n")
            self._hang_up()
        finally:
            if self._task is not None:
                self._protocol.tasks.discard(self._task)
                self._task = None

    def leave(self) -> None:
        """The client has gone."""
        if self.disconnected or self.response_complete:
            return
        self.disconnected = True
        if self._stream is not None:
            self._stream.leave()
        elif self._task is not None:
            self._task.cancel()

    def hold_back(self, wanted: bool) -> None:
        """The client reads more slowly than the answer comes."""
        if self._stream is not None:
            self._stream.hold_back(wanted)

    # Answers.

    def _write_whole(self, response: HttpResponseBase) -> None:
        assert isinstance(response, HttpResponse)
        body = response.content
        self._protocol.transport.write(
            self._head(response, f"content-length: {len(body)}\r\n") + body
        )
        self._complete()

    def _begin(self, response: RelayedStream) -> None:
        """From here on the stream writes by itself; this request needs no task any more."""
        self._protocol.transport.write(self._head(response, "transfer-encoding: chunked\r\n"))
        self._stream = response.stream
        response.stream.begin(self)

    async def _pass_on(self, response: HttpResponseBase) -> None:
        """A stream of another kind: asked for its pieces, one by one."""
        assert isinstance(response, StreamingHttpResponse)
        self._protocol.transport.write(self._head(response, "transfer-encoding: chunked\r\n"))
        try:
            async for part in getattr(response, "_iterator", None) or aiter(response):
                self.write(part)
                if self._protocol.flow.write_paused:
                    await self._protocol.flow.drain()
        finally:
            await close_response(response)
        self.end()

    def _head(self, response: HttpResponseBase, framing: str) -> bytes:
        plain = response.plain_headers if isinstance(response, LEAN) else response.headers
        lines = "\r\n".join(map(": ".join, plain.items()))
        close = "" if self.keep_alive else "connection: close\r\n"
        return b"".join(
            (
                STATUS_LINE[response.status_code],
                self._protocol.handler.head_of(self._protocol.server_state.default_headers),
                f"{lines}\r\n{framing}{close}\r\n".encode("latin-1"),
            )
        )

    # What a stream calls.

    def write(self, data: bytes) -> None:
        if data:
            self._protocol.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        if not self.disconnected and not self.response_complete:
            self._protocol.transport.write(b"0\r\n\r\n")
            self._complete()

    def drop(self) -> None:
        self._protocol.transport.abort()

    def _complete(self) -> None:
        self.response_complete = True
        self._stream = None
        self._protocol.turn_complete(self.keep_alive)

    def _hang_up(self) -> None:
        self.response_complete = True
        self._protocol.transport.close()


LEAN = (LeanResponse, RelayedStream)
