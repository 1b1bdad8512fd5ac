"""The `messages` of a client's body, read into canonical messages."""

import re
from typing import Any

from proxy.errors import InvalidRequest
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Message,
    Role,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from proxy.formats.chat_completions.fields import (
    Body,
    find_cache,
    listing,
    mapping,
    string,
    without,
    wrong,
)
from proxy.formats.chat_completions.wire import FAMILY, REASONING_FIELDS, unwrap_opaque

# Plain `data:` URLs; one with parameters stays a URL, so that nothing of it is lost.
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_REASONING_ECHO = (*REASONING_FIELDS, "reasoning_opaque", "cot_id")
_ASSISTANT_FIELDS = {
    "role",
    "content",
    "name",
    "tool_calls",
    "function_call",
    "refusal",
    "audio",
    *_REASONING_ECHO,
}
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}


def parse_messages(values: list[Any] | None) -> list[Message]:
    if not values:
        raise InvalidRequest("'messages' is required and must not be empty.", param="messages")
    messages: list[Message] = []
    in_results = False
    for i, value in enumerate(values):
        where = f"messages[{i}]"
        entry = mapping(value, where)
        role = string(entry.get("role"), f"{where}.role")
        if role in ("tool", "function"):
            result = _result(entry, where, messages)
            # Results of one turn come as a message each and belong together.
            if in_results:
                messages[-1].blocks.append(result)
            else:
                messages.append(Message(role="user", blocks=[result]))
            in_results = True
            continue
        in_results = False
        if role not in _ROLES:
            raise wrong(f"{where}.role", f"one of {', '.join([*_ROLES, 'tool'])}")
        messages.append(
            _assistant(entry, where, i) if role == "assistant" else _message(entry, where)
        )
    return messages


def _message(entry: Body, where: str) -> Message:
    blocks, plain = _content(entry.get("content"), f"{where}.content")
    _mark_cache(blocks, entry)
    return Message(
        role=_ROLES[entry["role"]],
        blocks=blocks,
        plain=plain,
        name=_name(entry, where),
        extras=_extras(entry, {"role", "content", "name"}),
    )


def _assistant(entry: Body, where: str, position: int) -> Message:
    extras = _extras(entry, _ASSISTANT_FIELDS) or {}
    blocks: list[Block] = []
    thinking = _thinking(entry, extras)
    if thinking is not None:
        blocks.append(thinking)
    content, plain = _assistant_content(entry, where, extras)
    blocks += content
    if entry.get("refusal"):
        blocks.append(Text(text=string(entry["refusal"], f"{where}.refusal"), refusal=True))
    elif "refusal" in entry:
        extras["refusal"] = entry["refusal"]
    if entry.get("audio") is not None:
        value = mapping(entry["audio"], f"{where}.audio")
        blocks.append(Foreign(family=FAMILY, kind="audio", value=value))
    blocks += _calls(entry, where, extras)
    if entry.get("function_call") is not None:
        call = mapping(entry["function_call"], f"{where}.function_call")
        legacy = _call_of(call, f"{where}.function_call", f"call_legacy_{position}")
        legacy.extras = {"legacy": True}
        blocks.append(legacy)
    _mark_cache(blocks, entry)
    return Message(
        role="assistant",
        blocks=blocks,
        plain=plain,
        name=_name(entry, where),
        extras=extras or None,
    )


def _assistant_content(entry: Body, where: str, extras: Body) -> tuple[list[Block], bool]:
    """Null and an empty list say nothing, but are written again as they came."""
    value = entry.get("content")
    if value is None or value == []:
        if "content" in entry:
            extras["content"] = value
        return [], False
    return _content(value, f"{where}.content")


def _content(value: Any, where: str) -> tuple[list[Block], bool]:
    if isinstance(value, str):
        return ([Text(text=value)] if value else []), True
    parts = listing(value, where) if value is not None else None
    if parts is None:
        raise InvalidRequest(f"'{where}' is required.", param=where)
    return [_part(part, f"{where}[{i}]") for i, part in enumerate(parts)], False


def _part(value: Any, where: str) -> Block:
    part = mapping(value, where)
    kind = string(part.get("type"), f"{where}.type")
    match kind:
        case "text":
            text = string(part.get("text"), f"{where}.text")
            return Text(
                text=text, cache=find_cache(part), extras=without(part, "type", "text") or None
            )
        case "refusal":
            text = string(part.get("refusal"), f"{where}.refusal")
            return Text(text=text, refusal=True, extras=without(part, "refusal"))
        case "image_url":
            return _image(part, where)
        case "file":
            return _file(part, where)
    # Audio and kinds of a later day: only this wire can take them.
    return Foreign(family=FAMILY, kind=kind, value=part)


def _image(part: Body, where: str) -> Image:
    value = part.get("image_url")
    extras: Body = without(part, "type", "image_url")
    if isinstance(value, str):
        extras["plain"] = True
        source: Body = {"url": value}
    else:
        source = mapping(value, f"{where}.image_url")
        rest = without(source, "url", "detail")
        if rest:
            extras["image_url"] = rest
    url = string(source.get("url"), f"{where}.image_url.url")
    detail = source.get("detail")
    if detail is not None:
        string(detail, f"{where}.image_url.detail")
    image = Image(detail=detail, cache=find_cache(part), extras=extras or None)
    if inline := _DATA_URL.fullmatch(url):
        image.media_type, image.data = inline[1], inline[2]
    else:
        image.url = url
    return image


