"""Who calls: the key of a request, read once at the door."""

from django.http import HttpRequest

from accounts import auth
from accounts.auth import Caller
from accounts.database import in_database
from accounts.hosts import is_local_request
from proxy.api.errors import from_auth
from proxy.errors import Forbidden
from proxy.lean_request import headers_of, peer_meta


async def authenticate(request: HttpRequest) -> Caller:
    """The caller of an API request. Raises `Unauthorized` or `Unavailable`."""
    try:
        return _known(request)
    except auth.Refused as error:
        if error.digest is None or not await in_database(auth.learn, error.digest):
            raise from_auth(error) from None
    except auth.Unavailable as error:
        raise from_auth(error) from None
    try:
        return _known(request)
    except (auth.Refused, auth.Unavailable) as error:
        raise from_auth(error) from None


def _known(request: HttpRequest) -> Caller:
    """The caller as memory knows it. Raises what `accounts.auth` raises."""
    headers = headers_of(request)
    if "origin" in headers:
        refuse_web_pages(request)
    allow_query = request.path.startswith("/v1beta/")
    return auth.authenticate(
        headers,
        request.GET.get("key") if allow_query else None,
        allow_query=allow_query,
        loopback=is_local_request(peer_meta(request)),
    )


def sends_key(request: HttpRequest) -> bool:
    """Whether the request carries anything that is meant as a key."""
    return any(
        request.headers.get(name) for name in ("Authorization", "x-api-key", "x-goog-api-key")
    )


def refuse_web_pages(request: HttpRequest) -> None:
    """A page on the internet must not use a gateway on localhost through a visitor's browser.

    Browsers name the page in `Origin`; tools do not, and our own pages are of our own host.
    """
    origin = request.headers.get("Origin")
    if origin is None or (origin == "null" and "Sec-Fetch-Site" not in request.headers):
        return
    host = request.headers.get("Host", "")
    if origin.partition("://")[2].lower() == host.lower():
        return
    if request.headers.get("Authorization", "").partition(" ")[2].startswith("cgw_"):
        # Whoever holds a real key may call from where they like; nothing is allowed by cookie.
        return
    raise Forbidden("Web pages may not call this gateway.", code="origin_refused")
