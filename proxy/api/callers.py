"""Who calls: the key of a request, read once at the door."""

import asyncio

from django.conf import settings
from django.http import HttpRequest

from accounts import auth
from accounts.auth import Caller
from accounts.database import in_database
from accounts.hosts import client_address, is_local_request
from accounts.keys import MARK
from proxy.api.errors import from_auth
from proxy.api.refused import lookups, notes
from proxy.errors import Forbidden, GatewayError
from proxy.lean_request import headers_of, peer_meta

# A key that memory does not know waits this long for the database.
LOOKUP_S = 4.0
# What `Sec-Fetch-Site` says of our own pages and of an address typed in; tools do not send it.
OWN_SITES = (None, "same-origin", "none")


async def authenticate(request: HttpRequest) -> Caller:
    """The caller of an API request. Raises `Unauthorized` or `Unavailable`."""
    try:
        return _known(request)
    except auth.Refused as error:
        if error.digest is None or not await _learned(error.digest):
            raise _refused(request, error) from None
    except auth.Unavailable as error:
        raise from_auth(error) from None
    try:
        return _known(request)
    except auth.Refused as error:
        raise _refused(request, error) from None
    except auth.Unavailable as error:
        raise from_auth(error) from None


def is_known(request: HttpRequest) -> bool:
    """Whether memory knows who calls: they may send more than a stranger before anything is read."""
    try:
        _known(request)
    except (auth.Refused, auth.Unavailable, GatewayError):
        return False
    return True


async def _learned(digest: bytes) -> bool:
    if not lookups.lets_through():
        return False
    try:
        async with asyncio.timeout(LOOKUP_S):
            return await in_database(auth.learn, digest)
    except TimeoutError:
        raise from_auth(auth.Unavailable()) from None


def _refused(request: HttpRequest, error: auth.Refused) -> GatewayError:
    if not isinstance(error, auth.NotAgreed):
        notes.take(error, client_address(peer_meta(request)))
    return from_auth(error, _base_url(request))


def _base_url(request: HttpRequest) -> str:
    """This gateway as the client called it; its own name was checked at the door."""
    host = request.headers.get("Host", "")
    return f"{request.scheme}://{host}" if host else ""


def _known(request: HttpRequest) -> Caller:
    """The caller as memory knows it. Raises what `accounts.auth` raises."""
    headers = headers_of(request)
    if "origin" in headers or "sec-fetch-site" in headers:
        refuse_web_pages(request)
    allow_query = request.path.startswith("/v1beta/") and settings.GATEWAY_KEYS_IN_QUERY
    return auth.authenticate(
        headers,
        request.GET.get("key") if allow_query else None,
        allow_query=allow_query,
        loopback=not settings.REQUIRE_KEYS and is_local_request(peer_meta(request)),
    )


def sends_key(request: HttpRequest) -> bool:
    """Whether the request carries anything that is meant as a key."""
    return any(
        request.headers.get(name) for name in ("Authorization", "x-api-key", "x-goog-api-key")
    )


def refuse_web_pages(request: HttpRequest) -> None:
    """A page on the internet must not use a gateway on localhost through a visitor's browser.

    Browsers name the page in `Origin`, and how it stands to us in `Sec-Fetch-Site`; tools send
    neither, and our own pages are of our own host.
    """
    headers = headers_of(request)
    origin = headers.get("origin")
    if origin is None and headers.get("sec-fetch-site") in OWN_SITES:
        return
    host = headers.get("host", "")
    if origin is not None and origin.partition("://")[2].lower() == host.lower() != "":
        return
    if origin in settings.GATEWAY_CORS_ORIGINS:
        return
    scheme, _, bearer = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and bearer.strip().startswith(MARK):
        # Whoever holds a real key may call from where they like; nothing is allowed by cookie.
        return
    raise Forbidden("Web pages may not call this gateway.", code="origin_refused")
