"""The door of pages and their sockets: what is too large, too slow or foreign ends here.

Django writes a request's whole body to a temporary file before anybody looks at it; anybody could fill
the disk, without a session. Pages take forms only, so the limit is small and counts while bytes arrive.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

from accounts.hosts import is_proxy

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# A form that stands still for so long is given up.
FORM_IDLE_S: Final = 60.0
DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


# What only a proxy of ours may say about a connection.
FORWARDED: Final = (b"x-forwarded-", b"forwarded")


class PageDoor:
    """Refuses bodies over DATA_UPLOAD_MAX_MEMORY_SIZE with 413, and those that stop with 408.

    Forwarding headers of strangers are dropped: Django would believe the scheme that they claim.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        client = scope.get("client")
        if not is_proxy(str(client[0]) if client else ""):
            known = [h for h in scope["headers"] if not h[0].lower().startswith(FORWARDED)]
            scope = {**scope, "headers": known}
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            # No text of ours holds NUL, and PostgreSQL cannot even look for it.
            await refuse(send, 400, "The address holds a NUL.")
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:19]) > limit:
            await refuse(send, 413, "The form is too large.")
            return
        if declared == b"0" and b"transfer-encoding" not in headers:
            await self._application(scope, receive, send)
            return
        try:
            body = await _read(receive, limit)
        except OverflowError:
            await refuse(send, 413, "The form is too large.")
            return
        except TimeoutError:
            await refuse(send, 408, "The form stopped arriving.")
            return
        if body is not None:
            await self._application(scope, _replay(body, receive), send)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The whole body; None when the client left. Raises `OverflowError` or `TimeoutError`."""
    parts: list[bytes] = []
    size = 0
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(FORM_IDLE_S) as patience:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise OverflowError
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            patience.reschedule(clock() + FORM_IDLE_S)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever comes."""
    was_given = False

    async def again() -> dict[str, Any]:
        nonlocal was_given
        if was_given:
            return await receive()
        was_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def refuse(send: Send, status: int, words: str) -> None:
    """A refusal of plain text. The connection closes: the rest of the body is not read."""
    text = words.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class OwnPagesOnly:
    """Opens sockets to pages of this very host and port only.

    Cookies do not tell ports apart: a page of another program on localhost brings our session along.
    Behind a proxy that changes host or port, CSRF_TRUSTED_ORIGINS names the pages' origin.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if is_own(headers.get(b"origin", b""), headers.get(b"host", b"")):
            await self._application(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.close", "code": 4403})


def is_own(origin_bytes: bytes, host_bytes: bytes) -> bool:
    origin, host = origin_bytes.decode("latin-1").lower(), host_bytes.decode("latin-1").lower()
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        page, here = urlsplit(origin), urlsplit(f"{origin.partition(':')[0]}://{host}")
        ports = page.port, here.port
    except ValueError:
        return False
    default = DEFAULT_PORTS.get(page.scheme)
    return (
        page.scheme == ("https" if settings.HTTPS else "http")
        and page.hostname is not None
        and page.hostname == here.hostname
        and (ports[0] or default) == (ports[1] or default)
        and validate_host(_bare(host), settings.ALLOWED_HOSTS)
    )


def _bare(host: str) -> str:
    """`host` without its port; brackets of IPv6 stay."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
