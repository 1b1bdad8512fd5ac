"""Errors at the edge: whatever is raised under an API path becomes JSON in the caller's format."""

import math
import secrets

import orjson
from django.http import HttpResponse

from accounts import auth
from proxy.errors import Forbidden, GatewayError, Unauthorized, Unavailable
from proxy.exchange import set_headers
from proxy.formats import FORMATS

NO_RETRY_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422})


def render(error: GatewayError, source: str) -> HttpResponse:
    """The answer for an error, in the format `source`.

    What the error was raised through is let go: those frames know the error, so that they and the
    bodies in them, megabytes each, would stay until the collector comes by.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    body = FORMATS[source].error_body(error, error.request_id or f"req_{secrets.token_hex(12)}")
    response = HttpResponse(
        orjson.dumps(body), status=error.status, content_type="application/json"
    )
    set_headers(response, error.headers)
    wait_s = error.retry_after_s
    if wait_s is None and error.status in (429, 503):
        wait_s = 5.0
    if wait_s is not None:
        # Between one second and 32 days, whole seconds, never too early.
        response.headers["Retry-After"] = str(min(max(1, math.ceil(wait_s)), 32 * 86400))
    if error.should_retry is False or error.status in NO_RETRY_STATUSES:
        response.headers["x-should-retry"] = "false"
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def from_auth(error: auth.Refused | auth.Unavailable, base_url: str = "") -> GatewayError:
    if isinstance(error, auth.NotAgreed):
        return Forbidden(error.words(base_url), code=error.code)
    if isinstance(error, auth.Refused):
        return Unauthorized(error.message)
    return Unavailable(error.message, retry_after_s=error.retry_after_s)
