"""Golden files of Chat Completions, and events in a shape that can be compared."""

from pathlib import Path
from typing import Any

import httpx
import openai
import orjson

from proxy.formats import canonical as c
from proxy.formats import chat_completions
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame, Parser

GOLDEN = Path(__file__).parents[1] / "golden" / "chat_completions"
ANSWER = Answer(id="ab12", created=1_795_000_000, model="gpt-4.1")
ASKING = Answer(
    id="ab12",
    created=1_795_000_000,
    model="gpt-4.1",
    request={"stream": True, "stream_options": {"include_usage": True}},
)


def names(pattern: str) -> list[str]:
    return sorted(path.name for path in GOLDEN.glob(pattern))


def load(name: str) -> Any:
    return orjson.loads((GOLDEN / name).read_bytes())


def frames(data: bytes) -> list[Frame]:
    parser = Parser()
    return parser.feed(data) + parser.close()


def stream(name: str) -> list[Frame]:
    return frames((GOLDEN / name).read_bytes())


def frame(chunk: Any) -> Frame:
    return Frame(None, orjson.dumps(chunk))


def delta(delta: Any, finish: str | None = None, **rest: Any) -> Frame:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return frame({"id": "x", "choices": [choice], **rest})


def parsed(data: bytes) -> list[Any]:
    """The chunks of a stream; `[DONE]` as that text."""
    return [f.data.decode() if f.data == b"[DONE]" else orjson.loads(f.data) for f in frames(data)]


def decode(what: list[Frame]) -> list[c.Event]:
    decoder = chat_completions.decoder()
    events = [event for one in what for event in decoder.feed(one)]
    return events + decoder.close()


def encode(events: list[c.Event], answer: Answer = ASKING) -> bytes:
    encoder = chat_completions.encoder(answer)
    return b"".join([encoder.encode([event]) for event in events]) + encoder.end()


def tapped(what: list[Frame], answer: Answer = ASKING) -> tuple[bytes, Any]:
    """What the client gets of an upstream stream, and the tap after it."""
    tap = chat_completions.tap(answer)
    data = b"".join([tap.feed(one) for one in what])
    return data + (tap.end() if tap.finished else b""), tap


def joined(events: list[c.Event]) -> list[c.Event]:
    """Neighbouring deltas joined."""
    result: list[c.Event] = []
    for event in events:
        match event, result[-1] if result else None:
            case c.TextDelta(), c.TextDelta() as last:
                result[-1] = c.TextDelta(last.index, last.text + event.text)
            case c.ThinkingDelta(), c.ThinkingDelta() as last:
                result[-1] = c.ThinkingDelta(last.index, last.text + event.text)
            case c.ArgumentsDelta(), c.ArgumentsDelta() as last:
                result[-1] = c.ArgumentsDelta(last.index, last.json + event.json)
            case _:
                result.append(event)
    return result


def said(events: list[c.Event]) -> list[Any]:
    """The answer in short: each block's content, and the stop reason."""
    result: list[Any] = []
    for event in joined(events):
        match event:
            case c.BlockStart(block=c.ToolUse() as call):
                result.append([call.id, call.name])
            case c.ArgumentsDelta():
                result[-1].append(event.json)
            case c.TextDelta():
                result.append(event.text)
            case c.ThinkingDelta():
                result.append(("thinking", event.text))
            case c.OpaqueDelta():
                result.append(event.opaque)
            case c.Stop():
                result.append(event.reason)
            case c.Failure():
                result.append((event.status, event.code))
    return result


def check_order(events: list[c.Event]) -> None:
    """Start first, one block open at a time, every block closed, one Stop or Failure at the end."""
    open_block: int | None = None
    following = 0
    for position, event in enumerate(events):
        match event:
            case c.Start():
                assert position == 0
            case c.BlockStart():
                assert open_block is None
                assert event.index == following
                open_block, following = event.index, following + 1
            case c.BlockStop():
                assert open_block == event.index
                open_block = None
            case c.UsageReport():
                pass
            case c.Stop():
                assert open_block is None
                assert position == len(events) - 1
            case c.Failure():
                assert position == len(events) - 1
            case _:
                assert open_block == event.index


def sdk(body: bytes, content_type: str) -> openai.OpenAI:
    """The official client, to which every request is answered with `body`."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body, headers={"content-type": content_type})

    return openai.OpenAI(
        api_key="k",
        base_url="http://gateway.test/v1",
        max_retries=0,
        http_client=httpx.Client(transport=httpx.MockTransport(answer)),
    )


def read_by_sdk(data: bytes) -> Any:
    """A stream as the official client's own helper adds it up."""
    client = sdk(data, "text/event-stream")
    with client.chat.completions.stream(
        model="m", messages=[{"role": "user", "content": "hi"}]
    ) as events:
        for _ in events:
            pass
        return events.get_final_completion()
