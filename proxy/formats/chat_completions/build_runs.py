"""Runs of another format's plain turns as this wire has them, texts moved as the bytes they are.

The same rules as in `build_messages`, for what is left of them when a turn holds nothing but texts,
calls, results and Anthropic's own thinking; a test holds the two against each other.
"""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
import orjson
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.formats.chat_completions.plain import Call, Called, Function, Tool
from proxy.formats.chat_completions.wire import tool_call_id
from proxy.formats.messages import plain as messages
from proxy.formats.messages.wrapping import canonical_tool_id
from proxy.formats.outlines import Kept, Run, is_list

_write: Final = msgspec.json.Encoder().encode
_role: Final = attrgetter("role")


# What is written, in structs as narrow as can be: each field takes time, also when it is not set.


class Said(Struct, gc=False):
    content: str | list[dict[str, str]]
    role: str = "user"


class Answer(Struct, gc=False):
    content: str | None
    tool_calls: list[Call] | UnsetType
    role: str = "assistant"


class Result(Struct, gc=False):
    tool_call_id: str
    content: Raw | str
    role: str = "tool"


def fit_run(run: Run, dropped: list[str]) -> Run:
    """Whole turns of a Messages conversation; what is left out is named in `dropped`."""
    entries: list[Said | Answer | Result] = []
    for role, turn in groupby(run.entries, _role):
        if role == "assistant":
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


def _add_answer(
    entries: list[Said | Answer | Result], turn: Iterable[messages.Message], dropped: list[str]
) -> None:
    """Consecutive assistant messages are one: calls stand in the message before results."""
    said: list[str] = []
    calls: list[Call] = []
    for message in turn:
        if isinstance(message.content, str):
            said.append(message.content)
            continue
        texts: list[str] = []
        for block in message.content:
            if isinstance(block, messages.Text):
                texts.append(block.text)
            elif isinstance(block, messages.ToolUse):
                # What the client has decoded as an object is a text on this wire.
                arguments = orjson.dumps(block.input).decode()
                calls.append(Call(_fit_id(block.id), Called(block.name, arguments), "function"))
            else:
                dropped.append("thinking")
        if texts:
            said.append("".join(texts))
    if said or calls:
        # Else only foreign reasoning, or nothing: the endpoint refuses empty messages.
        entries.append(Answer("\n\n".join(said) if said else None, calls or UNSET))


def _add_others(entries: list[Said | Answer | Result], turn: Iterable[messages.Message]) -> None:
    """All results of a turn come first, then the words."""
    words: list[Said] = []
    for message in turn:
        if isinstance(message.content, str):
            words.append(Said(message.content))
            continue
        texts: list[str] = []
        for block in message.content:
            if isinstance(block, messages.ToolResult):
                content = _result_content(block.content)
                if block.is_error is True and len(memoryview(content)) == len(b'""'):
                    content = Raw(b'"Error"')
                entries.append(Result(_fit_id(block.tool_use_id), content))
            elif isinstance(block, messages.Text):
                texts.append(block.text)
        if len(texts) == 1:
            words.append(Said(texts[0]))
        elif texts:
            words.append(Said([{"type": "text", "text": text} for text in texts]))
    entries += words


def _result_content(content: Kept) -> Raw:
    if content is UNSET:
        return Raw(b'""')
    if is_list(content):
        texts: list[Any] = [block.text for block in messages.texts_of(content)]
        return Raw(_write("\n".join(texts)))
    return content


def _fit_id(value: str) -> str:
    return tool_call_id(canonical_tool_id(value))
