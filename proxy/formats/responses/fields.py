"""Reading fields of unknown type, and the values that ride inside others: ids and opaque text.

Reads of a client's body raise `InvalidRequest` naming the field; reads of an upstream's answer are
lenient and give the empty value of the type.
"""

import hashlib
import re
from typing import Any, Final, TypeVar

from proxy.errors import InvalidRequest
from proxy.formats.canonical import Family, Opaque

NAME: Final = "responses"

T = TypeVar("T")

_KINDS: dict[type, str] = {
    str: "a string",
    int: "an integer",
    bool: "a boolean",
    list: "a list",
    dict: "an object",
}
_FAMILIES: dict[str, Family] = {
    "anthropic": "anthropic",
    "openai": "openai",
    "copilot_chat": "copilot_chat",
    "gemini": "gemini",
}
WRAP = "cgw1."
# Base64 holds no colon, so this cannot be the beginning of a signature.
_REDACTED = "redacted:"

_ID_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "reasoning": "rs",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "tool_search_call": "tsc",
    "tool_search_output": "tso",
    "compaction": "cmp",
}
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_CALL_ID = re.compile(r"[^A-Za-z0-9_-]")


def invalid(where: str, what: str) -> InvalidRequest:
    """The 400 for a field of the client's body."""
    return InvalidRequest(f"Invalid value for '{where[:80]}': expected {what}.", param=where)


def typed(value: object, kind: type[T], where: str) -> T:
    """`value` if it is of this type; a boolean is no integer."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise invalid(where, _KINDS[kind])
    return value


def take(rest: dict[str, Any], key: str, kind: type[T], where: str = "") -> T | None:
    """Takes a field out of `rest`; an explicit null stays there, so that it is written again."""
    value = rest.get(key)
    if value is None:
        return None
    found = typed(value, kind, where + key)
    del rest[key]
    return found


def take_number(rest: dict[str, Any], key: str) -> float | None:
    """Like `take`, for a number; an integer stays one."""
    value = rest.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid(key, "a number")
    del rest[key]
    return value


def as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def as_str(value: object) -> str:
    return value if isinstance(value, str) else ""


def wrap(opaque: Opaque, *, redacted: bool = False) -> str:
    """The `encrypted_content` of a reasoning item, also for a value of another family."""
    if opaque.family == "openai":
        return opaque.value
    return f"{WRAP}{opaque.family}.{_REDACTED if redacted else ''}{opaque.value}"


def unwrap(value: str) -> tuple[Opaque, bool]:
    """The reverse of `wrap`: whose value it is, and whether its thinking is redacted."""
    if value.startswith(WRAP):
        name, _, inner = value[len(WRAP) :].partition(".")
        family = _FAMILIES.get(name)
        if family is not None:
            redacted = inner.startswith(_REDACTED)
            return Opaque(family, inner.removeprefix(_REDACTED)), redacted
    return Opaque("openai", value), False


def item_id(answer_id: str, kind: str, index: int) -> str:
    """One id per output index, derived from our answer's id.

    A function call's id must begin with `fc`. Source: docs/upstream.md#responses.
    """
    return f"{_ID_PREFIXES.get(kind, 'item')}_{answer_id}_{index}"


def call_id(value: str) -> str:
    """An id of another format's tool call as this wire accepts it, the same for call and result."""
    if _CALL_ID.fullmatch(value):
        return value
    digest = hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{_NOT_CALL_ID.sub('_', value)[:40]}_{digest}"
