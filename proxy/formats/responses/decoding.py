"""Events of Copilot's /responses as canonical events.

Items are told apart by their output index alone: every event carries another id for the same item.
Canonical blocks open one after the other, so what arrives for a later item waits until the earlier
ones are closed. The final events of an item repeat it whole; what the deltas did not bring is taken
from there. Source: docs/upstream.md#responses.
"""

from collections import deque
from collections.abc import Callable
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
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolUse,
    Usage,
    UsageReport,
)
from proxy.formats.contract import NO_PIECES, Pieces
from proxy.formats.responses.answers import failure_of, nested_error, read_usage
from proxy.formats.responses.fields import as_dict, as_list, as_str, unwrap
from proxy.formats.sse import Frame

TERMINAL = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
MAX_OUTPUT_ITEMS = 10_000


class _Item:
    """An output item on its way; `held` are its events while it is not its turn."""

    __slots__ = (
        "annotations",
        "content_index",
        "has_text",
        "held",
        "index",
        "is_done",
        "is_open",
        "kind",
        "phase",
        "texts",
    )

    def __init__(self, kind: str, index: int) -> None:
        self.kind = kind
        self.index = index
        self.is_open = False
        self.is_done = False
        self.has_text = False
        self.content_index = -1
        self.phase: str | None = None
        # What has been passed on, by part ("content", 0), ("summary", 1) or ("call", 0).
        self.texts: dict[tuple[str, int], list[str]] = {}
        self.annotations: dict[int, int] = {}
        self.held: list[tuple[Any, ...]] = []


