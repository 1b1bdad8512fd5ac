"""Streams of this format read into events: one object per frame, each with some parts."""

from typing import Any

import orjson

from proxy.errors import UpstreamFailed
from proxy.formats.canonical import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Failure,
    Foreign,
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
from proxy.formats.contract import NO_PIECES, Pieces
from proxy.formats.gemini.conversation import FOREIGN_KINDS
from proxy.formats.gemini.errors import read_failure
from proxy.formats.gemini.fields import Body
from proxy.formats.gemini.logprobs import read_logprobs
from proxy.formats.gemini.signatures import unwrap
from proxy.formats.gemini.usage import read_usage
from proxy.formats.sse import Frame

_REASONS: dict[str, StopReason] = {
    "STOP": "end_turn",
    "MAX_TOKENS": "max_tokens",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "OTHER": "pause_turn",
}
# The model has written a call that nobody can run.
_BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})


def load(frame: Frame) -> Body | None:
    """The object in a frame; None for frames that say nothing. Raises `UpstreamFailed`."""
    data = frame.data.strip()
    if not data or data == b"[DONE]":
        return None
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError:
        payload = _load_broken(data)
    if not isinstance(payload, dict):
        raise UpstreamFailed("The upstream sent an event that is no JSON object.")
    return payload


def _load_broken(data: bytes) -> Any:
    """Once more with invalid UTF-8 as U+FFFD."""
    try:
        return orjson.loads(data.decode("utf-8", "replace"))
    except orjson.JSONDecodeError:
        raise UpstreamFailed("The upstream sent an event that is not JSON.") from None


