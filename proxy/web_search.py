"""Web search for clients of Messages: rounds of the model, with searches between them.

The model gets a function; when it calls it, a model with a hosted search is asked, and the answer
goes on with what was found. The client sees one answer with Anthropic's own blocks. Every call to
the upstream is an exchange of its own: the first is the client's, the others name it as parent.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import orjson
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.timezone import now

from proxy import catalog, hosted_search
from proxy.admission import check_budget
from proxy.attempts import open_response
from proxy.errors import GatewayError, RateLimited
from proxy.exchange import Exchange, set_headers
from proxy.formats import FORMATS
from proxy.formats.canonical import (
    Event,
    Failure,
    Stop,
    Usage,
    UsageReport,
)
from proxy.formats.contract import Answer
from proxy.formats.messages import searching
from proxy.formats.messages.encoding import Encoder, frame
from proxy.relay import Spent, failure_error, outcome_of, read_json
from proxy.routing import Route, cooldowns
from proxy.search_rounds import Call, Events, Reading, Round, beating, summed
from proxy.upstream.client import UpstreamResponse
from proxy.upstream.endpoints import RESPONSES
from proxy.upstream.initiator import HOSTED_SEARCH, TOOL_RESULT, Decision
from usage.journal import Record

logger = logging.getLogger(__name__)
# Under which it stands among the quirks of a request.
QUIRK: Final = "hosted_web_search"
# Rounds beyond the allowed searches, for a model that goes on asking after it was told no.
ROUNDS_MORE: Final = 2
NONE: Final = {"type": "none"}


@dataclass(frozen=True, slots=True)
class Steps:
    """The pipeline's own steps, as each further call of the upstream needs them."""

    prepare: Callable[[Exchange, Route], tuple[dict[str, Any], list[str] | None]]
    account_for: Callable[[Exchange, Route, Spent], None]
    finish_failed: Callable[[Exchange, BaseException], None]


def prepare(exchange: Exchange, route: Route) -> dict[str, Any]:
    """The body that goes on. Sets the exchange's search when it is asked for, allowed and possible.

    Without it the tool is left out later, by a quirk that discloses it.
    """
    body = exchange.body
    tool = searching.tool_of(body)
    if tool is not None and exchange.caller.allows_web_search:
        entry = hosted_search.choose(catalog.of_account(route.account.id).entries)
        if entry is not None:
            exchange.search = hosted_search.Plan(entry, tool)
            return searching.offered(searching.as_calls(body))
    return searching.as_words(body) if searching.has_blocks(body) else body


def is_asked(body: dict[str, Any]) -> bool:
    """Whether the body has the search tool: its history is then read as a whole."""
    return searching.tool_of(body) is not None


def child_of(parent: Exchange, decision: Decision, *, source: str, model: str) -> Exchange:
    """An exchange that the gateway makes on behalf of another one."""
    exchange_id = f"{random.getrandbits(96):024x}"
    known = parent.record
    record = Record(
        id=exchange_id,
        started_at=now(),
        outcome="interrupted",
        source=source,
        path=known.path,
        client=known.client,
        member_id=known.member_id,
        member=known.member,
        key_id=known.key_id,
        key=known.key,
        account_id=known.account_id,
        account=known.account,
        conversation=known.conversation,
        parent=parent.id,
        model_asked=model,
        initiator=decision.initiator,
        initiator_rule=decision.rule,
    )
    child = msgspec.structs.replace(
        parent,
        id=exchange_id,
        source=source,
        raw=b"",
        record=record,
        started=time.monotonic(),
        model=model,
        decision=decision,
        dropped=[],
        leases=[],
        abort=None,
        finished=False,
    )
    child.search = None
    return child


