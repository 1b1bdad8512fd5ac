"""Errors on the chat wire: what the upstream says inside a 200, and what we say to the client."""

import re
from typing import Any

from proxy.errors import (
    ContextOverflow,
    GatewayError,
    InvalidRequest,
    PaymentRequired,
    RateLimited,
    UpstreamFailed,
)
from proxy.formats.canonical import Failure

# Words in the upstream's `code` or `type`, first match counts.
# Source: docs/upstream.md#errors.
_STATUS_BY_WORD = (
    ("context_length_exceeded", 400),
    ("prompt_tokens_exceeded", 400),
    ("content_filter", 422),
    ("cyber_policy", 422),
    ("quota", 402),
    ("rate_limit", 429),
    ("overload", 503),
    ("timeout", 504),
    ("not_found", 404),
    ("invalid", 400),
)
_TYPE_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    426: "invalid_request_error",
    429: "rate_limit_error",
}
_OVERFLOW_CODES = ("context_length_exceeded", "model_max_prompt_tokens_exceeded")
_OVERFLOW_NUMBERS = re.compile(r"count of (\d+) exceeds the limit of (\d+)")
_SECRETS = re.compile(
    r"\btid=[^\s\"']+|\bgh[a-z]_\w+|\bgithub_pat_\w+|\bBearer\s+\S+|\bsk-[\w-]+", re.IGNORECASE
)
_LONGEST_CODE = 100


NO_ANSWER = Failure(502, "upstream_error", "The upstream ended the stream without an answer.")
FILTERED = Failure(422, "content_filter", "The upstream's content filter refused the prompt.")
SERVER_ERROR = Failure(502, "upstream_error", "The upstream stopped the answer with an error.")


def is_filtered(chunk: dict[str, Any]) -> bool:
    """Whether the content filter refused the prompt: the only chunk of such a stream says so."""
    results = chunk.get("prompt_filter_results")
    for result in results if isinstance(results, list) else []:
        found = result.get("content_filter_results") if isinstance(result, dict) else None
        for verdict in found.values() if isinstance(found, dict) else []:
            if isinstance(verdict, dict) and verdict.get("filtered") is True:
                return True
    return False


def find_failure(chunk: dict[str, Any]) -> Failure | None:
    """The error object of a chunk or body: `error`, or the first of `copilot_errors`."""
    error = chunk.get("error")
    if not error:
        errors = chunk.get("copilot_errors")
        error = errors[0] if isinstance(errors, list) and errors else None
    return read_failure(error) if error else None


def read_failure(error: Any) -> Failure:
    if not isinstance(error, dict):
        return Failure(502, "upstream_error", _message(error))
    words = [error[key] for key in ("code", "type") if isinstance(error.get(key), str)]
    code = next((word for word in words if word), "upstream_error")[:_LONGEST_CODE]
    return Failure(_status(error, " ".join(words)), code, _message(error.get("message")))


def _message(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        return "The upstream reported an error."
    # Upstream errors may quote the token they refuse.
    return _SECRETS.sub("[redacted]", text)


def _status(error: dict[str, Any], words: str) -> int:
    for key in ("status", "status_code", "code"):
        number = error.get(key)
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    return next((status for word, status in _STATUS_BY_WORD if word in words), 502)


def error_of(failure: Failure) -> GatewayError:
    """The failure as an error that can be answered or recorded."""
    if failure.code in _OVERFLOW_CODES:
        numbers = _OVERFLOW_NUMBERS.search(failure.message)
        tokens, limit = (int(numbers[1]), int(numbers[2])) if numbers else (None, None)
        return ContextOverflow(failure.message, tokens=tokens, limit=limit)
    kinds: dict[int, type[GatewayError]] = {
        400: InvalidRequest,
        402: PaymentRequired,
        422: InvalidRequest,
        429: RateLimited,
    }
    kind = kinds.get(failure.status, UpstreamFailed)
    return kind(failure.message, status=failure.status, code=failure.code)


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    """OpenAI's error object; the request id travels in a header on this wire."""
    message, param = error.message, error.param
    if isinstance(error, ContextOverflow) and error.tokens is not None and error.limit is not None:
        message = (
            f"This model's maximum context length is {error.limit} tokens. However, your messages "
            f"resulted in {error.tokens} tokens. Please reduce the length of the messages."
        )
        param = param or "messages"
    kind = _TYPE_BY_STATUS.get(error.status, "server_error")
    if error.status == 429 and error.code == "insufficient_quota":
        kind = "insufficient_quota"
    return {"error": {"message": message, "type": kind, "param": param, "code": error.code}}
