"""Responses of API paths: Django's, with what the gateway's own server does not ask for left out.

Django builds a headers object, a cookie jar and a charset for each response: 10 us, more than the
answer itself takes. Here they are made when somebody asks for them.
"""

from collections.abc import Mapping
from functools import cached_property
from http.cookies import SimpleCookie
from typing import Any

from django.http import HttpResponse
from django.http.response import ResponseHeaders

JSON = {"content-type": "application/json"}


def plain(headers: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Both together, each value fit for a line of its own: what a client named may stand in them."""
    values = {**headers, **more}
    together = "".join(values.values())
    if together.isascii() and together.isprintable():
        return values
    for name, value in values.items():
        if not (value.isascii() and value.isprintable()):
            values[name] = "".join(c if c.isascii() and c.isprintable() else "?" for c in value)
    return values


class LeanResponse(HttpResponse):
    """A whole JSON answer with status 200. `plain_headers` are all headers but its length."""

    def __init__(self, payload: bytes, headers: Mapping[str, str]) -> None:
        # Not Django's own: what it sets is set here, or found by the properties below.
        self.payload = payload
        self.plain_headers = plain(JSON, headers)
        self.closed = False
        self._resource_closers: list[Any] = []
        self._handler_class = None
        self._charset = None
        self._reason_phrase = None

    @cached_property
    def headers(self) -> ResponseHeaders:  # type: ignore[override]
        return ResponseHeaders(self.plain_headers)

    @cached_property
    def cookies(self) -> "SimpleCookie":  # type: ignore[override]
        return SimpleCookie()

    @property
    def content(self) -> bytes:
        return self.payload

    @content.setter
    def content(self, value: Any) -> None:
        self.payload = self.make_bytes(value)
