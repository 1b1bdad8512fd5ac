"""Tool calls of one choice on their way through: dense indexes, ids and names said once."""

from typing import Any

import orjson

from proxy.errors import UpstreamFailed

Body = dict[str, Any]


class _Known:
    """A call that the client has seen, and whether it has got arguments."""

    __slots__ = ("filled", "id", "index", "named")

    def __init__(self, index: int, identity: str) -> None:
        self.index = index
        self.id = identity
        self.named = False
        self.filled = False


class Calls:
    """Which call a delta belongs to, and the index under which the client knows it.

    The OpenAI SDK adds up calls by place and appends repeated ids and names: indexes must have no
    gaps, heads must come once.
    """

    def __init__(self, answer_id: str) -> None:
        self._answer_id = answer_id
        self._by_place: dict[tuple[int, int], _Known] = {}
        self._calls: list[_Known] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def repair(self, items: Any, choice: int) -> list[Body]:
        if items is None:
            return []
        if not isinstance(items, list):
            raise UpstreamFailed("The upstream sent tool calls that are not a list.")
        return [self._item(item, choice) for item in items if item is not None]

    def missing_arguments(self) -> list[Body]:
        """An empty object for every call that has had no arguments: clients parse them as JSON."""
        empty = [call for call in self._calls if not call.filled]
        for call in empty:
            call.filled = True
        return [{"index": call.index, "function": {"arguments": "{}"}} for call in empty]

    def _item(self, item: Any, choice: int) -> Body:
        kind = "custom" if isinstance(item, dict) and "custom" in item else "function"
        target = item.get(kind) if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(target, dict | None):
            raise UpstreamFailed("The upstream sent a tool call that is not an object.")
        target = dict(target or {})
        call = self._find(item, target, choice)
        rest = {key: value for key, value in item.items() if key not in ("id", "type", kind)}
        field = "input" if kind == "custom" else "arguments"
        if isinstance(target.get(field), dict):
            target[field] = orjson.dumps(target[field]).decode()
        if target.get(field) or kind == "custom":
            call.filled = True
        name = said(target, "name")
        target.pop("name", None)
        head: Body = {}
        if not call.named and name:
            call.named = True
            head = {"id": call.id, "type": kind}
            target = {"name": name, **target}
        target[field] = said(target, field)
        return {**rest, "index": call.index, **head, kind: target}

    def _find(self, item: Body, target: Body, choice: int) -> _Known:
        index = item.get("index")
        identity, name = said(item, "id"), said(target, "name")
        known: _Known | None
        if isinstance(index, int):
            known = self._by_place.get((choice, index))
            if known is not None and identity and name and known.id != identity:
                # Gemini gives all its parallel calls the index 0.
                known = None
        elif identity:
            known = next((call for call in self._calls if call.id == identity), None)
        elif name:
            known = None
        elif self._calls:
            known = self._calls[-1]
        else:
            raise UpstreamFailed("The upstream sent arguments that belong to no tool call.")
        if known is None:
            known = self._add(identity)
            if isinstance(index, int):
                self._by_place[(choice, index)] = known
        return known

    def _add(self, identity: str) -> _Known:
        number = len(self._calls)
        call = _Known(number, identity or f"call_{self._answer_id}_{number}")
        self._calls.append(call)
        return call


def said(source: Body, name: str) -> str:
    """A string field; absent and null say nothing. Raises `UpstreamFailed` for anything else."""
    value = source.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UpstreamFailed(f"The upstream sent a {name!r} that is not a string.")
    return value
