"""What survives of an answer on its way from the upstream's format to the client's.

Each feature is said in the upstream's words, read, written for the client, and read again there;
streamed and whole. See `crossings` for requests.
"""

from typing import Any, Final, Literal

import orjson
from msgspec import Struct

from proxy.formats import FORMATS
from proxy.formats.canonical import (
    AnnotationDelta,
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Opaque,
    OpaqueDelta,
    Start,
    Stop,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolUse,
    Usage,
    UsageReport,
)
from proxy.formats.contract import Answer
from proxy.formats.crossings import MARK, Outcome
from proxy.formats.observing import heard
from proxy.formats.sse import Parser

USAGE: Final = Usage(
    input_tokens=100, output_tokens=50, cache_read_tokens=20, cache_write_tokens=10
)
# What a client says to be told all that there is.
CURIOUS: Final[dict[str, dict[str, Any]]] = {
    "chat_completions": {"stream_options": {"include_usage": True}, "logprobs": True},
    "messages": {},
    "responses": {"include": ["message.output_text.logprobs"]},
    "gemini": {
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}, "responseLogprobs": True}
    },
}


class AnswerFeature(Struct, kw_only=True):
    """Something an answer may hold: its events, and which part of what is heard is looked at.

    `mark` tells whether it has arrived in another shape. `sealed` thinking carries a signature of
    the model that made it.
    """

    name: str
    events: list[Event]
    part: Literal["words", "reason", "usage"] = "words"
    mark: str = MARK
    sealed: bool = False
    declared: tuple[str, ...] = ()


def answer_of(
    *blocks: list[Event], reason: StopReason = "end_turn", usage: Usage | None = None
) -> list[Event]:
    events = [event for block in blocks for event in block]
    return [Start("up", "m"), *events, UsageReport(usage or USAGE), Stop(reason)]


def text_block(index: int, text: str, *more: Event, **deltas: Any) -> list[Event]:
    delta = TextDelta(index, text, **deltas)
    return [BlockStart(index, Text(text="")), delta, *more, BlockStop(index)]


def thinking_block(index: int, text: str) -> list[Event]:
    return [BlockStart(index, Thinking()), ThinkingDelta(index, text), BlockStop(index)]


def call_block(index: int, call_id: str, *pieces: str) -> list[Event]:
    opened = BlockStart(index, ToolUse(id=call_id, name="read"))
    return [opened, *(ArgumentsDelta(index, piece) for piece in pieces), BlockStop(index)]


def _used(name: str, usage: Usage) -> AnswerFeature:
    events = answer_of(text_block(0, "a"), usage=usage)
    return AnswerFeature(name=name, events=events, part="usage", declared=("usage",))


def _stopped(reason: StopReason) -> AnswerFeature:
    block = call_block(0, "call_1", "{}") if reason == "tool_use" else text_block(0, "a")
    events = answer_of(block, reason=reason)
    return AnswerFeature(
        name=f"stop reason: {reason}", events=events, part="reason", declared=("stop reasons",)
    )


_LOGPROBS: Final = [{"token": MARK, "logprob": -0.5, "bytes": None, "top_logprobs": []}]
_LINK: Final = {
    "type": "url_citation",
    "url": f"https://x.test/{MARK}",
    "title": "x",
    "start_index": 0,
    "end_index": 1,
}
_REASONS: Final[tuple[StopReason, ...]] = (
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "refusal",
    "content_filter",
    "pause_turn",
    "context_overflow",
)
ANSWERS: Final[tuple[AnswerFeature, ...]] = (
    AnswerFeature(name="text", events=answer_of(text_block(0, MARK))),
    AnswerFeature(
        name="thinking",
        events=answer_of(thinking_block(0, MARK), text_block(1, "so")),
        sealed=True,
    ),
    AnswerFeature(
        name="parallel calls, arguments in pieces",
        events=answer_of(
            text_block(0, "let me see"),
            call_block(1, "call_1", '{"a":', '"é"}'),
            call_block(2, "call_2", "{}"),
            reason="tool_use",
        ),
    ),
    AnswerFeature(
        name="refusal as text",
        declared=("refusal",),
        events=answer_of(
            [BlockStart(0, Text(text="", refusal=True)), TextDelta(0, MARK), BlockStop(0)],
            reason="refusal",
        ),
    ),
    AnswerFeature(
        name="links",
        declared=("annotations",),
        events=answer_of(text_block(0, "see", AnnotationDelta(0, _LINK))),
    ),
    AnswerFeature(
        name="logprobs",
        declared=("logprobs",),
        events=answer_of(text_block(0, "word", logprobs=_LOGPROBS)),
        mark=f'"{MARK}"',
    ),
    *map(_stopped, _REASONS),
    _used("usage: input and output", Usage(input_tokens=9, output_tokens=3)),
    _used("usage: cache read", Usage(input_tokens=9, output_tokens=3, cache_read_tokens=4)),
    _used("usage: cache write", Usage(input_tokens=9, output_tokens=3, cache_write_tokens=4)),
    _used("usage: reasoning", Usage(input_tokens=9, output_tokens=3, reasoning_tokens=2)),
)


def sealed(name: str, events: list[Event]) -> list[Event]:
    """The events with a seal of this format's family on each thinking block."""
    seal = Opaque(FORMATS[name].FAMILY, f"c2VhbA{name}")
    thoughts = {e.index for e in events if isinstance(e, ThinkingDelta)}
    found: list[Event] = []
    for event in events:
        if isinstance(event, BlockStop) and event.index in thoughts:
            found.append(OpaqueDelta(event.index, seal))
        found.append(event)
    return found


def spoken(name: str, events: list[Event], *, stream: bool) -> bytes:
    """An answer in the words of a format: a whole body, or the bytes of a stream."""
    answer = Answer(id="0123456789abcdef", created=1_795_000_000, model="m", request=CURIOUS[name])
    if not stream:
        return orjson.dumps(FORMATS[name].encode_body(events, answer))
    encoder = FORMATS[name].encoder(answer)
    return b"".join(encoder.encode([event]) for event in events) + encoder.end()


def understood(name: str, raw: bytes, *, stream: bool) -> list[Event]:
    """What a reader of the format makes of it."""
    if not stream:
        return FORMATS[name].decode_body(orjson.loads(raw))
    parser, decoder = Parser(), FORMATS[name].decoder()
    frames = [*parser.feed(raw), *parser.close()]
    return [event for frame in frames for event in decoder.feed(frame)] + decoder.close()


def answer_outcome(source: str, target: str, feature: AnswerFeature, *, stream: bool) -> Outcome:
    """What becomes of an answer's feature on its way from the upstream to the client."""
    made = sealed(target, feature.events) if feature.sealed else feature.events
    upstream = understood(target, spoken(target, made, stream=stream), stream=stream)
    meant, came = _part(feature, feature.events), _part(feature, upstream)
    if came != meant:
        return "unsaid"
    raw = spoken(source, upstream, stream=stream)
    arrived = _part(feature, understood(source, raw, stream=stream))
    if arrived == meant:
        return "kept"
    if feature.part != "words":
        return "shape"
    return "shape" if feature.mark.encode() in raw else "dropped"


def _part(feature: AnswerFeature, events: list[Event]) -> Any:
    words, reason, usage = heard(events)
    return {"words": words, "reason": reason, "usage": usage}[feature.part]
