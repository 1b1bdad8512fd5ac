"""Messages requests as clients write them, read into the canonical conversation.

Source: docs/upstream.md (messages leg), docs/clients.md.
"""

from typing import Any

import orjson

from proxy.errors import InvalidRequest
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.formats.messages.checks import check
from proxy.formats.messages.fields import (
    mapping,
    objects,
    optional_count,
    optional_flag,
    optional_mapping,
    optional_number,
    optional_string,
    others,
    sequence,
    string,
    wrong,
)
from proxy.formats.messages.wrapping import canonical_tool_id, unwrap
from proxy.formats.outlines import decoded, is_run, role_of

_TOP = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "stream",
        "metadata",
        "thinking",
        "output_config",
        "output_format",
    }
)
_MESSAGE = frozenset({"role", "content"})
_TEXT = frozenset({"type", "text", "cache_control", "citations"})
_IMAGE = frozenset({"type", "source", "cache_control"})
_DOCUMENT = frozenset({"type", "source", "title", "cache_control"})
_THINKING = frozenset({"type", "thinking", "signature"})
_REDACTED = frozenset({"type", "data"})
_TOOL_USE = frozenset({"type", "id", "name", "input", "cache_control"})
_TOOL_RESULT = frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"})
_TOOL = frozenset({"name", "description", "input_schema", "strict", "defer_loading"})
_TOOL_KNOWN = _TOOL | {"cache_control"}
_TOOL_CHOICE = frozenset({"type", "name", "disable_parallel_tool_use"})
_THINKING_KNOB = frozenset({"type", "budget_tokens", "display"})


def parse_request(body: dict[str, Any]) -> Request:
    """Read a Messages request.

    `max_tokens` may be missing, because a body for `count_tokens` has none. The older top-level
    `output_format` is read as `output_config.format`. Raises `InvalidRequest` naming the field.
    """
    check(body, counted=True)
    model = string(body.get("model"), "model")
    messages = [
        message
        for i, entry in enumerate(_whole_turns(_required_list(body.get("messages"), "messages")))
        for message in _messages(entry, f"messages.{i}")
    ]
    if not messages:
        raise InvalidRequest("messages: at least one message is required", param="messages")
    extras = others(body, _TOP) or {}
    system, system_plain = _system(body.get("system"))
    choice, parallel = _tool_choice(body.get("tool_choice"))
    user, metadata = _metadata(body.get("metadata"))
    stop = body.get("stop_sequences")
    tools = body.get("tools")
    run = None
    if isinstance(tools, list) and any(map(is_run, tools)):
        # Either all of them as they are, or none.
        run = tools[0] if len(tools) == 1 else None
        tools = [] if run else [tool for entry in tools for tool in decoded(entry)]
    return Request(
        source="messages",
        model=model,
        messages=messages,
        system=system,
        system_plain=system_plain,
        tool_run=run,
        tools=None
        if tools is None
        else [_tool(entry, f"tools.{i}") for i, entry in enumerate(sequence(tools, "tools"))],
        tool_choice=choice,
        parallel_tools=parallel,
        max_output_tokens=optional_count(body.get("max_tokens"), "max_tokens", 1),
        temperature=optional_number(body.get("temperature"), "temperature"),
        top_p=optional_number(body.get("top_p"), "top_p"),
        top_k=optional_count(body.get("top_k"), "top_k"),
        stop=None
        if stop is None
        else [
            string(entry, f"stop_sequences.{i}")
            for i, entry in enumerate(sequence(stop, "stop_sequences"))
        ],
        user=user,
        metadata=metadata,
        reasoning=_reasoning(body, extras),
        output_format=_output_format(body, extras),
        stream=optional_flag(body.get("stream"), "stream"),
        extras=extras,
    )


def _whole_turns(entries: list[Any]) -> list[Any]:
    """Decodes the runs that begin or end within a turn: only a turn as a whole is translated."""
    ends = [_ends_of(entry) for entry in entries]
    whole: list[Any] = []
    for i, entry in enumerate(entries):
        before = ends[i - 1][1] if i else None
        after = ends[i + 1][0] if i + 1 < len(ends) else None
        if is_run(entry) and (ends[i][0] == before or ends[i][1] == after):
            whole += decoded(entry)
        else:
            whole.append(entry)
    return whole


def _ends_of(entry: Any) -> tuple[bool, bool]:
    """Whether the first and the last message are the assistant's."""
    ends = (entry.entries[0], entry.entries[-1]) if is_run(entry) else (entry, entry)
    return role_of(ends[0]) == "assistant", role_of(ends[1]) == "assistant"


def _messages(entry: Any, where: str) -> list[Message]:
    if is_run(entry):
        return [Message(role="user", blocks=[], run=entry)]
    return [_message(entry, where)]


def _required_list(value: Any, where: str) -> list[Any]:
    if value is None:
        raise InvalidRequest(f"{where}: Field required", param=where)
    return sequence(value, where)


