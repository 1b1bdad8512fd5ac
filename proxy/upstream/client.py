"""Calls to Copilot: httpx is the interface, `connections` carries the bytes.

This and `accounts/github.py` are the only modules that import httpx.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from django.conf import settings

from proxy.errors import GatewayError, UpstreamFailed, UpstreamTimedOut
from proxy.upstream.connections import (
    Broken,
    ConnectFailed,
    Connection,
    NotHttp,
    Origin,
    Pool,
    TimedOut,
)

MAX_PLAIN_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
MAX_URLS = 1000


class NotAnswered(UpstreamFailed):
    """Nothing of an answer came: one more attempt may be made.

    `was_idle`: the connection had been kept from an earlier call, so it may simply have grown old.
    """

    was_idle = False


@dataclass(frozen=True, slots=True)
class Address:
    """A URL with what each request to it needs of it, worked out once."""

    url: httpx.URL
    origin: Origin
    head: dict[str, str]
    host: str

    @classmethod
    def of(cls, text: str) -> "Address":
        url = httpx.URL(text)
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        host = url.netloc.decode("ascii")
        target = url.raw_path.decode("ascii")
        head = {
            method: f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n" for method in ("GET", "POST")
        }
        return cls(url, origin, head, host)


class Prepared(httpx.Request):
    """httpx's request, its head in bytes already; its headers are made when somebody asks.

    httpx works out and copies headers for 20 us a request; ours are known.
    """

    def __init__(
        self,
        method: str,
        address: Address,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        extensions: dict[str, Any],
    ) -> None:
        # Not httpx's own: what it sets is set here, or found by the property below.
        self.method = method
        self.url = address.url
        self.address = address
        self.extensions = extensions
        self.pairs = headers
        self.body = body
        self.stream = httpx.ByteStream(body)

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]
        length = [("Content-Length", str(len(self.body)))] if self.body else []
        return httpx.Headers([("Host", self.address.host), *self.pairs, *length])

    def render(self) -> bytes:
        lines = "\r\n".join(map(": ".join, self.pairs))
        length = f"\r\nContent-Length: {len(self.body)}" if self.body else ""
        head = f"{self.address.head[self.method]}{lines}{length}\r\n\r\n"
        return head.encode() + self.body


class Answered(httpx.Response):
    """httpx's response to a connection of ours; what nobody asks for is not made."""

    def __init__(self, connection: Connection, body: "_Body") -> None:
        self.connection = connection
        self.status_code = connection.status
        self.stream = body
        self.extensions = {}
        self.is_closed = self.is_stream_consumed = False
        self.history = []
        self.next_request = None
        self.default_encoding = "utf-8"
        self._request = None
        self._num_bytes_downloaded = 0

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]
        return httpx.Headers(self.connection.headers)


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer; the connection goes back to the pool when it is closed."""

    def __init__(self, connection: Connection, pool: Pool, origin: Origin) -> None:
        self.connection = connection
        self._pool = pool
        self._origin = origin
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.connection.receive():
            yield chunk

    async def aclose(self) -> None:
        self.give_back()

    def give_back(self) -> None:
        if not self._closed:
            self._closed = True
            self.connection.listen(None)
            self._pool.give_back(self.connection, self._origin)


class Transport(httpx.AsyncBaseTransport):
    """httpx requests over `connections.Pool`. Timeouts come in the request's `timeout` extension."""

    def __init__(self) -> None:
        self.pool = Pool()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if isinstance(request, Prepared):
            origin, payload = request.address.origin, request.render()
        else:
            origin = Address.of(str(request.url)).origin
            payload = _render(request, await request.aread())
        timeout = request.extensions["timeout"]
        # A second attempt trusts no connection that has been idle.
        connection = None if request.extensions.get("fresh") else self.pool.take(origin)
        reused = connection is not None
        if connection is None:
            connection = await self.pool.connect(origin, timeout["connect"])
        try:
            connection.send(payload, first_byte_timeout_s=timeout["read"])
            await connection.head()
        except BaseException as error:
            # Also when cancelled: the call must leave nothing behind.
            connection.close()
            self.pool.give_back(connection, origin)
            if isinstance(error, Broken):
                error.reused = reused
            raise
        return Answered(connection, _Body(connection, self.pool, origin))

    async def aclose(self) -> None:
        self.pool.close()