class Decoder:
    """Frames of one stream in, events out; see `contract.Decoder`."""

    __slots__ = (
        "_block",
        "_has_begun",
        "_has_called",
        "_has_refused",
        "_items",
        "_out",
        "_queue",
        "finished",
        "usage",
    )

    def __init__(self) -> None:
        self.finished = False
        self.usage: Usage | None = None
        self._out: list[Event] = []
        self._items: dict[int, _Item] = {}
        self._queue: deque[_Item] = deque()
        self._block = -1
        self._has_begun = False
        self._has_called = False
        self._has_refused = False

    def feed(self, frame: Frame) -> list[Event]:
        if self.finished or frame.data.startswith(b"[DONE]"):
            return []
        payload = read_frame(frame)
        self._out = []
        kind = payload["type"]
        if handler := _HANDLERS.get(kind):
            handler(self, payload)
        elif kind in TERMINAL:
            self._end(kind, payload)
        elif kind == "error":
            self._fail(nested_error(payload))
        return self._out

    def pieces(self, chunk: bytes) -> Pieces:
        return NO_PIECES

    def close(self) -> list[Event]:
        """Nothing: what is still held belongs behind an item that the upstream never ended."""
        return []

    def read_body(self, body: dict[str, Any]) -> list[Event]:
        """A whole response, as if its last event were all that ever came."""
        error = body.get("error")
        status = body.get("status")
        if isinstance(error, (dict, str)) and error and status not in ("completed", "incomplete"):
            self._begin(body)
            self._report(body, body)
            self._fail(nested_error(body))
        elif not isinstance(body.get("output"), list):
            raise UpstreamFailed("The upstream's answer is not a response.")
        else:
            self._end(f"response.{status or 'completed'}", {"response": body, **_cost(body)})
        return self._out

    # Putting events out, or aside.

    def _put(self, item: _Item, kind: Any, *fields: Any) -> None:
        if self._queue and item is self._queue[0]:
            if kind is BlockStart:
                self._block += 1
            self._out.append(kind(self._block, *fields))
        else:
            item.held.append((kind, *fields))

    def _open(self, item: _Item, block: Text | Thinking | ToolUse | Foreign) -> None:
        if not self._has_begun:
            self._begin({})
        self._shut(item)
        item.is_open = True
        self._put(item, BlockStart, block)

    def _shut(self, item: _Item) -> None:
        if item.is_open:
            item.is_open = False
            self._put(item, BlockStop)

    def _finish(self, item: _Item) -> None:
        """The item is whole: its block closes, and the next in line may speak."""
        self._shut(item)
        item.is_done = True
        while self._queue and self._queue[0].is_done:
            self._queue.popleft()
            if self._queue:
                waiting = self._queue[0]
                held, waiting.held = waiting.held, []
                for kind, *fields in held:
                    self._put(waiting, kind, *fields)

    def _item(self, payload: dict[str, Any], kind: str) -> _Item | None:
        """The item of an event, None when it is over or of another kind than the event."""
        index = payload.get("output_index")
        if type(index) is not int:
            index = 0
        item = self._items.get(index)
        if item is None:
            if len(self._items) >= MAX_OUTPUT_ITEMS:
                raise UpstreamFailed(
                    "The upstream sent more output items than the gateway accepts."
                )
            item = self._items[index] = _Item(kind, index)
            self._queue.append(item)
        return None if item.is_done or item.kind != kind else item

    def _rest(self, item: _Item, key: tuple[str, int], whole: str) -> str:
        """What of the whole text has not been passed on; nothing if the two do not agree."""
        have = "".join(item.texts.get(key, ()))
        return whole[len(have) :] if whole.startswith(have) else ""

    # Handlers, one per event type.

    def _created(self, payload: dict[str, Any]) -> None:
        self._begin(as_dict(payload.get("response")))

    def _begin(self, response: dict[str, Any]) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._out.append(Start(as_str(response.get("id")), as_str(response.get("model"))))

    def _added(self, payload: dict[str, Any]) -> None:
        wire = as_dict(payload.get("item"))
        kind = as_str(wire.get("type"))
        if kind and (item := self._item(payload, kind)):
            self._know(item, wire)

    def _know(self, item: _Item, wire: dict[str, Any]) -> None:
        """Opens the block that the item's first fields announce."""
        if item.kind == "message":
            item.phase = as_str(wire.get("phase")) or item.phase
        elif item.is_open:
            return
        elif item.kind == "reasoning":
            self._open(item, Thinking())
        elif item.kind in ("function_call", "custom_tool_call"):
            call, name = as_str(wire.get("call_id")), as_str(wire.get("name"))
            if call and name:
                space = as_str(wire.get("namespace"))
                self._has_called = True
                self._open(
                    item,
                    ToolUse(
                        id=call,
                        name=f"{space}__{name}" if space else name,
                        custom=item.kind == "custom_tool_call",
                    ),
                )

    def _item_done(self, payload: dict[str, Any]) -> None:
        wire = as_dict(payload.get("item"))
        kind = as_str(wire.get("type"))
        if kind and (item := self._item(payload, kind)):
            self._complete(item, wire)

    def _complete(self, item: _Item, wire: dict[str, Any]) -> None:
        """Takes from the finished item what its deltas did not bring."""
        self._know(item, wire)
        if item.kind == "message":
            for index, part in enumerate(as_list(wire.get("content"))):
                self._whole_part(item, index, as_dict(part))
        elif item.kind == "reasoning":
            for index, part in enumerate(as_list(wire.get("summary"))):
                self._think(item, ("summary", index), as_str(as_dict(part).get("text")), whole=True)
            for index, part in enumerate(as_list(wire.get("content"))):
                self._think(item, ("content", index), as_str(as_dict(part).get("text")), whole=True)
            if encrypted := as_str(wire.get("encrypted_content")):
                opaque: Opaque = unwrap(encrypted)[0]
                self._put(item, OpaqueDelta, opaque)
        elif item.kind in ("function_call", "custom_tool_call"):
            if not item.is_open:
                raise UpstreamFailed("The upstream sent a tool call without a name or an id.")
            field = "arguments" if item.kind == "function_call" else "input"
            self._whole_call(item, as_str(wire.get(field)))
        else:
            self._open(item, Foreign(family="openai", kind=item.kind, value=wire))
        self._finish(item)

    def _part(self, item: _Item, index: object, *, refusal: bool = False) -> int:
        """Opens the text block of this content part, unless it is open."""
        at = index if type(index) is int else max(item.content_index, 0)
        if at != item.content_index or not item.is_open:
            item.content_index = at
            extras = {"phase": item.phase} if item.phase else None
            self._has_refused |= refusal
            self._open(item, Text(text="", refusal=refusal, extras=extras))
        return at

    def _text_delta(self, payload: dict[str, Any]) -> None:
        self._text(payload, refusal=False)

    def _refusal_delta(self, payload: dict[str, Any]) -> None:
        self._text(payload, refusal=True)

    def _text(self, payload: dict[str, Any], *, refusal: bool) -> None:
        item = self._item(payload, "message")
        delta = payload.get("delta")
        if item is None or not isinstance(delta, str):
            return
        at = self._part(item, payload.get("content_index"), refusal=refusal)
        item.texts.setdefault(("content", at), []).append(delta)
        logprobs = payload.get("logprobs")
        if logprobs and isinstance(logprobs, list):
            self._put(item, TextDelta, delta, logprobs)
        else:
            self._put(item, TextDelta, delta)

    def _text_done(self, payload: dict[str, Any]) -> None:
        item = self._item(payload, "message")
        if item is None:
            return
        refusal = "refusal" in payload
        text = as_str(payload.get("refusal") if refusal else payload.get("text"))
        index = payload.get("content_index")
        self._whole_text(item, index if type(index) is int else 0, text, refusal=refusal)

    def _whole_text(
        self, item: _Item, index: int, text: str, *, refusal: bool, logprobs: object = None
    ) -> None:
        rest = self._rest(item, ("content", index), text)
        if rest and (index >= item.content_index):
            at = self._part(item, index, refusal=refusal)
            item.texts.setdefault(("content", at), []).append(rest)
            if rest == text and isinstance(logprobs, list) and logprobs:
                self._put(item, TextDelta, rest, logprobs)
            else:
                self._put(item, TextDelta, rest)

    def _whole_part(self, item: _Item, index: int, part: dict[str, Any]) -> None:
        refusal = part.get("type") == "refusal"
        text = as_str(part.get("refusal") if refusal else part.get("text"))
        self._whole_text(item, index, text, refusal=refusal, logprobs=part.get("logprobs"))
        seen = item.annotations.get(index, 0)
        for annotation in as_list(part.get("annotations"))[seen:]:
            self._annotate(item, index, annotation)

    def _annotation(self, payload: dict[str, Any]) -> None:
        if item := self._item(payload, "message"):
            index = payload.get("content_index")
            self._annotate(item, index if type(index) is int else 0, payload.get("annotation"))

    def _annotate(self, item: _Item, index: int, annotation: object) -> None:
        if isinstance(annotation, dict) and index >= item.content_index:
            self._part(item, index)
            item.annotations[index] = item.annotations.get(index, 0) + 1
            self._put(item, AnnotationDelta, annotation)

    def _summary_delta(self, payload: dict[str, Any]) -> None:
        self._thought(payload, "summary", whole=False)

    def _summary_done(self, payload: dict[str, Any]) -> None:
        self._thought(payload, "summary", whole=True)

    def _reasoning_delta(self, payload: dict[str, Any]) -> None:
        self._thought(payload, "content", whole=False)

    def _reasoning_done(self, payload: dict[str, Any]) -> None:
        self._thought(payload, "content", whole=True)

    def _thought(self, payload: dict[str, Any], part: str, *, whole: bool) -> None:
        if item := self._item(payload, "reasoning"):
            index = payload.get("summary_index" if part == "summary" else "content_index")
            key = (part, index if type(index) is int else 0)
            self._think(item, key, as_str(payload.get("text" if whole else "delta")), whole=whole)

    def _think(self, item: _Item, key: tuple[str, int], text: str, *, whole: bool) -> None:
        if whole:
            text = self._rest(item, key, text)
        if not text:
            return
        if not item.is_open:
            self._open(item, Thinking())
        pieces = item.texts.get(key)
        if pieces is None:
            pieces = item.texts[key] = []
            if item.has_text:
                # Parts of a summary are paragraphs of one thought.
                self._put(item, ThinkingDelta, "\n\n")
        item.has_text = True
        pieces.append(text)
        self._put(item, ThinkingDelta, text)

    def _arguments_delta(self, payload: dict[str, Any]) -> None:
        self._call_delta(self._item(payload, "function_call"), payload)

    def _input_delta(self, payload: dict[str, Any]) -> None:
        self._call_delta(self._item(payload, "custom_tool_call"), payload)

    def _call_delta(self, item: _Item | None, payload: dict[str, Any]) -> None:
        delta = payload.get("delta")
        # Without a name there is no block yet: the whole call comes with the finished item.
        if item is not None and item.is_open and isinstance(delta, str) and delta:
            item.texts.setdefault(("call", 0), []).append(delta)
            self._put(item, ArgumentsDelta, delta)

    def _arguments_done(self, payload: dict[str, Any]) -> None:
        item = self._item(payload, "function_call")
        if item is not None and item.is_open:
            self._whole_call(item, as_str(payload.get("arguments")))

    def _input_done(self, payload: dict[str, Any]) -> None:
        item = self._item(payload, "custom_tool_call")
        if item is not None and item.is_open:
            self._whole_call(item, as_str(payload.get("input")))

    def _whole_call(self, item: _Item, whole: str) -> None:
        have = "".join(item.texts.get(("call", 0), ()))
        if not whole.startswith(have):
            if not whole:
                return
            # A call that nobody meant must not be run.
            raise UpstreamFailed("The upstream sent two different versions of a tool call.")
        if rest := whole[len(have) :]:
            item.texts.setdefault(("call", 0), []).append(rest)
            self._put(item, ArgumentsDelta, rest)

    # The end.

    def _report(self, response: dict[str, Any], payload: dict[str, Any]) -> None:
        cost = payload.get("copilot_usage") or response.get("copilot_usage")
        self.usage = read_usage(response.get("usage"), cost) or self.usage
        if self.usage is not None:
            self._out.append(UsageReport(self.usage))

    def _fail(self, error: dict[str, Any]) -> None:
        self.finished = True
        self._out.append(failure_of(error))

    def _end(self, kind: str, payload: dict[str, Any]) -> None:
        response = as_dict(payload.get("response"))
        self._begin(response)
        if kind not in ("response.completed", "response.incomplete"):
            self._report(response, payload)
            error = as_dict(response.get("error"))
            if kind == "response.cancelled" and not error:
                error = {"code": "cancelled", "message": "The upstream cancelled the answer."}
            self._fail(error)
            return
        self._settle(as_list(response.get("output")))
        self._report(response, payload)
        self.finished = True
        self._out.append(self._stop(response, is_whole=kind == "response.completed"))

    def _settle(self, output: list[Any]) -> None:
        """Ends the items that the upstream left open, from the output list where it has them."""
        if not self._items:
            for index, wire in enumerate(output):
                self._item_done({"output_index": index, "item": wire})
        order = sorted(self._items)
        for item in [item for item in self._queue if not item.is_done]:
            position = order.index(item.index)
            wire = as_dict(output[position]) if position < len(output) else {}
            if wire.get("type") == item.kind:
                self._complete(item, wire)
            else:
                self._finish(item)

    def _stop(self, response: dict[str, Any], *, is_whole: bool) -> Stop:
        if not is_whole:
            reason = as_str(as_dict(response.get("incomplete_details")).get("reason"))
            if reason == "content_filter":
                return Stop("content_filter")
            known = reason in ("", "max_output_tokens")
            return Stop("max_tokens", details=None if known else {"reason": reason})
        if self._has_called:
            return Stop("tool_use")
        if self._has_refused:
            return Stop("refusal")
        blocked = any(as_dict(f).get("blocked") for f in as_list(response.get("content_filters")))
        return Stop("content_filter" if blocked and self._block < 0 else "end_turn")


