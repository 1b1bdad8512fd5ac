"""Responses bodies in outline; see `proxy.formats.outlines`."""

from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from proxy.formats.outlines import Kept, Outline, Shape, is_empty, is_shallow_object, is_text
from proxy.formats.responses.fields import WRAP
from proxy.formats.responses.gist import words_of

# The fields that clients send; any other costs a second pass, no more.
_KNOWN: Final = """
    background client_metadata context_management conversation generate include input instructions
    max_output_tokens max_tool_calls metadata model parallel_tool_calls previous_response_id prompt
    prompt_cache_key prompt_cache_retention reasoning safety_identifier service_tier store stream
    stream_options temperature text tool_choice tools top_logprobs top_p truncation type user
"""
_ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
_SAID: Final = frozenset({"input_text", "output_text"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})


class Part(Struct, forbid_unknown_fields=True, gc=False):
    type: str
    text: str
    annotations: Kept = UNSET
    logprobs: Kept = UNSET


class Summary(Struct, forbid_unknown_fields=True, gc=False):
    type: str
    text: str


class Tool(Struct, forbid_unknown_fields=True, gc=False):
    """A function; tools of other kinds are looked at as objects."""

    type: Literal["function"]
    name: str
    description: Kept = UNSET
    parameters: Kept = UNSET
    strict: bool | UnsetType | None = UNSET


class Item(Struct, forbid_unknown_fields=True):
    """An item of any kind."""

    type: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    content: str | list[Part] | UnsetType | None = UNSET
    id: Kept = UNSET
    status: str | UnsetType | None = UNSET
    phase: str | UnsetType | None = UNSET
    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: Kept = UNSET
    input: Kept = UNSET
    output: Kept = UNSET
    summary: list[Summary] | UnsetType = UNSET
    encrypted_content: str | UnsetType | None = UNSET
    internal_chat_message_metadata_passthrough: Kept = UNSET


def is_plain(item: object) -> bool:
    """Whether no check and no quirk has anything to say of it."""
    if not isinstance(item, Item):
        return False
    kind = item.type
    if kind in _OUTPUTS:
        return item.call_id is not UNSET and is_text(item.output)
    if kind in _CALLS:
        given = item.arguments if kind == "function_call" else item.input
        return item.call_id is not UNSET and item.name is not UNSET and is_text(given)
    if kind == "message" or (kind is UNSET and item.role is not UNSET):
        if item.role == "user" and not is_opening(item):
            return False
        return item.role in _ROLES and _is_said(item.content)
    if kind == "reasoning":
        sealed = item.encrypted_content
        return isinstance(sealed, str) and sealed != "" and not sealed.startswith(WRAP)
    return False


def _is_said(content: Any) -> bool:
    if isinstance(content, list):
        return all(
            part.type in _SAID and is_empty(part.annotations) and is_empty(part.logprobs)
            for part in content
        )
    return isinstance(content, str)


def is_opening(item: object) -> bool:
    """A message of the user's that says something."""
    if not isinstance(item, Item):
        return words_of(item) != ""
    if item.role != "user" or (item.type is not UNSET and item.type != "message"):
        return False
    content = item.content
    if isinstance(content, list):
        return any(part.text for part in content)
    return isinstance(content, str) and content != ""


def is_turn(item: object) -> bool:
    """A call or a message of the assistant's: with it, it is known whose word is the last."""
    if isinstance(item, Item):
        return item.type in _CALLS or item.role == "assistant"
    return False


def without_ids(items: list[Any]) -> list[str]:
    """Does the work of the quirks `item_ids` and `item_metadata`: Codex marks every item."""
    acted = {}
    for item in items:
        if isinstance(item, Item):
            if item.id is not UNSET:
                item.id = UNSET
                acted["item_ids"] = True
            if item.internal_chat_message_metadata_passthrough is not UNSET:
                item.internal_chat_message_metadata_passthrough = UNSET
                acted["item_metadata"] = True
    return list(acted)


def is_plain_tool(tool: object) -> bool:
    if not isinstance(tool, Tool):
        return False
    return (
        tool.name != ""
        and (tool.description is UNSET or is_text(tool.description))
        and (tool.parameters is UNSET or is_shallow_object(tool.parameters))
    )


_shape: Final = Shape(
    conversation="input",
    known=_KNOWN,
    item=Item,
    tool=Tool,
    is_plain=is_plain,
    is_turn=is_turn,
    is_opening=is_opening,
    is_plain_tool=is_plain_tool,
    prepare=without_ids,
)


def outline(raw: bytes) -> Outline | None:
    return _shape.outline(raw)
