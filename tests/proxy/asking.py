"""Every endpoint with a good body, and requests written byte by byte."""

import json
import re
import socket
from dataclasses import dataclass
from typing import Any

from tests.conftest import Gateway

HELLO = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True)
class Endpoint:
    """An API path, a body that it serves, the field that it cannot do without."""

    name: str
    path: str
    good: dict[str, Any]
    needs: str

    @property
    def is_anthropic(self) -> bool:
        return self.path.startswith("/v1/messages")

    @property
    def is_generation(self) -> bool:
        return self.name in ("chat", "messages", "messages-translated", "responses")


ENDPOINTS = {
    e.name: e
    for e in (
        Endpoint(
            "chat", "/v1/chat/completions", {"model": "gpt-4.1", "messages": HELLO}, "messages"
        ),
        Endpoint(
            "messages",
            "/v1/messages",
            {"model": "claude-sonnet-4.6", "max_tokens": 100, "messages": HELLO},
            "messages",
        ),
        Endpoint(
            "messages-translated",
            "/v1/messages",
            {"model": "gpt-4.1", "max_tokens": 100, "messages": HELLO},
            "messages",
        ),
        Endpoint("responses", "/v1/responses", {"model": "gpt-5.5", "input": "hello"}, "input"),
        Endpoint(
            "embeddings",
            "/v1/embeddings",
            {"model": "text-embedding-3-small", "input": "hello"},
            "input",
        ),
        Endpoint(
            "count_tokens",
            "/v1/messages/count_tokens",
            {"model": "claude-sonnet-4.6", "messages": HELLO},
            "messages",
        ),
    )
}


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def converse(gateway: Gateway, *parts: bytes, seconds: float = 10) -> bytes:
    """Send the parts over one connection, read until the gateway closes or falls silent."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=seconds) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            # Refused in the middle: the answer says why.
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
                connection.settimeout(0.5)
        except (TimeoutError, ConnectionError):
            pass
        return received


def answers_in(raw: bytes) -> list[int]:
    """The statuses of all answers in what a connection gave."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", raw)]


def first_answer(raw: bytes) -> RawAnswer:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return RawAnswer(int(first.split(" ")[1]), headers, body)


def error_message(endpoint: Endpoint | None, answer: Any) -> str:
    """The message of an error in the format of the endpoint, which is checked on the way."""
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    error = document["error"]
    if endpoint is not None and endpoint.is_anthropic:
        assert document["type"] == "error"
        assert document["request_id"]
        assert set(error) >= {"type", "message"}
    else:
        assert set(error) >= {"message", "type", "param", "code"}
    assert error["type"] != "error"
    assert 0 < len(error["message"]) <= 500
    for inner in ("Traceback", "orjson", "msgspec", "/work", "site-packages"):
        assert inner not in error["message"]
    return str(error["message"])
