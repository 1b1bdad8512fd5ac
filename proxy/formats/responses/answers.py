"""Whole Responses answers: the response object, usage, errors, bodies without a stream."""

from typing import Any

from proxy.errors import (
    ContextOverflow,
    Forbidden,
    GatewayError,
    InvalidRequest,
    PaymentRequired,
    RateLimited,
    Unauthorized,
    UpstreamFailed,
)
from proxy.formats.canonical import Failure, Usage
from proxy.formats.contract import Answer
from proxy.formats.responses.fields import as_dict, as_list, as_str, item_id

MAX_TOKENS_COUNT = 2**31 - 1
MAX_NANO_AIU = 2**63 - 1

# Codex shortens the conversation on this code, other clients on this text.
# Source: docs/upstream.md#errors.
OVERFLOW_CODE = "context_length_exceeded"
OVERFLOW_TEXT = (
    "Your input exceeds the context window of this model. Please adjust your input and try again."
)

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
# Parts of an upstream's error code, and the status they mean. Source: docs/upstream.md#errors.
_STATUSES = (
    (429, ("rate_limit", "overloaded", "limit_exceeded", "too_many_requests")),
    (402, ("quota", "overage", "billing", "additional_spend")),
    (503, ("service_unavailable", "unavailable")),
    (504, ("timeout", "timed_out")),
    (413, ("request_too_large",)),
    (422, ("content_filter", "cyber_policy", "content_policy")),
    (400, ("invalid_", "bad_request", "unsupported", "not_supported", "not_found")),
)


# Errors.


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    """OpenAI's envelope; the request id travels in a header there."""
    return {"error": error_object(error)}


def error_object(error: GatewayError) -> dict[str, Any]:
    overflow = isinstance(error, ContextOverflow) or error.code == OVERFLOW_CODE
    return {
        "message": OVERFLOW_TEXT if overflow else error.message,
        "type": _error_type(error.status),
        "code": OVERFLOW_CODE if overflow else error.code,
        "param": error.param,
    }


def _error_type(status: int) -> str:
    if 400 <= status < 500:
        return _TYPES.get(status, "invalid_request_error")
    return "server_error"


def failed_code(error: GatewayError) -> str:
    """The code of `response.failed`: a fixed list, by which Codex decides whether to ask again."""
    if isinstance(error, ContextOverflow) or error.code == OVERFLOW_CODE:
        return OVERFLOW_CODE
    if error.status == 429:
        return "rate_limit_exceeded"
    if error.status == 402:
        return "insufficient_quota"
    return "invalid_prompt" if 400 <= error.status < 500 else "server_error"


def failure_of(error: dict[str, Any]) -> Failure:
    """An upstream's error object (`code`, `message`), wherever it stood."""
    message = as_str(error.get("message")) or "The upstream failed without saying why."
    code = as_str(error.get("code")) or as_str(error.get("type")) or "upstream_error"
    if code in (OVERFLOW_CODE, "model_max_prompt_tokens_exceeded") or (
        "exceeds the context window" in message
    ):
        return Failure(400, OVERFLOW_CODE, message)
    for status, words in _STATUSES:
        if any(word in code for word in words):
            return Failure(status, code, message)
    return Failure(502, code, message)


def raised(failure: Failure) -> GatewayError:
    """The failure as the error of our tree that has its status."""
    if failure.code == OVERFLOW_CODE:
        return ContextOverflow(failure.message)
    kinds: dict[int, type[GatewayError]] = {
        401: Unauthorized,
        402: PaymentRequired,
        403: Forbidden,
        429: RateLimited,
    }
    kind = kinds.get(failure.status, InvalidRequest if failure.status < 500 else UpstreamFailed)
    return kind(failure.message, code=failure.code, status=failure.status)


def nested_error(payload: dict[str, Any]) -> dict[str, Any]:
    """The error of an `error` event, which is flat at OpenAI and nested at Copilot."""
    inner = payload.get("error")
    if isinstance(inner, dict):
        return inner
    return {"message": inner} if isinstance(inner, str) else payload


# Usage.