def _cost(body: dict[str, Any]) -> dict[str, Any]:
    return {"copilot_usage": body["copilot_usage"]} if "copilot_usage" in body else {}


def read_frame(frame: Frame) -> dict[str, Any]:
    """The frame's object with its `type`. Raises `UpstreamFailed` for what is no such event."""
    try:
        payload = orjson.loads(frame.data)
    except orjson.JSONDecodeError:
        raise UpstreamFailed("The upstream sent an event that is not JSON.") from None
    if not isinstance(payload, dict):
        raise UpstreamFailed("The upstream sent an event that is not an object.")
    if not isinstance(payload.get("type"), str):
        if isinstance(payload.get("error"), (dict, str)):
            payload["type"] = "error"
        elif frame.event is not None:
            payload["type"] = frame.event.decode("utf-8", "replace")
        else:
            raise UpstreamFailed("The upstream sent an event without a type.")
    return payload


def decode_body(body: dict[str, Any]) -> list[Event]:
    """A whole answer as the events it would have streamed. Raises `UpstreamFailed`."""
    return Decoder().read_body(body)


_HANDLERS: dict[str, Callable[[Decoder, dict[str, Any]], None]] = {
    "response.created": Decoder._created,
    "response.in_progress": Decoder._created,
    "response.output_item.added": Decoder._added,
    "response.output_item.done": Decoder._item_done,
    "response.output_text.delta": Decoder._text_delta,
    "response.output_text.done": Decoder._text_done,
    "response.output_text.annotation.added": Decoder._annotation,
    "response.refusal.delta": Decoder._refusal_delta,
    "response.refusal.done": Decoder._text_done,
    "response.reasoning_summary_text.delta": Decoder._summary_delta,
    "response.reasoning_summary_text.done": Decoder._summary_done,
    "response.reasoning_text.delta": Decoder._reasoning_delta,
    "response.reasoning_text.done": Decoder._reasoning_done,
    "response.function_call_arguments.delta": Decoder._arguments_delta,
    "response.function_call_arguments.done": Decoder._arguments_done,
    "response.custom_tool_call_input.delta": Decoder._input_delta,
    "response.custom_tool_call_input.done": Decoder._input_done,
}
