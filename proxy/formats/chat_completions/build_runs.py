"""Runs of another format's plain turns as this wire has them, texts moved as the bytes they are.

The same rules as in `build_messages`, for what is left of them when a turn holds nothing but texts,
calls, results and Anthropic's own thinking; a test holds the two against each other.
"""

from itertools import groupby
from typing import Any

import msgspec
import orjson
from msgspec import UNSET, Raw

from proxy.formats.chat_completions.plain import Call, Called, Function, Message, Tool
from proxy.formats.chat_completions.wire import tool_call_id
from proxy.formats.messages import plain as messages
from proxy.formats.messages.wrapping import canonical_tool_id
from proxy.formats.outlines import Run, is_list

_write = msgspec.json.Encoder().encode


def fit_run(run: Run, dropped: list[str]) -> Run:
    """Whole turns of a Messages conversation; what is left out is named in `dropped`."""
    entries: list[Message] = []
    for by_assistant, turn in groupby(run.entries, messages.is_turn):
        if by_assistant:
            _add_answer(entries, turn, dropped)
        else:
            _add_others(entries, turn)
    return Run(entries)


def fit_tools(run: Run) -> Run:
    return Run(
        [
            Tool(
                type="function",
                function=Function(
                    name=tool.name,
                    description=tool.description,
                    parameters=Raw(_write(tool.input_schema)),
                ),
            )
            for tool in run.entries
        ]
    )


def _add_answer(entries: list[Message], turn: Any, dropped: list[str]) -> None:
    """Consecutive assistant messages are one: calls stand in the message before results."""
    said: list[str] = []
    calls: list[Call] = []
    for message in turn:
        if isinstance(message.content, str):
            said.append(message.content)
            continue
        texts: list[str] = []
        for block in message.content:
            kind = type(block)
            if kind is messages.Text:
                texts.append(block.text)
            elif kind is messages.ToolUse:
                calls.append(_call(block))
            else:
                dropped.append("thinking")
        if texts:
            said.append("".join(texts))
    if not said and not calls:
        # Only foreign reasoning, or nothing: the endpoint refuses empty messages.
        return
    entries.append(
        Message(
            role="assistant",
            content=_raw("\n\n".join(said) if said else None),
            tool_calls=calls or UNSET,
        )
    )


def _call(block: "messages.ToolUse") -> Call:
    return Call(
        id=tool_call_id(canonical_tool_id(block.id)),
        type="function",
        function=Called(name=block.name, arguments=orjson.dumps(block.input).decode()),
    )


def _add_others(entries: list[Message], turn: Any) -> None:
    """All results of a turn come first, then the words."""
    words: list[Message] = []
    for message in turn:
        if isinstance(message.content, str):
            words.append(Message(role="user", content=_raw(message.content)))
            continue
        texts: list[str] = []
        for block in message.content:
            if type(block) is messages.ToolResult:
                entries.append(_result(block))
            else:
                texts.append(block.text)
        if len(texts) == 1:
            words.append(Message(role="user", content=_raw(texts[0])))
        elif texts:
            parts = [{"type": "text", "text": text} for text in texts]
            words.append(Message(role="user", content=_raw(parts)))
    entries += words


def _result(block: "messages.ToolResult") -> Message:
    content = block.content
    if content is UNSET:
        content = _raw("")
    elif is_list(content):
        content = _raw("\n".join(text.text for text in messages.texts_of(content)))
    if block.is_error is True and len(memoryview(content)) == 2:
        content = _raw("Error")
    return Message(
        role="tool",
        tool_call_id=tool_call_id(canonical_tool_id(block.tool_use_id)),
        content=content,
    )


def _raw(value: Any) -> Raw:
    return Raw(_write(value))
