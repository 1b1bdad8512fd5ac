"""Ordinary whole answers: one choice of plain text, under the names that clients know.

Nearly all answers are, and there is nothing to repair in them: the upstream's bytes go on as they came.
Reading them as events and writing them anew costs 25 us, this look 3.
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from proxy.formats.canonical import Usage
from proxy.formats.chat_completions.wire import merge_usage, stop_reason

# Of a choice's text, what changes nothing for whoever reads it.
Noise = str | dict[str, Any] | list[Any] | UnsetType


class _Message(Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["assistant"]
    content: str
    padding: Noise = UNSET
    annotations: Noise = UNSET


class _Choice(Struct, gc=False):
    message: _Message
    finish_reason: Literal["stop", "length"]
    index: Literal[0]


class _Answer(Struct, gc=False):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: tuple[_Choice]
    usage: dict[str, Any]
    copilot_usage: Any = None
    copilot_errors: Any = None
    # Of no type that JSON has: an answer that holds one is not ordinary.
    error: UnsetType = UNSET


_answer: Final = msgspec.json.Decoder(_Answer)
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


class Ordinary(Struct, frozen=True):
    """What an ordinary answer says of itself."""

    usage: Usage
    stop_reason: str


def read(raw: bytes) -> Ordinary | None:
    """None for any answer that may have to be repaired, and for every failure."""
    try:
        # msgspec checks everything but the encoding of what it does not decode.
        str(raw, "utf-8")
        answer = _answer.decode(raw)
    except (ValueError, RecursionError):
        return None
    usage = answer.usage
    if not answer.id or not answer.model or " " in answer.model or answer.copilot_errors:
        return None
    for name in _COUNTS:
        if type(usage.get(name)) is not int:
            return None
    counted = merge_usage(None, {"usage": usage, "copilot_usage": answer.copilot_usage})
    if counted is None:
        return None
    reason = answer.choices[0].finish_reason
    return Ordinary(counted, stop_reason(reason, calls=False, only_refusal=False))
