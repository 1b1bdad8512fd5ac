"""Django for API paths, without thread hops: Ninja's async views called straight from the event loop.

Stock Django opens a thread context, runs synchronous signal receivers and seven middleware for each
request; for a proxied stream that costs twenty times the work itself
(docs/decisions/0002-lean-handler-for-api-paths.md). Here the body is read into bytes with its limit
checked while it arrives, the view is found and awaited, and the client's leaving cancels it.
Everything refused here is JSON in the caller's format.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, URLResolver, get_resolver

from copilot_site import cross_origin
from proxy.api import source_of
from proxy.api.callers import authenticate
from proxy.api.errors import render
from proxy.errors import (
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RequestTimedOut,
    UnsupportedMediaType,
)
from proxy.lean_request import LeanRequest

logger = logging.getLogger(__name__)
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
View = Callable[..., Awaitable[HttpResponseBase]]

# How long the rest of a refused body is read, so that its sender comes to read the refusal.
LINGER_S = 5.0
# How long a request goes on before anybody looks whether its client is still there.
WATCH_AFTER_S = 0.05
MAX_HOSTS = 100
# Who brings no key that we know may make the gateway hold so much; the rest is not read.
STRANGERS_BYTES = 64 * 1024


def fixed_headers() -> list[tuple[bytes, bytes]]:
    """What every answer of the API says to browsers: this is data, not a page, and in no frame."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    if settings.HTTPS:
        value = f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains"
        headers.append((b"strict-transport-security", value.encode()))
    return headers


class ClientGone(Exception):
    """The client left before its request was complete."""


class GatewayHandler:
    """An ASGI application for the API paths of `settings.GATEWAY_URLCONF`."""

    def __init__(self) -> None:
        self._resolver: URLResolver | None = None
        self._views: dict[str, View] = {}
        # The same by what stands in a request's first line, for `protocol`: what was once POSTed to.
        self.short_views: dict[bytes, View] = {}
        self._fixed: list[tuple[bytes, bytes]] | None = None
        self._fixed_lines = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            body = await read_body(scope, receive)
        except ClientGone:
            return
        except GatewayError as error:
            await refuse(render(error, source_of(path)), receive, send)
            return
        request = LeanRequest(scope, body)
        work = asyncio.current_task()
        assert work is not None
        watcher = Watcher(receive, work)
        response: HttpResponseBase | None = None
        try:
            response = await self.respond(request)
            await send_response(
                response, send, watcher=watcher, head_only=scope["method"] == "HEAD"
            )
        except asyncio.CancelledError:
            # The client left. What had to be recorded has been, in the steps' own `finally`.
            if not watcher.has_cancelled:
                raise
        finally:
            watcher.stop()
            if response is not None:
                await close_response(response)

    async def respond(self, request: LeanRequest, known: View | None = None) -> HttpResponseBase:
        """The view's answer, or the error that it raised. The view is looked up unless it is `known`."""
        if "origin" in request.plain_headers and settings.GATEWAY_CORS_ORIGINS:
            return await cross_origin.answer(request, lambda: self._respond(request, known))
        return await self._respond(request, known)

    async def _respond(self, request: LeanRequest, known: View | None) -> HttpResponseBase:
        try:
            check_host(request)
            if known is not None:
                response = await known(request)
            else:
                view, args, kwargs = self.find(request)
                response = await view(request, *args, **kwargs)
        except GatewayError as error:
            return render(error, source_of(request.path))
        except Exception:
            logger.exception("view of %s failed", request.path)
            failed = GatewayError("The gateway failed; its log has the reason.")
            return render(failed, source_of(request.path))
        if response.status_code == 405:
            return self.wrong_method(request, response, source_of(request.path))
        return response

    def head_of(self, fixed: list[tuple[bytes, bytes]]) -> bytes:
        """The lines of headers that all answers have; the server makes them anew each second."""
        if fixed is not self._fixed:
            self._fixed = fixed
            every = [*fixed, *fixed_headers()]
            self._fixed_lines = b"".join([b"%b: %b\r\n" % header for header in every])
        return self._fixed_lines

    def find(self, request: LeanRequest) -> tuple[View, tuple[Any, ...], dict[str, Any]]:
        # Resolving costs 45 us: some thirty patterns are tried in order.
        if (view := self._views.get(request.path_info)) is not None:
            return view, (), {}
        if self._resolver is None:
            self._resolver = get_resolver(settings.GATEWAY_URLCONF)
        try:
            match = self._resolver.resolve(request.path_info)
        except Resolver404:
            raise NotFound(
                f"There is no {request.method} {request.path[:80]} here.", code="unknown_path"
            ) from None
        request.resolver_match = match
        if not match.args and not match.kwargs:
            # Paths without arguments are as many as there are routes.
            self._views[request.path_info] = match.func
            self.short_views[request.path_info.encode()] = match.func
        return match.func, match.args, match.kwargs

    def wrong_method(
        self, request: HttpRequest, response: HttpResponseBase, source: str
    ) -> HttpResponseBase:
        refused = render(
            MethodNotAllowed(f"{request.method} is not allowed on {request.path[:80]}."), source
        )
        refused.headers["Allow"] = response.headers.get("Allow", "GET, POST")
        return refused


