"""Canonical events as Chat Completions, streamed or whole, in OpenAI's own clean dialect.

What clients stumble over is listed in docs/clients.md: every frame has `choices`, the role comes
once, ids and names of calls come once, usage comes last and only to those who asked.
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
from proxy.formats.chat_completions.failures import error_body, error_of
from proxy.formats.chat_completions.wire import (
    DONE,
    asks_for_usage,
    finish_reason,
    usage_body,
    wrap_opaque,
)
from proxy.formats.contract import Answer

Body = dict[str, Any]


class ChatEncoder:
    """Events in, chunks out."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._model = answer.model
        self._wants_usage = asks_for_usage(answer.request)
        self._head = b""
        self._started = False
        self._ended = False
        self._calls = -1
        self._custom = False
        self._skipped = False
        self._arguments = False
        self._refused = False
        self._in_refusal = False
        self._opaques: list[Opaque] = []
        self._redacted = False
        self._annotations: list[Body] = []
        self._usage: Usage | None = None
        self._reason: StopReason | None = None

    def encode(self, events: list[Event]) -> bytes:
        return b"".join([self._event(event) for event in events])

    def write(self, texts: list[bytes]) -> bytes | None:
        return None

    def end(self) -> bytes:
        """The finish chunk, the usage chunk if the client asked for one, and `[DONE]`."""
        if self._ended:
            return b""
        parts = [self._start()]
        last = self._last_delta()
        if last:
            parts.append(self._delta(orjson.dumps(last)))
        self._ended = True
        reason = finish_reason(self._reason, calls=self._calls >= 0, refused=self._refused)
        parts.append(self._head + b'{},"finish_reason":"' + reason.encode() + b'"}]}\n\n')
        if self._wants_usage and self._usage is not None:
            chunk = {**self._chunk_fields(), "choices": [], "usage": usage_body(self._usage)}
            parts.append(b"data: " + orjson.dumps(chunk) + b"\n\n")
        parts.append(DONE)
        return b"".join(parts)

    def fail(self, error: GatewayError) -> bytes:
        """The error object as a frame; nothing is open on this wire, and no `[DONE]` follows."""
        if self._ended:
            return b""
        self._ended = True
        return b"data: " + orjson.dumps(error_body(error, self._answer.id)) + b"\n\n"

    def _event(self, event: Event) -> bytes:
        kind = type(event)
        if kind is TextDelta:
            return self._text(event)  # type: ignore[arg-type]
        if self._ended:
            return b""
        match event:
            case ArgumentsDelta():
                return self._piece(event.json)
            case ThinkingDelta():
                return self._delta(b'{"reasoning_content":' + orjson.dumps(event.text) + b"}")
            case BlockStart():
                return self._block(event.block)
            case BlockStop():
                return self._block_end()
            case OpaqueDelta():
                self._opaques.append(event.opaque)
            case AnnotationDelta():
                self._annotations += url_citation(event.annotation)
            case UsageReport():
                self._usage = event.usage
            case Stop():
                self._reason = event.reason
            case Start():
                self._model = self._model or event.model
                return self._start()
            case Failure():
                return self.fail(error_of(event))
        return b""

    def _text(self, event: TextDelta) -> bytes:
        if self._ended or self._skipped:
            return b""
        if not self._started:
            return self._start() + self._text(event)
        text = orjson.dumps(event.text)
        if self._in_refusal:
            return self._delta(b'{"refusal":' + text + b"}")
        if event.logprobs is None:
            return self._head + b'{"content":' + text + b'},"finish_reason":null}]}\n\n'
        logprobs = orjson.dumps({"content": event.logprobs, "refusal": None})
        tail = b'},"logprobs":' + logprobs + b',"finish_reason":null}]}\n\n'
        return self._head + b'{"content":' + text + tail

    def _block(self, block: Any) -> bytes:
        self._in_refusal = self._custom = self._skipped = False
        match block:
            case Text():
                self._in_refusal = block.refusal
                self._refused = self._refused or block.refusal
                return self._text(TextDelta(0, block.text)) if block.text else b""
            case Thinking():
                self._redacted = self._redacted or block.redacted
                if block.opaque is not None:
                    self._opaques.append(block.opaque)
                if not block.text:
                    return b""
                return self._delta(b'{"reasoning_content":' + orjson.dumps(block.text) + b"}")
            case ToolUse():
                return self._call(block)
        # What only another family knows, such as a tool that its vendor ran.
        self._skipped = True
        return b""

    def _call(self, call: ToolUse) -> bytes:
        self._calls += 1
        self._custom = call.custom
        self._arguments = call.custom
        entry = call_body(ToolUse(id=call.id, name=call.name, custom=call.custom))
        delta = orjson.dumps({"tool_calls": [{"index": self._calls, **entry}]})
        return self._delta(delta) + (self._piece(call.arguments) if call.arguments else b"")

    def _piece(self, text: str) -> bytes:
        if self._skipped or not text:
            return b""
        self._arguments = True
        place = b'{"input":' if self._custom else b'{"arguments":'
        kind = b',"custom":' if self._custom else b',"function":'
        index = str(self._calls).encode()
        return self._delta(
            b'{"tool_calls":[{"index":' + index + kind + place + orjson.dumps(text) + b"}}]}"
        )

    def _block_end(self) -> bytes:
        if self._calls >= 0 and not self._arguments:
            # Clients parse the arguments: no arguments is an empty object.
            return self._piece("{}")
        self._skipped = self._in_refusal = False
        return b""

    def _last_delta(self) -> Body:
        """What may come once only, as clients append strings and lists of deltas to each other."""
        last: Body = {}
        if len(self._opaques) == 1 and not self._redacted:
            last["reasoning_opaque"] = wrap_opaque(self._opaques[0])
        if self._annotations:
            last["annotations"] = self._annotations
        return last

    def _chunk_fields(self) -> Body:
        return {
            "id": f"chatcmpl-{self._answer.id}",
            "object": "chat.completion.chunk",
            "created": self._answer.created,
            "model": self._model,
        }

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        fields = orjson.dumps(self._chunk_fields())
        self._head = b"data: " + fields[:-1] + b',"choices":[{"index":0,"delta":'
        return self._delta(b'{"role":"assistant","content":""}')

    def _delta(self, delta: bytes) -> bytes:
        if not self._started:
            return self._start() + self._delta(delta)
        return self._head + delta + b',"finish_reason":null}]}\n\n'


