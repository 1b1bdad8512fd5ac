"""Fields of a client's body, checked: what is wrong is named in the error."""

from typing import Any

from proxy.errors import InvalidRequest

Body = dict[str, Any]

_CACHE_FIELDS = ("copilot_cache_control", "cache_control")


class Fields:
    """The top-level fields, taken out one by one; null counts as absent."""

    def __init__(self, body: Body) -> None:
        self.rest = {key: value for key, value in body.items() if value is not None}

    def take(self, name: str, kind: type | tuple[type, ...], what: str) -> Any:
        value = self.rest.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise wrong(name, what)
        return value

    def text(self, name: str) -> str | None:
        value: str | None = self.take(name, str, "a string")
        return value

    def whole(self, name: str) -> int | None:
        value: int | None = self.take(name, int, "an integer")
        return value

    def number(self, name: str) -> float | None:
        value: float | None = self.take(name, (int, float), "a number")
        return value

    def flag(self, name: str) -> bool | None:
        value: bool | None = self.take(name, bool, "true or false")
        return value

    def mapping(self, name: str) -> Body | None:
        value: Body | None = self.take(name, dict, "an object")
        return value


def wrong(name: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"'{name}' must be {what}.", param=name)


def mapping(value: Any, where: str) -> Body:
    if not isinstance(value, dict):
        raise wrong(where, "an object")
    return value


def string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise wrong(where, "a string")
    return value


def listing(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong(where, "a list")
    return value


def without(source: Body, *names: str) -> Body:
    return {key: value for key, value in source.items() if key not in names}


def find_cache(source: Body) -> Body | None:
    """The cache marker: Copilot's own word for it, or the one that Anthropic's clients send."""
    for name in _CACHE_FIELDS:
        if isinstance(source.get(name), dict):
            marker: Body = source[name]
            return marker
    return None
