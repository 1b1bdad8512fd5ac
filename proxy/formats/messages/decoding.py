"""Messages streams as Copilot sends them, read into events.

Source: docs/upstream.md (messages leg, stream; failures after 200).
"""

from typing import Any

import orjson

from proxy.errors import UpstreamFailed
from proxy.formats.canonical import (
    AnnotationDelta,
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
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
from proxy.formats.messages.errors import read_failure
from proxy.formats.messages.usage import Meter
from proxy.formats.sse import Frame

_REASONS: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "pause_turn": "pause_turn",
    "model_context_window_exceeded": "context_overflow",
}

Payload = dict[str, Any]


def load(frame: Frame) -> tuple[Payload | None, bool]:
    """The event in a frame, and whether the frame's own bytes say the same.

    They do not when its type had to be taken from the `event:` line, or when invalid UTF-8 became
    U+FFFD. The event is None for frames that say nothing (empty, `[DONE]`). Raises `UpstreamFailed`
    for what is no JSON object and no event.
    """
    data = frame.data
    if not data or data == b"[DONE]":
        return None, True
    intact = True
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError:
        payload, intact = _load_broken(data), False
    if not isinstance(payload, dict):
        raise UpstreamFailed("The upstream sent an event that is no JSON object.")
    if type(payload.get("type")) is not str:
        intact = False
        if frame.event:
            payload["type"] = frame.event.decode("utf-8", "replace")
        elif "error" in payload:
            payload["type"] = "error"
        else:
            raise UpstreamFailed("The upstream sent an event without a type.")
    return payload, intact


def _load_broken(data: bytes) -> Any:
    try:
        return orjson.loads(data.decode("utf-8", "replace"))
    except orjson.JSONDecodeError:
        raise UpstreamFailed("The upstream sent an event that is not JSON.") from None


