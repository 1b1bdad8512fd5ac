"""Chat Completions bodies in outline; see `proxy.formats.outlines`."""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from proxy.formats.outlines import (
    Kept,
    Outline,
    Shape,
    is_empty,
    is_list,
    is_shallow_object,
    is_text,
    is_users,
    role_of,
)

_NEED_CONTENT: Final = frozenset({"system", "developer", "user"})
# The fields that clients send; any other costs a second pass, no more.
_KNOWN: Final = """
    frequency_penalty logit_bias logprobs max_completion_tokens max_tokens metadata model n
    parallel_tool_calls presence_penalty prompt_cache_key reasoning_effort response_format seed
    service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user
    verbosity
"""


class Called(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str | UnsetType = UNSET


class Call(Struct, forbid_unknown_fields=True, gc=False):
    id: str
    function: Called
    type: Literal["function"] | UnsetType = UNSET
    index: int | UnsetType = UNSET


class Text(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str


class Message(Struct, forbid_unknown_fields=True):
    """A message. Fields after `name` are such as quirks look at: with one of them it is not plain."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Kept = UNSET
    tool_calls: list[Call] | UnsetType | None = UNSET
    tool_call_id: str | UnsetType = UNSET
    refusal: Kept = UNSET
    annotations: Kept = UNSET
    audio: Kept = UNSET
    function_call: Kept = UNSET
    name: str | UnsetType | None = UNSET
    cache_control: Kept = UNSET
    copilot_cache_control: Kept = UNSET
    reasoning: Kept = UNSET
    reasoning_content: Kept = UNSET
    reasoning_details: Kept = UNSET
    reasoning_opaque: Kept = UNSET
    reasoning_text: Kept = UNSET


class Function(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    description: Kept = UNSET
    parameters: Kept = UNSET
    strict: bool | UnsetType | None = UNSET


class Tool(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["function"]
    function: Function


_texts: Final = msgspec.json.Decoder(list[Text])


def is_plain(message: object) -> bool:
    """Whether no check and no quirk has anything to say of it."""
    if not isinstance(message, Message):
        return False
    if (
        message.cache_control is not UNSET
        or message.copilot_cache_control is not UNSET
        or message.reasoning is not UNSET
        or message.reasoning_content is not UNSET
        or message.reasoning_details is not UNSET
        or message.reasoning_opaque is not UNSET
        or message.reasoning_text is not UNSET
    ):
        return False
    if (
        message.refusal is not UNSET
        or message.annotations is not UNSET
        or message.audio is not UNSET
        or message.function_call is not UNSET
    ) and not _is_padded(message):
        return False
    if message.role == "tool" and message.tool_call_id is UNSET:
        return False
    content = message.content
    if is_text(content):
        return True
    if is_list(content):
        try:
            _texts.decode(content)  # type: ignore[arg-type]
        except msgspec.ValidationError:
            return False
        return True
    return message.role not in _NEED_CONTENT and is_empty(content)


def _is_padded(message: Message) -> bool:
    """Whether the fields that SDKs write into every replayed answer say nothing."""
    return (
        is_empty(message.refusal)
        and is_empty(message.annotations)
        and is_empty(message.audio)
        and is_empty(message.function_call)
    )


def is_turn(message: object) -> bool:
    return bool(role_of(message) == "assistant")


def is_plain_tool(tool: object) -> bool:
    if not isinstance(tool, Tool):
        return False
    function = tool.function
    return (
        function.name != ""
        and (function.description is UNSET or is_text(function.description))
        and (function.parameters is UNSET or is_shallow_object(function.parameters))
    )


_shape: Final = Shape(
    conversation="messages",
    known=_KNOWN,
    item=Message,
    tool=Tool,
    is_plain=is_plain,
    is_turn=is_turn,
    is_opening=is_users,
    is_plain_tool=is_plain_tool,
)


def outline(raw: bytes) -> Outline | None:
    return _shape.outline(raw)
