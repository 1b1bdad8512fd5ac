"""Canonical messages as `contents`: one's own written as they came, another format's fitted."""

from typing import Any

import orjson

from proxy.errors import UnsupportedContent
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Request,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from proxy.formats.gemini.fields import Body

# Notes of a vendor that it ran a search: what was found stands in the text that follows.
_BOOKKEEPING = frozenset({"web_search_call"})


def arguments_object(arguments: str, *, custom: bool = False) -> Body:
    """The `args` of a call. What is no JSON object is put under a key of its own."""
    if custom:
        return {"input": arguments}
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = arguments
    return value if isinstance(value, dict) else {"arguments": value}


# What came in this format.


def as_read(request: Request) -> list[Body]:
    contents: list[Body] = []
    for message in request.messages:
        extras = dict(message.extras or {})
        role = extras.pop("role", "model" if message.role == "assistant" else "user")
        entry: Body = {"parts": [part for block in message.blocks for part in _own_parts(block)]}
        if role is not None:
            entry["role"] = role
        contents.append({**entry, **extras})
    return contents


def system_as_read(system: list[Text]) -> Any:
    if len(system) == 1 and (system[0].extras or {}).get("plain"):
        return system[0].text
    parts = [{"text": text.text, **(text.extras or {}).get("part", {})} for text in system]
    first = (system[0].extras or {}) if system else {}
    return {"parts": parts, **first.get("content", {})}


def _own_parts(block: Block) -> list[Body]:
    match block:
        case Thinking():
            return list((block.extras or {}).get("parts", ()))
        case Foreign():
            return [block.value]
    extras = block.extras or {}
    part: Body = {}
    match block:
        case Text():
            part["text"] = block.text
        case Image() | Document():
            part = _file(block)
            for kind in part:
                part[kind].update(extras.get(kind, {}))
        case ToolUse():
            call: Body = {"id": block.id, "name": block.name}
            if block.arguments:
                call["args"] = orjson.loads(block.arguments)
            part["functionCall"] = _without_none({**call, **extras.get("functionCall", {})})
            if block.opaque is not None:
                part["thoughtSignature"] = block.opaque.value
        case ToolResult():
            given = {**_result(block, block.name), **extras.get("functionResponse", {})}
            part["functionResponse"] = _without_none(given)
    return [{**part, **extras.get("part", {})}]


def _without_none(entry: Body) -> Body:
    """`None` stands for a field that the client left out."""
    return {key: value for key, value in entry.items() if value is not None}


def _file(block: Image | Document) -> Body:
    name = block.name if isinstance(block, Document) else None
    if block.data is not None:
        blob = {"mimeType": block.media_type, "data": block.data, "displayName": name}
        return {"inlineData": _without_none(blob)}
    file = {"mimeType": block.media_type, "fileUri": block.url, "displayName": name}
    return {"fileData": _without_none(file)}


def _result(block: ToolResult, name: str | None) -> Body:
    texts = [one.text for one in block.content if isinstance(one, Text)]
    files = [_file(one) for one in block.content if isinstance(one, Image | Document)]
    entry: Body = {"id": block.tool_use_id, "name": name}
    if texts or not files:
        entry["response"] = {"error" if block.is_error else "output": "\n".join(texts)}
    if files:
        entry["parts"] = files
    return entry


# What came in another format.


def translated(request: Request, dropped: list[str]) -> tuple[list[Body], list[Body]]:
    """The parts of the system instruction, and contents whose roles alternate."""
    system = [{"text": text.text} for text in request.system or [] if text.text.strip()]
    names: dict[str, str] = {}
    contents: list[Body] = []
    at_head = True
    for message in request.messages:
        is_system = message.role in ("system", "developer")
        at_head = at_head and is_system
        parts: list[Body] = []
        for block in message.blocks:
            if isinstance(block, ToolUse):
                names[block.id] = block.name
            part = _part(block, names, dropped)
            if part is not None:
                parts.append(part)
        if at_head:
            system += parts
            continue
        if is_system:
            # Its place in the conversation matters, and this wire has no role for it there.
            for part in parts:
                if "text" in part:
                    part["text"] = f"<system-reminder>\n{part['text']}\n</system-reminder>"
        if message.name is not None:
            dropped.append("name")
        role = "model" if message.role == "assistant" else "user"
        if parts and contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    if not contents and system:
        return [], [{"role": "user", "parts": system}]
    return system, contents


def _part(block: Block, names: dict[str, str], dropped: list[str]) -> Body | None:
    match block:
        case Text():
            return {"text": block.text} if block.text else None
        case Document() if block.text is not None:
            return {"text": block.text}
        case Image() | Document():
            if block.data is None and block.url is None:
                raise UnsupportedContent("gemini has no place for a file without data or address")
            return _file(block)
        case Thinking():
            if block.opaque is None or block.opaque.family != "gemini":
                dropped.append("thinking")
                return None
            return {"text": block.text, "thought": True, "thoughtSignature": block.opaque.value}
        case ToolUse():
            args = arguments_object(block.arguments, custom=block.custom)
            call: Body = {"functionCall": {"id": block.id, "name": block.name, "args": args}}
            if block.opaque is not None and block.opaque.family == "gemini":
                call["thoughtSignature"] = block.opaque.value
            return call
        case ToolResult():
            for inner in block.content:
                if isinstance(inner, Foreign):
                    raise UnsupportedContent(f"gemini has no place for {inner.kind!r} in results")
            name = names.get(block.tool_use_id) or block.name or block.tool_use_id
            return {"functionResponse": _result(_with_texts(block), name)}
        case Foreign():
            if block.family == "gemini":
                return block.value
            if block.kind in _BOOKKEEPING:
                return None
            raise UnsupportedContent(f"gemini has no place for {block.kind!r} blocks")


def _with_texts(block: ToolResult) -> ToolResult:
    """Documents that are plain text become texts of the result."""
    content = [
        Text(text=one.text) if isinstance(one, Document) and one.text is not None else one
        for one in block.content
    ]
    return ToolResult(
        tool_use_id=block.tool_use_id, content=content, is_error=block.is_error, name=block.name
    )
