"""Shallow checks of a client's body: what must be there is there, and of the right type.

A body that passes through is never parsed as a whole; these checks find, at the price of one look
at each message, what the upstream would refuse, and name the field. A null counts as absent.
"""

from typing import Any, Final

from proxy.errors import InvalidRequest

Body = dict[str, Any]
# What is wrong within an object, if anything: the field, relative to it, and what it must be.
Fault = tuple[str, str] | None

# No model answers with more; a larger number is a slip of the client's.
MAX_OUTPUT_TOKENS: Final = 1_000_000_000
A_NAME: Final = "a name (a non-empty string)"


def refusal(where: str, wanted: str) -> InvalidRequest:
    """The error for a field that is missing or not what the API asks for."""
    return InvalidRequest(f"{where}: {wanted} is required", param=where)


def listing(body: Body, name: str) -> list[Any]:
    """The list under `name`, empty when absent."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise refusal(name, "a list")
    return value


def filled_list(body: Body, name: str) -> list[Any]:
    value = body.get(name)
    if not isinstance(value, list) or not value:
        raise refusal(name, "a non-empty list")
    return value


def mapping(body: Body, name: str) -> Body | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise refusal(name, "an object")
    return value


def mappings(body: Body, *names: str) -> None:
    for name in names:
        mapping(body, name)


def texts(body: Body, *names: str) -> None:
    for name in names:
        value = body.get(name)
        if value is not None and not isinstance(value, str):
            raise refusal(name, "a string")


def flags(body: Body, *names: str) -> None:
    for name in names:
        value = body.get(name)
        if value is not None and not isinstance(value, bool):
            raise refusal(name, "true or false")


def number(body: Body, name: str, least: float, most: float) -> None:
    value = body.get(name)
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        raise refusal(name, f"a number from {least:g} to {most:g}")


def whole(body: Body, name: str, least: int, most: int) -> None:
    value = body.get(name)
    if value is None:
        return
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not least <= value <= most:
        raise refusal(name, f"a whole number from {least} to {most}")


def output_limit(body: Body, name: str, *, required: bool = False) -> None:
    """A limit of the answer's tokens."""
    value = body.get(name)
    if value is None and not required:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refusal(name, "a positive integer")
    if value > MAX_OUTPUT_TOKENS:
        raise refusal(name, f"an integer of at most {MAX_OUTPUT_TOKENS}")


def lacks_text(entry: Body, *names: str) -> Fault:
    """The first of the fields that is no string."""
    for name in names:
        if not isinstance(entry.get(name), str):
            return name, "a string"
    return None