def _system(value: Any) -> tuple[list[Text] | None, bool]:
    if value is None:
        return None, False
    if isinstance(value, str):
        return [Text(text=value)], True
    blocks: list[Text] = []
    for i, entry in enumerate(sequence(value, "system")):
        block = mapping(entry, f"system.{i}")
        if block.get("type") != "text":
            raise wrong(f"system.{i}.type", "'text'")
        blocks.append(_text(block, f"system.{i}"))
    return blocks, False


def _message(value: Any, where: str) -> Message:
    entry = mapping(value, where)
    role = entry.get("role")
    if role != "user" and role != "assistant" and role != "system":
        raise wrong(f"{where}.role", "'user', 'assistant' or 'system'")
    content = entry.get("content")
    extras = others(entry, _MESSAGE)
    if isinstance(content, str):
        return Message(role=role, blocks=[Text(text=content)], plain=True, extras=extras)
    at = f"{where}.content"
    blocks = [_block(block, f"{at}.{i}") for i, block in enumerate(_required_list(content, at))]
    return Message(role=role, blocks=blocks, extras=extras)


def _block(value: Any, where: str) -> Block:
    block = mapping(value, where)
    match block.get("type"):
        case "thinking":
            return _thinking(block, where)
        case "redacted_thinking":
            data = string(block.get("data"), f"{where}.data")
            return Thinking(opaque=unwrap(data), redacted=True, extras=others(block, _REDACTED))
        case "tool_use":
            return _tool_use(block, where)
        case "tool_result":
            return _tool_result(block, where)
    return _plain_block(block, where)


def _plain_block(value: Any, where: str) -> Text | Image | Document | Foreign:
    """A block that may also stand in a tool result; kinds we do not know are Anthropic's own."""
    block = mapping(value, where)
    kind = string(block.get("type"), f"{where}.type")
    match kind:
        case "text":
            return _text(block, where)
        case "image":
            return _image(block, where)
        case "document":
            return _document(block, where)
    return Foreign(family="anthropic", kind=kind, value=block)


def _text(block: dict[str, Any], where: str) -> Text:
    citations = block.get("citations")
    return Text(
        text=string(block.get("text"), f"{where}.text"),
        cache=_cache(block, where),
        annotations=None if citations is None else objects(citations, f"{where}.citations"),
        extras=others(block, _TEXT),
    )


def _cache(block: dict[str, Any], where: str) -> dict[str, Any] | None:
    return optional_mapping(block.get("cache_control"), f"{where}.cache_control")


def _image(block: dict[str, Any], where: str) -> Image | Foreign:
    at = f"{where}.source"
    source = mapping(block.get("source"), at)
    image = Image(cache=_cache(block, where), extras=others(block, _IMAGE))
    match source.get("type"):
        case "base64":
            image.media_type = string(source.get("media_type"), f"{at}.media_type")
            image.data = string(source.get("data"), f"{at}.data")
            canonical = 3
        case "url":
            image.url = string(source.get("url"), f"{at}.url")
            canonical = 2
        case _:
            string(source.get("type"), f"{at}.type")
            return Foreign(family="anthropic", kind="image", value=block)
    if len(source) != canonical:
        image.extras = {**(image.extras or {}), "source": source}
    return image


def _document(block: dict[str, Any], where: str) -> Document | Foreign:
    at = f"{where}.source"
    source = mapping(block.get("source"), at)
    document = Document(
        name=optional_string(block.get("title"), f"{where}.title"),
        cache=_cache(block, where),
        extras=others(block, _DOCUMENT),
    )
    match source.get("type"):
        case "base64":
            document.media_type = string(source.get("media_type"), f"{at}.media_type")
            document.data = string(source.get("data"), f"{at}.data")
            canonical = 3
        case "text":
            document.media_type = string(source.get("media_type"), f"{at}.media_type")
            document.text = string(source.get("data"), f"{at}.data")
            canonical = 3
        case "url":
            document.url = string(source.get("url"), f"{at}.url")
            canonical = 2
        case "content":
            text = _joined(source.get("content"), f"{at}.content")
            if text is None:
                return Foreign(family="anthropic", kind="document", value=block)
            document.text = text
            canonical = 0
        case _:
            string(source.get("type"), f"{at}.type")
            return Foreign(family="anthropic", kind="document", value=block)
    if len(source) != canonical:
        document.extras = {**(document.extras or {}), "source": source}
    return document


def _joined(content: Any, where: str) -> str | None:
    """The text of a document given in blocks; None when a block is no text."""
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for i, block in enumerate(objects(content, where)):
        if block.get("type") != "text":
            return None
        parts.append(string(block.get("text"), f"{where}.{i}.text"))
    return "\n".join(parts)


def _thinking(block: dict[str, Any], where: str) -> Thinking:
    signature = optional_string(block.get("signature"), f"{where}.signature")
    return Thinking(
        text=string(block.get("thinking"), f"{where}.thinking"),
        opaque=None if signature is None else unwrap(signature),
        extras=others(block, _THINKING),
    )


def _tool_use(block: dict[str, Any], where: str) -> ToolUse:
    value = mapping(block.get("input"), f"{where}.input")
    try:
        arguments = orjson.dumps(value).decode()
    except TypeError:
        raise wrong(f"{where}.input", "an object of ordinary depth and numbers") from None
    return ToolUse(
        id=canonical_tool_id(string(block.get("id"), f"{where}.id")),
        name=string(block.get("name"), f"{where}.name"),
        arguments=arguments,
        cache=_cache(block, where),
        extras=others(block, _TOOL_USE),
    )


