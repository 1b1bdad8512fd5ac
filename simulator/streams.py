"""Scenarios inside a stream: pace, cuts, missing and doubled ends, broken and odd events."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import orjson

from simulator.frames import Frame, json_frame
from simulator.scenarios import scenario
from simulator.script import Ending, Script
from simulator.state import Json

# Where the text of a content event begins, on each of the three legs.
_TEXT = re.compile(rb'"(?:content|text|delta)":"')

PLACES = (
    "before_first",
    "after_created",
    "mid_block",
    "block_end",
    "before_finish",
    "after_delta",
    "after_finish",
    "after_end",
)


@scenario("paced")
def paced(script: Script, interval: float = 0.02) -> None:
    """One event every `interval` seconds, kept to the clock."""
    script.delivery.interval_s = interval


def cut_index(frames: list[Frame], at: str) -> int:
    """Return how many frames go out before the cut at that place."""
    tags = [frame.tag for frame in frames]
    if at == "after_end":
        return len(tags)
    if "end" in tags:
        # What other scenarios put behind the end is no part of the answer.
        tags = tags[: tags.index("end") + 1]
    deltas = [number for number, tag in enumerate(tags) if tag == "delta"]
    finish = tags.index("finish") if "finish" in tags else len(tags) - 1
    match at:
        case "before_first":
            return 0
        case "after_created":
            return 1
        case "mid_block":
            return deltas[len(deltas) // 2] + (len(deltas) == 1) if deltas else len(tags) // 2
        case "block_end":
            return tags.index("close") + 1 if "close" in tags else finish
        case "before_finish":
            return finish
        case "after_delta" | "after_finish":
            # The stop reason is out (messages, chat), the end is not. Responses has no such event.
            return finish + 1 if "finish" in tags else len(tags) - 1
    raise ValueError(f"at={at!r} is none of {', '.join(PLACES)}")


@scenario("cut")
def cut(script: Script, at: str = "mid_block", how: str = "clean") -> None:
    """The stream stops `at` a place; how: clean EOF, fin, reset or stall."""
    if at not in PLACES or how not in ("clean", "fin", "reset", "stall"):
        raise ValueError(f"at={at!r} how={how!r}: places are {', '.join(PLACES)}")

    def edit(frames: Iterable[Frame]) -> Iterable[Frame]:
        known = list(frames)
        return known[: cut_index(known, at)]

    script.frame_edits.append(edit)
    script.delivery.ending = cast(Ending, how)


@scenario("reset")
def reset(script: Script, at: str = "mid_block") -> None:
    """RST in the middle of the stream."""
    cut(script, at, "reset")


@scenario("stall")
def stall(script: Script, seconds: float = math.inf, *, at: str = "mid_block") -> None:
    """Silence at a place, for ever unless `seconds` are given; then the rest in one burst."""
    if at not in PLACES:
        raise ValueError(f"at={at!r}: places are {', '.join(PLACES)}")

    def edit(frames: Iterable[Frame]) -> Iterable[Frame]:
        known = list(frames)
        index = min(cut_index(known, at), len(known) - 1)
        known[index].wait_s += seconds
        return known

    script.frame_edits.append(edit)


@scenario("think")
def think(script: Script, seconds: float = 41.0) -> None:
    """A long healthy silence before the first content, then everything in one burst."""
    stall(script, seconds, at="after_created")


def _edit(script: Script, change: Callable[[list[Frame]], Iterable[Frame]]) -> None:
    script.frame_edits.append(lambda frames: change(list(frames)))


@scenario("no_done")
def no_done(script: Script) -> None:
    """The last frame is missing: `[DONE]` on chat, the terminal event elsewhere."""
    _edit(script, lambda frames: [frame for frame in frames if frame.tag != "end"])


@scenario("double_done")
def double_done(script: Script) -> None:
    """The finish and the end come twice; legs without `[DONE]` get one besides."""

    def change(frames: list[Frame]) -> list[Frame]:
        ends = [frame for frame in frames if frame.tag in ("finish", "end")]
        return [*frames, *ends, Frame(None, b"[DONE]", "end")]

    _edit(script, change)


@scenario("late_text")
def late_text(script: Script) -> None:
    """Text after the end of the stream."""

    def change(frames: list[Frame]) -> list[Frame]:
        return [*frames, *[frame for frame in frames if frame.tag == "delta"][:1]]

    _edit(script, change)


def _insert(script: Script, frame: Frame, at: str = "mid_block") -> None:
    def change(frames: list[Frame]) -> list[Frame]:
        index = cut_index(frames, at)
        return [*frames[:index], frame, *frames[index:]]

    _edit(script, change)


@scenario("broken_line")
def broken_line(script: Script, at: str = "mid_block") -> None:
    """One data line that is not JSON."""
    _insert(script, Frame(None, b'{"choices":[{"delta":{"content":"You', "delta"), at)


def _put_into_text(frame: Frame, what: bytes) -> bool:
    """Put bytes at the head of a frame's text; tell whether the frame has one."""
    match = _TEXT.search(frame.data) if frame.tag == "delta" else None
    if match is None:
        return False
    frame.data = frame.data[: match.end()] + what + frame.data[match.end() :]
    return True