class Decoder:
    """Events of one stream. Thinking stays open until the part that may carry its signature."""

    __slots__ = ("_calls", "_failed", "_id", "_index", "_open", "_started", "finished", "usage")

    def __init__(self) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self._started = False
        self._failed = False
        self._id = ""
        self._index = -1
        self._open = ""
        self._calls = 0

    def feed(self, frame: Frame) -> list[Event]:
        payload = load(frame)
        return [] if payload is None else self.take(payload)

    def pieces(self, chunk: bytes) -> Pieces:
        return NO_PIECES

    def close(self) -> list[Event]:
        """Nothing is held back. A block that was cut stays open: the encoder ends it."""
        return []

    def take(self, payload: Body) -> list[Event]:
        if self._failed:
            return []
        usage = read_usage(payload)
        self.usage = usage or self.usage
        failure = read_failure(payload)
        if failure is not None and not self.finished:
            self._failed = True
            return [failure]
        out: list[Event] = []
        if not self.finished:
            self._answer(payload, out)
        if usage is not None and (self.finished or out):
            # Before the stop, which is the last of the events.
            at = len(out) - 1 if out and isinstance(out[-1], Stop | Failure) else len(out)
            out.insert(at, UsageReport(usage))
        return out

    def _answer(self, payload: Body, out: list[Event]) -> None:
        candidate = _first(payload.get("candidates"))
        blocked = payload.get("promptFeedback")
        reason = blocked.get("blockReason") if isinstance(blocked, dict) else None
        if candidate is None and not reason:
            return
        self._begin(payload, out)
        if candidate is None:
            self._stop("content_filter", {"explanation": str(reason)[:100]}, out)
            return
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        if parts is not None and not isinstance(parts, list):
            raise UpstreamFailed("The upstream sent parts that are not a list.")
        for part in parts or ():
            if isinstance(part, dict):
                self._part(part, out)
            elif part is not None:
                raise UpstreamFailed("The upstream sent a part that is not an object.")
        self._finish(candidate, out)

    def _begin(self, payload: Body, out: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        identity, model = payload.get("responseId"), payload.get("modelVersion")
        self._id = identity if isinstance(identity, str) else ""
        out.append(Start(self._id, model if isinstance(model, str) else ""))

    def _finish(self, candidate: Body, out: list[Event]) -> None:
        entries = read_logprobs(candidate)
        if entries is not None:
            self._opened("text", Text(text=""), out)
            out.append(TextDelta(self._index, "", entries))
        word = candidate.get("finishReason")
        if not word or word == "FINISH_REASON_UNSPECIFIED":
            return
        if not isinstance(word, str):
            raise UpstreamFailed("The upstream sent a finish reason that is not a string.")
        message = candidate.get("finishMessage")
        said = message if isinstance(message, str) and message else None
        if word in _BROKEN:
            self._failed = True
            out.append(Failure(502, word.lower(), said or "The model wrote a malformed tool call."))
            return
        reason = _REASONS.get(word, "end_turn")
        if reason == "end_turn" and self._calls:
            reason = "tool_use"
        self._stop(reason, {"explanation": said} if said else None, out)

    def _stop(self, reason: StopReason, details: Body | None, out: list[Event]) -> None:
        self._close(out)
        self.finished = True
        out.append(Stop(reason, details=details))

    def _part(self, part: Body, out: list[Event]) -> None:
        given = part.get("thoughtSignature")
        opaque, redacted = unwrap(given) if isinstance(given, str) else (None, False)
        text, call = part.get("text"), part.get("functionCall")
        if part.get("thought") is True and call is None:
            self._think(text, opaque, redacted, out)
            return
        if opaque is not None and opaque.family != "gemini":
            self._seal(opaque, redacted, out)
            opaque = None
        if call is not None:
            self._call(call, opaque, out)
            return
        kind = next((name for name in FOREIGN_KINDS if part.get(name) is not None), None)
        if kind is not None or (text is None and opaque is None and given is None):
            self._close(out)
            if not part:
                return
            self._index += 1
            kind = kind or next(iter(part))
            block = Foreign(family="gemini", kind=kind, value=part)
            out += [BlockStart(self._index, block), BlockStop(self._index)]
            return
        if text is not None and not isinstance(text, str):
            raise UpstreamFailed("The upstream sent a text that is not a string.")
        if opaque is None and not text:
            return
        self._opened("text", Text(text=""), out)
        if opaque is not None:
            out.append(OpaqueDelta(self._index, opaque))
        if text:
            out.append(TextDelta(self._index, text))

    def _think(self, text: Any, opaque: Opaque | None, redacted: bool, out: list[Event]) -> None:
        if text is not None and not isinstance(text, str):
            raise UpstreamFailed("The upstream sent a thought that is not a string.")
        if text:
            self._opened("thinking", Thinking(), out)
            out.append(ThinkingDelta(self._index, text))
        if opaque is not None:
            self._seal(opaque, redacted, out)

    def _seal(self, opaque: Opaque, redacted: bool, out: list[Event]) -> None:
        """The signature ends its thinking, or is all that is known of it."""
        if redacted:
            self._close(out)
        self._opened("thinking", Thinking(redacted=redacted), out)
        out.append(OpaqueDelta(self._index, opaque))
        self._close(out)

    def _call(self, call: Any, opaque: Opaque | None, out: list[Event]) -> None:
        name = call.get("name") if isinstance(call, dict) else None
        if not isinstance(name, str) or not name:
            raise UpstreamFailed("The upstream sent a function call without a name.")
        identity, args = call.get("id"), call.get("args")
        if not isinstance(identity, str) or not identity:
            identity = f"call_{self._id}_{self._calls}"
        try:
            arguments = orjson.dumps(args if isinstance(args, dict) else {}).decode()
        except TypeError:
            raise UpstreamFailed("The upstream sent arguments that are no JSON.") from None
        self._calls += 1
        self._close(out)
        self._opened("call", ToolUse(id=identity, name=name), out)
        if opaque is not None:
            out.append(OpaqueDelta(self._index, opaque))
        out.append(ArgumentsDelta(self._index, arguments))
        self._close(out)

    def _opened(self, kind: str, block: Text | Thinking | ToolUse, out: list[Event]) -> None:
        if self._open == kind:
            return
        self._close(out)
        self._index += 1
        self._open = kind
        out.append(BlockStart(self._index, block))

    def _close(self, out: list[Event]) -> None:
        if self._open:
            self._open = ""
            out.append(BlockStop(self._index))


def _first(candidates: Any) -> Body | None:
    """The first candidate; further ones are other answers to the same question."""
    if candidates is None:
        return None
    if not isinstance(candidates, list):
        raise UpstreamFailed("The upstream sent candidates that are not a list.")
    for one in candidates:
        if isinstance(one, dict) and one.get("index") in (None, 0):
            return one
    return None
