"""Scenarios of what is said: long texts, dripping words, stop reasons, odd usage and choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from simulator.frames import Frame
from simulator.prompts import Prompt, Reply
from simulator.scenarios import scenario
from simulator.script import Script
from simulator.state import Json


def _say_pieces(script: Script, pieces: list[str]) -> None:
    def change(reply: Reply, prompt: Prompt) -> None:
        reply.text_pieces = pieces
        reply.text = "".join(pieces)
        reply.calls = []
        reply.finish = "stop" if reply.finish == "tool_calls" else reply.finish

    script.replies.append(change)


def _numbered(count: int) -> list[str]:
    return [f"word{number} " for number in range(1, count + 1)]


@scenario("drip")
def drip(script: Script, chunks: int = 40, delay: float = 0.05) -> None:
    """`chunks` words, one event each, `delay` seconds apart: word1 word2 ..."""
    _say_pieces(script, _numbered(chunks))
    script.delivery.delay_s = delay


@scenario("burst")
def burst(script: Script, chunks: int = 1000) -> None:
    """`chunks` words as fast as they can be written."""
    _say_pieces(script, _numbered(chunks))


@scenario("pace")
def pace(script: Script, chunks: int = 100, *, interval: float = 0.02) -> None:
    """`chunks` words, one every `interval` seconds by the clock: for benchmarks."""
    _say_pieces(script, _numbered(chunks))
    script.delivery.interval_s = interval


@scenario("say")
def say(script: Script, text: str = "Hello.") -> None:
    """Exactly this text."""

    def change(reply: Reply, prompt: Prompt) -> None:
        reply.text, reply.calls, reply.finish = str(text), [], "stop"

    script.replies.append(change)


@scenario("long")
def long(script: Script, n: int = 20_000) -> None:
    """A text of n characters."""
    words = "The quick brown fox jumps over the lazy dog. " * (n // 45 + 1)
    say(script, words[:n])


@scenario("unicode")
def unicode(script: Script) -> None:
    """Text with U+2028, U+2029, U+0085, emoji and combined letters, unescaped."""
    words = (
        "one\u2028two\u2029three\u0085four \U0001f469\u200d\U0001f4bb e\u0301 \u65e5\u672c\u8a9e"
    )
    say(script, words)


@scenario("silent")
def silent(script: Script) -> None:
    """An answer without any text."""
    _say_pieces(script, [])


@scenario("finish")
def finish(script: Script, reason: str = "length") -> None:
    """Another finish: length, content_filter, refusal, error, failed, pause_turn, ..."""

    def change(reply: Reply, prompt: Prompt) -> None:
        reply.finish = reason
        reply.content_filters = reason == "content_filter"

    script.replies.append(change)


@scenario("thinking")
def thinking(script: Script, text: str = "Let me think about this.") -> None:
    """Thinking with this text, asked for or not."""

    def change(reply: Reply, prompt: Prompt) -> None:
        reply.thinking = str(text)

    script.replies.append(change)


@scenario("redacted_thinking")
def redacted_thinking(script: Script) -> None:
    """A redacted_thinking block before the answer (messages)."""

    def change(reply: Reply, prompt: Prompt) -> None:
        reply.redacted_thinking = True

    script.replies.append(change)


@scenario("stream_summary")
def stream_summary(script: Script) -> None:
    """The reasoning summary is streamed, not only delivered with its item (responses)."""

    def change(reply: Reply, prompt: Prompt) -> None:
        reply.stream_summary = True

    script.replies.append(change)


@scenario("interleaved")
def interleaved(script: Script, pieces: int = 5, gap: int = 2) -> None:
    """Parallel tool calls whose argument pieces alternate, with gaps in their indexes (chat)."""

    def change(reply: Reply, prompt: Prompt) -> None:
        reply.interleave_calls = True
        reply.index_gap = gap
        reply.argument_pieces = pieces

    script.replies.append(change)


@scenario("argument_pieces")
def argument_pieces(script: Script, count: int = 1900) -> None:
    """Tool arguments in that many pieces."""

    def change(reply: Reply, prompt: Prompt) -> None:
        reply.argument_pieces = count

    script.replies.append(change)


@scenario("blank_arguments")
def blank_arguments(script: Script, count: int = 500) -> None:
    """Degenerate tool arguments: blanks and more blanks."""

    def change(reply: Reply, prompt: Prompt) -> None:
        for call in reply.calls:
            call.arguments = "{" + " " * count + "}"

    script.replies.append(change)


@scenario("broken_arguments")
def broken_arguments(script: Script) -> None:
    """Tool arguments that are not JSON (chat, responses)."""

    def change(reply: Reply, prompt: Prompt) -> None:
        for call in reply.calls:
            call.arguments = '{"city": "Par'

    script.replies.append(change)


@scenario("no_usage")
def no_usage(script: Script) -> None:
    """No usage and no cost anywhere."""
    script.usage_edit = lambda usage: None


def _numbers_replaced(usage: Json, value: Any) -> Json:
    return {
        name: _numbers_replaced(item, value) if isinstance(item, dict) else value
        for name, item in usage.items()
    }


@scenario("odd_usage")
def odd_usage(script: Script, kind: str = "negative") -> None:
    """Usage that nobody can believe: negative, huge, text, null or list."""
    values: Json = {
        "negative": -5,
        "huge": 10**15,
        "text": "many",
        "null": None,
        "list": [1, 2],
        "float": 12.5,
    }
    value = values.get(kind, kind)
    script.usage_edit = lambda usage: _numbers_replaced(usage, value)


def _edit_documents(script: Script, change: Callable[[Json], Json]) -> None:
    """Apply a change to every JSON document that goes out, streamed or whole."""

    def edit_frames(frames: Iterable[Frame]) -> Iterable[Frame]:
        known = list(frames)
        for frame in known:
            if frame.data.startswith(b"{"):
                frame.data = orjson.dumps(change(orjson.loads(frame.data)))
        return known

    script.frame_edits.append(edit_frames)
    script.body_edits.append(lambda body: orjson.dumps(change(orjson.loads(body))))


@scenario("odd_choices")
def odd_choices(script: Script, kind: str = "empty") -> None:
    """Chat: extra chunks with empty, null or missing choices, null delta or content, or usage null.

    A whole body has its choices replaced; a stream gets an odd chunk before each of its own.
    """
    odd: dict[str, Json] = {
        "empty": {"choices": []},
        "null": {"choices": None},
        "missing": {"copilot_references": []},
        "null_delta": {"choices": [{"index": 0, "delta": None}]},
        "null_content": {"choices": [{"index": 0, "delta": {"content": None}}]},
        "null_usage": {"choices": [], "usage": None},
        "copilot_errors": {"choices": None, "copilot_errors": [{"message": "agent failed"}]},
    }
    if kind not in odd:
        raise ValueError(f"kind={kind!r} is none of {', '.join(odd)}")

    def edit(frames: Iterable[Frame]) -> Iterable[Frame]:
        for frame in list(frames):
            yield Frame(None, orjson.dumps(odd[kind]), "delta")
            yield frame

    def whole(body: bytes) -> bytes:
        document: Json = orjson.loads(body)
        document.pop("choices", None)
        return orjson.dumps(document | odd[kind])

    script.frame_edits.append(edit)
    script.body_edits.append(whole)


@scenario("filter_only")
def filter_only(script: Script) -> None:
    """Chat: a stream of nothing but the content filter's chunk and the end."""

    def edit(frames: Iterable[Frame]) -> Iterable[Frame]:
        known = list(frames)
        return [known[0], known[-1]]

    script.frame_edits.append(edit)


@scenario("extra_fields")
def extra_fields(script: Script) -> None:
    """Fields that nobody knows in every document."""
    _edit_documents(script, lambda document: document | {"x_new_field": {"since": "2027"}})


@scenario("no_object")
def no_object(script: Script) -> None:
    """Documents without `object`, `model` and `created`."""

    def change(document: Json) -> Json:
        names = ("object", "model", "created")
        return {name: value for name, value in document.items() if name not in names}

    _edit_documents(script, change)
