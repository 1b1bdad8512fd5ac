"""Calls to Copilot: httpx is the interface, `connections` carries the bytes.

This and `accounts/github.py` are the only modules that import httpx.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
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
            self._pool.give_back(self.connection, self._origin)


class Transport(httpx.AsyncBaseTransport):
    """httpx requests over `connections.Pool`. Timeouts come in the request's `timeout` extension."""

    def __init__(self) -> None:
        self.pool = Pool()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        scheme = url.scheme
        origin = (scheme, url.host, url.port or (443 if scheme == "https" else 80))
        timeout = request.extensions["timeout"]
        payload = _render(request, await request.aread())
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
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=_Body(connection, self.pool, origin),
            request=request,
            # httpx wraps the stream; whoever needs the connection itself finds it here.
            extensions={"connection": connection},
        )

    async def aclose(self) -> None:
        self.pool.close()


def _lowered(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; what is sent twice is joined by commas."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _render(request: httpx.Request, body: bytes) -> bytes:
    lines = [b"%s %s HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%s: %s\r\n" % (name, value) for name, value in request.headers.raw]
    lines.append(b"\r\n")
    lines.append(body)
    return b"".join(lines)


class UpstreamResponse:
    """An open answer. Its owner closes it; `receive` and `read` raise `GatewayError`s only."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        # None with httpx's own transport.
        self._raw: Connection | None = response.extensions.get("connection")
        self.headers = _lowered(response.headers.raw)
        plain = "content-encoding" not in self.headers
        self._connection: Connection | None = self._raw if plain else None
        self._iterator: AsyncIterator[bytes] | None = None
        self._pending: asyncio.Future[bytes] | None = None
        self._abort_error: GatewayError | None = None

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
        self._urls: dict[str, httpx.URL] = {}

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        first_byte_timeout_s: float,
        fresh: bool = False,
    ) -> UpstreamResponse:
        """Send a request and wait for the head of its answer, if `fresh` on a new connection.

        Raises `NotAnswered` (may be repeated), `UpstreamFailed` or `UpstreamTimedOut`.
        """
        timeout = httpx.Timeout(
            first_byte_timeout_s, connect=self._connect_timeout_s, pool=self._connect_timeout_s
        )
        address = self._url(url)
        request = httpx.Request(
            method,
            address,
            # With `content` httpx works these two out itself, for 25 us.
            headers=[
                ("Host", address.netloc.decode("ascii")),
                *headers,
                *([("Content-Length", str(len(body)))] if body else []),
            ],
            stream=httpx.ByteStream(body),
            extensions={"timeout": timeout.as_dict(), "fresh": fresh},
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
        if response.is_redirect:
            # Not followed: the credential goes nowhere else.
            await response.aclose()
            raise UpstreamFailed("The upstream answered with a redirect.")
        return UpstreamResponse(response)

    def _url(self, url: str) -> httpx.URL:
        """Parsed once: there are as many as hosts times endpoints."""
        found = self._urls.get(url)
        if found is None:
            if len(self._urls) >= MAX_URLS:
                self._urls.clear()
            found = self._urls[url] = httpx.URL(url)
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
