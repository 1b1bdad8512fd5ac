"""The answer's way back: through as it is, or translated; usage read on the way; the end always told.

Nothing is sent before the first piece of the answer has been read and understood, so that an upstream
that fails at once is a proper error and not a broken stream. Afterwards errors are said in the
stream, in the client's own format.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.http.response import HttpResponseBase

from proxy.errors import GatewayError, UpstreamFailed, UpstreamTimedOut
from proxy.exchange import Exchange
from proxy.formats import FORMATS
from proxy.formats.canonical import Event, Failure, Start, Stop, TextDelta, Usage, UsageReport
from proxy.formats.chat_completions import ordinary
from proxy.formats.chat_completions.wire import asks_for_several
from proxy.formats.contract import NONE_PASSED, Answer, Decoder, Encoder, Format, Passed, Voice
from proxy.formats.sse import Frame, Parser, split_events
from proxy.lean_response import LeanResponse
from proxy.streaming import AFTER_END_S, AnswerStream, Pipe, RelayedStream, Stream, outcome_of
from proxy.upstream.client import UpstreamResponse
from proxy.upstream.failures import presentable

__all__ = [
    "AFTER_END_S",
    "AnswerStream",
    "Relay",
    "Spent",
    "failure_error",
    "outcome_of",
    "read_json",
]
# Where a body has its conversation, by the formats' names for it.
HISTORY = frozenset({"messages", "input", "contents"})
# So many are looked at before the answer begins: a refusal among them is an error with its status.
FIRST_EVENTS = 4
# How long a whole answer may take.
WHOLE_S = 900.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What an answer took: the upstream's figures, whether it was whole, how many pieces came."""

    usage: Usage | None
    is_complete: bool
    pieces: int


class Translation:
    """Frames of one format in, the stream of another out."""

    def __init__(self, decoder: Decoder, encoder: Encoder) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.failure: GatewayError | None = None

    @property
    def finished(self) -> bool:
        return self._decoder.finished

    @property
    def usage(self) -> Usage | None:
        return self._decoder.usage

    def passes(self, chunk: bytes) -> Passed:
        texts, size = self._decoder.pieces(chunk)
        out = self._encoder.write(texts) if texts else None
        return NONE_PASSED if out is None else Passed(len(texts), size, out)

    def feed(self, frame: Frame) -> bytes:
        return self._pass(self._decoder.feed(frame))

    def end(self) -> bytes:
        return self._pass(self._decoder.close()) + self._encoder.end()

    def fail(self, error: GatewayError) -> bytes:
        return self._encoder.fail(error)

    def _pass(self, events: list[Event]) -> bytes:
        if len(events) == 1 and type(events[0]) is TextDelta:
            return self._encoder.encode(events)
        for event in events:
            match event:
                case Start():
                    self.model = event.model
                case Stop():
                    self.stop_reason = event.reason
                case Failure():
                    self.failure = failure_error(event)
                    return self._encoder.fail(self.failure)
        return self._encoder.encode(events) if events else b""


def failure_error(event: Failure) -> GatewayError:
    """What the upstream said inside its answer, as the error that the client gets."""
    status = event.status if 400 <= event.status < 600 and event.status != 401 else 502
    return GatewayError(presentable(event.message), status=status, code=event.code)


def presented(error: GatewayError) -> GatewayError:
    """An error in the upstream's own words, which may quote a token, fit for answer and record."""
    error.message = presentable(error.message)
    return error


