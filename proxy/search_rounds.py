"""The parts of a searching answer: one call's events, and what the client sees of them."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import msgspec
from django.conf import settings

from proxy.errors import UpstreamFailed
from proxy.formats.canonical import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Failure,
    Foreign,
    Start,
    Stop,
    ToolUse,
    Usage,
    UsageReport,
)
from proxy.formats.contract import Format
from proxy.formats.messages import searching
from proxy.formats.sse import Parser
from proxy.relay import AFTER_END_S, failure_error, read_json
from proxy.upstream.client import UpstreamResponse

# What comes of an answer; None when nothing has come for a while.
Events = AsyncGenerator[list[Event] | None, None]


class Reading:
    """One answer of the upstream on its way in; `pieces` counts its frames."""

    def __init__(self, upstream: UpstreamResponse, target: Format) -> None:
        self.upstream = upstream
        self.target = target
        self.usage: Usage | None = None
        self.pieces = 0
        self.is_complete = False

    async def events(self) -> Events:
        """Raises the upstream's failure, and `UpstreamFailed` for an answer that is cut."""
        parser, decoder = Parser(), self.target.decoder()
        while True:
            wait_s = AFTER_END_S if decoder.finished else settings.GATEWAY_HEARTBEAT_S
            chunk = await self.upstream.receive(wait_s)
            if chunk is None:
                if decoder.finished:
                    break
                yield None
                continue
            if not self.pieces and chunk.lstrip()[:1] == b"{":
                yield self._noted(self._whole(chunk + await self.upstream.read()))
                self.is_complete = True
                return
            frames = parser.feed(chunk) if chunk else parser.close()
            if frames and not self.pieces:
                self.upstream.expect_silence(settings.GATEWAY_IDLE_TIMEOUT_S)
            self.pieces += len(frames)
            if events := [event for one in frames for event in decoder.feed(one)]:
                yield self._noted(events)
            if not chunk:
                break
        if not decoder.finished:
            raise UpstreamFailed("The upstream ended its answer before it was complete.")
        yield self._noted(decoder.close())
        self.is_complete = True

    def _whole(self, raw: bytes) -> list[Event]:
        self.pieces = max(1, len(raw) // 4)
        return self.target.decode_body(read_json(raw))

    def _noted(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, UsageReport):
                self.usage = event.usage
            if isinstance(event, Failure):
                raise failure_error(event)
        return events


class Call(msgspec.Struct):
    """A search that the model has asked for."""

    id: str
    arguments: str = ""


class Round:
    """One call's events: what the client sees of them, and the searches in them."""

    def __init__(self) -> None:
        self.shown: list[Event] = []
        self.calls: list[Call] = []
        self.has_client_calls = False
        self.stop: Stop | None = None
        self._open: Call | None = None

    def take(self, events: list[Event], *, is_first: bool) -> list[Event]:
        """The events for the client: calls of the function become the server's."""
        shown: list[Event] = []
        usage: list[Event] = []
        for event in events:
            match event:
                case Stop():
                    self.stop = event
                case UsageReport():
                    usage.append(event)
                case Start():
                    if is_first:
                        shown.append(event)
                case BlockStart(block=ToolUse(name=searching.NAME) as block):
                    self._open = Call(searching.call_id(block.id), block.arguments)
                    self.calls.append(self._open)
                    shown += [
                        BlockStart(event.index, _server_call(self._open.id)),
                        *(
                            [ArgumentsDelta(event.index, block.arguments)]
                            if block.arguments
                            else []
                        ),
                    ]
                case BlockStart(block=ToolUse()):
                    self.has_client_calls = True
                    shown.append(event)
                case ArgumentsDelta() if self._open is not None:
                    self._open.arguments += event.json
                    shown.append(event)
                case BlockStop():
                    self._open = None
                    shown.append(event)
                case _:
                    shown.append(event)
        self.shown += shown
        if is_first and any(isinstance(event, Start) for event in shown):
            # What came with the start belongs into `message_start`.
            return [*usage, *shown]
        return shown

    def add(self, call: Call, content: Any) -> list[Event]:
        """The events of a call's result block."""
        block = Foreign(
            family="anthropic",
            kind="web_search_tool_result",
            value=searching.result_block(call.id, content),
        )
        events: list[Event] = [BlockStart(len(self.shown), block), BlockStop(len(self.shown))]
        self.shown += events
        return events


def _server_call(call: str) -> Foreign:
    value = {"type": "server_tool_use", "id": call, "name": searching.NAME, "input": {}}
    return Foreign(family="anthropic", kind="server_tool_use", value=value)


def summed(a: Usage, b: Usage) -> Usage:
    return Usage(
        input_tokens=a.input_tokens + b.input_tokens,
        output_tokens=a.output_tokens + b.output_tokens,
        cache_read_tokens=a.cache_read_tokens + b.cache_read_tokens,
        cache_write_tokens=a.cache_write_tokens + b.cache_write_tokens,
        reasoning_tokens=a.reasoning_tokens + b.reasoning_tokens,
    )


class Done(msgspec.Struct):
    value: Any


async def beating(work: Coroutine[Any, Any, Any]) -> AsyncGenerator[Done | None, None]:
    """None while the work takes long, then its result. Closed early, the work is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=settings.GATEWAY_HEARTBEAT_S)
            if not task.done():
                yield None
        yield Done(task.result())
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
