"""Canonical events as the stream that Responses clients read.

A block is one output item. An item whose block has closed is written as done only with the next
event: a stop at the token limit makes the last item `incomplete`, so that nobody runs half a call.
"""

from collections.abc import Iterable
from typing import Any

import orjson
from msgspec import Struct

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
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolUse,
    Usage,
    UsageReport,
)
from proxy.formats.contract import Answer
from proxy.formats.responses.answers import (
    error_object,
    failed_code,
    raised,
    response_object,
    usage_object,
)
from proxy.formats.responses.fields import as_dict, as_list, item_id, wrap
from proxy.formats.responses.items import Kind, OutputItem, Payload, Status, free_text
from proxy.formats.sse import render

_ANNOTATIONS = frozenset({"url_citation", "file_citation", "container_file_citation", "file_path"})


class _ClientTool(Struct, frozen=True):
    """A tool as the client knows it, found by its canonical name."""

    name: str
    namespace: str | None
    custom: bool


class Encoder:
    """Events in, bytes of the client's stream out; see `contract.Encoder`."""

    __slots__ = (
        "_answer",
        "_delayed",
        "_events",
        "_has_ended",
        "_has_refused",
        "_has_started",
        "_held_text",
        "_item",
        "_next_index",
        "_output",
        "_pending",
        "_sequence",
        "_stop",
        "_tools",
        "_usage",
    )

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._sequence = 0
        self._next_index = 0
        self._output: list[dict[str, Any]] = []
        self._item: OutputItem | None = None
        # The text block that is open but has no text yet: an empty message is never written.
        self._pending: Text | None = None
        # A call that becomes a custom tool's: written whole, as its JSON must be unpacked.
        self._held_text: list[str] | None = None
        # The item whose block has closed, until the next event says how it ended.
        self._delayed: OutputItem | None = None
        self._events: list[Payload] = []
        self._stop: Stop | None = None
        self._usage: Usage | None = None
        self._has_started = self._has_ended = self._has_refused = False
        self._tools = _client_tools(answer.request)

    def encode(self, events: list[Event]) -> bytes:
        if self._has_ended:
            return b""
        for event in events:
            if isinstance(event, Failure):
                return self._flush() + self.fail(raised(event))
            self._one(event)
        return self._flush()

    def write(self, texts: list[bytes]) -> bytes | None:
        return None

    def end(self) -> bytes:
        if self._has_ended:
            return b""
        self._start()
        status = self._final_status()
        self._close_item()
        self._settle(status)
        self._events.append({"type": f"response.{status}", "response": self._response(status)})
        self._has_ended = True
        return self._flush()

    def fail(self, error: GatewayError) -> bytes:
        """The `error` event that SDKs raise, then `response.failed`, which ends a Codex turn."""
        if self._has_ended:
            return b""
        self._settle("completed")
        self._close_item()
        self._settle("incomplete")
        self._has_ended = True
        self._events += failure_payloads(error, self._response("failed"))
        return self._flush()

    def body(self) -> dict[str, Any]:
        """The whole response, for a client that does not stream."""
        self.end()
        return self._response(self._final_status())

    # One event at a time.

    def _one(self, event: Event) -> None:
        if isinstance(event, (TextDelta, ThinkingDelta)):
            self._fill(event.text, event.logprobs if isinstance(event, TextDelta) else None)
        elif isinstance(event, ArgumentsDelta):
            self._fill(event.json)
        elif isinstance(event, BlockStart):
            self._open(event.block)
        elif isinstance(event, BlockStop):
            self._close_item()
        elif isinstance(event, OpaqueDelta):
            self._opaque(event.opaque)
        elif isinstance(event, AnnotationDelta):
            self._annotate(event.annotation)
        elif isinstance(event, Start):
            self._start()
        elif isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, Stop):
            self._stop = event

    def _start(self) -> None:
        if not self._has_started:
            self._has_started = True
            response = response_object(self._answer, "in_progress")
            self._events.append({"type": "response.created", "response": response})
            self._events.append({"type": "response.in_progress", "response": response})

    def _new_item(self, kind: Kind, wire_type: str) -> OutputItem:
        self._start()
        self._settle("completed")
        item = OutputItem(
            kind, item_id(self._answer.id, wire_type, self._next_index), self._next_index
        )
        self._next_index += 1
        self._item = item
        return item

    def _open(self, block: Text | Thinking | ToolUse | Foreign) -> None:
        self._close_item()
        if isinstance(block, Text):
            self._pending = block
            if block.text:
                self._fill(block.text)
        elif isinstance(block, Thinking):
            item = self._new_item("reasoning", "reasoning")
            if block.opaque is not None:
                item.encrypted_content = wrap(block.opaque, redacted=block.redacted)
            self._events += item.opening()
            # Remembered on the item, because the opaque value may come later.
            item.value = {"redacted": block.redacted}
            if block.text:
                self._fill(block.text)
        elif isinstance(block, ToolUse):
            self._open_call(block)
        elif block.family == "openai":
            item = self._new_item("item", block.kind)
            item.value = block.value
            self._events += item.opening()
        # A server tool of another vendor cannot have been asked for by this client.

    def _open_call(self, block: ToolUse) -> None:
        if block.opaque is not None:
            self._carry(block.opaque)
        tool = self._tools.get(block.name)
        custom = block.custom or (tool is not None and tool.custom)
        kind: Kind = "custom_tool_call" if custom else "function_call"
        item = self._new_item(kind, kind)
        item.call_id = block.id
        item.name = tool.name if tool is not None else block.name
        item.namespace = tool.namespace if tool is not None else None
        self._events += item.opening()
        self._held_text = [] if custom and not block.custom else None
        if block.arguments:
            self._fill(block.arguments)

    def _fill(self, text: str, logprobs: list[dict[str, Any]] | None = None) -> None:
        if self._held_text is not None:
            self._held_text.append(text)
            return
        if self._pending is not None and text:
            self._open_text()
        if self._item is not None and text:
            self._events += self._item.delta(text, logprobs)

    def _open_text(self) -> OutputItem:
        block = self._pending or Text(text="")
        self._pending = None
        self._has_refused |= block.refusal
        item = self._new_item("refusal" if block.refusal else "text", "message")
        phase = (block.extras or {}).get("phase")
        item.phase = phase if phase in ("commentary", "final_answer") else None
        self._events += item.opening()
        return item

    def _annotate(self, annotation: dict[str, Any]) -> None:
        item = self._open_text() if self._pending is not None else self._item
        own = _annotation(annotation)
        if item is not None and item.kind == "text" and own is not None:
            self._events.append(item.annotation(own))

    def _opaque(self, opaque: Opaque) -> None:
        item = self._item
        if item is not None and item.kind == "reasoning":
            item.encrypted_content = wrap(opaque, redacted=bool(item.value.get("redacted")))
        else:
            # A text or a call has no field for it here: it travels as a thought of its own.
            self._close_item()
            self._carry(opaque)

    def _carry(self, opaque: Opaque) -> None:
        item = self._new_item("reasoning", "reasoning")
        item.encrypted_content = wrap(opaque)
        self._events += item.opening()
        self._close_item()

    def _close_item(self) -> None:
        """Sets the open item aside; `_settle` writes it."""
        self._pending = None
        item = self._item
        if item is None:
            return
        if self._held_text is not None:
            text = free_text("".join(self._held_text))
            self._held_text = None
            if text:
                self._events += item.delta(text)
        self._item = None
        self._delayed = item

    def _settle(self, status: Status) -> None:
        if self._delayed is not None:
            closing = self._delayed.closing(status)
            self._output.append(closing[-1]["item"])
            self._events += closing
            self._delayed = None

    # The end.

    def _final_status(self) -> Status:
        reason = self._stop.reason if self._stop is not None else "end_turn"
        if reason == "refusal":
            # Words of refusal are a complete answer; without any the answer was withheld.
            return "completed" if self._has_refused else "incomplete"
        cut = reason in ("max_tokens", "content_filter", "context_overflow")
        return "incomplete" if cut else "completed"

    def _response(self, status: str) -> dict[str, Any]:
        response = response_object(self._answer, status)
        response["output"] = self._output
        response["usage"] = usage_object(self._usage)
        if status == "incomplete":
            reason = self._stop.reason if self._stop is not None else ""
            filtered = reason in ("content_filter", "refusal")
            said = as_dict(self._stop.details if self._stop is not None else None).get("reason")
            default = "content_filter" if filtered else "max_output_tokens"
            known = said in ("max_output_tokens", "max_messages", "content_filter", "steered")
            response["incomplete_details"] = {"reason": said if known else default}
        return response

    def _flush(self) -> bytes:
        events, self._events = self._events, []
        frames = []
        for payload in events:
            payload["sequence_number"] = self._sequence
            self._sequence += 1
            frames.append(render_payload(payload))
        return b"".join(frames)


