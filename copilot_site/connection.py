"""A client's connection that does not wait for ever, and whose every refusal is in the caller's format.

Uvicorn sets no limit on a head or a body that stops arriving, nor on a client that stops reading; it
refuses what is no HTTP in plain text, and sends chunks to HTTP/1.0. What is added here costs one
timer for each connection and nothing for a request that arrives in one piece.
"""

import asyncio
import logging
import sys
from typing import Any

import httptools
from django.http import HttpResponse
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from proxy.api import source_of
from proxy.api.errors import render
from proxy.errors import GatewayError, InvalidRequest, RequestTimedOut

logger = logging.getLogger(__name__)
# Where websockets live: those of pages. The API has none.
SOCKETS = b"/ws/"
VERSIONS = ("1.1", "1.0")


class PatientProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with limits on what a client lets wait."""

    # Seconds; set by the server, once the settings are loaded.
    upload_timeout_s = 60.0
    client_stall_s = 300.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url = b""
        # What arrived last: of a request that the parser cannot read it holds the path.
        self._latest = b""
        # What is to be read once more.
        self._again = b""
        # Between the first byte of a request and the end of its head.
        self.is_in_head = False
        self._is_handed_over = False
        self._head_since: float | None = None
        self._heard_at = 0.0
        self._arrival_check: asyncio.TimerHandle | None = None
        self._stall_check: asyncio.TimerHandle | None = None
        # Uvicorn's own cycle that is being answered: `cycle` is the newest, which may wait behind it.
        self._running: RequestResponseCycle | None = None

    # What arrives.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._expect_more()

    def on_message_begin(self) -> None:
        self.is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        if self.parser.get_http_version() not in VERSIONS or self.parser.get_method() == b"CONNECT":
            raise ValueError("not for us")
        if not self.parser.should_upgrade() or self._should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._latest = data
        super().data_received(data)
        while self._again:
            self._latest, self._again = self._again, b""
            super().data_received(self._latest)
        self._latest = b""
        # Also after blank lines between two requests, which uvicorn takes for a sign of life.
        if self.is_in_head or self.is_between_requests():
            if self._head_since is None:
                self._head_since = self.loop.time()
        else:
            self._head_since = None
            if not self.owes_body():
                return
            self._heard_at = self.loop.time()
        if not self._is_handed_over:
            self._expect_more()

    def _expect_more(self) -> None:
        if self._arrival_check is None:
            self._arrival_check = self.loop.call_later(
                self.upload_timeout_s, self._look_for_arrivals
            )

    def _should_upgrade(self) -> bool:
        # A handshake on the API is answered as any other request: Codex waits for a 426.
        return self.url.startswith(SOCKETS) and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Go on in HTTP/1.1, as if nobody had asked: Java's client offers HTTP/2 with each request.

        The parser has left the body out, and takes what follows for another protocol: another one
        reads the request again, without the wish.
        """
        left = sys.exception()
        assert isinstance(left, httptools.HttpParserUpgrade)
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        head += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._again = b"".join([*head, b"\r\n", self._latest[left.args[0] :]])

    def handle_websocket_upgrade(self) -> None:
        # From here on another protocol has the connection.
        self._is_handed_over = True
        if self._arrival_check is not None:
            self._arrival_check.cancel()
            self._arrival_check = None
        super().handle_websocket_upgrade()

    def is_between_requests(self) -> bool:
        """Whether no request is being answered, and none has arrived with its head."""
        return self.cycle is None or self.cycle.response_complete

    def owes_body(self) -> bool:
        """Whether the body of the request that is being read has not come whole."""
        running = self._running
        return (
            running is not None
            and running is self.cycle
            and running.more_body
            and not running.response_complete
        )

    def _look_for_arrivals(self) -> None:
        """Hang up on a head or a body that has stopped; a head is given its time in all."""
        self._arrival_check = None
        if self.transport.is_closing():
            return
        if self.owes_body():
            since: float | None = self._heard_at
        elif not self.is_between_requests():
            # A part of the next request may be here; until this one is answered it may wait.
            since = self.loop.time() if self.is_in_head else None
        else:
            since = self._head_since
        if since is None:
            return
        left_s = since + self.upload_timeout_s - self.loop.time()
        if left_s > 0:
            self._arrival_check = self.loop.call_later(left_s, self._look_for_arrivals)
        elif self.owes_body():
            self.give_up_body()
        elif self.is_in_head:
            self.refuse(RequestTimedOut("The request's head stopped arriving."))
        else:
            # Nothing was asked.
            self.transport.close()

    def give_up_body(self) -> None:
        """Answer a request whose body has stopped, and tell whoever waits for it."""
        running = self._running
        assert running is not None
        if running.response_started:
            self.transport.close()
        else:
            self.refuse(RequestTimedOut("The request's body stopped arriving."))
        running.disconnected = True
        running.message_event.set()

    # What is refused before any view hears of it.

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses."""
        self.is_in_head = False
        if not self.is_between_requests() and not self.owes_body():
            # It came behind a request that is being answered: its answer ends in good order.
            self.cycle.keep_alive = False
            return
        running = self._running
        if running is not None and running.response_started and not running.response_complete:
            self.transport.close()
            return
        self.refuse(InvalidRequest("The request is not valid HTTP/1.1.", code="bad_request"))

    def refuse(self, error: GatewayError) -> None:
        """Answer with `error` and hang up."""
        url = self.url or b"".join(self._latest.split(b" ", 2)[1:2])
        path = url.partition(b"?")[0].decode("latin-1")
        response = render(error, source_of(path))
        assert isinstance(response, HttpResponse)
        fixed = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines = "".join([f"{name}: {value}\r\n" for name, value in response.items()])
        length = f"content-length: {len(response.content)}\r\nconnection: close\r\n\r\n"
        head = [STATUS_LINE[response.status_code], *fixed, (lines + length).encode("latin-1")]
        self.transport.write(b"".join([*head, response.content]))
        self.transport.close()

    # What is answered.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if cycle.more_body:
            self._heard_at = self.loop.time()
            self._expect_more()
        if cycle.scope["http_version"] == "1.0":
            cycle.send = OldAnswer(cycle).send  # type: ignore[method-assign]
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_check is None:
            size = self.transport.get_write_buffer_size()
            self._stall_check = self.loop.call_later(
                self.client_stall_s, self._look_for_stall, size
            )

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_stall_check()

    def _look_for_stall(self, size_before: int) -> None:
        """Hang up on a client that has read nothing; one that reads slowly is let be."""
        self._stall_check = None
        size = self.transport.get_write_buffer_size()
        if size < size_before:
            self._stall_check = self.loop.call_later(
                self.client_stall_s, self._look_for_stall, size
            )
            return
        logger.info("a client did not read its answer for %.0f s", self.client_stall_s)
        self.transport.abort()

    def _cancel_stall_check(self) -> None:
        if self._stall_check is not None:
            self._stall_check.cancel()
            self._stall_check = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_stall_check()
        if self._arrival_check is not None:
            self._arrival_check.cancel()
            self._arrival_check = None
        running = self._running
        if running is not None and not running.response_complete:
            # Uvicorn tells the newest request only, which may be waiting behind this one.
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)


class OldAnswer:
    """An answer to HTTP/1.0, which knows no chunks: it ends with the connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    async def send(self, message: Any) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected or cycle.response_complete:
            return
        if message["type"] == "http.response.start":
            cycle.response_started = True
            cycle.waiting_for_100_continue = False
            headers = [*cycle.default_headers, *message.get("headers", [])]
            lines = [
                b"%b: %b\r\n" % (name, value)
                for name, value in headers
                if name.lower() not in (b"connection", b"transfer-encoding")
            ]
            head = [STATUS_LINE[message["status"]], *lines, b"connection: close\r\n\r\n"]
            cycle.transport.write(b"".join(head))
            return
        if (body := message.get("body", b"")) and cycle.scope["method"] != "HEAD":
            cycle.transport.write(body)
        if not message.get("more_body", False):
            cycle.response_complete = True
            cycle.message_event.set()
            cycle.transport.close()
            cycle.on_response()
