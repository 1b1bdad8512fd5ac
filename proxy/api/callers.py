"""Who calls: the key of a request, read once at the door."""

from django.http import HttpRequest

from accounts import auth
from accounts.auth import Caller
from accounts.hosts import is_local_request
from proxy.api.errors import from_auth
from proxy.errors import Forbidden


def authenticate(request: HttpRequest) -> Caller:
    """The caller of an API request. Raises `Unauthorized` or `Unavailable`."""
    headers = {k.lower(): v for k, v in request.headers.items()}
    refuse_web_pages(request)
    try:
        return auth.authenticate(
            headers,
            request.GET.get("key"),
            allow_query=request.path.startswith("/v1beta/"),
            loopback=is_local_request(request.META),
        )
    except (auth.Refused, auth.Unavailable) as error:
        raise from_auth(error) from None


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
