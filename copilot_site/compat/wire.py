"""Plain HTTP to a gateway, and event streams read as the SDKs read them."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 120.0
Body = dict[str, Any]


class Mismatch(Exception):
    """An answer that is not what the API promises; the text says what was expected."""


class Unreachable(Exception):
    """There is no gateway at the address."""


def expect(condition: object, what: str) -> None:
    if not condition:
        raise Mismatch(what)


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream: its `event:` name, empty when it has none, and its data."""

    event: str
    data: str

    def json(self) -> Any:
        return parsed(self.data)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    raw: bytes

    def json(self) -> Any:
        kind = self.headers.get("content-type", "")
        expect("json" in kind, f"content type {kind!r} instead of JSON")
        return parsed(self.raw.decode("utf-8", "replace"))

    def ok(self) -> "Answer":
        """Itself, when it is a success."""
        expect(self.status == 200, f"status {self.status}: {_shown(self.raw)}")
        return self

    def frames(self) -> list[Frame]:
        """The events of a stream that has been read to its end."""
        self.ok()
        kind = self.headers.get("content-type", "")
        expect(kind.startswith("text/event-stream"), f"content type {kind!r} instead of a stream")
        return list(_frames(self.raw.decode()))


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Mismatch(f"no JSON: {text[:80]!r}") from None


def _shown(raw: bytes) -> str:
    return " ".join(raw[:200].decode("utf-8", "replace").split())


def _frames(text: str) -> Iterator[Frame]:
    event, data = "", list[str]()
    for line in text.replace("\r\n", "\n").split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line and data:
            yield Frame(event, "\n".join(data))
        if not line:
            event, data = "", []
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
    expect(not data, "the stream ends in the middle of an event")


class Client:
    """One gateway: its address, and the key that goes with each request."""

    def __init__(self, url: str, key: str | None) -> None:
        address = urlsplit(url if "://" in url else f"http://{url}")
        if address.scheme not in ("http", "https") or not address.hostname:
            raise Unreachable(f"{url!r} is no http or https address.")
        self._is_tls = address.scheme == "https"
        self._host, self._port = address.hostname, address.port
        # SDKs are given the address with or without /v1; the paths here have it.
        self._base = address.path.rstrip("/").removesuffix("/v1")
        self._key = key

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: Body, **headers: str) -> Answer:
        return self.send("POST", path, json.dumps(body).encode(), headers=headers)

    def send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request over a connection of its own. Raises `Unreachable`, or `Mismatch`."""
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        sent = {"user-agent": "copilot-gateway-check-compat", "content-type": "application/json"}
        if self._key:
            sent["authorization"] = f"Bearer {self._key}"
        named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        try:
            connection.connect()
        except OSError as error:
            raise Unreachable(f"{self._host}:{connection.port} does not answer: {error}.") from None
        try:
            connection.request(method, self._base + path, content, {**sent, **named})
            response = connection.getresponse()
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        except (http.client.HTTPException, OSError) as error:
            raise Mismatch(f"the connection broke: {type(error).__name__} {error}") from None
        finally:
            connection.close()
