"""Events written as the stream that Gemini CLI and Google's SDKs expect.

Frames hold nothing but data: a comment, a ping or `[DONE]` ends Gemini CLI.
Source: docs/clients.md (tolerance table).
"""

from typing import Any

import orjson

from proxy.errors import GatewayError
from proxy.formats.canonical import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Failure,
    Foreign,
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
from proxy.formats.gemini.errors import error_body, failure_error
from proxy.formats.gemini.fields import Body, peek
from proxy.formats.gemini.logprobs import logprobs_result
from proxy.formats.gemini.signatures import wrap
from proxy.formats.gemini.usage import wire_usage
from proxy.formats.gemini.writing import arguments_object

_REASONS: dict[StopReason, str] = {
    "end_turn": "STOP",
    "stop_sequence": "STOP",
    "tool_use": "STOP",
    "max_tokens": "MAX_TOKENS",
    "context_overflow": "MAX_TOKENS",
    "refusal": "SAFETY",
    "content_filter": "SAFETY",
    "pause_turn": "OTHER",
}

# Outside of strings these cannot stand in JSON.
_SEPARATORS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)

Part = dict[str, Any]


class Framing:
    """How objects follow each other: server-sent events, or the elements of one JSON array."""

    __slots__ = ("_any", "_array")

    def __init__(self, answer: Answer) -> None:
        self._array = answer.request.get("alt") == "json"
        self._any = False

    def frame(self, payload: bytes) -> bytes:
        if not self._array:
            if b"\xe2\x80" in payload or b"\xc2\x85" in payload:
                payload = _without_separators(payload)
            return b"data: " + payload + b"\n\n"
        before = b",\n" if self._any else b"["
        self._any = True
        return before + payload

    def close(self) -> bytes:
        if not self._array:
            return b""
        return b"]" if self._any else b"[]"


def _without_separators(payload: bytes) -> bytes:
    """U+2028, U+2029 and U+0085 as escapes.

    Google's SDKs find the lines of a stream by means that take these for ends of lines: httpx's
    `iter_lines` in Python, a regular expression's dot in JavaScript.
    """
    for raw, escape in _SEPARATORS:
        payload = payload.replace(raw, escape)
    return payload