class Decoder:
    """Events of one stream.

    Blocks come out one after the other even when the upstream fills several at once: what belongs
    to a later one waits until the earlier one is closed.
    """

    __slots__ = (
        "_arguments",
        "_index",
        "_input",
        "_kind",
        "_live",
        "_meter",
        "_over",
        "_started",
        "_waiting",
        "finished",
        "usage",
    )

    def __init__(self) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self._meter = Meter()
        self._started = False
        self._over = False
        # The open block: our index, its wire index, its kind, its input given at once or in pieces.
        self._index = -1
        self._live: int | None = None
        self._kind = ""
        self._input: Any = None
        self._arguments = False
        self._waiting: dict[int, list[Payload]] = {}

    def feed(self, frame: Frame) -> list[Event]:
        payload, _ = load(frame)
        return [] if payload is None else self.take(payload)

    def pieces(self, chunk: bytes) -> Pieces:
        return NO_PIECES

    def close(self) -> list[Event]:
        """What has waited for its turn. A block that was cut stays open: the encoder ends it."""
        return self._flush() if self._waiting and not self._over else []

    def take(self, payload: Payload) -> list[Event]:
        """Events of one wire event. After the end everything is ignored but a report of usage."""
        if self._over:
            return []
        kind = payload["type"]
        if kind == "content_block_delta":
            return [] if self.finished else self._routed(payload)
        if kind == "content_block_start" or kind == "content_block_stop":
            return [] if self.finished else self._routed(payload)
        if kind == "message_start":
            return self._message_start(payload)
        if kind == "message_delta":
            return self._message_delta(payload)
        if kind == "message_stop":
            return self._message_stop(payload)
        if kind == "error" and not self.finished:
            failure = read_failure(payload)
            self._over = True
            return [failure] if failure is not None else []
        # Pings, and kinds of events that are newer than we are.
        return []

    def _message_start(self, payload: Payload) -> list[Event]:
        message = payload.get("message")
        message = message if isinstance(message, dict) else {}
        events: list[Event] = []
        if not self._started:
            self._started = True
            identity, model = message.get("id"), message.get("model")
            events.append(
                Start(
                    identity if isinstance(identity, str) else "",
                    model if isinstance(model, str) else "",
                )
            )
        return events + self._report(message.get("usage"), message.get("copilot_usage"))

    def _report(self, usage: Any, copilot_usage: Any) -> list[Event]:
        if usage is None and copilot_usage is None:
            return []
        self.usage = self._meter.read(usage, copilot_usage)
        return [] if self.usage is None else [UsageReport(self.usage)]

    def _message_delta(self, payload: Payload) -> list[Event]:
        events = self._report(payload.get("usage"), payload.get("copilot_usage"))
        delta = payload.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        reason = delta.get("stop_reason")
        if reason is None or self.finished:
            return events
        sequence, details = delta.get("stop_sequence"), delta.get("stop_details")
        stop = Stop(
            _REASONS.get(reason, "end_turn") if isinstance(reason, str) else "end_turn",
            sequence if isinstance(sequence, str) else None,
            details if isinstance(details, dict) else None,
        )
        return [*self._finish(), *events, stop]

    def _message_stop(self, payload: Payload) -> list[Event]:
        events = self._report(payload.get("usage"), payload.get("copilot_usage"))
        if not self.finished:
            events = [*self._finish(), *events, Stop("end_turn")]
        self._over = True
        return events

    def _finish(self) -> list[Event]:
        events = self._begun()
        events += self._flush()
        self.finished = True
        return events

    def _begun(self) -> list[Event]:
        """A start for a stream that has forgotten its own."""
        if self._started:
            return []
        self._started = True
        return [Start("", "")]

    def _flush(self) -> list[Event]:
        """Close the open block, then bring what has waited."""
        events = self._close_block()
        while self._waiting:
            waiting = self._waiting.pop(min(self._waiting))
            for payload in waiting:
                events += self._block_event(payload, payload["index"])
            events += self._close_block()
        return events

    def _routed(self, payload: Payload) -> list[Event]:
        index = payload.get("index")
        live = self._live
        if type(index) is not int:
            index = live if live is not None else self._index + 1
            payload["index"] = index
        if live is None or index == live:
            events = self._block_event(payload, index)
            if self._waiting and self._live is None:
                events += self._next_waiting()
            return events
        self._waiting.setdefault(index, []).append(payload)
        return []

    def _next_waiting(self) -> list[Event]:
        """Go on with the first of the waiting blocks, as far as it has come."""
        events: list[Event] = []
        while self._waiting and self._live is None:
            index = min(self._waiting)
            for payload in self._waiting.pop(index):
                events += self._block_event(payload, index)
        return events

    def _block_event(self, payload: Payload, index: int) -> list[Event]:
        kind = payload["type"]
        if kind == "content_block_delta":
            delta = payload.get("delta")
            return self._delta(delta, index) if isinstance(delta, dict) else []
        if kind == "content_block_stop":
            return self._close_block()
        events = self._begun()
        events += self._close_block()
        block = payload.get("content_block")
        if not isinstance(block, dict):
            raise UpstreamFailed("The upstream opened a block without saying which.")
        return events + self._open(block, index)

    def _open(self, block: Payload, live: int) -> list[Event]:
        kind = block.get("type")
        if not isinstance(kind, str):
            raise UpstreamFailed("The upstream opened a block without saying which.")
        self._index += 1
        self._live, self._kind = live, kind
        self._input, self._arguments = None, False
        match kind:
            case "text":
                return self._open_text(block)
            case "thinking":
                return self._open_thinking(block)
            case "redacted_thinking":
                data = block.get("data")
                start = BlockStart(self._index, Thinking(redacted=True))
                if not isinstance(data, str):
                    return [start]
                return [start, OpaqueDelta(self._index, Opaque("anthropic", data))]
            case "tool_use":
                identity, name = block.get("id"), block.get("name")
                if not isinstance(identity, str) or not isinstance(name, str):
                    raise UpstreamFailed("The upstream sent a tool call without id or name.")
                self._input = block.get("input")
                return [BlockStart(self._index, ToolUse(id=identity, name=name))]
            case "compaction":
                # Its text comes in deltas of its own kind: the block is handed on whole.
                self._input = dict(block)
                return []
        return [BlockStart(self._index, Foreign(family="anthropic", kind=kind, value=block))]

    def _open_text(self, block: Payload) -> list[Event]:
        events: list[Event] = [BlockStart(self._index, Text(text=""))]
        text, citations = block.get("text"), block.get("citations")
        if isinstance(text, str) and text:
            events.append(TextDelta(self._index, text))
        if isinstance(citations, list):
            events += [AnnotationDelta(self._index, c) for c in citations if isinstance(c, dict)]
        return events

    def _open_thinking(self, block: Payload) -> list[Event]:
        events: list[Event] = [BlockStart(self._index, Thinking())]
        text, signature = block.get("thinking"), block.get("signature")
        if isinstance(text, str) and text:
            events.append(ThinkingDelta(self._index, text))
        if isinstance(signature, str) and signature:
            events.append(OpaqueDelta(self._index, Opaque("anthropic", signature)))
        return events

    def _delta(self, delta: Payload, index: int) -> list[Event]:
        match delta.get("type"):
            case "text_delta":
                text = delta.get("text")
                if not isinstance(text, str) or not text:
                    return []
                if self._kind == "text" and self._live is not None:
                    return [TextDelta(self._index, text)]
                return self._opened({"type": "text"}, index) + [TextDelta(self._index, text)]
            case "thinking_delta":
                text = delta.get("thinking")
                if not isinstance(text, str) or not text:
                    return []
                events = self._opened({"type": "thinking"}, index)
                events.append(ThinkingDelta(self._index, text))
                return events
            case "signature_delta":
                signature = delta.get("signature")
                if not isinstance(signature, str) or not signature:
                    return []
                events = self._opened({"type": "thinking"}, index)
                events.append(OpaqueDelta(self._index, Opaque("anthropic", signature)))
                return events
            case "input_json_delta":
                return self._input_delta(delta.get("partial_json"))
            case "citations_delta":
                citation = delta.get("citation")
                if not isinstance(citation, dict):
                    return []
                events = self._opened({"type": "text"}, index)
                events.append(AnnotationDelta(self._index, citation))
                return events
            case "compaction_delta" if self._kind == "compaction" and self._live is not None:
                text = delta.get("content")
                if isinstance(text, str):
                    self._input["content"] = (self._input.get("content") or "") + text
        return []

    def _opened(self, block: Payload, index: int) -> list[Event]:
        """Nothing when such a block is open, else the start that the upstream has left out."""
        if self._live is not None and self._kind == block["type"]:
            return []
        events = self._begun()
        events += self._close_block()
        return events + self._open(block, index)

    def _input_delta(self, piece: Any) -> list[Event]:
        if not isinstance(piece, str) or not piece:
            return []
        if self._live is None or self._kind in ("text", "thinking", "redacted_thinking"):
            raise UpstreamFailed("The upstream sent arguments of a tool call that it never opened.")
        self._arguments = True
        return [ArgumentsDelta(self._index, piece)]

    def _close_block(self) -> list[Event]:
        if self._live is None:
            return []
        self._live = None
        index = self._index
        if self._kind == "compaction":
            block = Foreign(family="anthropic", kind="compaction", value=self._input)
            return [BlockStart(index, block), BlockStop(index)]
        if self._kind == "tool_use" and not self._arguments:
            # Given whole in the start, or a call without arguments: either way it is JSON text.
            value = self._input if isinstance(self._input, dict) else {}
            try:
                arguments = orjson.dumps(value).decode()
            except TypeError:
                raise UpstreamFailed("The upstream sent arguments that are no JSON.") from None
            return [ArgumentsDelta(index, arguments), BlockStop(index)]
        return [BlockStop(index)]
