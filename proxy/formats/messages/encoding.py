"""Events written as the Messages stream that the SDKs and Claude Code expect.

Every event has its `event:` line, `usage` stands in `message_start` and `message_delta`, and one
block is open at a time. Source: docs/clients.md (tolerance table).
"""

from typing import Any

import orjson

from proxy.errors import GatewayError
from proxy.formats.canonical import (
    AnnotationDelta,
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
from proxy.formats.contract import Answer
from proxy.formats.messages.blocks import is_citation
from proxy.formats.messages.errors import error_event, failure_error
from proxy.formats.messages.usage import wire_usage
from proxy.formats.messages.wrapping import wire_tool_id, wrap

_REASONS: dict[StopReason, str] = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "content_filter": "refusal",
    "pause_turn": "pause_turn",
    "context_overflow": "model_context_window_exceeded",
}

# A piece of text as `frame` writes it, before and after the text itself.
_TEXT = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":'
)
_AFTER_TEXT = b"}}\n\n"
# Kinds of open blocks that have not been started on the wire.
_UNWRITTEN = ("", "held", "empty", "skipped")

Payload = dict[str, Any]

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def frame(payload: Payload) -> bytes:
    kind: str = payload["type"]
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(payload))


def message_start(answer: Answer, model: str, usage: Usage | None) -> Payload:
    """The opening event. Counts that are not known yet are zero; `message_delta` has them all."""
    message: Payload = {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": wire_usage(usage),
    }
    return {"type": "message_start", "message": message}