class Encoder:
    """Writes one answer. `parts` and `final` are its pieces before they become bytes.

    A signature goes on the first part after its thinking, where it survives in clients that drop
    thoughts and join texts.
    """

    __slots__ = (
        "_answer",
        "_block",
        "_ended",
        "_framing",
        "_logprobs",
        "_model",
        "_pieces",
        "_shows_thoughts",
        "_signatures",
        "_stop",
        "_tail",
        "_usage",
    )

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._framing = Framing(answer)
        shown = peek(answer.request, "generationConfig", "thinkingConfig", "includeThoughts")
        self._shows_thoughts = shown is True
        self._model = answer.model
        self._tail = b""
        self._block: Text | Thinking | ToolUse | Foreign | None = None
        self._pieces: list[str] = []
        self._signatures: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._usage: Usage | None = None
        self._stop: Stop | None = None
        self._ended = False

    # The stream.

    def encode(self, events: list[Event]) -> bytes:
        if self._ended:
            return b""
        out = self._frames(self.parts(events))
        last = events[-1] if events else None
        if isinstance(last, Failure):
            out += self.fail(failure_error(last))
        return out

    def write(self, texts: list[bytes]) -> bytes | None:
        return None

    def end(self) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        out: list[Part] = []
        self._close(out)
        final = self.final(self.rest())
        frame = self._framing.frame(orjson.dumps(final))
        return self._frames(out) + frame + self._framing.close()

    def fail(self, error: GatewayError) -> bytes:
        """A call that is not whole is left out: half of its arguments could do harm."""
        if self._ended:
            return b""
        self._ended = True
        payload = orjson.dumps(error_body(error, ""))
        return self._framing.frame(payload) + self._framing.close()

    def _frames(self, parts: list[Part]) -> bytes:
        """Thoughts and answer in frames of their own: clients look at a frame's first part only."""
        if not parts:
            return b""
        if len(parts) == 1:
            return self._frame(parts)
        groups: list[list[Part]] = []
        for part in joined(parts):
            if groups and ("thought" in groups[-1][0]) is ("thought" in part):
                groups[-1].append(part)
            else:
                groups.append([part])
        return b"".join([self._frame(group) for group in groups])

    def _frame(self, parts: list[Part]) -> bytes:
        if not self._tail:
            about = orjson.dumps(self._about())
            self._tail = b',"role":"model"},"index":0}],' + about[1:]
        inner = b'{"candidates":[{"content":{"parts":' + orjson.dumps(parts)
        return self._framing.frame(inner + self._tail)

    def _about(self) -> Body:
        return {"modelVersion": self._model, "responseId": self._answer.id}

    # The pieces.

    def parts(self, events: list[Event]) -> list[Part]:
        out: list[Part] = []
        for event in events:
            if type(event) is TextDelta:
                if event.text:
                    self._say({"text": event.text}, out)
                if event.logprobs:
                    self._logprobs += event.logprobs
            else:
                self._write(event, out)
        return out

    def rest(self) -> list[Part]:
        """The last part: a signature that no part has followed."""
        out: list[Part] = []
        if self._signatures:
            self._say({"text": ""}, out)
        return out

    def final(self, parts: list[Part]) -> Body:
        """The object with the end: `parts`, the reason, and all usage."""
        stop = self._stop or Stop("end_turn")
        content: Body = {"parts": parts, "role": "model"} if parts else {"role": "model"}
        candidate: Body = {"content": content, "finishReason": _REASONS[stop.reason], "index": 0}
        message = (stop.details or {}).get("explanation")
        if isinstance(message, str) and message:
            candidate["finishMessage"] = message
        if self._logprobs:
            candidate.update(logprobs_result(self._logprobs))
        body: Body = {"candidates": [candidate]}
        if self._usage is not None:
            body["usageMetadata"] = wire_usage(self._usage)
        return {**body, **self._about()}

    def _write(self, event: Event, out: list[Part]) -> None:
        match event:
            case Start():
                self._model = self._model or event.model
            case UsageReport():
                self._usage = event.usage
            case BlockStart():
                self._close(out)
                self._open(event.block, out)
            case ThinkingDelta():
                self._think(event.text, out)
            case ArgumentsDelta():
                self._pieces.append(event.json)
            case OpaqueDelta():
                redacted = isinstance(self._block, Thinking) and self._block.redacted
                self._signatures.append(wrap(event.opaque, redacted=redacted))
            case BlockStop():
                self._close(out)
            case Stop():
                self._stop = event

    def _open(self, block: Text | Thinking | ToolUse | Foreign, out: list[Part]) -> None:
        self._block = block
        match block:
            case Text():
                if block.text:
                    self._say({"text": block.text}, out)
            case Thinking():
                if block.opaque is not None:
                    self._signatures.append(wrap(block.opaque, redacted=block.redacted))
                self._think(block.text, out)
            case ToolUse():
                self._pieces = [block.arguments] if block.arguments else []
                if block.opaque is not None:
                    self._signatures.append(wrap(block.opaque))

    def _think(self, text: str, out: list[Part]) -> None:
        if text and self._shows_thoughts:
            out.append({"text": text, "thought": True})

    def _say(self, part: Part, out: list[Part]) -> None:
        """A part of the answer, with the signature that waits for one."""
        if self._signatures:
            *more, last = self._signatures
            self._signatures = []
            # There is one field for them: further ones ride on thoughts without text.
            out += [{"text": "", "thought": True, "thoughtSignature": one} for one in more]
            part["thoughtSignature"] = last
        out.append(part)

    def _close(self, out: list[Part]) -> None:
        block, self._block = self._block, None
        match block:
            case ToolUse():
                args = arguments_object("".join(self._pieces), custom=block.custom)
                call = {"id": block.id, "name": block.name, "args": args}
                self._say({"functionCall": call}, out)
            case Foreign(family="gemini"):
                self._say(dict(block.value), out)


def joined(parts: list[Part]) -> list[Part]:
    """Neighbouring texts in one part; a signature begins a new one."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if (
            last is not None
            and "text" in part
            and "text" in last
            and "thoughtSignature" not in part
            and ("thought" in part) is ("thought" in last)
        ):
            last["text"] += part["text"]
        else:
            whole.append(part)
    return whole
