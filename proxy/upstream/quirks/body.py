"""Safe ways into a request body that may come straight from a client, and what a quirk is.

A passthrough body is any JSON object: every access checks what it finds, and what is not of the
expected shape is left alone, so that the upstream says what is wrong with it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct, field

from proxy.formats.canonical import ModelFacts


class QuirkContext(Struct, kw_only=True):
    """What a quirk knows beside body and model.

    `betas` are the Anthropic betas that will be sent, `stream` whether the upstream streams,
    `translated` whether the client speaks another format than the endpoint.
    `dropped` collects the client's own wishes that quirks took away, for `x-gateway-dropped`.
    """

    betas: frozenset[str] = frozenset()
    stream: bool = False
    translated: bool = False
    dropped: list[str] = field(default_factory=list)

    def drop(self, *names: str) -> None:
        """Note wishes that were taken away, each once."""
        self.dropped.extend(name for name in names if name not in self.dropped)


Quirk = Callable[[dict[str, Any], ModelFacts, QuirkContext], bool]

# The fields without which a quirk has nothing to do; of a quirk that is not here, nobody has said.
WATCHED: Final[dict[Quirk, frozenset[str]]] = {}


def watches(*names: str) -> Callable[[Quirk], Quirk]:
    """Run the quirk only where one of these fields stands: see `fields_within`."""

    def mark(quirk: Quirk) -> Quirk:
        WATCHED[quirk] = frozenset(names)
        return quirk

    return mark


def fields_within(body: dict[str, Any]) -> set[str]:
    """The names of all fields of a body, of its messages, items and tools, and of what these hold.

    To look once at all of them costs less than one quirk that finds nothing to do.
    """
    names = set(body)
    for entries in (body.get("messages"), body.get("input"), body.get("tools")):
        for entry in dicts_of(entries):
            names.update(entry)
            for inner in entry.values():
                if type(inner) is str:
                    continue
                if type(inner) is dict:
                    names.update(inner)
                elif type(inner) is list:
                    names.update(*[part for part in inner if type(part) is dict])
    return names


# Efforts from little to much. Catalogs list a part of them, clients ask for any.
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def dicts_of(value: object) -> list[dict[str, Any]]:
    """The objects of a list, or nothing. A list: a generator takes thrice the time in large bodies."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def integer(value: object) -> int | None:
    """An integer that is none of JSON's booleans."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def pop_fields(holder: dict[str, Any], names: frozenset[str] | tuple[str, ...]) -> list[str]:
    """Take the named fields out; returns those that were there and said something."""
    gone = [name for name in names if name in holder]
    return [name for name in gone if holder.pop(name) is not None]


def pop_from_each(holders: Iterable[dict[str, Any]], name: str) -> bool:
    """Take one field out of all holders; returns whether any of them had it."""
    return bool([holder.pop(name) for holder in holders if name in holder])


def keep_fields(holder: dict[str, Any], names: frozenset[str]) -> list[str]:
    """Take all but the named fields out; returns those that went."""
    gone = [name for name in holder if name not in names]
    for name in gone:
        del holder[name]
    return gone


def drop_unknown(
    body: dict[str, Any], context: QuirkContext, *, known: frozenset[str], silent: frozenset[str]
) -> bool:
    """Hold the top level against an allow-list. `silent` fields change no answer: not disclosed."""
    if body.keys() <= known:
        return False
    gone = keep_fields(body, known)
    context.drop(*(str(name)[:40] for name in gone if name not in silent))
    return bool(gone)


def clamp_effort(holder: dict[str, Any], key: str, efforts: tuple[str, ...]) -> bool:
    """Make an effort one that the model lists: the nearest lower, else the lowest that it has.

    Taken out when the model lists none or the word is unknown. Returns whether it changed.
    """
    effort = holder.get(key)
    if effort is None or effort in efforts:
        return False
    listed = [each for each in EFFORTS if each in efforts]
    if not listed or effort not in EFFORTS:
        del holder[key]
        return True
    asked = EFFORTS.index(effort)
    lower = [each for each in listed if EFFORTS.index(each) < asked]
    holder[key] = lower[-1] if lower else listed[0]
    return True


def drop_tools(body: dict[str, Any], unwanted: Callable[[dict[str, Any]], bool]) -> bool:
    """Take tools out of `tools`, and a `tool_choice` that would then name nothing."""
    tools = body.get("tools")
    if not isinstance(tools, list):
        return False
    gone = [tool for tool in dicts_of(tools) if unwanted(tool)]
    if not gone:
        return False
    body["tools"] = [tool for tool in tools if not any(tool is each for each in gone)]
    names = {tool.get("name") for tool in gone if isinstance(tool.get("name"), str)}
    kinds = {tool.get("type") for tool in gone if isinstance(tool.get("type"), str)}
    choice = body.get("tool_choice")
    if not body["tools"]:
        del body["tools"]
        body.pop("tool_choice", None)
    elif isinstance(choice, dict) and _is_among(choice, names, kinds):
        del body["tool_choice"]
    return True


def _is_among(choice: dict[str, Any], names: set[Any], kinds: set[Any]) -> bool:
    name, kind = choice.get("name"), choice.get("type")
    return (isinstance(name, str) and name in names) or (isinstance(kind, str) and kind in kinds)
