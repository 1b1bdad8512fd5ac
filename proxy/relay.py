"""The answer's way back: through as it is, or translated; usage read on the way; the end always told.

Nothing is sent before the first piece of the answer has been read and understood, so that an upstream
that fails at once is a proper error and not a broken stream. Afterwards errors are said in the
stream, in the client's own format.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from proxy.errors import GatewayError, Unavailable, UpstreamFailed, UpstreamTimedOut
from proxy.exchange import Exchange, set_headers
from proxy.formats import FORMATS
from proxy.formats.canonical import Event, Failure, Start, Stop, Usage, UsageReport
from proxy.formats.contract import Answer, Decoder, Encoder, Format, Voice
from proxy.formats.sse import Frame, Parser
from proxy.upstream.client import UpstreamResponse
from proxy.upstream.failures import presentable, scrub

logger = logging.getLogger(__name__)
# After the wire's own end nothing of worth comes: the connection may close, but we do not wait long.
AFTER_END_S = 2.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What an answer took: the upstream's figures, whether it was whole, how many pieces came."""

    usage: Usage | None
    is_complete: bool
    pieces: int


class Pipe(Protocol):
    """One stream on its way: upstream frames in, the client's bytes out."""

    @property
    def finished(self) -> bool: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def stop_reason(self) -> str | None: ...
    @property
    def failure(self) -> GatewayError | None: ...

    def feed(self, frame: Frame) -> bytes: ...
    def end(self) -> bytes: ...
    def fail(self, error: GatewayError) -> bytes: ...


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

    def feed(self, frame: Frame) -> bytes:
        return self._pass(self._decoder.feed(frame))

    def end(self) -> bytes:
        return self._pass(self._decoder.close()) + self._encoder.end()

    def fail(self, error: GatewayError) -> bytes:
        return self._encoder.fail(error)

    def _pass(self, events: list[Event]) -> bytes:
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


