"""Passthrough of a Messages stream: the upstream's own frames, repaired where clients stumble.

Source: docs/clients.md (tolerance table), docs/upstream.md (messages leg, stream).
"""

from typing import Any

from proxy.errors import GatewayError, UpstreamFailed
from proxy.formats.canonical import Usage
from proxy.formats.contract import NONE_PASSED, Answer, Passed
from proxy.formats.messages.decoding import load
from proxy.formats.messages.encoding import PING, message_start
from proxy.formats.messages.encoding import frame as rendered
from proxy.formats.messages.errors import error_event, failure_error, read_failure
from proxy.formats.messages.usage import Meter, repaired, wire_usage
from proxy.formats.moulds import Mould, mould_around
from proxy.formats.sse import Frame

Payload = dict[str, Any]

# What a delta belongs to, for streams whose backend leaves the start of a block out.
_OPENERS: dict[str, Payload] = {
    "text_delta": {"type": "text", "text": ""},
    "citations_delta": {"type": "text", "text": ""},
    "thinking_delta": {"type": "thinking", "thinking": "", "signature": ""},
    "signature_delta": {"type": "thinking", "thinking": "", "signature": ""},
}


def repair_message(message: Payload, answer: Answer, usage: Usage | None) -> Payload | None:
    """`message` with every field that clients read; None when it has them all."""
    counts = repaired(message.get("usage"), usage)
    complete = (
        counts is None
        and message.get("type") == "message"
        and message.get("role") == "assistant"
        and type(message.get("content")) is list
        and type(message.get("id")) is str
        and type(message.get("model")) is str
        and "stop_reason" in message
        and "stop_sequence" in message
    )
    if complete:
        return None
    fixed: Payload = message_start(answer, answer.model, usage)["message"]
    fixed.update({key: value for key, value in message.items() if value is not None})
    fixed["type"], fixed["role"] = "message", "assistant"
    if type(fixed["content"]) is not list:
        fixed["content"] = []
    if type(fixed["id"]) is not str:
        fixed["id"] = f"msg_{answer.id}"
    if type(fixed["model"]) is not str:
        fixed["model"] = answer.model
    if counts is not None:
        fixed["usage"] = counts
    return fixed


def _mould_of(data: bytes, payload: Payload, delta: Payload) -> Mould | None:
    for name in ("text", "thinking"):
        if name in delta:
            return mould_around(data, payload, delta, name, b"content_block_delta")
    return None