class Searching:
    """The answer of one exchange that may search."""

    def __init__(
        self,
        exchange: Exchange,
        route: Route,
        steps: Steps,
        headers: dict[str, str],
    ) -> None:
        assert exchange.search is not None
        self.exchange = exchange
        self.route = route
        self.steps = steps
        self.plan = exchange.search
        self.headers = headers
        self.answer = Answer(
            id=exchange.id,
            created=int(time.time()),
            model=exchange.record.model_used,
            request=exchange.asked,
        )
        self.total = Usage()
        self.stop: Stop | None = None
        self.made = 0
        self.refused = 0
        # The exchange of the call that is being read; the first one is the client's.
        self.current = exchange

    async def respond(self, upstream: UpstreamResponse) -> HttpResponseBase:
        """The response for the client; raises `GatewayError` while no byte has been sent."""
        if self.exchange.stream:
            return await self._as_stream(upstream)
        events: list[Event] = []
        async with aclosing(self._rounds(upstream)) as rounds:
            async for some in rounds:
                events += some or ()
        message = FORMATS["messages"].encode_body(events, self.answer)
        message["usage"] = searching.with_count(message["usage"], self.made)
        payload = orjson.dumps(message)
        self.exchange.record.bytes_out = len(payload)
        response = HttpResponse(payload, content_type="application/json")
        set_headers(response, self.headers)
        self._finish("completed")
        return response

    # Streams.

    async def _as_stream(self, upstream: UpstreamResponse) -> HttpResponseBase:
        encoder = Encoder(self.answer)
        rounds = self._rounds(upstream)
        first = b""
        try:
            async for events in rounds:
                first = encoder.encode(events) if events else b""
                if first:
                    break
        except BaseException:
            await rounds.aclose()
            raise
        self.exchange.first_token()
        response = StreamingHttpResponse(
            self._bytes(encoder, rounds, first), content_type="text/event-stream"
        )
        set_headers(response, self.headers)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Accel-Buffering"] = "no"
        return response

    async def _bytes(
        self, encoder: Encoder, rounds: Events, first: bytes
    ) -> AsyncGenerator[bytes, None]:
        outcome, error, sent = "cancelled", None, len(first)
        kept = self.exchange.kept
        try:
            if kept is not None:
                kept.add(first)
            yield first
            async for events in rounds:
                out = FORMATS["messages"].KEEPALIVE if events is None else encoder.encode(events)
                sent += len(out)
                if kept is not None:
                    kept.add(out)
                if out:
                    yield out
            out = self._ending(encoder)
            sent += len(out)
            if kept is not None:
                kept.add(out)
            outcome = "completed"
            yield out
        except GatewayError as failed:
            outcome, error = outcome_of(failed), failed
            yield encoder.fail(failed)
        except Exception:
            # A bug of ours in the middle of a stream: the client must not take it for an end.
            logger.exception("stream %s broke", self.exchange.request_id)
            outcome = "upstream_error"
            error = GatewayError("The gateway failed in the middle of the answer.")
            yield encoder.fail(error)
        finally:
            self.exchange.record.bytes_out = sent
            await rounds.aclose()
            self._finish(outcome, error)

    def _ending(self, encoder: Encoder) -> bytes:
        payloads = encoder.ending()
        for payload in payloads:
            if payload["type"] == "message_delta":
                payload["usage"] = searching.with_count(payload["usage"], self.made)
        return b"".join(frame(payload) for payload in payloads)

    def _finish(self, outcome: str, error: GatewayError | None = None) -> None:
        if self.stop is not None:
            self.exchange.record.stop_reason = self.stop.reason
        self.exchange.finish(outcome, 200, error=error)

    # Rounds.

    async def _rounds(self, upstream: UpstreamResponse) -> Events:
        """The events that the client gets, of all rounds; None when nothing comes for a while."""
        route, most = self.route, self.plan.tool.max_uses + ROUNDS_MORE
        for number in range(most + 1):
            one = Round()
            async with aclosing(self._read(upstream, route)) as events:
                async for some in events:
                    shown = None if some is None else one.take(some, is_first=number == 0)
                    if some is None or shown:
                        yield shown
            self.stop = one.stop
            if not one.calls:
                break
            for call in one.calls:
                async with aclosing(beating(self._search(call))) as beats:
                    async for content in beats:
                        if content is None:
                            yield None
                        else:
                            yield one.add(call, content.value)
            if one.has_client_calls:
                break
            if number == most:
                # Anthropic's word for a server that stops its own rounds; the client may go on.
                self.stop = Stop("pause_turn")
                break
            check_budget(self.exchange)
            body = self._next_body(one, is_last=number + 1 == most)
            async with aclosing(beating(self._open(body))) as beats:
                async for opened in beats:
                    if opened is None:
                        yield None
                    else:
                        upstream = opened.value
        # Reports of single rounds were held back: the client counts one answer.
        yield [UsageReport(self.total), self.stop or Stop("end_turn")]

    async def _read(self, upstream: UpstreamResponse, route: Route) -> Events:
        """The events of one call, whose exchange is accounted for whatever happens."""
        reading = Reading(upstream, FORMATS[route.endpoint.format])
        current = self.current
        failure: BaseException | None = None
        try:
            async with aclosing(reading.events()) as events:
                async for some in events:
                    yield some
        except BaseException as error:
            failure = error
            raise
        finally:
            usage = reading.usage
            if reading.pieces:
                spent = Spent(usage, failure is None and reading.is_complete, reading.pieces)
                self.steps.account_for(current, route, spent)
            if usage is not None:
                self.total = summed(self.total, usage)
            await asyncio.shield(upstream.close())
            if current is not self.exchange:
                if failure is None:
                    current.finish("completed", 200)
                else:
                    self.steps.finish_failed(current, failure)

    def _next_body(self, one: "Round", *, is_last: bool) -> dict[str, Any]:
        """The conversation with this round's words and results, in the client's own format."""
        said = FORMATS["messages"].encode_body([*one.shown, Stop("end_turn")], self.answer)
        body = self.exchange.body if self.current is self.exchange else self.current.body
        messages = [*body["messages"], {"role": "assistant", "content": said["content"]}]
        following = {**body, "messages": messages}
        choice = body.get("tool_choice")
        if is_last:
            following["tool_choice"] = NONE
        elif isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
            # The call was forced once; forced again it would never end.
            following["tool_choice"] = {**choice, "type": "auto"}
            following["tool_choice"].pop("name", None)
        return following

    async def _open(self, body: dict[str, Any]) -> UpstreamResponse:
        """Ask the model again, as an exchange of its own."""
        child = child_of(self.exchange, TOOL_RESULT, source="messages", model=self.exchange.model)
        child.body = body
        child.gist = FORMATS["messages"].gist(body)
        child.record.model_used = self.route.entry.id[:100]
        child.record.target = self.route.endpoint.format
        child.record.streamed = child.stream
        self.current = child
        try:
            wire, betas = self.steps.prepare(child, self.route)
            child.record.quirks.append(QUIRK)
            child.open_record()
            return await open_response(child, self.route, wire, betas=betas)
        except BaseException as error:
            self.steps.finish_failed(child, error)
            raise

    # Searches.

    async def _search(self, call: "Call") -> Any:
        """The content of a call's result block. A search that fails is told, not raised."""
        query = searching.arguments_query(call.arguments)
        if query is None:
            return searching.failed("invalid_tool_input")
        if self.made + self.refused >= self.plan.tool.max_uses:
            return searching.failed("max_uses_exceeded")
        if len(query) > hosted_search.MAX_QUERY_CHARS:
            return searching.failed("query_too_long")
        check_budget(self.exchange)
        try:
            report = await self._ask(query)
        except RateLimited:
            self.refused += 1
            return searching.failed("too_many_requests")
        except GatewayError as error:
            logger.info("a web search failed: %s", error)
            self.refused += 1
            return searching.failed("unavailable")
        self.made += 1
        return searching.found(report.text, report.results)

    async def _ask(self, query: str) -> hosted_search.Report:
        """One search on the same account, as an exchange of its own. Raises `GatewayError`."""
        entry = self.plan.entry
        route = replace(self.route, endpoint=RESPONSES, entry=entry)
        if (left_s := cooldowns.left_s(route.account.id, entry.id)) > 0:
            raise RateLimited(f"{entry.id} is limited at the moment.", retry_after_s=left_s)
        child = child_of(self.exchange, HOSTED_SEARCH, source="responses", model=entry.id)
        child.gist = msgspec.structs.replace(child.gist, has_images=False)
        child.record.model_used = entry.id[:100]
        child.record.target = RESPONSES.format
        body = hosted_search.request_body(entry, self.plan.tool, query)
        child.record.bytes_in = len(orjson.dumps(body))
        child.open_record()
        try:
            upstream = await open_response(child, route, body)
            try:
                answer = read_json(await upstream.read())
            finally:
                await asyncio.shield(upstream.close())
            usage = None
            for event in FORMATS["responses"].decode_body(answer):
                if isinstance(event, Failure):
                    raise failure_error(event)
                if isinstance(event, UsageReport):
                    usage = event.usage
            self.steps.account_for(child, route, Spent(usage, True, 0))
        except BaseException as error:
            self.steps.finish_failed(child, error)
            raise
        child.finish("completed", 200)
        return hosted_search.read_report(answer, self.plan.tool)
