"""One output item of a streamed answer: the events that open, fill and close it.

Encoder and tap share it, so that an item is closed the same way whoever opened it. The events carry
no sequence number yet. Source: docs/upstream.md#responses.
"""

from typing import Any, Literal

import orjson

Kind = Literal["text", "refusal", "reasoning", "function_call", "custom_tool_call", "item"]
Status = Literal["completed", "incomplete"]
Payload = dict[str, Any]

_WIRE_TYPES = {"text": "message", "refusal": "message"}


class OutputItem:
    """`pieces` joined are the text, the arguments or the input of the item so far."""

    __slots__ = (
        "_at",
        "annotations",
        "call_id",
        "content_index",
        "encrypted_content",
        "id",
        "index",
        "is_part_open",
        "kind",
        "logprobs",
        "name",
        "namespace",
        "parts",
        "phase",
        "pieces",
        "value",
    )

    def __init__(self, kind: Kind, item_id: str, index: int) -> None:
        self.kind: Kind = kind
        self.id = item_id
        self.index = index
        self.pieces: list[str] = []
        self.annotations: list[dict[str, Any]] = []
        self.logprobs: list[dict[str, Any]] = []
        self.content_index = 0
        self.is_part_open = False
        self.parts: list[dict[str, Any]] = []
        self.name = ""
        self.call_id = ""
        self.namespace: str | None = None
        self.phase: str | None = None
        self.encrypted_content: str | None = None
        self.value: dict[str, Any] = {}
        self._at: Payload = {"item_id": item_id, "output_index": index}

    def wire(self, status: str) -> dict[str, Any]:
        """The item itself; reasoning has no status."""
        kind = _WIRE_TYPES.get(self.kind, self.kind)
        text = "".join(self.pieces)
        if self.kind == "item":
            return {**self.value, "id": self.id}
        if self.kind == "reasoning":
            summary = [*self.parts, {"type": "summary_text", "text": text}] if text else self.parts
            item: dict[str, Any] = {"id": self.id, "type": kind, "summary": summary}
            if self.encrypted_content is not None:
                item["encrypted_content"] = self.encrypted_content
            return item
        item = {"id": self.id, "type": kind, "status": status}
        if kind == "message":
            item["role"] = "assistant"
            item["content"] = [*self.parts, self.part()] if self.is_part_open else self.parts
            if self.phase is not None:
                item["phase"] = self.phase
            return item
        item["call_id"] = self.call_id
        item["name"] = self.name
        item["arguments" if self.kind == "function_call" else "input"] = text
        if self.namespace is not None:
            item["namespace"] = self.namespace
        return item

    def part(self) -> dict[str, Any]:
        """The open content part."""
        text = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "annotations": self.annotations,
            "logprobs": self.logprobs,
            "text": text,
        }

    def opening(self) -> list[Payload]:
        added = {
            "type": "response.output_item.added",
            "output_index": self.index,
            "item": self.wire("in_progress"),
        }
        if self.kind in ("text", "refusal"):
            self.is_part_open = True
            return [added, self._content("response.content_part.added", part=self.part())]
        return [added]

    def delta(self, text: str, logprobs: list[dict[str, Any]] | None = None) -> list[Payload]:
        """The events of one more piece; thoughts open their summary part with the first."""
        events: list[Payload] = []
        if self.kind == "reasoning" and not self.is_part_open:
            self.is_part_open = True
            empty = {"type": "summary_text", "text": ""}
            events.append(self._summary("response.reasoning_summary_part.added", part=empty))
        self.pieces.append(text)
        if self.kind == "text":
            if logprobs:
                self.logprobs += logprobs
            events.append(
                {
                    "type": "response.output_text.delta",
                    "item_id": self.id,
                    "output_index": self.index,
                    "content_index": self.content_index,
                    "delta": text,
                    "logprobs": logprobs or [],
                }
            )
        elif self.kind == "refusal":
            events.append(self._content("response.refusal.delta", delta=text))
        elif self.kind == "reasoning":
            events.append(self._summary("response.reasoning_summary_text.delta", delta=text))
        elif self.kind == "function_call":
            events.append(
                {"type": "response.function_call_arguments.delta", "delta": text, **self._at}
            )
        else:
            events.append(
                {"type": "response.custom_tool_call_input.delta", "delta": text, **self._at}
            )
        return events

    def annotation(self, annotation: dict[str, Any]) -> Payload:
        self.annotations.append(annotation)
        return self._content(
            "response.output_text.annotation.added",
            annotation=annotation,
            annotation_index=len(self.annotations) - 1,
        )

    def closing(self, status: Status) -> list[Payload]:
        """The events that end the open part and the item."""
        events: list[Payload] = []
        text = "".join(self.pieces)
        if self.is_part_open and self.kind == "text":
            done = self._content("response.output_text.done", text=text, logprobs=self.logprobs)
            events += [done, self._content("response.content_part.done", part=self.part())]
        elif self.is_part_open and self.kind == "refusal":
            events += [
                self._content("response.refusal.done", refusal=text),
                self._content("response.content_part.done", part=self.part()),
            ]
        elif self.is_part_open and self.kind == "reasoning":
            part = {"type": "summary_text", "text": text}
            events += [
                self._summary("response.reasoning_summary_text.done", text=text),
                self._summary("response.reasoning_summary_part.done", part=part),
            ]
        elif self.kind == "function_call":
            events.append(
                {"type": "response.function_call_arguments.done", "arguments": text, **self._at}
            )
        elif self.kind == "custom_tool_call":
            events.append(
                {"type": "response.custom_tool_call_input.done", "input": text, **self._at}
            )
        events.append(
            {
                "type": "response.output_item.done",
                "output_index": self.index,
                "item": self.wire(status),
            }
        )
        return events

    def _content(self, kind: str, **fields: Any) -> Payload:
        return {"type": kind, **self._at, "content_index": self.content_index, **fields}

    def _summary(self, kind: str, **fields: Any) -> Payload:
        return {"type": kind, **self._at, "summary_index": len(self.parts), **fields}


def free_text(arguments: str) -> str:
    """The text of a custom tool's call that another format could only make as a function call.

    Such a function has one parameter, `input`. What is no such JSON is taken as it is.
    """
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    if isinstance(value, dict):
        if isinstance(value.get("input"), str):
            return str(value["input"])
        if len(value) == 1 and isinstance(only := next(iter(value.values())), str):
            return only
    return value if isinstance(value, str) else arguments