class Tap:
    """Forwards one stream. Events of an unknown kind are left out, because SDKs fail on them."""

    __slots__ = (
        "_answer",
        "_ended",
        "_meter",
        "_mould",
        "_moulded",
        "_open",
        "_seen",
        "_started",
        "_stopping",
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
        self._meter = Meter()
        self._started = False
        # `message_delta` with a stop reason has been passed on; nothing at all may follow any more.
        self._stopping = False
        self._ended = False
        self._open: set[int] = set()
        self._seen: set[int] = set()
        # Of the block with this index, if its pieces are alike.
        self._mould: Mould | None = None
        self._moulded = -1

    def passes(self, chunk: bytes) -> Passed:
        if self._mould is None or self._moulded not in self._open or self._stopping or self._ended:
            return NONE_PASSED
        texts, size = self._mould.pieces(chunk)
        return Passed(len(texts), size, chunk[:size])

    def feed(self, frame: Frame) -> bytes:
        """The frame as it goes to the client. Raises `UpstreamFailed` for what is no JSON."""
        if self._ended:
            return b""
        payload, intact = load(frame)
        if payload is None:
            return b""
        kind: str = payload["type"]
        # Empty when the payload has to be written anew.
        data = frame.data if intact and b"\n" not in frame.data else b""
        if kind == "ping":
            return PING
        if kind == "error":
            return self._error(payload)
        if kind == "message_start":
            return self._message_start(payload, data)
        if kind == "message_delta":
            return self._message_delta(payload, data)
        if kind == "message_stop":
            return self._message_stop(payload, data)
        if self._stopping:
            return b""
        if kind == "content_block_delta":
            return self._delta(payload, data)
        if kind == "content_block_start":
            return self._block_start(payload, data)
        if kind == "content_block_stop":
            return self._block_stop(payload, data)
        return b""

    def end(self) -> bytes:
        """What the upstream has left out of its end; nothing when it was complete or failed."""
        if self._ended:
            return b""
        self._ended = True
        return self._stop() + rendered({"type": "message_stop"})

    def fail(self, error: GatewayError) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        return self._close() + error_event(error)

    def _forward(self, payload: Payload, data: bytes) -> bytes:
        """The frame's own bytes, under the event name that SDKs dispatch on."""
        if not data:
            return rendered(payload)
        kind: str = payload["type"]
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _begin(self) -> bytes:
        """A start for a stream that has forgotten its own."""
        if self._started:
            return b""
        self._started = True
        return rendered(message_start(self._answer, self._answer.model, self.usage))

    def _close(self) -> bytes:
        """Ends of the blocks that are still open."""
        if not self._open:
            return b""
        indexes, self._open = sorted(self._open), set()
        return b"".join([rendered({"type": "content_block_stop", "index": i}) for i in indexes])

    def _stop(self) -> bytes:
        """Everything up to `message_stop`, unless `message_delta` has told it already."""
        if self._stopping:
            return b""
        self._stopping = self.finished = True
        self.stop_reason = self.stop_reason or "end_turn"
        delta = {"stop_reason": self.stop_reason, "stop_sequence": None}
        stop = {"type": "message_delta", "delta": delta, "usage": wire_usage(self.usage)}
        return self._begin() + self._close() + rendered(stop)

    def _message_start(self, payload: Payload, data: bytes) -> bytes:
        message = payload.get("message")
        message = message if isinstance(message, dict) else {}
        self._read(message.get("usage"), message.get("copilot_usage"))
        model = message.get("model")
        if isinstance(model, str):
            self.model = model
        if self._started:
            return b""
        self._started = True
        fixed = repair_message(message, self._answer, self.usage)
        if fixed is None:
            return self._forward(payload, data)
        return rendered({**payload, "message": fixed})

    def _read(self, usage: Any, copilot_usage: Any) -> None:
        self.usage = self._meter.read(usage, copilot_usage)

    def _message_delta(self, payload: Payload, data: bytes) -> bytes:
        self._read(payload.get("usage"), payload.get("copilot_usage"))
        if self._stopping:
            return b""
        delta = payload.get("delta")
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        head = self._begin()
        if isinstance(reason, str):
            self.stop_reason = reason
            self._stopping = self.finished = True
            head += self._close()
        counts = repaired(payload.get("usage"), self.usage)
        if counts is None and isinstance(delta, dict):
            return head + self._forward(payload, data)
        payload["usage"] = wire_usage(self.usage) if counts is None else counts
        if not isinstance(delta, dict):
            payload["delta"] = {"stop_reason": None, "stop_sequence": None}
        return head + rendered(payload)

    def _message_stop(self, payload: Payload, data: bytes) -> bytes:
        self._read(payload.get("usage"), payload.get("copilot_usage"))
        head = self._stop()
        self._ended = True
        return head + self._forward(payload, data)

    def _delta(self, payload: Payload, data: bytes) -> bytes:
        index, delta = payload.get("index"), payload.get("delta")
        if type(index) is not int or not isinstance(delta, dict):
            return b""
        if index in self._open:
            if data and index != self._moulded:
                self._moulded, self._mould = index, _mould_of(data, payload, delta)
            return self._forward(payload, data)
        if index in self._seen:
            return b""
        opener = _OPENERS.get(str(delta.get("type")))
        if opener is None:
            raise UpstreamFailed("The upstream filled a block that it never opened.")
        start = {"type": "content_block_start", "index": index, "content_block": opener}
        self._opened(index)
        return self._begin() + rendered(start) + self._forward(payload, data)

    def _opened(self, index: int) -> None:
        self._open.add(index)
        self._seen.add(index)

    def _block_start(self, payload: Payload, data: bytes) -> bytes:
        index, block = payload.get("index"), payload.get("content_block")
        if type(index) is not int or not isinstance(block, dict):
            raise UpstreamFailed("The upstream opened a block without saying which.")
        if index in self._seen:
            return b""
        head = self._begin()
        self._opened(index)
        return head + self._forward(payload, data)

    def _block_stop(self, payload: Payload, data: bytes) -> bytes:
        index = payload.get("index")
        if type(index) is not int or index not in self._open:
            return b""
        self._open.remove(index)
        return self._forward(payload, data)

    def _error(self, payload: Payload) -> bytes:
        failure = read_failure(payload)
        if failure is None or self._stopping:
            return b""
        self.failure = failure_error(failure)
        return self.fail(self.failure)
