"""Passthrough of this format: frames checked, read, and put into the client's framing."""

import orjson

from proxy.errors import GatewayError
from proxy.formats.canonical import Failure, Start, Stop, Usage
from proxy.formats.contract import NONE_PASSED, Answer, Passed
from proxy.formats.gemini.decoding import Decoder, load
from proxy.formats.gemini.encoding import Framing
from proxy.formats.gemini.errors import error_body, failure_error
from proxy.formats.sse import Frame


class Tap:
    """Drops what would end Gemini CLI: `[DONE]`, empty events, frames after the end."""

    def __init__(self, answer: Answer) -> None:
        self._decoder = Decoder()
        self._framing = Framing(answer)
        self._ended = False
        self.finished = False
        self.usage: Usage | None = None
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.failure: GatewayError | None = None

    def passes(self, chunk: bytes) -> Passed:
        return NONE_PASSED

    def feed(self, frame: Frame) -> bytes:
        payload = load(frame)
        if payload is None or self._ended:
            return b""
        was_finished = self.finished
        for event in self._decoder.take(payload):
            match event:
                case Start():
                    self.model = event.model
                case Stop():
                    self.stop_reason = event.reason
                case Failure():
                    self.failure = failure_error(event)
        self.finished, self.usage = self._decoder.finished, self._decoder.usage
        if was_finished:
            return b""
        if self.failure is not None:
            return self.fail(self.failure)
        return self._framing.frame(orjson.dumps(payload))

    def end(self) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        return self._framing.close()

    def fail(self, error: GatewayError) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        payload = orjson.dumps(error_body(error, ""))
        return self._framing.frame(payload) + self._framing.close()
