"""What a conversation says, whatever the format spells it: for comparing two of them.

Texts that stand next to each other are one, developer messages are system messages, and what only
orders the wire (ids of messages, plain or listed content) does not count.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from proxy.formats.canonical import (
    AnnotationDelta,
    ArgumentsDelta,
    Block,
    BlockStart,
    Document,
    Event,
    Failure,
    Image,
    Message,
    Request,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolResult,
    ToolUse,
    Usage,
    UsageReport,
)

Said = tuple[Any, ...]


def told(request: Request) -> list[Said]:
    """The conversation of a request, in order, as plain tuples."""
    system = [Message(role="system", blocks=[text]) for text in request.system or []]
    found: list[Said] = []
    for message in [*system, *request.messages]:
        role = "system" if message.role == "developer" else message.role
        for block in message.blocks:
            for one in _block(role, block):
                if found and one[0] == "text" and found[-1][:2] == one[:2]:
                    found[-1] = ("text", role, found[-1][2] + "\n" + one[2])
                else:
                    found.append(one)
    return [one for one in found if one[0] != "text" or one[2]]


def _block(role: str, block: Block) -> Iterator[Said]:
    match block:
        case Text():
            yield "text", role, block.text
        case Image():
            yield "image", role, block.media_type if block.data else None, block.data or block.url
        case Document():
            yield "document", role, block.media_type, block.data or block.text or block.url
        case Thinking():
            if block.opaque is not None:
                yield "thinking", block.text, block.opaque
        case ToolUse():
            yield "call", block.id, block.name, parsed(block.arguments), block.custom
        case ToolResult():
            inner = [one for part in block.content for one in _block("tool", part)]
            words = "\n".join(one[2] for one in inner if one[0] == "text")
            rest = [one for one in inner if one[0] != "text"]
            yield "result", block.tool_use_id, words, rest, bool(block.is_error)
        case _:
            yield "foreign", block.family, block.kind


def parsed(arguments: str) -> Any:
    """Arguments as their value, the text itself where it is no JSON; nothing is an empty object."""
    try:
        return orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return arguments


def heard(events: list[Event]) -> tuple[list[Said], str | None, Usage | None]:
    """What an answer says, why it stopped, and what it took."""
    blocks: list[list[Any]] = []
    notes: list[Any] = []
    reason: str | None = None
    usage: Usage | None = None
    for event in events:
        match event:
            case BlockStart():
                blocks.append(_opened(event.block))
            case TextDelta():
                blocks[event.index][1] += event.text
                notes += [entry.get("token") for entry in event.logprobs or []]
            case ThinkingDelta():
                blocks[event.index][1] += event.text
            case ArgumentsDelta():
                blocks[event.index][3] += event.json
            case AnnotationDelta():
                notes.append(event.annotation.get("url"))
            case UsageReport():
                usage = event.usage
            case Stop():
                reason = event.reason
            case Failure():
                reason = f"failure: {event.message}"
            case _:
                pass
    # A seal may come in a block of its own, without words.
    said = [tuple(b) for b in blocks if b[0] not in ("text", "thinking") or b[1]]
    said = [(*one[:3], parsed(one[3])) if one[0] == "call" else one for one in said]
    return [*said, *(("note", note) for note in notes)], reason, usage


def _opened(block: Block) -> list[Any]:
    match block:
        case Text():
            return ["refusal" if block.refusal else "text", block.text]
        case Thinking():
            return ["thinking", block.text]
        case ToolUse():
            return ["call", block.id, block.name, block.arguments]
        case _:
            return ["foreign", ""]
