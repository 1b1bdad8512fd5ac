"""The conversation as Claude wants it: system apart, turns alternating, results first."""

from typing import Any

from proxy.errors import InvalidRequest, UnsupportedContent
from proxy.formats.canonical import Message, Request, Text
from proxy.formats.messages.blocks import content, drop, text_block

Wire = list[dict[str, Any]]


def as_read(request: Request, dropped: list[str]) -> Wire:
    """The messages of a request that came in this format, unchanged.

    Reasoning of another family is left out all the same, and a message that held nothing else.
    """
    wire: Wire = []
    for message in request.messages:
        entry: dict[str, Any] = {"role": message.role}
        first = message.blocks[0] if len(message.blocks) == 1 else None
        if message.plain and isinstance(first, Text):
            entry["content"] = first.text
        else:
            blocks = content(message.blocks, own=True, dropped=dropped)
            if message.blocks and not blocks:
                continue
            entry["content"] = blocks
        if message.extras:
            entry.update(message.extras)
        wire.append(entry)
    return wire


def translated(request: Request, dropped: list[str]) -> tuple[Wire, Wire]:
    """System blocks and turns of a request of another format.

    System and developer messages at the head become system blocks; later ones become reminders in
    user turns, because their place in the conversation matters and moving them would break the
    prompt cache. Raises `UnsupportedContent`, and `InvalidRequest` when nothing is left to ask.
    """
    system = [entry for text in request.system or [] if (entry := text_block(text, False))]
    messages = request.messages
    start = 0
    while start < len(messages) and _is_system(messages[start]):
        system += content(messages[start].blocks, own=False, dropped=dropped)
        start += 1
    turns: Wire = []
    for message in messages[start:]:
        _append(turns, message, dropped)
    for turn in turns:
        if turn["role"] == "user":
            # Results must head the turn that answers the calls; sorting keeps the order otherwise.
            turn["content"].sort(key=lambda entry: entry["type"] != "tool_result")
    if not turns:
        # A request of system messages only: what it says is what it asks.
        turns, system = [{"role": "user", "content": system}], []
    if not turns[0]["content"]:
        raise InvalidRequest("messages: at least one message with content is required")
    return system, turns


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _append(turns: Wire, message: Message, dropped: list[str]) -> None:
    if message.name is not None:
        drop(dropped, "name")
    blocks = content(message.blocks, own=False, dropped=dropped)
    role = message.role
    if _is_system(message):
        role = "user"
        for entry in blocks:
            if entry["type"] == "text":
                entry["text"] = f"<system-reminder>\n{entry['text']}\n</system-reminder>"
    elif role == "assistant":
        for entry in blocks:
            if entry["type"] in ("image", "document"):
                raise UnsupportedContent(
                    f"messages has no place for {entry['type']!r} blocks of the assistant"
                )
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})