def _file(part: Body, where: str) -> Block:
    file = mapping(part.get("file"), f"{where}.file")
    data, name = file.get("file_data"), file.get("filename")
    if not isinstance(data, str):
        # A file that was uploaded before: its id means something to one vendor only.
        return Foreign(family=FAMILY, kind="file", value=part)
    if name is not None:
        string(name, f"{where}.file.filename")
    extras: Body = without(part, "type", "file")
    rest = without(file, "file_data", "filename")
    if rest:
        extras["file"] = rest
    document = Document(name=name, cache=find_cache(part), extras=extras or None)
    if inline := _DATA_URL.fullmatch(data):
        document.media_type, document.data = inline[1], inline[2]
    else:
        document.data = data
    return document


def _thinking(entry: Body, extras: Body) -> Thinking | None:
    echo = {name: entry[name] for name in _REASONING_ECHO if isinstance(entry.get(name), str)}
    extras.update({n: entry[n] for n in _REASONING_ECHO if n in entry and n not in echo})
    if not any(echo.values()):
        extras.update(echo)
        return None
    opaque = echo.get("reasoning_opaque")
    return Thinking(
        text=next((echo[name] for name in REASONING_FIELDS if echo.get(name)), ""),
        opaque=unwrap_opaque(opaque) if opaque else None,
        extras=echo,
    )


def _calls(entry: Body, where: str, extras: Body) -> list[Block]:
    values = entry.get("tool_calls")
    if not values:
        if values is not None:
            listing(values, f"{where}.tool_calls")
        if "tool_calls" in entry:
            extras["tool_calls"] = values
        return []
    return [
        _call(value, f"{where}.tool_calls[{i}]")
        for i, value in enumerate(listing(values, f"{where}.tool_calls"))
    ]


def _call(value: Any, where: str) -> ToolUse:
    entry = mapping(value, where)
    kind = entry.get("type", "function")
    if kind not in ("function", "custom"):
        raise wrong(f"{where}.type", "'function' or 'custom'")
    identity = string(entry.get("id"), f"{where}.id")
    target = mapping(entry.get(kind), f"{where}.{kind}")
    rest = without(entry, "id", "type", kind)
    if kind == "custom":
        return ToolUse(
            id=identity,
            name=string(target.get("name"), f"{where}.custom.name"),
            arguments=string(target.get("input"), f"{where}.custom.input"),
            custom=True,
            extras={"entry": rest} if rest else None,
        )
    call = _call_of(target, f"{where}.function", identity)
    inner = without(target, "name", "arguments")
    if "type" not in entry:
        rest["type"] = None
    if rest or inner:
        call.extras = {"entry": rest, "function": inner}
    return call


def _call_of(target: Body, where: str, identity: str) -> ToolUse:
    arguments = target.get("arguments")
    return ToolUse(
        id=identity,
        name=string(target.get("name"), f"{where}.name"),
        arguments="" if arguments is None else string(arguments, f"{where}.arguments"),
    )


def _result(entry: Body, where: str, earlier: list[Message]) -> ToolResult:
    content = entry.get("content")
    extras = _extras(entry, {"role", "content", "name", "tool_call_id"}) or {}
    blocks: list[Block] = []
    plain = False
    if content is None or content == []:
        # Tools that return nothing; OpenAI asks for a string, some clients send null.
        extras["content"] = content
    else:
        blocks, plain = _content(content, f"{where}.content")
    name = _name(entry, where)
    if entry["role"] == "function":
        extras["legacy"] = True
        identity = _legacy_call(earlier, name) or f"call_legacy_{name}"
    else:
        identity = string(entry.get("tool_call_id"), f"{where}.tool_call_id")
    return ToolResult(
        tool_use_id=identity,
        content=[b for b in blocks if isinstance(b, Text | Image | Document | Foreign)],
        plain=plain,
        name=name,
        cache=find_cache(entry),
        extras=extras or None,
    )


def _legacy_call(messages: list[Message], name: str | None) -> str | None:
    for message in reversed(messages):
        for block in message.blocks:
            legacy = isinstance(block, ToolUse) and block.extras and block.extras.get("legacy")
            if legacy and isinstance(block, ToolUse) and block.name == name:
                return block.id
    return None


def _name(entry: Body, where: str) -> str | None:
    value = entry.get("name")
    return None if value is None else string(value, f"{where}.name")


def _extras(entry: Body, known: set[str]) -> Body | None:
    """Fields without a canonical name, and known ones that are null: both are written again."""
    rest = {
        key: value
        for key, value in entry.items()
        if key not in known or (value is None and key not in ("role", "content"))
    }
    return rest or None


def _mark_cache(blocks: list[Block], entry: Body) -> None:
    """A marker on the message counts up to its last block."""
    marker = find_cache(entry)
    if marker is None or not blocks:
        return
    last = blocks[-1]
    if isinstance(last, Text | Image | Document | ToolUse) and last.cache is None:
        last.cache = marker
