"""Passthrough of a Responses stream, with ids that stay the same from event to event.

Copilot writes another opaque id into every event, and the official SDKs stop at the second one.
Source: docs/upstream.md#responses, docs/clients.md.
"""

from typing import Any

from proxy.errors import GatewayError
from proxy.formats.canonical import Usage
from proxy.formats.contract import NONE_PASSED, Answer, Passed
from proxy.formats.responses.answers import (
    failure_of,
    nested_error,
    raised,
    read_usage,
    response_object,
    usable_id,
)
from proxy.formats.responses.decoding import TERMINAL, read_frame
from proxy.formats.responses.encoding import failure_payloads, render_payload
from proxy.formats.responses.fields import as_dict, as_list, as_str, item_id
from proxy.formats.responses.items import Kind, OutputItem, Payload
from proxy.formats.sse import Frame

# Event type to the kind of item it fills, for streams that name no item.
_FILLS = {
    "response.output_text.delta": "message",
    "response.refusal.delta": "message",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "function_call",
    "response.custom_tool_call_input.delta": "custom_tool_call",
}
_KINDS: dict[str, Kind] = {
    "message": "text",
    "reasoning": "reasoning",
    "function_call": "function_call",
    "custom_tool_call": "custom_tool_call",
}


class Tap:
    """Frames in, the same events out; see `contract.Tap`."""

    __slots__ = (
        "_answer",
        "_done",
        "_ids",
        "_open",
        "_response_id",
        "_sequence",
        "failure",
        "finished",
        "model",
        "stop_reason",
        "usage",
    )

    def __init__(self, answer: Answer) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.failure: GatewayError | None = None
        self._answer = answer
        self._response_id: str | None = None
        self._ids: dict[int, str] = {}
        self._open: dict[int, OutputItem] = {}
        self._done: dict[int, dict[str, Any]] = {}
        self._sequence = 0

    def passes(self, chunk: bytes) -> Passed:
        return NONE_PASSED

    def feed(self, frame: Frame) -> bytes:
        if self.finished or frame.data.startswith(b"[DONE]"):
            return b""
        payload = read_frame(frame)
        kind: str = payload["type"]
        number = payload.get("sequence_number")
        if type(number) is int:
            self._sequence = number
        else:
            payload["sequence_number"] = self._sequence
        if kind == "error":
            return self._upstream_failed(nested_error(payload))
        if not kind.startswith("response."):
            # A ping or anything else that breaks clients.
            return b""
        if kind in ("response.failed", "response.cancelled"):
            return self._terminal_failure(kind, payload)
        if "item_id" in payload or "item" in payload:
            self._own_ids(kind, payload)
        if isinstance(payload.get("response"), dict):
            self._own_response(payload["response"])
        if kind in TERMINAL:
            self._end(payload)
        self._sequence += 1
        return render_payload(payload)

    def end(self) -> bytes:
        """Nothing: the upstream's own last event has been passed on."""
        return b""

    def fail(self, error: GatewayError) -> bytes:
        """Closes the items that are open, then says the error."""
        if self.finished:
            return b""
        self.finished = True
        payloads: list[Payload] = []
        for index in sorted(self._open):
            closing = self._open[index].closing("incomplete")
            self._done[index] = closing[-1]["item"]
            payloads += closing
        self._open.clear()
        response = response_object(self._answer, "failed")
        response["id"] = self._response_id or response["id"]
        response["output"] = [self._done[index] for index in sorted(self._done)]
        payloads += failure_payloads(error, response)
        return b"".join(self._numbered(payload) for payload in payloads)

    def _numbered(self, payload: Payload) -> bytes:
        payload["sequence_number"] = self._sequence
        self._sequence += 1
        return render_payload(payload)

    # Ids.

    def _own_ids(self, kind: str, payload: dict[str, Any]) -> None:
        index = payload.get("output_index")
        if type(index) is not int:
            index = 0
        item = payload.get("item")
        if isinstance(item, dict):
            own = self._id_of(index, item.get("id"), as_str(item.get("type")))
            item["id"] = own
            self._follow_item(kind, index, item)
        if "item_id" in payload:
            payload["item_id"] = self._id_of(index, payload["item_id"], _FILLS.get(kind, ""))
            self._follow(kind, index, payload)

    def _id_of(self, index: int, seen: object, kind: str) -> str:
        own = self._ids.get(index)
        if own is None:
            own = usable_id(seen) or item_id(self._answer.id, kind, index)
            self._ids[index] = own
        return own

    def _own_response(self, response: dict[str, Any]) -> None:
        if self._response_id is None:
            self._response_id = usable_id(response.get("id")) or f"resp_{self._answer.id}"
        response["id"] = self._response_id
        if response.get("output") is None:
            response["output"] = []
        model = response.get("model")
        if isinstance(model, str) and model:
            self.model = model
        output = as_list(response["output"])
        if output:
            self._own_output(output)

    def _own_output(self, output: list[Any]) -> None:
        """The list counts items, which are the indexes of the events unless those have gaps."""
        seen = sorted(self._ids)
        indexes = seen if len(seen) == len(output) else range(len(output))
        for index, item in zip(indexes, output, strict=True):
            if isinstance(item, dict):
                item["id"] = self._id_of(index, item.get("id"), as_str(item.get("type")))

    # What is open, so that a cut stream can be closed.

    def _follow_item(self, kind: str, index: int, item: dict[str, Any]) -> None:
        if kind == "response.output_item.done":
            self._open.pop(index, None)
            self._done[index] = item
        elif kind == "response.output_item.added":
            own = OutputItem(_KINDS.get(as_str(item.get("type")), "item"), item["id"], index)
            own.value = item
            own.name = as_str(item.get("name"))
            own.call_id = as_str(item.get("call_id"))
            own.namespace = as_str(item.get("namespace")) or None
            own.phase = as_str(item.get("phase")) or None
            self._open[index] = own

    def _follow(self, kind: str, index: int, payload: dict[str, Any]) -> None:
        item = self._open.get(index)
        if item is None:
            return
        if item.kind == "reasoning" and not kind.startswith("response.reasoning_summary_"):
            return
        if kind.endswith(".delta"):
            delta = payload.get("delta")
            if isinstance(delta, str):
                item.pieces.append(delta)
        elif kind.endswith("_part.added"):
            item.is_part_open = True
            item.pieces, item.annotations = [], []
            item.content_index = len(item.parts)
            if as_dict(payload.get("part")).get("type") == "refusal":
                item.kind = "refusal"
        elif kind.endswith("_part.done"):
            item.is_part_open = False
            item.pieces = []
            if isinstance(payload.get("part"), dict):
                item.parts.append(payload["part"])
        elif kind == "response.output_text.annotation.added":
            item.annotations.append(as_dict(payload.get("annotation")))

    # The end.

    def _end(self, payload: dict[str, Any]) -> None:
        response = as_dict(payload.get("response"))
        self._report(payload, response)
        reason = as_str(as_dict(response.get("incomplete_details")).get("reason"))
        self.stop_reason = reason or as_str(response.get("status")) or "completed"
        self.finished = True

    def _report(self, payload: dict[str, Any], response: dict[str, Any]) -> None:
        cost = payload.get("copilot_usage") or response.get("copilot_usage")
        self.usage = read_usage(response.get("usage"), cost) or self.usage

    def _terminal_failure(self, kind: str, payload: dict[str, Any]) -> bytes:
        response = as_dict(payload.get("response"))
        self._report(payload, response)
        error = as_dict(response.get("error"))
        if not error and kind == "response.cancelled":
            error = {"code": "cancelled", "message": "The upstream cancelled the answer."}
        return self._upstream_failed(error)

    def _upstream_failed(self, error: dict[str, Any]) -> bytes:
        """The upstream's own failure, in the events that every client understands."""
        failure = raised(failure_of(error))
        self.failure = failure
        self.stop_reason = "failed"
        return self.fail(failure)
