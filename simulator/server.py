"""A small HTTP/1.1 server that lets a handler do with the connection whatever a fault needs."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl, unquote

import httptools

Header = tuple[str, str]

logger = logging.getLogger(__name__)

LINGER_S = 0.3

# Copilot and GitHub use two statuses that the standard library has no words for.
REASONS = {status.value: status.phrase for status in HTTPStatus} | {
    466: "Client Version Not Supported",
    499: "Client Closed Request",
    529: "Site Is Overloaded",
}


class ClientGone(Exception):
    """The client closed the connection before the answer was complete."""


@dataclass(slots=True)
class Request:
    """One request as it arrived; header names are lower-case, the last of equal names wins."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection_id: int
    number_on_connection: int
    arrived_at: float
    keep_alive: bool
    refuse_with: int | None = None


class Limits(Protocol):
    """What the server itself refuses: bodies that are too large, uploads that are too slow.

    `idle_close_s` closes connections that wait that long for their next request; None: never.
    """

    @property
    def max_body_bytes(self) -> int: ...
    @property
    def upload_timeout_s(self) -> float: ...
    @property
    def idle_close_s(self) -> float | None: ...


class Responder:
    """The answer to one request, written by the handler piece by piece.

    `status` and `bytes_sent` tell what went out; `ended` is how it ended: `complete` when the
    framing was closed properly, `cut` when we broke it on purpose, empty while it runs.
    """

    __slots__ = ("_chunked", "_connection", "bytes_sent", "ended", "request", "started", "status")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._chunked = False
        self.request = request
        self.status = 0
        self.bytes_sent = 0
        self.started = False
        self.ended = ""

    @property
    def is_client_gone(self) -> bool:
        return self._connection.lost_at is not None

    async def send(self, status: int, headers: Iterable[Header], body: bytes = b"") -> None:
        """Write a whole answer with its length in one go."""
        bodiless = status in (204, 304) or 100 <= status < 200
        lines = list(headers)
        if not bodiless:
            lines.append(("content-length", str(len(body))))
        head = self._head(status, lines)
        self._write(head if bodiless or self.request.method == "HEAD" else head + body)
        self._finish(keep=True)

    def start(self, status: int, headers: Iterable[Header], *, framing: str = "chunked") -> None:
        """Write the head. `framing`: `chunked`, `close` (until FIN) or `as_given` (own headers)."""
        lines = list(headers)
        if framing == "chunked":
            self._chunked = True
            lines.append(("transfer-encoding", "chunked"))
        elif framing == "close":
            lines.append(("connection", "close"))
        self._write(self._head(status, lines))

    async def send_stream(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Write a chunked answer that is known already in one go: the fast way of plain streams."""
        head = self._head(status, [*headers, ("transfer-encoding", "chunked")])
        self._write(b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body))
        self._finish(keep=True)
        await self._connection.drain()

    async def write(self, data: bytes) -> None:
        """Write body bytes in the framing chosen by `start`, held back when the client is slow."""
        if data:
            self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
            await self._connection.drain()

    async def write_raw(self, data: bytes) -> None:
        """Write bytes as they are, below HTTP."""
        self._write(data)
        await self._connection.drain()

    def end(self, *, keep: bool = True) -> None:
        """Close the framing properly."""
        if self._chunked:
            self._write(b"0\r\n\r\n")
        self._finish(keep=keep and self._chunked)

    def fin(self) -> None:
        """Close the connection in the middle, politely (FIN)."""
        self.ended = self.ended or "cut"
        self._connection.close()

    async def reset(self) -> None:
        """Break the connection (RST), after what was written had time to arrive."""
        self.ended = self.ended or "cut"
        await asyncio.sleep(0.02)
        self._connection.reset()

    def _finish(self, *, keep: bool) -> None:
        self.ended = "complete"
        if self.request.refuse_with is not None:
            self._connection.close_later()
        elif not (keep and self.request.keep_alive):
            self._connection.close()

    def _head(self, status: int, headers: Iterable[Header]) -> bytes:
        self.status = status
        self.started = True
        given = list(headers)
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in given]
        if not any(name.lower() == "date" for name, _ in given):
            lines.append(f"date: {http_date()}")
        if not self.request.keep_alive:
            lines.append("connection: close")
        lines.append("\r\n")
        return "\r\n".join(lines).encode("latin-1", "replace")

    def _write(self, data: bytes) -> None:
        self._connection.write(data)
        self.bytes_sent += len(data)


Handler = Callable[[Request, Responder], Awaitable[None]]


_date: tuple[int, str] = (0, "")


def http_date() -> str:
    """Return the date header's value, made anew once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


class Connection(asyncio.Protocol):
    """One client connection: parses requests, runs one handler at a time, in order."""

    _count = 0

    def __init__(self, server: Server) -> None:
        Connection._count += 1
        self.id = Connection._count
        self.lost_at: float | None = None
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._timer: asyncio.TimerHandle | None = None
        self._requests = 0
        self._refusing = False
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    # What asyncio tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_at = time.time()
        self._server.connections.discard(self)
        self._can_write.set()
        self._stop_timer()
        if self._task is not None:
            # A handler may sleep in the middle of a stall: it ends now, not when it wakes.
            self._task.cancel()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        if self._refusing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Websockets are not played; the request is answered like any other, then we close.
            self._refusing = True
        except httptools.HttpParserError:
            self._refusing = True
            self.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\nBad Request\n")
            self.close()

    # What the parser tells us.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []
        self._size = 0
        self._stop_timer()
        wait_s = self._server.get_limits().upload_timeout_s
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._refuse, 408)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._server.get_limits().max_body_bytes:
            self._refuse(413)
        elif self._headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refusing:
            return
        self._size += len(body)
        if self._size > self._server.get_limits().max_body_bytes:
            self._refuse(413)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        if not self._refusing:
            self._enqueue(self._request(None))

    # What handlers ask for.

    def write(self, data: bytes) -> None:
        if self.lost_at is not None or self._transport is None or self._transport.is_closing():
            raise ClientGone
        self._transport.write(data)

    async def drain(self) -> None:
        if not self._can_write.is_set():
            await self._can_write.wait()
        if self.lost_at is not None:
            raise ClientGone

    def close(self) -> None:
        self._refusing = True
        if self._transport is not None:
            self._transport.close()

    def close_later(self) -> None:
        """Swallow the rest of a refused upload for a moment, so that the answer is read."""
        self._refusing = True
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def reset(self) -> None:
        self._refusing = True
        if self._transport is not None:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    # The way of one request.

    def _refuse(self, status: int) -> None:
        """Answer before the body is complete, without waiting for the rest of it."""
        self._stop_timer()
        self._refusing = True
        self._enqueue(self._request(status))

    def _request(self, refuse_with: int | None) -> Request:
        self._requests += 1
        raw_path, _, query = self._url.decode("latin-1").partition("?")
        return Request(
            method=self._parser.get_method().decode("ascii"),
            path=unquote(raw_path) if "%" in raw_path else raw_path,
            query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
            headers=self._headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            connection_id=self.id,
            number_on_connection=self._requests,
            arrived_at=time.time(),
            keep_alive=refuse_with is None and self._parser.should_keep_alive(),
            refuse_with=refuse_with,
        )

    def _enqueue(self, request: Request) -> None:
        self._queue.append(request)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._queue and self.lost_at is None:
                request = self._queue.popleft()
                await self._server.handler(request, Responder(self, request))
        except ClientGone:
            pass
        except Exception:
            # A fault of the simulator itself must not look like a played one.
            logger.exception("the simulator failed to answer a request")
            self.close()
        finally:
            self._task = None
        idle_s = self._server.get_limits().idle_close_s
        if idle_s is not None and self.lost_at is None and not self._refusing:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_later(idle_s, self.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@dataclass(slots=True, eq=False)
class Server:
    """Listens on one port of one or more addresses and hands requests to `handler`.

    The limits are asked for at each use: a test may change them between two requests.
    """

    handler: Handler
    get_limits: Callable[[], Limits]
    connections: set[Connection] = field(default_factory=set)
    port: int = 0
    _listeners: list[asyncio.Server] = field(default_factory=list)
    _hosts: tuple[str, ...] = ()

    async def listen(self, hosts: tuple[str, ...], port: int) -> None:
        """Bind the first address (it must work) and the same port on the others (they may fail)."""
        self._hosts = hosts
        self.port = port
        loop = asyncio.get_running_loop()
        for number, host in enumerate(hosts):
            try:
                listener = await loop.create_server(
                    lambda: Connection(self), host, self.port, backlog=4096, reuse_address=True
                )
            except OSError:
                if number == 0:
                    raise
                continue
            self._listeners.append(listener)
            self.port = listener.sockets[0].getsockname()[1]

    async def resume(self) -> None:
        """Listen again on the same port after `stop_listening`."""
        await self.listen(self._hosts, self.port)

    def stop_listening(self) -> None:
        """Refuse new connections; the running ones go on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def close(self) -> None:
        """Stop listening, break what is open and wait until its handlers have ended."""
        self.stop_listening()
        tasks = [item._task for item in self.connections if item._task is not None]
        for connection in tuple(self.connections):
            connection.reset()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
