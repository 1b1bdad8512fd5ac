"""What a `generateContent` body must hold, looked at without parsing it."""

from typing import Any

from proxy.errors import InvalidRequest, UnsupportedContent
from proxy.formats.checks import MAX_OUTPUT_TOKENS, Fault, refusal
from proxy.formats.gemini.fields import (
    Body,
    optional_count,
    optional_number,
    peek,
    proto,
    sequence,
)

_TEMPERATURE = (0, 2)


def check(body: Body, *, counted: bool = False) -> None:
    """Raises `InvalidRequest` naming the field. `counted` makes no difference on this wire."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise refusal("model", "a name (a non-empty string)")
    entry = proto(body, "body")
    refuse_cached(entry)
    for i, content in enumerate(contents_of(entry)):
        if fault := _content_fault(content):
            raise refusal(f"contents[{i}]{fault[0]}", fault[1])
    _check_tools(peek(body, "tools"))
    config = peek(body, "generationConfig")
    if config is None:
        return
    if not isinstance(config, dict):
        raise refusal("generationConfig", "an object")
    _check_sampling(config)


def refuse_cached(entry: Body) -> None:
    """Raises `UnsupportedContent` when a part of the prompt is at Google's."""
    if entry.get("cachedContent") is not None:
        raise UnsupportedContent(
            "Content that is cached at Google cannot be read by Copilot's models; send it in "
            "contents. Copilot caches prompts by itself.",
            param="cachedContent",
        )


def contents_of(entry: Body) -> list[Any]:
    if entry.get("contents") is None:
        raise InvalidRequest(
            "contents: a list with at least one entry is required.", param="contents"
        )
    contents = sequence(entry["contents"], "contents")
    if not contents:
        raise InvalidRequest("contents: at least one entry is required.", param="contents")
    return contents


def _content_fault(content: Any) -> Fault:
    if not isinstance(content, dict):
        return "", "an object"
    if not isinstance(content.get("role"), str | None):
        return ".role", "'user' or 'model'"
    parts = content.get("parts")
    if parts is None or isinstance(parts, dict):
        return None
    if not isinstance(parts, list):
        return ".parts", "a list"
    for i, part in enumerate(parts):
        if not isinstance(part, dict):
            return f".parts[{i}]", "an object"
    return None


def _check_tools(tools: Any) -> None:
    if tools is None:
        return
    for i, tool in enumerate(tools if isinstance(tools, list) else [tools]):
        if not isinstance(tool, dict):
            raise refusal(f"tools[{i}]", "an object")


def _check_sampling(config: Body) -> None:
    where = "generationConfig.temperature"
    temperature = optional_number(peek(config, "temperature"), where)
    if temperature is not None and not _TEMPERATURE[0] <= temperature <= _TEMPERATURE[1]:
        raise refusal(where, "a number from 0 to 2")
    where = "generationConfig.maxOutputTokens"
    limit = optional_count(peek(config, "maxOutputTokens"), where, 1)
    if limit is not None and limit > MAX_OUTPUT_TOKENS:
        raise refusal(where, f"an integer of at most {MAX_OUTPUT_TOKENS}")