def _tool_result(block: dict[str, Any], where: str) -> ToolResult:
    content = block.get("content")
    blocks: list[Text | Image | Document | Foreign]
    if content is None:
        blocks = []
    elif isinstance(content, str):
        blocks = [Text(text=content)]
    else:
        at = f"{where}.content"
        blocks = [_plain_block(one, f"{at}.{i}") for i, one in enumerate(sequence(content, at))]
    tool_use_id = string(block.get("tool_use_id"), f"{where}.tool_use_id")
    return ToolResult(
        tool_use_id=canonical_tool_id(tool_use_id),
        content=blocks,
        # Plain without content is a result whose wire block had no `content` at all.
        plain=not isinstance(content, list),
        is_error=optional_flag(block.get("is_error"), f"{where}.is_error"),
        cache=_cache(block, where),
        extras=others(block, _TOOL_RESULT),
    )


def _tool(value: Any, where: str) -> Tool:
    entry = mapping(value, where)
    kind = optional_string(entry.get("type"), f"{where}.type")
    if kind is not None and kind != "custom":
        name = optional_string(entry.get("name"), f"{where}.name")
        return Tool(name=name or kind, kind="server", family="anthropic", extras=entry)
    return Tool(
        name=string(entry.get("name"), f"{where}.name"),
        description=optional_string(entry.get("description"), f"{where}.description"),
        schema=mapping(entry.get("input_schema"), f"{where}.input_schema"),
        strict=optional_flag(entry.get("strict"), f"{where}.strict"),
        defer_loading=optional_flag(entry.get("defer_loading"), f"{where}.defer_loading"),
        cache=_cache(entry, where),
        extras=others(entry, _TOOL_KNOWN),
    )


def _tool_choice(value: Any) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether several calls may stand in one answer."""
    if value is None:
        return None, None
    entry = mapping(value, "tool_choice")
    mode = entry.get("type")
    if mode != "auto" and mode != "any" and mode != "tool" and mode != "none":
        raise wrong("tool_choice.type", "'auto', 'any', 'tool' or 'none'")
    name = optional_string(entry.get("name"), "tool_choice.name")
    if mode == "tool" and name is None:
        raise InvalidRequest("tool_choice.name: Field required", param="tool_choice.name")
    at = "tool_choice.disable_parallel_tool_use"
    alone = optional_flag(entry.get("disable_parallel_tool_use"), at)
    choice = ToolChoice(mode=mode, name=name, extras=others(entry, _TOOL_CHOICE))
    return choice, None if alone is None else not alone


def _metadata(value: Any) -> tuple[str | None, dict[str, Any] | None]:
    """The user's id, and what else stands beside it (an empty object alone is kept)."""
    if value is None:
        return None, None
    entry = mapping(value, "metadata")
    user = optional_string(entry.get("user_id"), "metadata.user_id")
    rest = {key: one for key, one in entry.items() if key != "user_id"}
    return user, rest if rest or user is None else None


def _reasoning(body: dict[str, Any], extras: dict[str, Any]) -> Reasoning | None:
    """`thinking` and `output_config.effort`; a kind of thinking we do not know goes to `extras`."""
    config = optional_mapping(body.get("output_config"), "output_config") or {}
    effort = optional_string(config.get("effort"), "output_config.effort")
    thinking = optional_mapping(body.get("thinking"), "thinking")
    if thinking is None:
        return None if effort is None else Reasoning(effort=effort)
    mode: Any = string(thinking.get("type"), "thinking.type")
    if mode != "enabled" and mode != "adaptive" and mode != "disabled":
        extras["thinking"] = thinking
        return None if effort is None else Reasoning(effort=effort)
    return Reasoning(
        effort=effort,
        mode=mode,
        budget_tokens=optional_count(thinking.get("budget_tokens"), "thinking.budget_tokens"),
        display=optional_string(thinking.get("display"), "thinking.display"),
        extras=others(thinking, _THINKING_KNOB),
    )


def _output_format(body: dict[str, Any], extras: dict[str, Any]) -> OutputFormat | None:
    """The wanted schema; whatever else `output_config` holds goes to `extras`."""
    config = optional_mapping(body.get("output_config"), "output_config")
    rest = {k: v for k, v in (config or {}).items() if k not in ("effort", "format")}
    wanted = None if config is None else config.get("format")
    where = "output_config.format"
    if wanted is None:
        wanted, where = body.get("output_format"), "output_format"
    entry = optional_mapping(wanted, where)
    result: OutputFormat | None = None
    if entry is not None:
        kind = string(entry.get("type"), f"{where}.type")
        if kind == "json_schema" and entry.keys() == {"type", "schema"}:
            schema = mapping(entry["schema"], f"{where}.schema")
            result = OutputFormat(kind="json_schema", schema=schema)
        else:
            rest["format"] = entry
    if rest or config == {}:
        extras["output_config"] = rest
    return result