def _lowered(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; what is sent twice is joined by commas."""
    pairs = [(str(name, "latin-1").lower(), str(value, "latin-1")) for name, value in raw]
    headers = dict(pairs)
    if len(headers) < len(pairs):
        headers = {}
        for name, value in pairs:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _render(request: httpx.Request, body: bytes) -> bytes:
    lines = [b"%s %s HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%s: %s\r\n" % (name, value) for name, value in request.headers.raw]
    lines.append(b"\r\n")
    lines.append(body)
    return b"".join(lines)


class UpstreamResponse:
    """An open answer. Its owner closes it; reading it raises `GatewayError`s only.

    Either a task waits in `receive` or `read`, or a listener is told and takes what there is.
    """

    __slots__ = (
        "_abort_error",
        "_arrived",
        "_connection",
        "_iterator",
        "_pending",
        "_puller",
        "_raw",
        "_response",
        "headers",
        "status",
    )

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        # None with httpx's own transport.
        self._raw: Connection | None = None
        if isinstance(response, Answered):
            self._raw = response.connection
            self.headers = _lowered(response.connection.headers)
        else:
            self.headers = _lowered(response.headers.raw)
        plain = "content-encoding" not in self.headers
        self._connection: Connection | None = self._raw if plain else None
        self._iterator: AsyncIterator[bytes] | None = None
        self._pending: asyncio.Future[bytes] | None = None
        self._abort_error: GatewayError | None = None
        self._puller: _Puller | None = None

    async def receive(self, timeout_s: float | None = None) -> bytes | None:
        """What has arrived, b"" at the end, None when nothing came within `timeout_s`."""
        try:
            if self._connection is not None:
                return await self._connection.receive(timeout_s)
            return await self._receive_decoded(timeout_s)
        except StopAsyncIteration:
            return b""
        except (Broken, NotHttp, TimedOut, httpx.HTTPError, httpx.StreamError) as error:
            raise self._abort_error or _as_gateway_error(error) from error

    def take_whole(self) -> bytes | None:
        """The whole body when all of it has come already, else None."""
        if self._connection is not None and self._connection.is_complete:
            return self._connection.take()
        return None

    def listen(self, told: Callable[[], None]) -> None:
        """Call `told` whenever something has happened; what there is is had by `take`."""
        if self._connection is not None:
            self._connection.listen(told)
        else:
            # Through httpx nothing is had without waiting: a task waits in the listener's place.
            self._puller = _Puller(self, told)

    def take(self) -> bytes | None:
        """What has arrived, b"" at the end, None when there is nothing yet."""
        if self._connection is None:
            return self._puller.take() if self._puller is not None else None
        try:
            return self._connection.take()
        except (Broken, NotHttp, TimedOut) as error:
            raise self._abort_error or _as_gateway_error(error) from error

    def hold_back(self, wanted: bool) -> None:
        """Read nothing while a listener's client reads nothing."""
        if self._connection is not None:
            self._connection.hold_back(wanted)
        elif self._puller is not None:
            self._puller.hold_back(wanted)

    async def _receive_decoded(self, timeout_s: float | None) -> bytes | None:
        # Compressed answers and httpx's own transport: a pending read survives its time-out.
        if self._iterator is None:
            self._iterator = aiter(self._response.aiter_bytes())
        if self._pending is None:
            self._pending = asyncio.ensure_future(anext(self._iterator))
        done, _ = await asyncio.wait({self._pending}, timeout=timeout_s)
        if not done:
            return None
        pending, self._pending = self._pending, None
        return pending.result() or await self._receive_decoded(timeout_s)

    async def read(self, limit: int = MAX_PLAIN_BYTES) -> bytes:
        """The whole body. Raises `UpstreamFailed` when it is longer than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while chunk := await self.receive():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise UpstreamFailed("The upstream's answer is larger than the gateway accepts.")
        return b"".join(parts)

    async def read_error(self) -> bytes:
        """The beginning of an error's body; whatever goes wrong, there is something to read."""
        parts: list[bytes] = []
        size = 0
        with contextlib.suppress(GatewayError):
            while size < MAX_ERROR_BYTES and (chunk := await self.receive(10.0)):
                parts.append(chunk)
                size += len(chunk)
        return b"".join(parts)[:MAX_ERROR_BYTES]

    def expect_silence(self, timeout_s: float) -> None:
        """The answer has begun: from now on only this much silence is allowed."""
        if self._raw is not None:
            self._raw.expect_silence(timeout_s)

    def abort(self, error: GatewayError) -> None:
        """Make whoever reads raise `error`."""
        self._abort_error = error
        if self._raw is not None:
            self._raw.abort(Broken("aborted", answered=True))

    def release(self) -> bool:
        """Close without waiting, where nothing waits: a connection of ours goes back to the pool.

        A task that shields `close` from cancellation costs more than the closing itself.
        """
        if self._puller is not None:
            self._puller.stop()
        if isinstance(self._response.stream, _Body) and self._pending is None:
            self._response.stream.give_back()
            return True
        return False

    async def close(self) -> None:
        if self.release():
            return
        if self._pending is not None:
            self._pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, httpx.HTTPError):
                await self._pending
        await self._response.aclose()


