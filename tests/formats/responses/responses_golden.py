"""Golden bytes of the Responses format, and short ways through its doors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.formats import responses
from proxy.formats.canonical import (
    ArgumentsDelta,
    Event,
    ModelFacts,
    TextDelta,
    ThinkingDelta,
)
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame, Parser

GOLDEN = Path(__file__).parent.parent / "golden" / "responses"
# What the golden streams answer.
REQUEST: dict[str, Any] = {
    "model": "gpt-5.5",
    "input": "hi",
    "stream": True,
    "instructions": "Be brief.",
    "reasoning": {"effort": "medium", "summary": "auto"},
    "tools": [
        {"type": "function", "name": "lookup", "parameters": {"type": "object", "properties": {}}},
        {"type": "custom", "name": "apply_patch"},
    ],
}
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ANYTHING = ModelFacts(id="gpt-5.5")


def answer(request: dict[str, Any] | None = None) -> Answer:
    return Answer(
        id="0a1b2c",
        created=1795000000,
        model="gpt-5.5",
        request=REQUEST if request is None else request,
    )


def requests() -> dict[str, dict[str, Any]]:
    return {p.stem: json.loads(p.read_text("utf-8")) for p in sorted(GOLDEN.glob("request_*"))}


def streams() -> dict[str, bytes]:
    return {p.stem: p.read_bytes() for p in sorted(GOLDEN.glob("stream_*"))}


def frames(data: bytes) -> list[Frame]:
    parser = Parser()
    return parser.feed(data) + parser.close()


def payloads(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames(data)]


def frame(payload: dict[str, Any]) -> Frame:
    return Frame(str(payload.get("type")).encode(), json.dumps(payload).encode())


def decode(data: bytes) -> list[Event]:
    decoder = responses.decoder()
    events = [event for one in frames(data) for event in decoder.feed(one)]
    assert decoder.finished
    return events + decoder.close()


def decode_payloads(given: list[dict[str, Any]]) -> list[Event]:
    decoder = responses.decoder()
    return [event for one in given for event in decoder.feed(frame(one))] + decoder.close()


def encode(events: list[Event], to: Answer | None = None) -> bytes:
    encoder = responses.encoder(to or answer())
    return b"".join(encoder.encode([event]) for event in events) + encoder.end()


def joined(events: list[Event]) -> list[Event]:
    """The events with neighbouring pieces of one block as one piece."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            out[-1] = TextDelta(event.index, last.text + event.text)
        elif isinstance(event, TextDelta):
            out.append(TextDelta(event.index, event.text))
        elif isinstance(event, ThinkingDelta) and isinstance(last, ThinkingDelta):
            out[-1] = ThinkingDelta(event.index, last.text + event.text)
        elif isinstance(event, ArgumentsDelta) and isinstance(last, ArgumentsDelta):
            out[-1] = ArgumentsDelta(event.index, last.json + event.json)
        else:
            out.append(event)
    return out


def final_response(data: bytes) -> dict[str, Any]:
    response = payloads(data)[-1]["response"]
    assert isinstance(response, dict)
    return response


SCRAPS: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1.5,
    "",
    "x",
    [],
    {},
    [None],
    {"type": "message"},
    [[]],
]


def spoil(value: Any, path: list[int], scrap: Any) -> Any:
    """The value with one thing inside it replaced, or removed when the scrap is `...`."""
    if not path or not isinstance(value, (dict, list)) or not value:
        return scrap
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and scrap is ...:
        del copy[key]
    else:
        copy[key] = spoil(value[key], path[1:], None if scrap is ... else scrap)
    return copy


def sdk(data: bytes) -> openai.OpenAI:
    """The SDK before a server that answers with these bytes."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        kind = "application/json" if data.startswith(b"{") else "text/event-stream"
        return httpx2.Response(200, content=data, headers={"content-type": kind})

    client = httpx2.Client(transport=httpx2.MockTransport(reply))
    return openai.OpenAI(
        api_key="k", base_url="http://gateway.test/v1", http_client=client, max_retries=0
    )


def opened_and_closed(data: bytes) -> Iterator[tuple[set[Any], set[Any]]]:
    for start, end in (
        ("response.output_item.added", "response.output_item.done"),
        ("response.content_part.added", "response.content_part.done"),
        ("response.reasoning_summary_part.added", "response.reasoning_summary_part.done"),
    ):
        yield (
            {p["output_index"] for p in payloads(data) if p["type"] == start},
            {p["output_index"] for p in payloads(data) if p["type"] == end},
        )
