"""What the chat wire calls things: field names, finish reasons, usage, opaque values.

Source: docs/upstream.md#chat-completions.
"""

import re
from hashlib import sha256
from typing import Any, get_args

import orjson

from proxy.errors import UpstreamFailed
from proxy.formats.canonical import Family, Opaque, StopReason, Usage

NAME = "chat_completions"
FAMILY: Family = "copilot_chat"
KEEPALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

# The names under which the dialects send reasoning, the first one present counts.
REASONING_FIELDS = ("reasoning_text", "reasoning_content", "reasoning", "cot_summary")

MAX_TOKENS = 2**31 - 1
MAX_NANO_AIU = 2**63 - 1
MAX_ID_LENGTH = 40
_OPAQUE_PREFIX = "cgw1."
_FAMILIES: frozenset[str] = frozenset(get_args(Family))
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")

_REASONS: dict[StopReason, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "context_overflow": "length",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
}


def load_object(data: bytes) -> dict[str, Any]:
    """The JSON object of one event. Invalid UTF-8 becomes U+FFFD. Raises `UpstreamFailed`."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _load_leniently(data)
    if not isinstance(value, dict):
        raise UpstreamFailed("The upstream sent an event that is not a JSON object.")
    return value


def _load_leniently(data: bytes) -> Any:
    try:
        return orjson.loads(data.decode("utf-8", "replace"))
    except orjson.JSONDecodeError:
        raise UpstreamFailed("The upstream sent an event that is not JSON.") from None


def wrap_opaque(opaque: Opaque) -> str:
    """The value for `reasoning_opaque`; another family's is marked to find its way back."""
    if opaque.family == FAMILY:
        return opaque.value
    return f"{_OPAQUE_PREFIX}{opaque.family}.{opaque.value}"


def unwrap_opaque(value: str) -> Opaque:
    if value.startswith(_OPAQUE_PREFIX):
        family, dot, rest = value[len(_OPAQUE_PREFIX) :].partition(".")
        if dot and family in _FAMILIES:
            return Opaque(family, rest)  # type: ignore[arg-type]
    return Opaque(FAMILY, value)


def tool_call_id(value: str) -> str:
    """An id of another wire as this one accepts it: at most 40 of `[A-Za-z0-9_-]`, always the same.

    OpenAI refuses longer ids, Anthropic models behind this endpoint other characters.
    """
    if len(value) <= MAX_ID_LENGTH and value.isidentifier() and value.isascii():
        # Nearly every id, and twenty times as fast.
        return value
    clean = _NOT_IN_IDS.sub("_", value)
    if clean == value and 0 < len(value) <= MAX_ID_LENGTH:
        return value
    digest = sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{clean[: MAX_ID_LENGTH - 13]}_{digest}"


def finish_reason(reason: StopReason | None, *, calls: bool, refused: bool) -> str:
    """OpenAI's word. Clients run tools by it, so calls decide, unless the answer was cut."""
    if reason == "refusal":
        # With a refusal text OpenAI itself says `stop`; without one the client must see why.
        return "stop" if refused else "content_filter"
    word = _REASONS[reason] if reason is not None else "stop"
    if word in ("stop", "tool_calls"):
        return "tool_calls" if calls else "stop"
    return word


def stop_reason(word: str | None, *, calls: bool, only_refusal: bool) -> StopReason:
    """The canonical reason; `stop` with tool calls present occurs and means tool use."""
    if word == "length":
        return "max_tokens"
    if word == "content_filter":
        return "content_filter"
    if calls:
        return "tool_use"
    return "refusal" if only_refusal else "end_turn"


def count(value: Any, ceiling: int = MAX_TOKENS) -> int | None:
    """A reported number within 0..ceiling, None when it is not a number."""
    if type(value) is int and 0 <= value <= ceiling:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(min(max(value, 0), ceiling))


def merge_usage(known: Usage | None, chunk: dict[str, Any]) -> Usage | None:
    """Usage so far and what `chunk` (or a whole body) adds: the last figures that are not zero.

    Gemini reports on every chunk, zeros first. Source: docs/upstream.md#chat-completions.
    """
    tokens = _read_tokens(chunk.get("usage"))
    cost = chunk.get("copilot_usage")
    nano = count(cost.get("total_nano_aiu"), MAX_NANO_AIU) if isinstance(cost, dict) else None
    if tokens is None and nano is None:
        return known
    merged = tokens or known or Usage()
    if nano is None:
        if known is None:
            return merged
        nano = known.nano_aiu
    return Usage(
        input_tokens=merged.input_tokens,
        output_tokens=merged.output_tokens,
        cache_read_tokens=merged.cache_read_tokens,
        cache_write_tokens=merged.cache_write_tokens,
        reasoning_tokens=merged.reasoning_tokens,
        nano_aiu=nano,
    )


def _read_tokens(usage: Any) -> Usage | None:
    """None when it says nothing: no prompt and no completion tokens, or no numbers."""
    if not isinstance(usage, dict):
        return None
    prompt = count(usage.get("prompt_tokens"))
    completion = count(usage.get("completion_tokens"))
    if not prompt and not completion:
        return None
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    read = count(details.get("cached_tokens")) or 0
    write = count(details.get("cache_write_tokens", details.get("cache_creation_tokens"))) or 0
    input_tokens = prompt or 0
    if read + write > input_tokens:
        # A prompt cannot hold less than what was cached of it: this dialect leaves the cache out.
        input_tokens = min(input_tokens + read + write, MAX_TOKENS)
    completion_details = usage.get("completion_tokens_details")
    reasoning = None
    if isinstance(completion_details, dict):
        reasoning = count(completion_details.get("reasoning_tokens"))
    output_tokens = completion or 0
    if reasoning is None:
        reasoning = count(usage.get("reasoning_tokens")) or 0
        if reasoning and usage.get("total_tokens") == input_tokens + output_tokens + reasoning:
            # Gemini counts its thoughts beside the completion.
            output_tokens = min(output_tokens + reasoning, MAX_TOKENS)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=write,
        reasoning_tokens=reasoning,
    )


def usage_body(usage: Usage) -> dict[str, Any]:
    """OpenAI's `usage` object."""
    prompt_details = {"cached_tokens": usage.cache_read_tokens}
    if usage.cache_write_tokens:
        prompt_details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def text_of(value: Any, name: str) -> str:
    """The text of a field; some dialects send a list of parts. Raises `UpstreamFailed`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    raise UpstreamFailed(f"The upstream sent a {name!r} that is not a string.")


def known_text(value: Any) -> str:
    """A string that says something, or an empty one."""
    return value if isinstance(value, str) else ""


def model_id(value: Any) -> str:
    """A model's id, or nothing: Claude's may be a name for people, which no client asked for."""
    text = known_text(value)
    return "" if " " in text else text


def asks_for_usage(request: dict[str, Any]) -> bool:
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def asks_for_several(request: dict[str, Any]) -> int:
    """How many choices the client asked for, at least 1."""
    number = request.get("n")
    return number if isinstance(number, int) and number > 1 else 1
