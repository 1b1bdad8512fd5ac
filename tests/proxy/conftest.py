"""Ways to ask the gateway, the same for every client format."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.conftest import Gateway


@dataclass(frozen=True)
class Wire:
    """A client format: where it is asked, how a body looks, how its answers are read."""

    name: str
    path: str

    def body(self, text: str, model: str, *, stream: bool = True, **more: Any) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "stream": stream}
        if self.name == "responses":
            body["input"] = text
        else:
            body["messages"] = [{"role": "user", "content": text}]
        if self.name == "messages":
            body["max_tokens"] = 1000
        return {**body, **more}

    def text_of(self, frames: list[dict[str, Any]]) -> str:
        """The text that a stream's frames say."""
        pieces = []
        for frame in frames:
            match self.name:
                case "chat_completions":
                    for choice in frame.get("choices", []):
                        pieces.append(choice["delta"].get("content") or "")
                case "messages":
                    if frame["type"] == "content_block_delta":
                        pieces.append(frame["delta"].get("text", ""))
                case "responses":
                    if frame["type"] == "response.output_text.delta":
                        pieces.append(frame["delta"])
        return "".join(pieces)

    def ends(self, raw: str) -> int:
        """How often a stream says that all went well."""
        match self.name:
            case "chat_completions":
                return raw.count("data: [DONE]")
            case "messages":
                return raw.count("event: message_stop")
            case _:
                return raw.count("event: response.completed")

    def error_in(self, frames: list[dict[str, Any]]) -> str | None:
        """The message of a stream's error event."""
        for frame in frames:
            if self.name == "chat_completions" and "error" in frame:
                return str(frame["error"]["message"])
            if frame.get("type") == "error":
                error = frame.get("error", frame)
                return str(error["message"])
        return None


WIRES = {
    "chat_completions": Wire("chat_completions", "/v1/chat/completions"),
    "messages": Wire("messages", "/v1/messages"),
    "responses": Wire("responses", "/v1/responses"),
}
# Each client format on its own endpoint and on one of another family.
ROUTES = [
    ("chat_completions", "gpt-4.1"),
    ("chat_completions", "gpt-5.5"),
    ("messages", "claude-sonnet-4.6"),
    ("messages", "gpt-4.1"),
    ("messages", "gpt-5.5"),
    ("responses", "gpt-5.5"),
    ("responses", "claude-sonnet-4.6"),
]


@dataclass
class Stream:
    """A stream read to its end."""

    status: int
    headers: httpx.Headers
    raw: str

    @property
    def frames(self) -> list[dict[str, Any]]:
        found = []
        for line in self.raw.split("\n"):
            if line.startswith("data: ") and line != "data: [DONE]":
                found.append(json.loads(line.removeprefix("data: ")))
        return found


def read_stream(client: httpx.Client, path: str, body: dict[str, Any], **options: Any) -> Stream:
    with client.stream("POST", path, json=body, **options) as response:
        return Stream(response.status_code, response.headers, response.read().decode())


@pytest.fixture
def ask(gateway: Gateway) -> Any:
    """`ask(wire, model, text)` -> `Stream`, one request read to its end."""
    with gateway.client() as client:

        def asked(wire: Wire, model: str, text: str, **more: Any) -> Stream:
            return read_stream(client, wire.path, wire.body(text, model, **more))

        yield asked


@pytest.fixture
def last_record(gateway: Gateway) -> Any:
    """The record of this test's newest request, once it is written."""
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

    def find(**expected: Any) -> dict[str, Any]:
        def matching() -> dict[str, Any] | None:
            # A record of an earlier test may still be on its way to the database.
            records = gateway.records("started_at >= ?", began)
            newest = records[-1] if records else None
            if newest and all(newest[k] == v for k, v in expected.items()):
                return newest
            return None

        record: dict[str, Any] = gateway.wait_for(matching, 5)
        assert record, f"newest record is {gateway.records()[-1:]}, not {expected}"
        return record

    return find
