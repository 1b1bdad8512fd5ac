"""Large bodies read in outline: the texts of a conversation stay the bytes that the client sent.

An agent's request is a long history of which each turn repeats all before it. Decoding that history
into Python objects, walking it in every check and quirk and writing it again costs several times
what the rest of the request does. In outline, msgspec reads the conversation in one pass into the
structs of a format, whose texts are `Raw`: slices of the body, neither unescaped nor copied. What is
plain (nothing that any check or quirk would object to or change) stays in structs, and stands in the
body as a *run* of neighbours, which is written in one go at the end. The rest is decoded as ever: the
first user message, the end from the assistant's last turn on, and every message that is not plain.
So gist, checks and quirks work on the body of an outline as on any other; they see fewer messages,
and fewer tools.

Every field that is read is written again, so of a name that comes twice the last one counts here,
too; only within a tool's schema, which nobody here reads, the client's bytes stay as they are.
Whatever does not fit gives no outline, and the body is read in full: all errors come from there.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import orjson
from msgspec import UNSET, Raw, Struct, UnsetType

Body = dict[str, Any]
# A field that may be missing, kept as it is.
Kept = Raw | UnsetType

TOOLS: Final = "tools"
# More are looked at one by one, and counted.
MAX_TOOLS: Final = 128
# Within one slice. Whole bodies are held against `proxy.reading.MAX_LEVELS`.
MAX_LEVELS: Final = 100

_write: Final = msgspec.json.Encoder().encode
_fields: Final = msgspec.json.Decoder(dict[str, Raw])
_entries: Final = msgspec.json.Decoder(list[Raw])
_EMPTY: Final = (b"null", b"[]", b'""', b"{}")
_QUOTE: Final = ord('"')
_BRACKET: Final = ord("[")
_BRACE: Final = ord("{")


class Run(Struct, gc=False):
    """Neighbours of a list that nothing needs to see.

    `prepare` does for structs what quirks do for objects, and returns the names of those quirks.
    """

    entries: list[Any]
    prepare: Callable[[list[Any]], list[str]] | None = None


class Outline(Struct):
    """A body with runs. `items` and `tools` count what the client sent of them."""

    body: Body
    items: int
    tools: int


class Shape:
    """How one format's bodies are read in outline.

    `conversation` is the field that is long, `item` the struct of one of its entries, `tool` that of a
    tool; every struct forbids unknown fields. `known` are the usual fields of a body: any other costs
    a second pass. `is_plain` and `is_plain_tool` say whether nothing needs to see an item or tool,
    `is_turn` whether an item is the assistant's, `is_opening` whether it may be the one by which the
    conversation is known. `prepare` is that of the runs.
    """

    def __init__(
        self,
        *,
        conversation: str,
        known: str,
        item: type[Struct],
        tool: type[Struct],
        is_plain: Callable[[Any], bool],
        is_turn: Callable[[Any], bool],
        is_opening: Callable[[Any], bool],
        is_plain_tool: Callable[[Any], bool],
        prepare: Callable[[list[Any]], list[str]] | None = None,
    ) -> None:
        self._conversation = conversation
        self._others = tuple(sorted({*known.split()} - {conversation, TOOLS}))
        top = msgspec.defstruct(
            "Top",
            [
                (conversation, list[item]),  # type: ignore[valid-type]
                *((name, Kept, UNSET) for name in (TOOLS, *self._others)),
            ],
            forbid_unknown_fields=True,
        )
        self._top = msgspec.json.Decoder(top)
        self._item = msgspec.json.Decoder(item)
        self._tool = msgspec.json.Decoder(tool)
        self._tools = msgspec.json.Decoder(list[tool])  # type: ignore[valid-type]
        self._is_plain = is_plain
        self._is_turn = is_turn
        self._is_opening = is_opening
        self._is_plain_tool = is_plain_tool
        self._prepare = prepare

    def outline(self, raw: bytes) -> Outline | None:
        """None for what is no JSON, of another shape, or better read in full."""
        try:
            # msgspec checks everything but the encoding of what it does not decode.
            str(raw, "utf-8")
            fields, items = self._read(raw)
            offered = fields.pop(TOOLS, UNSET)
            body = {name: orjson.loads(memoryview(value)) for name, value in fields.items()}
            outline = Outline(body, len(items), 0)
            if offered is not UNSET:
                self._add_tools(outline, offered)
        except (ValueError, RecursionError):
            # All errors of msgspec, orjson and the codec are `ValueError`s.
            return None
        body[self._conversation] = self._mixed(items, self._plain_items(items))
        return outline

    def _read(self, raw: bytes) -> tuple[dict[str, Raw], list[Any]]:
        try:
            top = self._top.decode(raw)
        except msgspec.ValidationError:
            return self._read_piecewise(raw)
        fields = {
            name: value
            for name in (TOOLS, *self._others)
            if (value := getattr(top, name)) is not UNSET
        }
        return fields, getattr(top, self._conversation)

    def _read_piecewise(self, raw: bytes) -> tuple[dict[str, Raw], list[Any]]:
        """Something is unusual, somewhere: a second pass, and what does not fit becomes objects."""
        fields = _fields.decode(raw)
        return fields, _each(fields.pop(self._conversation, Raw(b"null")), self._item)

    def _add_tools(self, outline: Outline, offered: Raw) -> None:
        try:
            tools = self._tools.decode(offered)
        except msgspec.ValidationError:
            if not is_list(offered):
                outline.body[TOOLS] = orjson.loads(memoryview(offered))
                return
            tools = _each(offered, self._tool)
        outline.tools = len(tools)
        # Many are refused by number, so they must be there to be counted.
        is_plain = self._is_plain_tool if len(tools) <= MAX_TOOLS else _never
        outline.body[TOOLS] = self._mixed(tools, [i for i, t in enumerate(tools) if is_plain(t)])

    def _mixed(self, entries: list[Any], plain: list[int]) -> list[Any]:
        """The entries as objects, but those at the places `plain` in runs."""
        mixed: list[Any] = []
        done = 0
        for i in plain:
            if i == done and mixed and is_run(mixed[-1]):
                mixed[-1].entries.append(entries[i])
            else:
                mixed += map(_as_object, entries[done:i])
                mixed.append(Run([entries[i]], self._prepare))
            done = i + 1
        mixed += map(_as_object, entries[done:])
        return mixed

    def _plain_items(self, items: list[Any]) -> list[int]:
        first = next((i for i, item in enumerate(items) if self._is_opening(item)), 0)
        end = len(items) - 1
        while end > 0 and not self._is_turn(items[end]):
            end -= 1
        is_plain = self._is_plain
        return [i for i, item in enumerate(items[:end]) if i != first and is_plain(item)]


def _each(entries: Raw, decoder: msgspec.json.Decoder[Any]) -> list[Any]:
    """The entries of a list one by one: structs where they fit, else objects."""
    found: list[Any] = []
    for entry in _entries.decode(entries):
        try:
            found.append(decoder.decode(entry))
        except msgspec.ValidationError:
            found.append(orjson.loads(memoryview(entry)))
    return found


def _as_object(entry: Any) -> Any:
    return orjson.loads(_write(entry)) if isinstance(entry, Struct) else entry


def _never(entry: Any) -> bool:
    return False


def role_of(item: Any) -> Any:
    return item.get("role") if isinstance(item, dict) else getattr(item, "role", None)


def is_users(item: Any) -> bool:
    return bool(role_of(item) == "user")


def is_run(entry: Any) -> bool:
    return type(entry) is Run


def decode_runs(body: Body) -> bool:
    """Put objects in the place of all runs, also of written ones; whether there were any."""
    names = _with_any(body, Run, orjson.Fragment)
    for name in names:
        whole: list[Any] = []
        for entry in body[name]:
            whole += [entry] if isinstance(entry, dict) else decoded(entry)
        body[name] = whole
    return bool(names)


def decoded(entry: Any) -> list[Any]:
    """The objects of a run; of anything else the thing itself, in a list."""
    json = _write(entry.entries) if is_run(entry) else orjson.dumps([entry])
    entries: list[Any] = orjson.loads(json)
    return entries


def write_runs(body: Body) -> list[str]:
    """Put the JSON of runs in their places; returns the names of quirks whose work was done.

    A fragment's text is `a,b,c`, so that it stands for several entries of its list.
    """
    acted: list[str] = []
    for name in _with_any(body, Run):
        written: list[Any] = []
        for entry in body[name]:
            if not is_run(entry):
                written.append(entry)
            elif entry.entries:
                acted += entry.prepare(entry.entries) if entry.prepare is not None else []
                written.append(orjson.Fragment(_write(entry.entries)[1:-1]))
        body[name] = written
    return acted


def _with_any(body: Body, *kinds: type) -> list[str]:
    return [
        name
        for name, value in body.items()
        if type(value) is list and any(type(entry) in kinds for entry in value)
    ]


# What `is_plain` asks of slices.


def is_text(raw: Kept) -> bool:
    """Whether a slice is a string."""
    return raw is not UNSET and memoryview(raw)[0] == _QUOTE


def is_list(raw: Kept) -> bool:
    return raw is not UNSET and memoryview(raw)[0] == _BRACKET


def is_empty(raw: Kept) -> bool:
    """Whether a field is missing, null or an empty list, string or object."""
    return raw is UNSET or bytes(memoryview(raw)[:5]) in _EMPTY


def is_shallow_object(raw: Kept) -> bool:
    """Whether a slice is an object that is surely not nested too deep."""
    if raw is UNSET:
        return False
    view = memoryview(raw)
    if view[0] != _BRACE:
        return False
    if len(view) < 2 * MAX_LEVELS:
        return True
    data = view.tobytes()
    return data.count(b"{") + data.count(b"[") < MAX_LEVELS