def render_payload(payload: Payload) -> bytes:
    return render(orjson.dumps(payload), payload["type"].encode())


def failure_payloads(error: GatewayError, response: dict[str, Any]) -> Iterable[Payload]:
    """How a stream says that it failed.

    The event is flat, as the AI SDK reads it, and holds the same under `error`, which is what the
    official SDKs raise. Source: docs/clients.md.
    """
    said = error_object(error)
    flat = {"code": said["code"], "message": said["message"], "param": said["param"]}
    response["error"] = {"code": failed_code(error), "message": said["message"]}
    return (
        {"type": "error", **flat, "error": said},
        {"type": "response.failed", "response": response},
    )


def encode_body(events: list[Event], answer: Answer) -> dict[str, Any]:
    """Raises the upstream's failure, when that is what the events tell."""
    for event in events:
        if isinstance(event, Failure):
            raise raised(event)
    encoder = Encoder(answer)
    encoder.encode(events)
    return encoder.body()


def _client_tools(request: dict[str, Any]) -> dict[str, _ClientTool]:
    """The request's tools by canonical name, those of namespaces and input items included."""
    tools: dict[str, _ClientTool] = {}
    entries = list(as_list(request.get("tools")))
    for item in as_list(request.get("input")):
        if isinstance(item, dict) and item.get("type") == "additional_tools":
            entries += as_list(item.get("tools"))
    for entry in entries:
        wire = as_dict(entry)
        space = wire.get("name")
        if wire.get("type") == "namespace" and isinstance(space, str):
            for inner in as_list(wire.get("tools")):
                _note(tools, as_dict(inner), space)
        else:
            _note(tools, wire, None)
    return tools


def _note(tools: dict[str, _ClientTool], wire: dict[str, Any], space: str | None) -> None:
    name = wire.get("name")
    if isinstance(name, str) and wire.get("type") in ("function", "custom"):
        canonical = f"{space}__{name}" if space else name
        tools[canonical] = _ClientTool(name, space, wire["type"] == "custom")


def _annotation(annotation: dict[str, Any]) -> dict[str, Any] | None:
    """The annotation in this format's words; None for one that has no place here."""
    kind = annotation.get("type")
    if isinstance(kind, str) and kind in _ANNOTATIONS:
        return annotation
    url = annotation.get("url")
    if isinstance(url, str):
        title = annotation.get("title")
        return {
            "type": "url_citation",
            "url": url,
            "title": title if isinstance(title, str) else url,
            "start_index": 0,
            "end_index": 0,
        }
    return None