def check_host(request: LeanRequest) -> None:
    """Host names that are not ours are refused: DNS rebinding would make a page of any name local."""
    named = (request.plain_headers.get("host", ""), tuple(settings.ALLOWED_HOSTS))
    if named in _served_hosts:
        return
    if not named[0] and request.scope["http_version"] != "1.0":
        raise InvalidRequest("The request names no host.", code="bad_request")
    try:
        request.get_host()
    except DisallowedHost:
        raise InvalidRequest(
            "This host name is not served here; an operator can add it to ALLOWED_HOSTS.",
            code="unknown_host",
        ) from None
    if len(_served_hosts) < MAX_HOSTS:
        _served_hosts.add(named)


# Host headers that Django has accepted, with the setting that it went by.
_served_hosts: set[tuple[str, tuple[str, ...]]] = set()


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises for one that is compressed, too large or stands still, and for a large one
    of somebody whom nobody knows."""
    limit = settings.GATEWAY_MAX_BODY_BYTES
    declared = None
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = int(value) if value.isdigit() else 0
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMediaType("Compressed request bodies are not accepted; send it plain.")
    too_large = BodyTooLarge(f"The body is larger than {limit} bytes.")
    if declared is not None and declared > limit:
        raise too_large
    is_vouched_for = False
    if declared is not None and declared > STRANGERS_BYTES:
        await vouch(scope)
        is_vouched_for = True
    parts: list[bytes] = []
    size = 0
    clock = asyncio.get_running_loop().time
    idle_s = settings.GATEWAY_UPLOAD_TIMEOUT_S
    try:
        async with asyncio.timeout(idle_s) as patience:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise too_large
                if size > STRANGERS_BYTES and not is_vouched_for:
                    await vouch(scope)
                    is_vouched_for = True
                parts.append(part)
                if not message.get("more_body"):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                patience.reschedule(clock() + idle_s)
    except TimeoutError:
        raise RequestTimedOut("The request's body stopped arriving.") from None


async def vouch(scope: Scope) -> None:
    """Raises what the request will be refused with anyway: by its Host, its origin or its key."""
    request = LeanRequest(scope, b"")
    check_host(request)
    await authenticate(request)


async def refuse(response: HttpResponse, receive: Receive, send: Send) -> None:
    """Answer a request whose body has not been read, and hang up.

    The rest of the body is read and forgotten for a moment: a connection that is closed on unread
    bytes is reset, and who is still sending would never see why.
    """
    response.headers["Connection"] = "close"
    headers = [(k.lower().encode("latin1"), v.encode("latin1")) for k, v in response.items()]
    headers.append((b"content-length", str(len(response.content)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            more = True
            while more:
                message = await receive()
                more = message["type"] == "http.request" and message.get("more_body", False)
    await send({"type": "http.response.body", "body": b""})


class Watcher:
    """Cancels the view once the client has hung up, or refuses to read for too long.

    Both are timers until they matter: a task for each request and a time-out for each piece of a
    stream cost 25 us a request and 5 us an event. Who leaves in the first moments is noticed at
    their end.
    """

    def __init__(self, receive: Receive, work: "asyncio.Task[Any]") -> None:
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._work = work
        self._watching: asyncio.Task[None] | None = None
        self._begin = self._loop.call_later(WATCH_AFTER_S, self._watch)
        self._check: asyncio.TimerHandle | None = None
        # Since when a piece is being handed over: that lasts only when the client does not read.
        self.sending_since = 0.0
        self._stall_s = 0.0
        self.has_cancelled = False

    def _watch(self) -> None:
        self._watching = self._loop.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel()

    def _cancel(self) -> None:
        self.has_cancelled = True
        self._work.cancel()

    def begin_stream(self) -> None:
        self._stall_s = settings.GATEWAY_CLIENT_STALL_S
        self._check = self._loop.call_later(self._stall_s, self._look_for_stall)

    def _look_for_stall(self) -> None:
        waited_s = self._loop.time() - self.sending_since if self.sending_since else 0.0
        if waited_s >= self._stall_s:
            logger.info("a client did not read its stream for %.0f s", waited_s)
            self._cancel()
            return
        self._check = self._loop.call_later(self._stall_s - waited_s, self._look_for_stall)

    def stop(self) -> None:
        self._begin.cancel()
        if self._check is not None:
            self._check.cancel()
        if self._watching is not None:
            self._watching.cancel()


async def send_response(
    response: HttpResponseBase,
    send: Send,
    *,
    watcher: Watcher | None = None,
    head_only: bool = False,
) -> None:
    headers = [(k.encode("latin1"), v.encode("latin1")) for k, v in response.items()]
    headers = [*((k.lower(), v) for k, v in headers), *fixed_headers()]
    if response.streaming:
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        assert isinstance(response, StreamingHttpResponse)
        assert watcher is not None
        watcher.begin_stream()
        clock = asyncio.get_running_loop().time
        # The relay's own generator: Django wraps it in two more, 2 us an event.
        parts: AsyncIterator[bytes] = getattr(response, "_iterator", None) or aiter(response)
        async for part in parts:
            watcher.sending_since = clock()
            await send({"type": "http.response.body", "body": part, "more_body": True})
            watcher.sending_since = 0.0
        await send({"type": "http.response.body", "body": b""})
        return
    assert isinstance(response, HttpResponse)
    body = response.content
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else body})


async def close_response(response: HttpResponseBase) -> None:
    """End a stream's generator now, so that its `finally` closes the upstream and records.

    A generator that never began has none to run: `let_go` then ends what the response holds.
    """
    iterator = getattr(response, "_iterator", None)
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
    let_go = getattr(response, "let_go", None)
    if let_go is not None:
        let_go()
