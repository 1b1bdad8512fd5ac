"""Canonical content as Messages blocks.

`own` says that the request came in this format: then a block is written as it was read, blank
texts and unknown fields included. Otherwise it is written as the strictest backend accepts it.
Source: docs/upstream.md (messages leg: rules for tool ids, empty text, images).
"""

import base64
import binascii
from typing import Any

import orjson

from proxy.errors import UnsupportedContent
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from proxy.formats.messages.wrapping import wire_tool_id

# Records of what another vendor's server did by itself; the answer's text already tells the result.
_BOOKKEEPING = frozenset({"web_search_call"})

_CITATIONS = frozenset(
    {
        "char_location",
        "page_location",
        "content_block_location",
        "web_search_result_location",
        "search_result_location",
    }
)


def is_citation(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is one of Anthropic's citations; others have no place here."""
    kind = annotation.get("type")
    return isinstance(kind, str) and kind in _CITATIONS


def arguments_object(arguments: str) -> dict[str, Any]:
    """The `input` of a call. What is no JSON object is put under the key `arguments`."""
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except ValueError:
        value = arguments
    return value if isinstance(value, dict) else {"arguments": value}


def content(blocks: list[Block], own: bool, dropped: list[str]) -> list[dict[str, Any]]:
    """The wire blocks of one message; blocks without a place here are left out or refused."""
    wire: list[dict[str, Any]] = []
    for block in blocks:
        entry = _entry(block, own, dropped)
        if entry is not None:
            wire.append(entry)
    return wire


def _entry(block: Block, own: bool, dropped: list[str]) -> dict[str, Any] | None:
    match block:
        case Text():
            return text_block(block, own)
        case Image():
            return _image(block, own, dropped)
        case Document():
            return _document(block, own)
        case Thinking():
            return _thinking(block, own, dropped)
        case ToolUse():
            return _tool_use(block, own)
        case ToolResult():
            return _tool_result(block, own, dropped)
        case Foreign():
            return _foreign(block)


def _finish(
    entry: dict[str, Any], block: Text | Image | Document | ToolUse | ToolResult, own: bool
) -> dict[str, Any]:
    if block.cache is not None:
        entry["cache_control"] = block.cache
    if own and block.extras:
        entry.update(block.extras)
    return entry


def text_block(block: Text, own: bool) -> dict[str, Any] | None:
    """None for a blank text that the upstream would refuse."""
    if not own and not block.text.strip():
        return None
    entry: dict[str, Any] = {"type": "text", "text": block.text}
    if block.annotations is not None:
        citations = block.annotations if own else [a for a in block.annotations if is_citation(a)]
        if citations or own:
            entry["citations"] = citations
    return _finish(entry, block, own)


def _image(block: Image, own: bool, dropped: list[str]) -> dict[str, Any]:
    if block.detail not in (None, "auto"):
        drop(dropped, "detail")
    if block.data is not None:
        source = {"type": "base64", "media_type": block.media_type, "data": block.data}
        if block.media_type is None:
            raise UnsupportedContent("messages: an image needs its media type")
    elif block.url is not None:
        source = {"type": "url", "url": block.url}
    else:
        raise UnsupportedContent("messages has no place for an image without data or address")
    return _finish({"type": "image", "source": source}, block, own)


def _document(block: Document, own: bool) -> dict[str, Any]:
    source: dict[str, Any]
    if block.text is not None:
        source = _text_source(block.text)
    elif block.url is not None:
        source = {"type": "url", "url": block.url}
    elif block.data is None:
        raise UnsupportedContent("messages has no place for a document without data or address")
    elif own or block.media_type == "application/pdf":
        source = {"type": "base64", "media_type": block.media_type, "data": block.data}
    else:
        source = _text_source(_decoded(block.data, block.media_type))
    if own and block.text is not None and block.media_type is not None:
        source["media_type"] = block.media_type
    entry: dict[str, Any] = {"type": "document", "source": source}
    if block.name is not None:
        entry["title"] = block.name
    return _finish(entry, block, own)


def _text_source(text: str) -> dict[str, Any]:
    return {"type": "text", "media_type": "text/plain", "data": text}


def _decoded(data: str, media_type: str | None) -> str:
    """A text file given in base64. The wire takes PDF and plain text only."""
    if media_type is not None and (
        media_type.startswith("text/") or media_type.partition(";")[0] == "application/json"
    ):
        try:
            return base64.b64decode(data, validate=True).decode()
        except (ValueError, binascii.Error):
            pass
    raise UnsupportedContent(f"messages has no place for a document of type {media_type!r}")


def _thinking(block: Thinking, own: bool, dropped: list[str]) -> dict[str, Any] | None:
    """Only what Anthropic has signed goes back: its endpoint refuses all other signatures."""
    opaque = block.opaque
    if opaque is not None and opaque.family == "anthropic":
        entry: dict[str, Any]
        if block.redacted:
            entry = {"type": "redacted_thinking", "data": opaque.value}
        else:
            entry = {"type": "thinking", "thinking": block.text, "signature": opaque.value}
        if own and block.extras:
            entry.update(block.extras)
        return entry
    drop(dropped, "thinking")
    return None


def _tool_use(block: ToolUse, own: bool) -> dict[str, Any]:
    value = {"input": block.arguments} if block.custom else arguments_object(block.arguments)
    entry: dict[str, Any] = {
        "type": "tool_use",
        "id": wire_tool_id(block.id),
        "name": block.name,
        "input": value,
    }
    return _finish(entry, block, own)


def _tool_result(block: ToolResult, own: bool, dropped: list[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": wire_tool_id(block.tool_use_id),
    }
    inner = block.content
    first = inner[0] if len(inner) == 1 else None
    if block.plain and isinstance(first, Text):
        if own or first.text.strip():
            entry["content"] = first.text
    elif not block.plain or inner:
        wire = content(list(inner), own, dropped)
        if wire or own:
            entry["content"] = wire
    if block.is_error is not None:
        entry["is_error"] = block.is_error
    return _finish(entry, block, own)


def _foreign(block: Foreign) -> dict[str, Any] | None:
    if block.family == "anthropic":
        return block.value
    if block.kind in _BOOKKEEPING:
        return None
    raise UnsupportedContent(f"messages has no place for {block.kind!r} blocks")


def drop(dropped: list[str], name: str) -> None:
    """Name a knob that is left out, once."""
    if name not in dropped:
        dropped.append(name)