class Relay:
    """The way back of one exchange."""

    def __init__(
        self,
        exchange: Exchange,
        target: str,
        upstream: UpstreamResponse,
        headers: dict[str, str],
        account_for: Callable[[Spent], None],
    ) -> None:
        self.exchange = exchange
        self.source: Format = FORMATS[exchange.source]
        self.target: Format = FORMATS[target]
        self.voice: Voice = exchange.voice or self.source
        self.upstream = upstream
        self.headers = headers
        self.account_for = account_for
        # Looks at each frame, or a whole body, as the upstream sent it.
        self.watch: Callable[[bytes], None] | None = None
        self.pieces = 0
        self.answer = Answer(
            id=exchange.id,
            created=int(time.time()),
            model=exchange.record.model_used,
            request=exchange.asked,
        )

    async def respond(self) -> HttpResponseBase:
        """The response for the client; raises `GatewayError` while no byte has been sent."""
        if not self.exchange.stream:
            return await self._plain()
        pipe, parser = self._pipe(), Parser()
        first, rest, is_whole = await self._first(pipe, parser)
        self._let_go_of_history()
        stream = Stream(
            self.exchange,
            self.upstream,
            None if is_whole else pipe,
            parser,
            first,
            rest,
            pieces=self.pieces,
            keepalive=self.source.KEEPALIVE,
            watch=self.watch,
            on_end=self._account,
        )
        return RelayedStream(stream, self.headers)

    def _let_go_of_history(self) -> None:
        """A stream may last for hours: the conversation that was sent up is not needed any more.

        A summary's voice still writes parts of it.
        """
        if self.exchange.voice is None:
            asked = {k: v for k, v in self.exchange.asked.items() if k not in HISTORY}
            self.exchange.body, self.exchange.asked, self.answer.request = {}, asked, asked

    # Streams.

    def _pipe(self) -> Pipe:
        if self.voice is self.target:
            return self.source.tap(self.answer)
        return Translation(self.target.decoder(), self.voice.encoder(self.answer))

    def _frames(self, frames: list[Frame]) -> list[Frame]:
        self.pieces += len(frames)
        if self.watch is not None:
            for frame in frames:
                self.watch(frame.data)
        return frames

    async def _first(self, pipe: Pipe, parser: Parser) -> tuple[bytes, bytes, bool]:
        """Read until there is something to send: that, what came behind it, and whether it is all.

        Raises when there is nothing.
        """
        seen = 0
        rest = b""
        while True:
            chunk = rest or await self.upstream.receive()
            assert chunk is not None
            rest = b""
            if not chunk:
                out = b"".join(pipe.feed(frame) for frame in parser.close())
                if not out and not pipe.finished:
                    raise UpstreamFailed("The upstream's answer is empty or not an event stream.")
            else:
                if not seen and chunk.lstrip()[:1] == b"{":
                    return await self._whole_body_as_stream(chunk), b"", True
                seen += len(chunk)
                chunk, rest = split_events(chunk, FIRST_EVENTS)
                out = b"".join(pipe.feed(frame) for frame in self._frames(parser.feed(chunk)))
            if pipe.failure is not None:
                raise presented(pipe.failure)
            if out or not chunk:
                self.upstream.expect_silence(settings.GATEWAY_IDLE_TIMEOUT_S)
                self.exchange.first_token()
                return out, rest, False

    async def _whole_body_as_stream(self, beginning: bytes) -> bytes:
        """The upstream answered a stream with one JSON body: say it as a stream."""
        body = read_json(beginning + await self.upstream.read())
        events = self.target.decode_body(body)
        self._raise_failure(events)
        encoder = self.voice.encoder(self.answer)
        out = encoder.encode(events) + encoder.end()
        self._note(events, len(out) // 4)
        self.exchange.first_token()
        return out

    def _account(self, stream: Stream) -> None:
        pipe = stream.pipe
        if pipe is not None:
            self.exchange.record.stop_reason = (pipe.stop_reason or "")[:32]
            self.account_for(Spent(pipe.usage, pipe.finished, stream.pieces))

    # Whole bodies.

    async def _plain(self) -> HttpResponseBase:
        raw = self.upstream.take_whole()
        if raw is None:
            raw = await self._read_whole()
        if self.watch is not None:
            self.watch(raw)
        payload = self._ordinary(raw) or self._repaired(raw)
        self.exchange.record.bytes_out = len(payload)
        self.exchange.first_token()
        if not self.upstream.release():
            await self.upstream.close()
        self.exchange.finish("completed", 200)
        return LeanResponse(payload, self.headers)

    def _ordinary(self, raw: bytes) -> bytes:
        """The upstream's own bytes where nothing in them needs repair; else nothing."""
        if self.target.NAME != "chat_completions" or self.voice is not self.target:
            return b""
        if raw[:1] != b"{" or asks_for_several(self.answer.request) > 1:
            return b""
        found = ordinary.read(raw)
        if found is None:
            return b""
        self.exchange.record.stop_reason = found.stop_reason
        self.account_for(Spent(found.usage, True, len(raw) // 4))
        return raw

    def _repaired(self, raw: bytes) -> bytes:
        """The answer in the client's format, as its strictest clients accept it."""
        body, events = self._decode(raw)
        self._raise_failure(events)
        if body is not None and self.voice is self.target:
            out = self.source.repair_body(body, self.answer)
        else:
            out = self.voice.encode_body(events, self.answer)
        payload = orjson.dumps(out)
        self._note(events, len(payload) // 4)
        return payload

    async def _read_whole(self) -> bytes:
        async with asyncio.timeout(WHOLE_S) as limit:
            try:
                return await self.upstream.read()
            except TimeoutError:
                if limit.expired():
                    raise UpstreamTimedOut("The upstream took too long to answer.") from None
                raise

    def _decode(self, raw: bytes) -> tuple[dict[str, Any] | None, list[Event]]:
        """The body as JSON (None when it came as a stream) and its events."""
        if raw.lstrip()[:1] == b"{":
            body = read_json(raw)
            return body, self.target.decode_body(body)
        parser, decoder = Parser(), self.target.decoder()
        events: list[Event] = []
        for frame in [*parser.feed(raw), *parser.close()]:
            events += decoder.feed(frame)
        events += decoder.close()
        self._raise_failure(events)
        if not decoder.finished:
            raise UpstreamFailed("The upstream ended its answer before it was complete.")
        return None, events

    def _raise_failure(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Failure):
                raise failure_error(event)

    def _note(self, events: list[Event], pieces: int) -> None:
        usage, reason = None, ""
        for event in events:
            match event:
                case UsageReport():
                    usage = event.usage
                case Stop():
                    reason = event.reason
        self.exchange.record.stop_reason = reason
        self.account_for(Spent(usage, True, pieces))


def read_json(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise UpstreamFailed("The upstream's answer is not valid JSON.") from None
    if not isinstance(body, dict):
        raise UpstreamFailed("The upstream's answer is not a JSON object.")
    return body
