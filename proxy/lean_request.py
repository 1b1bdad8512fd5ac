"""The request of an API path: Django's, with what no operation asks for left until somebody does.

Django's own builds META from all headers and parses the query at once, and makes `headers` from META
again: 50 us together. Here headers are decoded once, and META comes from Django when it is needed.
"""

import io
from collections.abc import Mapping
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.utils.functional import cached_property

from accounts.hosts import FORWARDING


class LeanRequest(ASGIRequest):
    """`plain_headers` are by lower-case name; what came twice is joined by commas, as Django does."""

    def __init__(self, scope: dict[str, Any], body: bytes) -> None:
        # Not Django's own: what it sets is set here, or found by the properties below.
        self.scope = scope
        self.client: tuple[str, int] | None = scope.get("client")
        self.raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.path = self.path_info = scope["path"]
        self.script_name = ""
        self.method = scope["method"].upper()
        self._post_parse_error = False
        self._read_started = False
        self.resolver_match = None
        # Django would read the stream a second time, with a limit of its own.
        self._body = body
        self.plain_headers = plain_headers(scope["headers"])

    @classmethod
    def short(
        cls,
        path: str,
        headers: dict[str, str],
        body: bytes,
        client: tuple[str, int] | None,
        raw_headers: list[tuple[bytes, bytes]],
    ) -> "LeanRequest":
        """A POST to `path`, without a query, that came without an ASGI scope."""
        request = cls.__new__(cls)
        request.client = client
        request.raw_headers = raw_headers
        request.path = request.path_info = path
        request.script_name = ""
        request.method = "POST"
        request._post_parse_error = False
        request._read_started = False
        request.resolver_match = None
        request._body = body
        request.plain_headers = headers
        return request

    @cached_property
    def scope(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "query_string": b"",
            "headers": self.raw_headers,
            "client": self.client,
        }

    @cached_property
    def _stream(self) -> io.BytesIO:  # type: ignore[override]
        return io.BytesIO(b"")

    @cached_property
    def _stock(self) -> ASGIRequest:
        return ASGIRequest(self.scope, io.BytesIO(b""))

    @cached_property
    def META(self) -> dict[str, Any]:  # type: ignore[override]  # noqa: N802
        return self._stock.META

    @cached_property
    def content_type(self) -> str | None:  # type: ignore[override]
        return self._stock.content_type

    @cached_property
    def content_params(self) -> dict[str, str] | None:  # type: ignore[override]
        return self._stock.content_params


def plain_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if "_" in key:
            # As Django: `x_api_key` must not pass for `x-api-key`.
            continue
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def headers_of(request: HttpRequest) -> dict[str, str]:
    """Headers by lower-case name, of any kind of request. Not to be changed."""
    if isinstance(request, LeanRequest):
        return request.plain_headers
    return {name.lower(): value for name, value in request.headers.items()}


def peer_meta(request: HttpRequest) -> Mapping[str, Any]:
    """The part of META that says where a request comes from."""
    if not isinstance(request, LeanRequest):
        return request.META
    client = request.client
    meta: dict[str, Any] = {"REMOTE_ADDR": str(client[0]) if client else ""}
    for name, key in FORWARDING.items():
        if name in request.plain_headers:
            meta[key] = request.plain_headers[name]
    return meta
