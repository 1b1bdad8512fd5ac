"""Messages bodies in outline; see `proxy.formats.outlines`."""

import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from proxy.formats.messages.wrapping import SIGNATURE_PREFIX
from proxy.formats.outlines import (
    Kept,
    Outline,
    Shape,
    is_list,
    is_shallow_object,
    is_text,
    is_users,
    role_of,
)

# The fields that clients send; any other costs a second pass, no more.
_KNOWN: Final = """
    betas container context_management inference_geo max_tokens mcp_servers messages metadata model
    output_config output_format service_tier stop_sequences stream system temperature thinking
    tool_choice tools top_k top_p
"""
_ID: Final = re.compile(r"[A-Za-z0-9_-]+")


class Block(Struct, tag_field="type", forbid_unknown_fields=True, gc=False):
    """A block. One with a cache marker is not plain: markers are counted."""

    cache_control: Kept = UNSET


class Text(Block, tag="text", kw_only=True):
    text: str
    citations: Kept = UNSET


class Image(Block, tag="image", kw_only=True):
    """Never plain: who routes the request must know of it."""

    source: Raw


class Document(Block, tag="document", kw_only=True):
    """Never plain, as images."""

    source: Raw
    title: Kept = UNSET
    context: Kept = UNSET
    citations: Kept = UNSET


class ToolUse(Block, tag="tool_use", kw_only=True):
    id: str
    name: str
    # Decoded, so that no number in it is out of range and no name comes twice.
    input: dict[str, Any]
    caller: Kept = UNSET


class ToolResult(Block, tag="tool_result", kw_only=True):
    """The bulk of an agent's history."""

    tool_use_id: str
    content: Kept = UNSET
    is_error: bool | UnsetType = UNSET


class Thinking(Block, tag="thinking", kw_only=True):
    thinking: str
    signature: str


class RedactedThinking(Block, tag="redacted_thinking", kw_only=True):
    data: str


class Message(Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: (
        str | list[Text | Image | Document | ToolUse | ToolResult | Thinking | RedactedThinking]
    )
    output_config: Kept = UNSET


class Schema(Struct, forbid_unknown_fields=True, gc=False):
    """The top of a tool's schema."""

    type: Literal["object"]
    properties: Kept = UNSET
    required: Kept = UNSET
    additionalProperties: Kept = UNSET  # noqa: N815
    dialect: Kept = field(default=UNSET, name="$schema")


class Tool(Struct, forbid_unknown_fields=True, gc=False):
    """A function of the client's; with any other field a tool is looked at as objects."""

    name: str
    input_schema: Schema
    description: Kept = UNSET
    type: Literal["custom"] | UnsetType = UNSET


_texts: Final = msgspec.json.Decoder(list[Text])


def texts_of(content: Kept) -> list[Text]:
    """The blocks of a result. Raises `msgspec.ValidationError` when there are others than texts."""
    return _texts.decode(content)  # type: ignore[arg-type]


def is_plain(message: object) -> bool:
    """Whether no check and no quirk has anything to say of it."""
    if not isinstance(message, Message):
        return False
    if message.output_config is not UNSET or message.role == "system":
        return False
    content = message.content
    if isinstance(content, str):
        return content.strip() != ""
    for block in content:
        if block.cache_control is not UNSET or not _PLAIN[type(block)](block):
            return False
    return bool(content)


def _is_plain_text(block: Text) -> bool:
    return block.citations is UNSET and block.text.strip() != ""


def _is_plain_use(block: ToolUse) -> bool:
    for value in block.input.values():
        # What is nested may be nested too deep.
        if type(value) is dict or type(value) is list:
            return False
    return block.caller is UNSET and _is_id(block.id)


def _is_plain_result(block: ToolResult) -> bool:
    if not _is_id(block.tool_use_id):
        return False
    content = block.content
    if content is UNSET or is_text(content):
        return True
    try:
        texts = texts_of(content)
    except msgspec.ValidationError:
        return False
    return all(text.cache_control is UNSET and _is_plain_text(text) for text in texts)


def _is_id(value: str) -> bool:
    # The first test says nothing new, but is the quickest by far.
    return (value.isidentifier() and value.isascii()) or _ID.fullmatch(value) is not None


def _is_plain_thinking(block: Thinking) -> bool:
    return block.signature != "" and not block.signature.startswith(SIGNATURE_PREFIX)


_PLAIN: Final[dict[type, Callable[[Any], bool]]] = {
    Text: _is_plain_text,
    Image: lambda block: False,
    Document: lambda block: False,
    ToolUse: _is_plain_use,
    ToolResult: _is_plain_result,
    Thinking: _is_plain_thinking,
    RedactedThinking: lambda block: not block.data.startswith(SIGNATURE_PREFIX),
}


def is_turn(message: object) -> bool:
    return bool(role_of(message) == "assistant")


def is_plain_tool(tool: object) -> bool:
    if not isinstance(tool, Tool):
        return False
    schema = tool.input_schema
    return (
        tool.name != ""
        and (tool.description is UNSET or is_text(tool.description))
        and (schema.properties is UNSET or is_shallow_object(schema.properties))
        and (schema.required is UNSET or is_list(schema.required))
        and (schema.additionalProperties is UNSET or _is_flag(schema.additionalProperties))
    )


def _is_flag(raw: Raw) -> bool:
    return bytes(memoryview(raw)[:6]) in (b"true", b"false")


def without_dialects(entries: list[Any]) -> list[str]:
    """Does the work of the quirk `tool_schemas`: Claude Code names `$schema` in every tool."""
    marked = [
        tool.input_schema
        for tool in entries
        if isinstance(tool, Tool) and tool.input_schema.dialect is not UNSET
    ]
    for schema in marked:
        schema.dialect = UNSET
    return ["tool_schemas"] if marked else []


_shape: Final = Shape(
    conversation="messages",
    known=_KNOWN,
    item=Message,
    tool=Tool,
    is_plain=is_plain,
    is_turn=is_turn,
    is_opening=is_users,
    is_plain_tool=is_plain_tool,
    prepare=without_dialects,
)


def outline(raw: bytes) -> Outline | None:
    return _shape.outline(raw)
