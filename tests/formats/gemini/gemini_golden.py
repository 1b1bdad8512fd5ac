"""Golden files of the Gemini format, and events in a shape that can be compared."""

from pathlib import Path
from typing import Any

import orjson

from proxy.formats import canonical as c
from proxy.formats import gemini
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame, Parser

GOLDEN = Path(__file__).parents[1] / "golden" / "gemini"
MODEL = "gemini-3.1-pro-preview"
SHOWN = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
ANSWER = Answer(id="01Ab", created=1_795_000_000, model=MODEL, request=SHOWN)


def names(pattern: str) -> list[str]:
    return sorted(path.name for path in GOLDEN.glob(pattern))


def load(name: str) -> Any:
    return orjson.loads((GOLDEN / name).read_bytes())


def frames(data: bytes) -> list[Frame]:
    parser = Parser()
    return parser.feed(data) + parser.close()


def stream(name: str) -> list[Frame]:
    return frames((GOLDEN / name).read_bytes())


def frame(payload: Any) -> Frame:
    return Frame(None, orjson.dumps(payload))


def parsed(data: bytes) -> list[Any]:
    """The payloads of a stream, which may hold nothing but data lines."""
    for line in data.split(b"\n"):
        assert not line or line.startswith(b"data: "), line
    return [orjson.loads(one.data) for one in frames(data)]


def decode(what: list[Frame]) -> list[c.Event]:
    decoder = gemini.decoder()
    events = [event for one in what for event in decoder.feed(one)]
    return events + decoder.close()


def encode(events: list[c.Event], answer: Answer = ANSWER) -> bytes:
    encoder = gemini.encoder(answer)
    return b"".join(encoder.encode([event]) for event in events) + encoder.end()


def joined(events: list[c.Event]) -> list[c.Event]:
    """Neighbouring deltas joined, usage reports reduced to the last and put in front."""
    result: list[c.Event] = []
    usage: list[c.Event] = []
    for event in events:
        last = result[-1] if result else None
        match event, last:
            case c.UsageReport(), _:
                usage = [event]
            case c.TextDelta(), c.TextDelta() if last.logprobs is event.logprobs is None:
                result[-1] = c.TextDelta(event.index, last.text + event.text)
            case c.ThinkingDelta(), c.ThinkingDelta():
                result[-1] = c.ThinkingDelta(event.index, last.text + event.text)
            case _:
                result.append(event)
    return usage + result


def parts_of(payloads: list[Any]) -> list[Any]:
    return [
        part
        for payload in payloads
        for candidate in payload.get("candidates", [])
        for part in candidate["content"].get("parts", [])
    ]
