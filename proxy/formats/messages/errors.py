"""Errors in Anthropic's words: bodies, stream events, and what the upstream's words mean."""

from typing import Any

import orjson

from proxy.errors import (
    BodyTooLarge,
    ContextOverflow,
    GatewayError,
    InvalidRequest,
    PaymentRequired,
    RateLimited,
    UpstreamFailed,
    UpstreamTimedOut,
)
from proxy.formats.canonical import Failure
from proxy.formats.sse import render

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# An authentication or permission error inside an answer concerns our seat, never the client's key.
_STATUSES = {
    "invalid_request_error": 400,
    "billing_error": 402,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}

# Claude Code compacts its conversation on this prefix. Source: docs/clients.md.
_TOO_LONG = "prompt is too long: "


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The body of an error answer. Source: docs/operations.md#error-answers."""
    return {"type": "error", "error": _error(error), "request_id": request_id}


def error_event(error: GatewayError) -> bytes:
    """The `error` event that ends a stream which has begun. Source: docs/operations.md#error-answers."""
    return render(orjson.dumps({"type": "error", "error": _error(error)}), b"error")


def _error(error: GatewayError) -> dict[str, str]:
    kind = _TYPES.get(error.status)
    if kind is None:
        kind = "invalid_request_error" if error.status < 500 else "api_error"
    message = error.message
    if isinstance(error, ContextOverflow):
        kind = "invalid_request_error"
        message = _overflow_text(error)
    # Lone surrogates cannot be written as JSON.
    return {"type": kind, "message": message.encode("utf-8", "replace").decode()}


def _overflow_text(error: ContextOverflow) -> str:
    if error.tokens is not None and error.limit is not None:
        return f"{_TOO_LONG}{error.tokens} tokens > {error.limit} maximum"
    if error.message.startswith(_TOO_LONG):
        return error.message
    return _TOO_LONG + error.message


def read_failure(payload: dict[str, Any]) -> Failure | None:
    """The failure that an event or a body tells of; None when it tells of none.

    Both shapes are read: `{"type": "error", "error": {...}}` and OpenAI's `{"error": {...}}`.
    Source: docs/upstream.md (errors: shape rules).
    """
    kind = payload.get("type")
    error = payload.get("error")
    if kind != "error" and (kind is not None or error is None):
        return None
    entry = error if isinstance(error, dict) else {}
    word = entry.get("type")
    code = word if isinstance(word, str) else "api_error"
    text = entry.get("message", error)
    message = text if isinstance(text, str) and text else "The upstream reported an error."
    status = _STATUSES.get(code, 502)
    if entry.get("code") == "rate_limited":
        status = 429
    return Failure(status, code, message)


def failure_error(failure: Failure) -> GatewayError:
    """The error to record and to answer with."""
    kinds: dict[int, type[GatewayError]] = {
        400: InvalidRequest,
        402: PaymentRequired,
        413: BodyTooLarge,
        429: RateLimited,
        504: UpstreamTimedOut,
    }
    kind = kinds.get(failure.status, UpstreamFailed)
    if failure.status == 400 and failure.message.startswith(_TOO_LONG):
        return ContextOverflow(failure.message)
    return kind(failure.message, status=failure.status)
