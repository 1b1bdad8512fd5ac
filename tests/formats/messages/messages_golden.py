"""Golden files of the Messages format, and events in a shape that can be compared."""

from pathlib import Path
from typing import Any

import orjson

from proxy.formats import canonical as c
from proxy.formats import messages
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame, Parser

GOLDEN = Path(__file__).parents[1] / "golden" / "messages"
ANSWER = Answer(id="01Ab", created=1_795_000_000, model="claude-opus-5")


def names(pattern: str) -> list[str]:
    return sorted(path.name for path in GOLDEN.glob(pattern))


def load(name: str) -> Any:
    return orjson.loads((GOLDEN / name).read_bytes())


def frames(data: bytes) -> list[Frame]:
    parser = Parser()
    return parser.feed(data) + parser.close()


def stream(name: str) -> list[Frame]:
    return frames((GOLDEN / name).read_bytes())


def frame(payload: dict[str, Any], event: bytes | None = None) -> Frame:
    return Frame(event, orjson.dumps(payload))


def parsed(data: bytes) -> list[tuple[str, Any]]:
    """Event names and payloads of a stream."""
    return [((f.event or b"").decode(), orjson.loads(f.data)) for f in frames(data)]


def decode(what: list[Frame]) -> list[c.Event]:
    decoder = messages.decoder()
    events = [event for one in what for event in decoder.feed(one)]
    return events + decoder.close()


def joined(events: list[c.Event]) -> list[c.Event]:
    """Neighbouring deltas joined, usage reports reduced to the last and put in front."""
    result: list[c.Event] = []
    usage: list[c.Event] = []
    for event in events:
        last = result[-1] if result else None
        match event, last:
            case c.UsageReport(), _:
                usage = [event]
            case c.TextDelta(), c.TextDelta():
                result[-1] = c.TextDelta(event.index, last.text + event.text)
            case c.ThinkingDelta(), c.ThinkingDelta():
                result[-1] = c.ThinkingDelta(event.index, last.text + event.text)
            case c.ArgumentsDelta(), c.ArgumentsDelta():
                result[-1] = c.ArgumentsDelta(event.index, last.json + event.json)
            case _:
                result.append(event)
    return usage + result


def encode(events: list[c.Event], answer: Answer = ANSWER) -> bytes:
    encoder = messages.encoder(answer)
    return b"".join(encoder.encode([event]) for event in events) + encoder.end()
