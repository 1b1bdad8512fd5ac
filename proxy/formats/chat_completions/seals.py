"""Seals: the `reasoning_opaque` of a turn that calls tools, and where it stands in a history.

A model behind this endpoint wants it back on the message that holds the calls. It is no field of
OpenAI's, so many clients lose it. Source: docs/upstream.md#reasoning.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

FIELD: Final = "reasoning_opaque"
# What a frame must hold to be looked at.
_SIGNS: Final = (b"tool_calls", FIELD.encode())
Keep = Callable[[str, str], None]


class SealReader:
    """Watches an answer, frame by frame or whole; `keep(call_id, seal)` hears of each sealed call."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._calls: list[str] = []
        self._seal = ""

    def read(self, data: bytes) -> None:
        """Never raises: what cannot be read is the decoder's business."""
        if _SIGNS[0] not in data and _SIGNS[1] not in data:
            return
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        found = False
        for part in _parts(document):
            seal = part.get(FIELD)
            if isinstance(seal, str) and seal:
                self._seal, found = seal, True
            for call in _dicts(part.get("tool_calls")):
                if isinstance(call.get("id"), str) and call["id"]:
                    self._calls.append(call["id"])
                    found = True
        if found and self._seal:
            for call_id in self._calls:
                self._keep(call_id, self._seal)


def unsealed_calls(body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The messages of a request that call tools and have lost their seal, with their call ids."""
    for message in _dicts(body.get("messages")):
        if message.get("role") == "assistant" and not message.get(FIELD):
            calls = [call.get("id") for call in _dicts(message.get("tool_calls"))]
            ids = [call_id for call_id in calls if isinstance(call_id, str)]
            if ids:
                yield message, ids


def _parts(document: Any) -> Iterator[dict[str, Any]]:
    choices = document.get("choices") if isinstance(document, dict) else None
    for choice in _dicts(choices):
        for name in ("delta", "message"):
            if isinstance(choice.get(name), dict):
                yield choice[name]


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))