class _Puller:
    """Reads an answer for a listener, one piece ahead."""

    def __init__(self, response: UpstreamResponse, told: Callable[[], None]) -> None:
        self._response = response
        self._told = told
        self._arrived: bytes | None = None
        self._error: GatewayError | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._task = asyncio.ensure_future(self._run())

    def take(self) -> bytes | None:
        if self._error is not None:
            raise self._error
        arrived, self._arrived = self._arrived, None
        return arrived

    def hold_back(self, wanted: bool) -> None:
        if wanted:
            self._may_read.clear()
        else:
            self._may_read.set()

    def stop(self) -> None:
        if asyncio.current_task() is not self._task:
            self._task.cancel()

    async def _run(self) -> None:
        chunk: bytes | None = None
        while chunk != b"":
            await self._may_read.wait()
            try:
                chunk = await self._response.receive()
            except GatewayError as error:
                self._error = error
                self._told()
                return
            self._arrived = chunk
            self._told()


class UpstreamClient:
    """One per event loop; made when the gateway starts."""

    def __init__(self, *, connect_timeout_s: float, proxy_env: bool = False) -> None:
        self._connect_timeout_s = connect_timeout_s
        self.transport: Transport | None = None if proxy_env else Transport()
        self._client = httpx.AsyncClient(
            transport=self.transport, trust_env=proxy_env, follow_redirects=False, http2=False
        )
        # Nothing of the library's own identity; the profile says what is sent.
        self._client.headers = httpx.Headers()
        self._addresses: dict[str, Address] = {}

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]],
        body: bytes = b"",
        first_byte_timeout_s: float,
        fresh: bool = False,
    ) -> UpstreamResponse:
        """Send a request and wait for the head of its answer, if `fresh` on a new connection.

        Raises `NotAnswered` (may be repeated), `UpstreamFailed` or `UpstreamTimedOut`.
        """
        request = Prepared(
            method,
            self._address(url),
            headers,
            body,
            {
                "timeout": {
                    "connect": self._connect_timeout_s,
                    "read": first_byte_timeout_s,
                    "write": first_byte_timeout_s,
                    "pool": self._connect_timeout_s,
                },
                "fresh": fresh,
            },
        )
        try:
            if self.transport is not None:
                # `AsyncClient.send` adds cookies, redirects, auth and event hooks, of which we use
                # none, for 130 us a request: our transport is asked directly.
                response = await self.transport.handle_async_request(request)
            else:
                response = await self._client.send(request, stream=True)
        except (Broken, NotHttp, TimedOut, ConnectFailed, httpx.HTTPError) as error:
            raise _as_gateway_error(error) from error
        if 300 <= response.status_code < 400:
            # Not followed: the credential goes nowhere else.
            await response.aclose()
            raise UpstreamFailed("The upstream answered with a redirect.")
        return UpstreamResponse(response)

    def _address(self, url: str) -> Address:
        """Worked out once: there are as many as hosts times endpoints."""
        found = self._addresses.get(url)
        if found is None:
            if len(self._addresses) >= MAX_URLS:
                self._addresses.clear()
            found = self._addresses[url] = Address.of(url)
        return found

    async def close(self) -> None:
        await self._client.aclose()


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, UpstreamClient] = WeakKeyDictionary()


def client() -> UpstreamClient:
    """The client of the running loop, made on first use."""
    loop = asyncio.get_running_loop()
    found = _clients.get(loop)
    if found is None:
        found = _clients[loop] = UpstreamClient(
            connect_timeout_s=settings.GATEWAY_CONNECT_TIMEOUT_S, proxy_env=settings.PROXY_ENV
        )
    return found


async def close_client() -> None:
    """Close the running loop's client, if it has one."""
    found = _clients.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


def _as_gateway_error(error: Exception) -> GatewayError:
    match error:
        case TimedOut(stage="connect") | httpx.ConnectTimeout():
            return UpstreamFailed("The upstream could not be reached in time.")
        case TimedOut(stage="idle"):
            return UpstreamTimedOut("The upstream fell silent in the middle of its answer.")
        case TimedOut() | httpx.TimeoutException():
            return UpstreamTimedOut("The upstream did not answer in time.")
        case ConnectFailed() | httpx.ConnectError():
            return UpstreamFailed("The upstream could not be reached.")
        case Broken(answered=False):
            not_answered = NotAnswered("The upstream closed the connection before it answered.")
            not_answered.was_idle = error.reused
            return not_answered
        case httpx.DecodingError():
            return UpstreamFailed("The upstream's compressed answer is damaged.")
        case NotHttp():
            return UpstreamFailed("The upstream's answer is not HTTP.")
        case _:
            return UpstreamFailed("The upstream broke off its answer.")
