"""Reading Google's JSON: either spelling of names, one object for a list, numbers as text.

Reads of a client's body return the type they promise or raise `InvalidRequest` naming the field.
"""

import math
import re
from typing import Any, Final

import orjson

from proxy.errors import InvalidRequest

NAME: Final = "gemini"
MAX_COUNT: Final = 2**31 - 1
_SNAKE = re.compile(r"_([a-z0-9])")
_UPPER = re.compile(r"[A-Z]")

Body = dict[str, Any]


def wrong(where: str, wanted: str) -> InvalidRequest:
    """The error for a field of another type than the API asks for."""
    return InvalidRequest(f"Invalid value at '{where[:120]}': {wanted} is required.", param=where)


def mapping(value: Any, where: str) -> Body:
    if isinstance(value, dict):
        return value
    raise wrong(where, "an object")


def proto(value: Any, where: str) -> Body:
    """An object of Google's own types: snake_case names, which Google takes too, become camelCase.

    Never for objects with names of the client's choice (arguments, schemas, labels).
    """
    entry = mapping(value, where)
    if any("_" in key for key in entry):
        return {camel(key): one for key, one in entry.items()}
    return entry


def camel(name: str) -> str:
    return _SNAKE.sub(lambda found: found[1].upper(), name)


def peek(body: Any, *path: str) -> Any:
    """What stands at `path` in either spelling; None where something else is in the way."""
    for name in path:
        if not isinstance(body, dict):
            return None
        value = body.get(name)
        if value is None:
            value = body.get(_UPPER.sub(lambda found: "_" + found[0].lower(), name))
        body = value
    return body


def sequence(value: Any, where: str) -> list[Any]:
    """A list; Google takes a single object for a list of one."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value]
    raise wrong(where, "a list")


def string(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    raise wrong(where, "a string")


def optional_string(value: Any, where: str) -> str | None:
    return None if value is None else string(value, where)


def optional_flag(value: Any, where: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise wrong(where, "true or false")


def optional_number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise wrong(where, "a number")


def optional_count(value: Any, where: str, least: int = 0) -> int | None:
    """A whole number from `least` to 2^31-1; Google's JSON may write it as text or as `64.0`."""
    if value is None:
        return None
    if isinstance(value, str) and len(value) < 12 and value.removeprefix("-").isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(where, "a whole number")
    if not least <= value <= MAX_COUNT:
        raise wrong(where, f"a number between {least} and {MAX_COUNT}")
    return value


def strings(value: Any, where: str) -> list[str]:
    if not isinstance(value, list):
        raise wrong(where, "a list of strings")
    return [string(one, f"{where}[{i}]") for i, one in enumerate(value)]


def others(entry: Body, known: frozenset[str]) -> Body:
    """The fields that have no canonical name."""
    return {key: value for key, value in entry.items() if key not in known and value is not None}


def json_object(value: Any, where: str) -> Body:
    """An object of the client's choice that is passed on as it is, and can be."""
    entry = mapping(value, where)
    json_text(entry, where)
    return entry


def json_text(value: Any, where: str) -> str:
    """`value` as JSON text. Raises `InvalidRequest` for what is too deep to be written."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise wrong(where, "an object of ordinary depth and numbers") from None