class Encoder:
    """Writes one answer. `payloads` and `ending` are its events before they become bytes."""

    __slots__ = (
        "_answer",
        "_arguments",
        "_begun",
        "_called",
        "_ended",
        "_index",
        "_late",
        "_open",
        "_signature",
        "_start",
        "_stop",
        "_usage",
    )

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._start: Start | None = None
        self._begun = False
        self._ended = False
        self._usage: Usage | None = None
        self._stop: Stop | None = None
        self._called = False
        # The open block: its wire index and kind ("" when none; "held" when its kind is not yet
        # known, "empty" for thinking without a word so far, "skipped" when it has no place here),
        # and what can be written only at its end.
        self._index = -1
        self._open = ""
        self._signature: Opaque | None = None
        self._arguments: list[str] | None = None
        self._late: list[Opaque | None] = []

    def encode(self, events: list[Event]) -> bytes:
        if len(events) == 1 and type(events[0]) is TextDelta and self._begun:
            # Nearly every event of an answer.
            return self._text(events[0].text)
        out = [frame(payload) for payload in self.payloads(events)]
        last = events[-1] if events else None
        if isinstance(last, Failure):
            out.append(self.fail(failure_error(last)))
        return b"".join(out)

    def _text(self, text: str) -> bytes:
        if self._ended or self._open in _UNWRITTEN:
            return b""
        return _TEXT % self._index + orjson.dumps(text) + _AFTER_TEXT

    def write(self, texts: list[bytes]) -> bytes | None:
        if not self._begun or self._ended or self._open in _UNWRITTEN:
            return None
        before, after = _TEXT % self._index + b'"', b'"' + _AFTER_TEXT
        # Pieces of nothing are no events here.
        said = [text for text in texts if text]
        return before + (after + before).join(said) + after if said else b""

    def end(self) -> bytes:
        return b"".join([frame(payload) for payload in self.ending()])

    def fail(self, error: GatewayError) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        closing = b""
        if self._open not in _UNWRITTEN:
            closing = frame({"type": "content_block_stop", "index": self._index})
        return closing + error_event(error)

    def payloads(self, events: list[Event]) -> list[Payload]:
        out: list[Payload] = []
        if self._ended:
            return out
        for event in events:
            if isinstance(event, TextDelta):
                self._delta(out, {"type": "text_delta", "text": event.text})
            else:
                self._write(event, out)
        if self._start is not None and not self._begun:
            self._begin(out)
        return out

    def ending(self) -> list[Payload]:
        """The last events: stop reason with all usage, and the stop. Nothing the second time."""
        if self._ended:
            return []
        out: list[Payload] = []
        self._begin(out)
        self._close(out)
        if self._called:
            self._write_late(out)
        self._ended = True
        stop = self._stop or Stop("end_turn")
        reason = stop.reason
        if reason == "end_turn" and self._called:
            # Clients run tools on this word; some upstreams say the other one.
            reason = "tool_use"
        delta: Payload = {"stop_reason": _REASONS[reason], "stop_sequence": stop.sequence}
        if stop.details is not None and _REASONS[reason] == "refusal":
            delta["stop_details"] = stop.details
        out.append({"type": "message_delta", "delta": delta, "usage": wire_usage(self._usage)})
        out.append({"type": "message_stop"})
        return out

    def _write(self, event: Event, out: list[Payload]) -> None:
        match event:
            case Start():
                self._start = event
            case UsageReport():
                self._usage = event.usage
            case BlockStart():
                self._begin(out)
                self._close(out)
                self._write_late(out)
                self._open_block(event.block, out)
            case ThinkingDelta():
                if self._open == "empty":
                    self._start_thinking(out)
                self._delta(out, {"type": "thinking_delta", "thinking": event.text})
            case ArgumentsDelta():
                self._argue(event.json, out)
            case OpaqueDelta():
                self._seal(event.opaque, out)
            case AnnotationDelta():
                if is_citation(event.annotation):
                    self._delta(out, {"type": "citations_delta", "citation": event.annotation})
            case BlockStop():
                self._close(out)
            case Stop():
                self._stop = event

    def _begin(self, out: list[Payload]) -> None:
        """`message_start`, held back until the usage that came with the start is known."""
        if self._begun:
            return
        self._begun = True
        model = self._answer.model or (self._start.model if self._start else "")
        out.append(message_start(self._answer, model, self._usage))

    def _delta(self, out: list[Payload], delta: Payload) -> None:
        if self._open not in _UNWRITTEN:
            out.append({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _open_as(self, kind: str, block: Payload, out: list[Payload]) -> None:
        self._index += 1
        self._open = kind
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        out.append(start)

    def _open_block(self, block: Text | Thinking | ToolUse | Foreign, out: list[Payload]) -> None:
        match block:
            case Text():
                self._open_as("text", {"type": "text", "text": ""}, out)
                if block.text:
                    self._delta(out, {"type": "text_delta", "text": block.text})
            case Thinking():
                self._open_thinking(block, out)
            case ToolUse():
                self._open_tool(block, out)
            case Foreign():
                if block.family == "anthropic":
                    self._open_as("foreign", block.value, out)
                else:
                    self._open = "skipped"

    def _open_thinking(self, block: Thinking, out: list[Payload]) -> None:
        if block.redacted:
            # Its data stands in the start event, and may only come with the next event.
            self._open = "held"
            if block.opaque is not None:
                self._seal(block.opaque, out)
            return
        self._signature = block.opaque
        if not block.text and self._index >= 0:
            # Perhaps only the seal of an answer that has been said.
            self._open = "empty"
            return
        self._start_thinking(out)
        if block.text:
            self._delta(out, {"type": "thinking_delta", "thinking": block.text})

    def _start_thinking(self, out: list[Payload]) -> None:
        self._open_as("thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)

    def _open_tool(self, block: ToolUse, out: list[Payload]) -> None:
        if block.opaque is not None:
            self._late.append(block.opaque)
            self._write_late(out)
        self._called = True
        start = {"type": "tool_use", "id": wire_tool_id(block.id), "name": block.name, "input": {}}
        self._open_as("tool_use", start, out)
        # The free text of a custom tool becomes JSON, which can be written only when it is whole.
        self._arguments = [] if block.custom else None
        if block.arguments:
            self._argue(block.arguments, out)

    def _argue(self, piece: str, out: list[Payload]) -> None:
        if self._arguments is not None:
            self._arguments.append(piece)
        else:
            self._delta(out, {"type": "input_json_delta", "partial_json": piece})

    def _seal(self, opaque: Opaque, out: list[Payload]) -> None:
        """Keep a signature until its block ends; one that is not thinking's gets its own block."""
        if self._open == "held":
            if opaque.family == "anthropic":
                data = {"type": "redacted_thinking", "data": opaque.value}
                self._open_as("redacted", data, out)
                return
            self._start_thinking(out)
        if self._open in ("thinking", "empty"):
            self._signature = opaque
        elif self._open != "redacted":
            self._late.append(opaque)

    def _close(self, out: list[Payload]) -> None:
        kind, self._open = self._open, ""
        if kind not in _UNWRITTEN:
            self._open = kind
            if kind == "thinking":
                sealed = {"type": "signature_delta", "signature": wrap(self._signature)}
                self._delta(out, sealed)
                self._signature = None
            elif self._arguments is not None:
                text = orjson.dumps({"input": "".join(self._arguments)}).decode()
                self._delta(out, {"type": "input_json_delta", "partial_json": text})
                self._arguments = None
            out.append({"type": "content_block_stop", "index": self._index})
            self._open = ""
        elif kind == "empty":
            self._late.append(self._signature)
            self._signature = None

    def _write_late(self, out: list[Payload]) -> None:
        """Empty thinking blocks that carry what tool calls and texts have no field for.

        Not after the text that ends a turn: Claude Code takes the last block for its result, and
        only turns with calls must bring their signature back. Source: docs/upstream.md.
        """
        late, self._late = self._late, []
        for opaque in late:
            self._start_thinking(out)
            self._signature = opaque
            self._close(out)
