"""Streams that begin before their answer does, because a person has to be asked first.

A client gives up on a stream that says nothing for long. So one that waits longer than
`settings.GATEWAY_HEARTBEAT_S` gets its 200 and heartbeats at once, and afterwards either the answer
or the refusal, as an error event of its own format. A word that comes sooner is answered as ever:
with the status that belongs to it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from proxy import approval
from proxy.errors import GatewayError
from proxy.exchange import Exchange, set_headers
from proxy.formats import FORMATS
from proxy.formats.contract import Answer
from proxy.relay import AnswerStream

logger = logging.getLogger(__name__)
Work = Coroutine[Any, Any, HttpResponseBase]
# Records a request that got no answer; may raise the error in place of a cancellation.
Finish = Callable[[Exchange, BaseException], None]


async def respond(
    exchange: Exchange, work: Work, *, headers: dict[str, str], finish_failed: Finish
) -> HttpResponseBase:
    """The response that `work` gives, or a stream that waits for it. Raises what `work` raises.

    `headers` are those that are known by now.
    """
    task = asyncio.ensure_future(work)
    # A gateway that stops ends the work; whoever waits for it hears why.
    exchange.abort = _interrupter(exchange, task)
    try:
        await asyncio.wait({task}, timeout=settings.GATEWAY_HEARTBEAT_S)
        if task.done() or not approval.queue.is_waiting(exchange.id):
            return await task
    except asyncio.CancelledError:
        await _end(task)
        raise
    held = HeldStream(exchange, task, finish_failed)
    response = AnswerStream(held.parts(), content_type="text/event-stream")
    response.let_go = held.let_go
    set_headers(response, headers)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _interrupter(exchange: Exchange, task: "asyncio.Task[Any]") -> Callable[[GatewayError], None]:
    def interrupt(error: GatewayError) -> None:
        exchange.ended_by = error
        task.cancel()

    return interrupt


async def _end(task: "asyncio.Task[HttpResponseBase]") -> None:
    """Stop the work; an answer that it has begun is closed."""
    task.cancel()
    await asyncio.wait({task})
    if (response := _result(task)) is not None:
        await _close(response)


def _result(task: "asyncio.Task[HttpResponseBase]") -> HttpResponseBase | None:
    """What the work, which is over, has given; None when it has failed."""
    return None if task.cancelled() or task.exception() is not None else task.result()


async def _close(response: HttpResponseBase) -> None:
    close = getattr(getattr(response, "_iterator", None), "aclose", None)
    if close is not None:
        await close()
    _let_go(response)


def _let_go(response: HttpResponseBase) -> None:
    if isinstance(response, AnswerStream):
        response.let_go()


class HeldStream:
    """One such stream: heartbeats while a person is asked, then what the work gives."""

    def __init__(
        self, exchange: Exchange, task: "asyncio.Task[HttpResponseBase]", finish_failed: Finish
    ) -> None:
        self._exchange = exchange
        self._task = task
        self._finish_failed = finish_failed
        self._source = FORMATS[exchange.source]

    def let_go(self) -> None:
        """The stream is over, perhaps without having begun."""
        if not self._task.done():
            self._exchange.abort = None
            self._task.cancel()
        elif (response := _result(self._task)) is not None:
            _let_go(response)
        self._exchange.finish("cancelled", None)

    async def parts(self) -> AsyncIterator[bytes]:
        response: HttpResponseBase | None = None
        try:
            # The status and the first byte at once: the client's clock has run for long enough.
            while not self._task.done():
                if self._source.KEEPALIVE:
                    yield self._source.KEEPALIVE
                await asyncio.wait({self._task}, timeout=settings.GATEWAY_HEARTBEAT_S)
            try:
                response = await self._task
            except (GatewayError, asyncio.CancelledError) as error:
                yield self._said(self._recorded(error))
                return
            except Exception as error:
                logger.exception("stream %s broke", self._exchange.request_id)
                self._recorded(error)
                yield self._said(GatewayError("The gateway failed before the answer began."))
                return
            async for part in _parts_of(response):
                yield part
        finally:
            if response is not None:
                await _close(response)
            elif not self._exchange.finished:
                await _end(self._task)
                self._exchange.finish("cancelled", None)

    def _recorded(self, error: BaseException) -> GatewayError:
        """Record the failure; the error that the client is told of."""
        try:
            self._finish_failed(self._exchange, error)
        except GatewayError as instead:
            return instead
        return error if isinstance(error, GatewayError) else GatewayError("The gateway failed.")

    def _said(self, error: GatewayError) -> bytes:
        exchange = self._exchange
        answer = Answer(
            id=exchange.id, created=int(time.time()), model=exchange.model, request=exchange.asked
        )
        out = (exchange.voice or self._source).encoder(answer).fail(error)
        exchange.record.bytes_out = len(out)
        return out


async def _parts_of(response: HttpResponseBase) -> AsyncIterator[bytes]:
    if isinstance(response, StreamingHttpResponse):
        parts: AsyncIterator[bytes] = getattr(response, "_iterator", None) or aiter(response)
        async for part in parts:
            yield part
    elif isinstance(response, HttpResponse):
        yield response.content
