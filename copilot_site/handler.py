"""Django for API paths, without thread hops: Ninja's async views called straight from the event loop.

Stock Django opens a thread context, runs synchronous signal receivers and seven middleware for each
request; for a proxied stream that costs twenty times the work itself (docs/decisions/0002). Here the
body is read into bytes with its limit checked while it arrives, the view is found and awaited, and
the client's leaving cancels it. Everything refused here is JSON in the caller's format.
"""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, URLResolver, get_resolver

from proxy.api import source_of
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

logger = logging.getLogger(__name__)
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# How long an upload may stand still, and a client may refuse to read.
UPLOAD_IDLE_S = 60.0
CLIENT_STALL_S = 300.0


class ClientGone(Exception):
    """The client left before its request was complete."""


class GatewayHandler:
    """An ASGI application for the API paths of `settings.GATEWAY_URLCONF`."""

    def __init__(self) -> None:
        self._resolver: URLResolver | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            body = await read_body(scope, receive)
        except ClientGone:
            return
        except GatewayError as error:
            await send_response(render(error, source_of(path)), send)
            return
        request = ASGIRequest(scope, io.BytesIO(body))
        # Django would read the stream a second time, with a limit of its own.
        request._body = body
        work = asyncio.current_task()
        assert work is not None
        watcher = asyncio.ensure_future(cancel_when_gone(receive, work))
        response: HttpResponseBase | None = None
        try:
            response = await self.respond(request)
            await send_response(response, send, head_only=scope["method"] == "HEAD")
        except asyncio.CancelledError:
            # The client left. What had to be recorded has been, in the steps' own `finally`.
            if not watcher.done():
                raise
        finally:
            watcher.cancel()
            if response is not None:
                await close_response(response)

    async def respond(self, request: ASGIRequest) -> HttpResponseBase:
        source = source_of(request.path)
        try:
            check_host(request)
            view, args, kwargs = self.find(request)
            response: HttpResponseBase = await view(request, *args, **kwargs)
        except GatewayError as error:
            return render(error, source)
        except Exception:
            logger.exception("view of %s failed", request.path)
            return render(GatewayError("The gateway failed; its log has the reason."), source)
        if response.status_code == 405:
            return self.wrong_method(request, response, source)
        return response

    def find(self, request: ASGIRequest) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        if self._resolver is None:
            self._resolver = get_resolver(settings.GATEWAY_URLCONF)
        try:
            match = self._resolver.resolve(request.path_info)
        except Resolver404:
            raise NotFound(
                f"There is no {request.method} {request.path[:80]} here.", code="unknown_path"
            ) from None
        request.resolver_match = match
        return match.func, match.args, match.kwargs

    def wrong_method(
        self, request: HttpRequest, response: HttpResponseBase, source: str
    ) -> HttpResponseBase:
        refused = render(
            MethodNotAllowed(f"{request.method} is not allowed on {request.path[:80]}."), source
        )
        refused.headers["Allow"] = response.headers.get("Allow", "GET, POST")
        return refused


def check_host(request: HttpRequest) -> None:
    """Host names that are not ours are refused: DNS rebinding would make a page of any name local."""
    from django.core.exceptions import DisallowedHost

    try:
        request.get_host()
    except DisallowedHost:
        raise InvalidRequest(
            "This host name is not served here; an operator can add it to ALLOWED_HOSTS.",
            code="unknown_host",
        ) from None


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises for one that is compressed, too large or stands still."""
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
    parts: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(UPLOAD_IDLE_S):
                message = await receive()
        except TimeoutError:
            raise RequestTimedOut("The request's body stopped arriving.") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def cancel_when_gone(receive: Receive, work: "asyncio.Task[Any]") -> None:
    """Cancel the view once the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    work.cancel()


async def send_response(response: HttpResponseBase, send: Send, *, head_only: bool = False) -> None:
    headers = [(k.encode("latin1"), v.encode("latin1")) for k, v in response.items()]
    headers = [(k.lower(), v) for k, v in headers]
    if response.streaming:
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        assert isinstance(response, StreamingHttpResponse)
        parts: AsyncIterator[bytes] = response.__aiter__()
        async for part in parts:
            async with asyncio.timeout(CLIENT_STALL_S):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    assert isinstance(response, HttpResponse)
    body = response.content
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else body})


async def close_response(response: HttpResponseBase) -> None:
    """End a stream's generator now, so that its `finally` closes the upstream and records."""
    iterator = getattr(response, "_iterator", None)
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