def read_usage(usage: object, cost: object) -> Usage | None:
    """`usage` of a response and `copilot_usage` beside it; None when neither can be read.

    `input_tokens` includes the cached ones. The cost's own token details stand in for a missing
    usage; there `input` excludes the cached ones. Source: docs/upstream.md#copilot-usage.
    """
    given, paid = as_dict(usage), as_dict(cost)
    details: dict[str, int] = {}
    for entry in as_list(paid.get("token_details")):
        kind, count = as_dict(entry).get("token_type"), _count(as_dict(entry).get("token_count"))
        if isinstance(kind, str) and count is not None:
            details[kind] = count
    nano_aiu = _count(paid.get("total_nano_aiu"), MAX_NANO_AIU)
    inputs, outputs = _count(given.get("input_tokens")), _count(given.get("output_tokens"))
    into = as_dict(given.get("input_tokens_details"))
    out_of = as_dict(given.get("output_tokens_details"))
    written = _count(into.get("cache_write_tokens"))
    if inputs is None and outputs is None:
        if not details and nano_aiu is None:
            return None
        inputs = sum(details.get(kind, 0) for kind in ("input", "cache_read", "cache_write"))
        outputs = details.get("output", 0)
        into = {"cached_tokens": details.get("cache_read", 0)}
    return Usage(
        input_tokens=min(inputs or 0, MAX_TOKENS_COUNT),
        output_tokens=outputs or 0,
        cache_read_tokens=_count(into.get("cached_tokens")) or 0,
        cache_write_tokens=details.get("cache_write", 0) if written is None else written,
        reasoning_tokens=_count(out_of.get("reasoning_tokens")) or 0,
        nano_aiu=nano_aiu,
    )


def _count(value: object, most: int = MAX_TOKENS_COUNT) -> int | None:
    """A count within its bounds, None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return None
    return int(min(max(value, 0), most))


def usage_object(usage: Usage | None) -> dict[str, Any]:
    """Always there, as zeros when unsaid: a client waits for it for ever."""
    known = usage or Usage()
    return {
        "input_tokens": known.input_tokens,
        "input_tokens_details": {
            "cached_tokens": known.cache_read_tokens,
            "cache_write_tokens": known.cache_write_tokens,
        },
        "output_tokens": known.output_tokens,
        "output_tokens_details": {"reasoning_tokens": known.reasoning_tokens},
        "total_tokens": known.input_tokens + known.output_tokens,
    }


# The response object.


def response_object(answer: Answer, status: str) -> dict[str, Any]:
    """A response as the official SDK's types demand it, with the client's own settings echoed."""
    asked = answer.request
    reasoning = {"effort": None, "summary": None, **as_dict(asked.get("reasoning"))}
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": asked.get("max_tool_calls"),
        "metadata": as_dict(asked.get("metadata")),
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "previous_response_id": asked.get("previous_response_id"),
        "prompt_cache_key": asked.get("prompt_cache_key"),
        "reasoning": reasoning,
        "safety_identifier": asked.get("safety_identifier"),
        "service_tier": "default",
        "store": False,
        "temperature": _or(asked.get("temperature"), 1.0),
        "text": {"format": {"type": "text"}, **_without_none(as_dict(asked.get("text")))},
        "tool_choice": _or(asked.get("tool_choice"), "auto"),
        "tools": [_echo(tool) for tool in as_list(asked.get("tools"))],
        "top_logprobs": _or(asked.get("top_logprobs"), 0),
        "top_p": _or(asked.get("top_p"), 1.0),
        "truncation": _or(asked.get("truncation"), "disabled"),
        "usage": None,
        "user": asked.get("user"),
    }


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _echo(tool: Any) -> Any:
    """A tool as the vendor echoes it: a function says all its fields."""
    if isinstance(tool, dict) and tool.get("type") == "function":
        return {"description": None, "parameters": None, "strict": None, **tool}
    return tool


def usable_id(value: object) -> str | None:
    """An id that may go to a client: short and with a prefix, not Copilot's long opaque one."""
    if isinstance(value, str) and len(value) <= 80:
        prefix, _, tail = value.partition("_")
        if prefix.isalpha() and prefix.islower() and tail and tail.isascii():
            return value
    return None


def repair_body(body: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """A whole upstream answer with our ids and the fields that every client reads."""
    repaired = dict(body)
    if "error" in body and "output" not in body:
        return repaired
    repaired["id"] = usable_id(body.get("id")) or f"resp_{answer.id}"
    repaired["output"] = [
        with_own_id(item, answer.id, index)
        for index, item in enumerate(as_list(body.get("output")))
    ]
    defaults = {"object": "response", "created_at": answer.created, "model": answer.model}
    for key, value in defaults.items():
        if repaired.get(key) is None:
            repaired[key] = value
    repaired.setdefault("parallel_tool_calls", True)
    repaired.setdefault("tool_choice", "auto")
    repaired.setdefault("tools", [])
    return repaired


def with_own_id(item: Any, answer_id: str, index: int) -> Any:
    """The output item under an id that stays the same in every event."""
    if not isinstance(item, dict):
        return item
    own = usable_id(item.get("id")) or item_id(answer_id, as_str(item.get("type")), index)
    return {**item, "id": own}