class AnswerStream(StreamingHttpResponse):
    """A stream with what it holds: `let_go` is called when it is over, also when it never began."""

    let_go: Callable[[], None]


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
        self._done = False
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
        pipe = self._pipe()
        parser = Parser()
        first = await self._first(pipe, parser)
        response = AnswerStream(self._stream(pipe, parser, first), content_type="text/event-stream")
        response.let_go = self.exchange.abandon
        set_headers(response, self.headers)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Accel-Buffering"] = "no"
        return response

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

    async def _first(self, pipe: Pipe, parser: Parser) -> bytes:
        """Read until there is something to send. Raises when the answer is none."""
        seen = 0
        while True:
            chunk = await self.upstream.receive()
            assert chunk is not None
            if not chunk:
                out = b"".join(pipe.feed(frame) for frame in parser.close())
                if not out and not pipe.finished:
                    raise UpstreamFailed("The upstream's answer is empty or not an event stream.")
            else:
                if not seen and chunk.lstrip()[:1] == b"{":
                    return await self._whole_body_as_stream(chunk)
                seen += len(chunk)
                out = b"".join(pipe.feed(frame) for frame in self._frames(parser.feed(chunk)))
            if pipe.failure is not None:
                raise presented(pipe.failure)
            if out or not chunk:
                self.upstream.expect_silence(settings.GATEWAY_IDLE_TIMEOUT_S)
                self.exchange.first_token()
                return out

    async def _whole_body_as_stream(self, beginning: bytes) -> bytes:
        """The upstream answered a stream with one JSON body: say it as a stream."""
        body = read_json(beginning + await self.upstream.read())
        events = self.target.decode_body(body)
        self._raise_failure(events)
        encoder = self.voice.encoder(self.answer)
        out = encoder.encode(events) + encoder.end()
        self._note(events, len(out) // 4)
        self.exchange.first_token()
        self._done = True
        return out

    async def _stream(self, pipe: Pipe, parser: Parser, first: bytes) -> AsyncIterator[bytes]:
        exchange = self.exchange
        outcome, error = "cancelled", None
        sent = 0
        try:
            if first:
                sent += len(first)
                yield first
            if not self._done:
                async for out in self._rest(pipe, parser):
                    sent += len(out)
                    yield out
            outcome = "completed"
        except GatewayError as failed:
            error = failed
            outcome = outcome_of(failed)
            if not isinstance(failed, _Said):
                out = pipe.fail(failed)
                sent += len(out)
                yield out
        except Exception:
            # A bug of ours in the middle of a stream: the client must not take it for an end.
            logger.exception("stream %s broke", exchange.request_id)
            error = GatewayError("The gateway failed in the middle of the answer.")
            outcome = "upstream_error"
            yield pipe.fail(error)
        finally:
            # Also when the client has left: the upstream has charged for it by then.
            exchange.record.bytes_out = sent
            if outcome == "cancelled" and (self._done or pipe.finished):
                # All was said. Codex hangs up at `response.completed`, before the stream's own end.
                outcome = "completed"
            if not self._done:
                exchange.record.stop_reason = (pipe.stop_reason or "")[:32]
                self.account_for(Spent(pipe.usage, pipe.finished, self.pieces))
            exchange.finish(outcome, 200, error=error)
            if not self.upstream.release():
                await asyncio.shield(self.upstream.close())

    async def _rest(self, pipe: Pipe, parser: Parser) -> AsyncIterator[bytes]:
        heartbeat_s = settings.GATEWAY_HEARTBEAT_S
        receive, feed = self.upstream.receive, pipe.feed
        while True:
            try:
                chunk = await receive(AFTER_END_S if pipe.finished else heartbeat_s)
            except GatewayError:
                if pipe.finished:
                    # Everything was said; how the connection ended does not matter any more.
                    break
                raise
            if chunk is None:
                if pipe.finished:
                    break
                if self.source.KEEPALIVE:
                    yield self.source.KEEPALIVE
                continue
            frames = self._frames(parser.feed(chunk) if chunk else parser.close())
            # All events of one read go out in one write.
            out = b"".join([feed(frame) for frame in frames])
            if pipe.failure is not None:
                # The error event is in `out` already, everything is closed. It may quote a token.
                if out:
                    yield scrub(out.decode("utf-8", "replace")).encode()
                raise _Said(presented(pipe.failure))
            if out:
                yield out
            if not chunk:
                break
        if not pipe.finished:
            raise UpstreamFailed("The upstream ended its answer before it was complete.")
        if out := pipe.end():
            yield out

    # Whole bodies.

    async def _plain(self) -> HttpResponseBase:
        async with asyncio.timeout(900) as limit:
            try:
                raw = await self.upstream.read()
            except TimeoutError:
                if limit.expired():
                    raise UpstreamTimedOut("The upstream took too long to answer.") from None
                raise
        if self.watch is not None:
            self.watch(raw)
        body, events = self._decode(raw)
        self._raise_failure(events)
        if body is not None and self.voice is self.target:
            out = self.source.repair_body(body, self.answer)
        else:
            out = self.voice.encode_body(events, self.answer)
        payload = orjson.dumps(out)
        self._note(events, len(payload) // 4)
        self.exchange.record.bytes_out = len(payload)
        self.exchange.first_token()
        response = HttpResponse(payload, content_type="application/json")
        set_headers(response, self.headers)
        await self.upstream.close()
        self.exchange.finish("completed", 200)
        return response

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


class _Said(GatewayError):
    """A failure that the client has been told already."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.message, code=error.code, status=error.status)


def read_json(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise UpstreamFailed("The upstream's answer is not valid JSON.") from None
    if not isinstance(body, dict):
        raise UpstreamFailed("The upstream's answer is not a JSON object.")
    return body


def outcome_of(error: GatewayError) -> str:
    match error:
        case UpstreamTimedOut():
            return "timeout"
        case Unavailable():
            return "interrupted"
        case _:
            return "upstream_error"
