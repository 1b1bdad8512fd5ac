"""Pages of other origins that the operator lets use the API (GATEWAY_CORS_ORIGINS); none by default.

Origins are compared as whole texts, nothing is reflected that is not on the list, and no cookie is
ever allowed: pages bring a key like every other client.
"""

from collections.abc import Awaitable, Callable

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from proxy.lean_request import LeanRequest

METHODS = "GET, POST, PUT, PATCH, DELETE"
# Browsers ask before each request; so long they remember the answer, in seconds.
MAX_AGE_S = 600
EXPOSED = "x-request-id, retry-after, x-gateway-dropped, x-should-retry"


async def answer(
    request: LeanRequest, serve: Callable[[], Awaitable[HttpResponseBase]]
) -> HttpResponseBase:
    """The answer to a request that names its origin; a preflight of an allowed one gets its yes."""
    origin = request.plain_headers["origin"]
    if origin not in settings.GATEWAY_CORS_ORIGINS:
        return await serve()
    if request.method == "OPTIONS" and "access-control-request-method" in request.plain_headers:
        response: HttpResponseBase = HttpResponse(status=204)
        response.headers["Access-Control-Allow-Methods"] = METHODS
        asked = request.plain_headers.get("access-control-request-headers", "")
        response.headers["Access-Control-Allow-Headers"] = _names(asked)
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
    else:
        response = await serve()
    more = {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": EXPOSED,
        "vary": "Origin",
    }
    # The lean kinds of response keep their headers in a plain dict.
    headers = getattr(response, "plain_headers", None)
    headers = response.headers if headers is None else headers
    for name, value in more.items():
        headers[name] = value
    return response


def _names(asked: str) -> str:
    """The header names of a preflight, as far as they are names."""
    names = (name.strip() for name in asked[:2000].split(","))
    return ", ".join(n for n in names if n and n.replace("-", "").replace("_", "").isalnum())
