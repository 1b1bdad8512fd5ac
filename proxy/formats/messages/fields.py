"""Reading a client's JSON: each reader returns the type it promises or names the field."""

from typing import Any

from proxy.errors import InvalidRequest

MAX_COUNT = 2**31 - 1


def wrong(where: str, wanted: str) -> InvalidRequest:
    """The error for a field of another type than the API asks for."""
    return InvalidRequest(f"{where}: Input should be {wanted}", param=where)


def mapping(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise wrong(where, "an object")


def sequence(value: Any, where: str) -> list[Any]:
    if isinstance(value, list):
        return value
    raise wrong(where, "a list")


def string(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise InvalidRequest(f"{where}: Field required", param=where)
    raise wrong(where, "a string")


def optional_mapping(value: Any, where: str) -> dict[str, Any] | None:
    return None if value is None else mapping(value, where)


def optional_string(value: Any, where: str) -> str | None:
    return None if value is None else string(value, where)


def optional_flag(value: Any, where: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise wrong(where, "true or false")


def optional_number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise wrong(where, "a number")


def optional_count(value: Any, where: str, least: int = 0) -> int | None:
    """A whole number from `least` to 2^31-1."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(where, "a whole number")
    if not least <= value <= MAX_COUNT:
        raise wrong(where, f"between {least} and {MAX_COUNT}")
    return value


def objects(value: Any, where: str) -> list[dict[str, Any]]:
    """A list whose every entry is an object."""
    return [mapping(entry, f"{where}.{i}") for i, entry in enumerate(sequence(value, where))]


def others(body: dict[str, Any], known: frozenset[str]) -> dict[str, Any] | None:
    """The fields of `body` that have no canonical name; None when there are none."""
    extras = {key: value for key, value in body.items() if key not in known}
    return extras or None
