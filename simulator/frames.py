"""Frames: the units of an event stream, and how they become bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

# Where a frame stands in its stream, so that faults can name places:
# `start` opens the answer, `open` and `close` frame a block, `delta` carries content,
# `finish` tells the stop reason, `usage` only counts, `end` is the last frame of all.
Tag = Literal["start", "open", "delta", "close", "finish", "usage", "end"]


@dataclass(slots=True)
class Frame:
    """One event. `tokens` are the output tokens that exist because this frame was produced.

    `wait_s` is a silence before it; `raw` goes out as it stands instead of an event.
    """

    event: str | None
    data: bytes
    tag: Tag
    tokens: int = 0
    wait_s: float = 0.0
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class LineStyle:
    """How the lines of an event stream are written; the defaults are Copilot's own."""

    eol: bytes = b"\n"
    blank_after_colon: bool = True
    comments: bool = False
    ids: bool = False
    split_data_lines: bool = False
    byte_order_mark: bool = False


PLAIN = LineStyle()


def json_frame(event: str | None, body: Any, tag: Tag, tokens: int = 0) -> Frame:
    return Frame(event, orjson.dumps(body), tag, tokens)


def sorted_frame(event: str, body: Any, tag: Tag, tokens: int = 0) -> Frame:
    """Build a frame with alphabetical keys, as the responses and messages legs send them."""
    return Frame(event, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), tag, tokens)


def encode(frame: Frame, style: LineStyle = PLAIN) -> bytes:
    if frame.raw is not None:
        return frame.raw
    if style is PLAIN:
        if frame.event is None:
            return b"data: %b\n\n" % frame.data
        return b"event: %b\ndata: %b\n\n" % (frame.event.encode(), frame.data)
    colon = b": " if style.blank_after_colon else b":"
    lines: list[bytes] = []
    if style.comments:
        lines.append(b": keep-alive")
    if style.ids:
        lines += [b"id" + colon + b"7", b"retry" + colon + b"3000"]
    if frame.event is not None:
        lines.append(b"event" + colon + frame.event.encode())
    for part in _data_lines(frame.data) if style.split_data_lines else [frame.data]:
        lines.append(b"data" + colon + part)
    return style.eol.join(lines) + style.eol * 2


def _data_lines(data: bytes) -> Iterator[bytes]:
    """Split JSON after its first comma: a reader must join the lines with a newline."""
    head, comma, rest = data.partition(b",")
    yield head + comma
    if rest:
        yield rest


def encode_all(frames: Iterable[Frame]) -> bytes:
    return b"".join([encode(frame) for frame in frames])


def pieces(words: str, size: int) -> list[str]:
    """Cut a text into pieces of `size` characters; an empty text has no piece."""
    return [words[start : start + size] for start in range(0, len(words), size)]