def call_body(call: ToolUse) -> Body:
    if call.custom:
        custom = {"name": call.name, "input": call.arguments}
        return {"id": call.id, "type": "custom", "custom": custom}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def url_citation(annotation: Body) -> list[Body]:
    """An annotation as this wire knows it, or nothing: only URL citations have a place."""
    if annotation.get("type") != "url_citation":
        return []
    if isinstance(annotation.get("url_citation"), dict):
        return [annotation]
    # The Responses wire keeps the same fields one level higher.
    names = ("url", "title", "start_index", "end_index")
    citation = {name: annotation[name] for name in names if name in annotation}
    return [{"type": "url_citation", "url_citation": citation}] if "url" in citation else []


class _Whole:
    """Collects the events of an answer into one message."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.refusal: list[str] = []
        self.reasoning: list[str] = []
        self.opaques: list[Opaque] = []
        self.redacted = False
        self.calls: list[ToolUse] = []
        self.annotations: list[Body] = []
        self.logprobs: list[Body] = []
        self.usage: Usage | None = None
        self.reason: StopReason | None = None
        self.model = ""
        self._block: Text | Thinking | ToolUse | None = None

    def add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._add_text(event.text)
                self.logprobs += event.logprobs or []
            case ThinkingDelta():
                self.reasoning.append(event.text)
            case ArgumentsDelta():
                if isinstance(self._block, ToolUse):
                    self._block.arguments += event.json
            case OpaqueDelta():
                self.opaques.append(event.opaque)
            case BlockStart():
                self._open(event.block)
            case AnnotationDelta():
                self.annotations += url_citation(event.annotation)
            case UsageReport():
                self.usage = event.usage
            case Stop():
                self.reason = event.reason
            case Start():
                self.model = event.model
            case Failure():
                raise error_of(event)
            case BlockStop():
                pass

    def _open(self, block: Any) -> None:
        self._block = block if isinstance(block, Text | Thinking | ToolUse) else None
        match block:
            case Text():
                self._add_text(block.text)
            case Thinking():
                self.reasoning.append(block.text)
                self.redacted = self.redacted or block.redacted
                if block.opaque is not None:
                    self.opaques.append(block.opaque)
            case ToolUse():
                # A copy: the events belong to the caller.
                self._block = ToolUse(
                    id=block.id, name=block.name, arguments=block.arguments, custom=block.custom
                )
                self.calls.append(self._block)

    def _add_text(self, text: str) -> None:
        if isinstance(self._block, Text) and text:
            (self.refusal if self._block.refusal else self.content).append(text)

    def message(self) -> Body:
        message: Body = {
            "role": "assistant",
            "content": "".join(self.content) if self.content else None,
            "refusal": "".join(self.refusal) if self.refusal else None,
        }
        if any(self.reasoning):
            message["reasoning_content"] = "".join(self.reasoning)
        if len(self.opaques) == 1 and not self.redacted:
            message["reasoning_opaque"] = wrap_opaque(self.opaques[0])
        if self.annotations:
            message["annotations"] = self.annotations
        if self.calls:
            for call in self.calls:
                call.arguments = call.arguments or ("" if call.custom else "{}")
            message["tool_calls"] = [call_body(call) for call in self.calls]
        return message


def encode_body(events: list[Event], answer: Answer) -> Body:
    """The whole answer. Raises the error that a `Failure` among the events says."""
    whole = _Whole()
    for event in events:
        whole.add(event)
    message = whole.message()
    if message["content"] is None and "tool_calls" not in message and not whole.refusal:
        # An empty answer is an empty string: only calls and refusals go without content.
        message["content"] = ""
    reason = finish_reason(whole.reason, calls=bool(whole.calls), refused=bool(whole.refusal))
    body: Body = {
        "id": f"chatcmpl-{answer.id}",
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model or whole.model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": {"content": whole.logprobs, "refusal": None}
                if whole.logprobs
                else None,
                "finish_reason": reason,
            }
        ],
    }
    if whole.usage is not None:
        body["usage"] = usage_body(whole.usage)
    return body