@scenario("invalid_utf8")
def invalid_utf8(script: Script) -> None:
    """Bytes inside a string that are not UTF-8."""

    def change(frames: list[Frame]) -> list[Frame]:
        for frame in frames:
            if _put_into_text(frame, b"\xff\xfe\xc3"):
                break
        return frames

    _edit(script, change)


@scenario("huge_line")
def huge_line(script: Script, megabytes: float = 1.5) -> None:
    """One content event of megabytes."""

    def change(frames: list[Frame]) -> list[Frame]:
        filler = b"x" * int(megabytes * 1024 * 1024)
        for frame in frames:
            if _put_into_text(frame, filler):
                break
        return frames

    _edit(script, change)


@scenario("endless_line")
def endless_line(script: Script, megabytes: float = 0) -> None:
    """A data line that never ends (or only after that many megabytes)."""
    script.is_endless = True

    def edit(frames: Iterable[Frame]) -> Iterator[Frame]:
        known = list(frames)
        yield from known[: cut_index(known, "mid_block")]
        yield Frame(None, b"", "delta", raw=b'data: {"choices":[{"delta":{"content":"')
        filler = b"x" * 65536
        count = int(megabytes * 16)
        for _ in range(count) if count else itertools.count():
            yield Frame(None, b"", "delta", 1, raw=filler)

    script.frame_edits.append(edit)


@scenario("endless")
def endless(script: Script, delay: float = 0.01) -> None:
    """Content events without end, one every `delay` seconds."""
    script.is_endless = True

    def edit(frames: Iterable[Frame]) -> Iterator[Frame]:
        known = list(frames)
        index = cut_index(known, "mid_block")
        yield from known[: index + 1]
        sample = next((frame for frame in known if frame.tag == "delta"), known[-1])
        while True:
            yield Frame(sample.event, sample.data, "delta", 1, wait_s=delay)

    script.frame_edits.append(edit)


def _error_frame(like: Frame, code: str, message: str) -> Frame:
    """Build the error event of the leg that `like` belongs to."""
    if like.event is None:
        return json_frame(None, {"error": {"message": message, "code": code}}, "delta")
    if like.event.startswith("response."):
        body: Json = {"code": code, "message": message, "param": None, "type": "error"}
        return json_frame("error", body, "delta")
    nested = {"type": "error", "error": {"type": code, "message": message}}
    return json_frame("error", nested, "delta")


@scenario("error_event")
def error_event(
    script: Script,
    code: str = "overloaded_error",
    *,
    at: str = "mid_block",
    message: str = "Overloaded",
) -> None:
    """An error event in the stream, which then ends."""

    def change(frames: list[Frame]) -> list[Frame]:
        index = cut_index(frames, at)
        return [*frames[:index], _error_frame(frames[0], code, message)]

    _edit(script, change)


@scenario("leaky_event")
def leaky_event(script: Script) -> None:
    """An error event whose text quotes a token."""
    secret = "token tid=9a1b2c;exp=1795000000:deadbeef and ghu_0123456789abcdefghij were refused"
    error_event(script, "internal_error", message=secret)


@scenario("nested_error_event")
def nested_error_event(script: Script) -> None:
    """The responses leg's error in the nested form of the websocket."""
    body = {"type": "error", "error": {"code": "service_unavailable", "message": "Try later."}}

    def change(frames: list[Frame]) -> list[Frame]:
        return [*frames[: cut_index(frames, "mid_block")], json_frame("error", body, "delta")]

    _edit(script, change)


@scenario("unknown_event")
def unknown_event(script: Script) -> None:
    """An event of a type that nobody knows."""
    body = {"type": "response.telemetry", "sequence_number": 99, "value": 1}
    _insert(script, json_frame("response.telemetry", body, "delta"))


@scenario("ping")
def ping(script: Script) -> None:
    """`event: ping` in the middle, as Anthropic itself sends it."""
    _insert(script, json_frame("ping", {"type": "ping"}, "delta"), "after_created")


@scenario("annotations")
def code_citations(script: Script) -> None:
    """Code citations beside a delta (`copilot_annotations`)."""
    citation = {
        "id": 1,
        "start_offset": 0,
        "end_offset": 8,
        "details": {},
        "citations": {"snippet": "You said", "url": "https://github.com/x/y", "license": "mit"},
    }

    def change(frames: list[Frame]) -> list[Frame]:
        for frame in frames:
            if frame.tag != "delta" or frame.data == b"[DONE]":
                continue
            body = orjson.loads(frame.data)
            target = body["choices"][0]["delta"] if body.get("choices") else body
            target["copilot_annotations"] = {"IPCodeCitations": [citation]}
            frame.data = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
            break
        return frames

    _edit(script, change)


@scenario("bedrock_metrics")
def bedrock_metrics(script: Script) -> None:
    """Amazon's invocation metrics inside message_stop."""

    def change(frames: list[Frame]) -> list[Frame]:
        last = frames[-1]
        if last.event == "message_stop":
            body = {"amazon-bedrock-invocationMetrics": {"invocationLatency": 812}}
            last.data = orjson.dumps(body | {"type": "message_stop"})
        return frames

    _edit(script, change)
