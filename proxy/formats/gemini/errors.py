"""Errors in Google's words: bodies, frames of a stream, and what an upstream's words mean."""

import math
from typing import Any

from proxy.errors import ContextOverflow, GatewayError
from proxy.formats.canonical import Failure
from proxy.formats.gemini.fields import Body

_STATUSES = {
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_MAX_RETRY_S = 32 * 86400


def error_body(error: GatewayError, request_id: str) -> Body:
    """The body of an error answer; `request_id` goes with it in a header.

    Gemini CLI waits as long as `retryDelay` says and gives up at once when that is minutes.
    Source: docs/clients.md; Google's error model (google.rpc.Status).
    """
    status = _STATUSES.get(error.status)
    if status is None:
        status = "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL"
    # Lone surrogates cannot be written as JSON.
    message = _message(error).encode("utf-8", "replace").decode()
    entry: Body = {"code": error.status, "message": message, "status": status}
    if error.status in (429, 503, 529) and error.retry_after_s is not None:
        wait_s = min(max(1, math.ceil(error.retry_after_s)), _MAX_RETRY_S)
        entry["details"] = [{"@type": _RETRY_INFO, "retryDelay": f"{wait_s}s"}]
    return {"error": entry}


def _message(error: GatewayError) -> str:
    if isinstance(error, ContextOverflow) and error.tokens is not None and error.limit is not None:
        return (
            f"The input token count ({error.tokens}) exceeds the maximum number of tokens allowed "
            f"({error.limit})."
        )
    if isinstance(error, ContextOverflow):
        return (
            f"The input token count exceeds the maximum number of tokens allowed. {error.message}"
        )
    return error.message


def read_failure(payload: Body) -> Failure | None:
    """The failure that a frame or a body tells of; None when it tells of none."""
    error: Any = payload.get("error")
    if not error:
        return None
    entry = error if isinstance(error, dict) else {}
    code, word, text = entry.get("code"), entry.get("status"), entry.get("message", error)
    status = code if type(code) is int and 400 <= code < 600 else 502
    if status in (401, 403):
        # It concerns our seat, never the client's key.
        status = 502
    return Failure(
        status,
        word if isinstance(word, str) and word else "upstream_error",
        text if isinstance(text, str) and text else "The upstream reported an error.",
    )


def failure_error(failure: Failure) -> GatewayError:
    return GatewayError(failure.message, status=failure.status, code=failure.code)
