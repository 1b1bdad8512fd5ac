"""A request from its body to its answer: the steps, in order."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from accounts.auth import Caller
from proxy import (
    approval,
    bodies,
    compaction,
    counting,
    estimates,
    held_streams,
    reasoning_memory,
    web_search,
)
from proxy.admission import admit, admit_to_seat, lower_ceilings
from proxy.attempts import open_response
from proxy.errors import GatewayError, InvalidRequest
from proxy.exchange import Exchange, set_headers
from proxy.formats import FORMATS, embeddings
from proxy.formats.canonical import Usage
from proxy.formats.contract import Format
from proxy.formats.outlines import decode_runs, write_runs
from proxy.reading import breathe, read_in_full
from proxy.reasoning_memory import memory
from proxy.relay import Relay, Spent, outcome_of, read_json
from proxy.routing import Route, elsewhere, pick
from proxy.upstream import quirks
from proxy.upstream.client import UpstreamResponse
from proxy.upstream.endpoints import CHAT_COMPLETIONS, COUNT_TOKENS, EMBEDDINGS
from proxy.upstream.headers import accepted_betas, answer_headers
from usage import pricing

logger = logging.getLogger(__name__)
COUNT_TIMEOUT_S = 5.0
# More than any model reads or writes.
MOST_TOKENS = 100_000_000
TOKEN_FIGURES = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
_figures_of = attrgetter(*TOKEN_FIGURES)
# What a client may call its request.
HARMLESS_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A body in, the same body with more or in other words out.
Rewrite = Callable[[dict[str, Any]], dict[str, Any]]


async def serve(
    request: HttpRequest, source: str, caller: Caller, *, complete: Rewrite | None = None
) -> HttpResponseBase:
    """One generation: admitted, routed, translated if formats differ, sent, relayed, recorded.

    `complete` adds to the body what the client says in the URL.
    """
    exchange = Exchange.begin(request, source, caller)
    exchange.complete = complete
    exchange.in_outline = complete is None
    try:
        bodies.keep_if_asked(exchange)
        await admit(exchange)
        if exchange.approval_rule and exchange.stream:
            # It may have to say something before it is answered.
            return await held_streams.respond(
                exchange,
                answer(exchange),
                headers=disclosure(exchange),
                finish_failed=finish_failed,
            )
        return await answer(exchange)
    except BaseException as error:
        finish_failed(exchange, error)
        raise


async def answer(exchange: Exchange) -> HttpResponseBase:
    """What an admitted request gets, with a person's word before where a rule wants one."""
    await approval.ask_person(exchange)
    route = await pick(exchange)
    estimates.note(exchange, route.entry)
    await breathe(exchange)
    route, upstream = await answered(exchange, route)
    step = relay if exchange.search is None else searching
    response = await step(exchange, route, upstream)
    if exchange.kept is not None and isinstance(response, HttpResponse):
        exchange.kept.add(response.content)
    return response


async def answered(exchange: Exchange, route: Route) -> tuple[Route, UpstreamResponse]:
    """The upstream's answer, and the route that gave it: another one where a seat took over."""
    while True:
        await admit_to_seat(exchange, route.account, route.entry.id)
        body, betas = prepare(exchange, route)
        await breathe(exchange)
        if not exchange.record.attempts:
            exchange.open_record()
        try:
            return route, await open_response(exchange, route, body, betas=betas)
        except GatewayError as error:
            route = await elsewhere(exchange, route, error)


def finish_failed(exchange: Exchange, error: BaseException) -> None:
    """Record a request that got no answer, and give its error what the edge must say.

    Raises the error in place of the cancellation when not the client but the gateway ended it.
    """
    if isinstance(error, asyncio.CancelledError):
        if exchange.ended_by is None:
            exchange.finish("cancelled", None)
            return
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        finish_failed(exchange, exchange.ended_by)
        raise exchange.ended_by from None
    if not isinstance(error, GatewayError):
        # A bug of ours: the edge answers 500, the log has the reason.
        exchange.finish("upstream_error", 500, error=GatewayError(type(error).__name__))
        return
    was_sent = bool(exchange.record.attempts)
    exchange.finish(outcome_of(error) if was_sent else "refused", error.status, error=error)
    error.request_id = exchange.request_id
    error.headers = disclosure(exchange)


def prepare(
    exchange: Exchange, route: Route, *, counted: bool = False
) -> tuple[dict[str, Any], list[str] | None]:
    """Body and betas for the upstream: translated if formats differ, freed of what it refuses.

    Raises `InvalidRequest`. A body that is only to be `counted` may lack what an answer needs.
    """
    source, target = FORMATS[exchange.source], FORMATS[route.endpoint.format]
    facts = route.entry.facts
    translated = exchange.source != route.endpoint.format
    if needs_all(exchange, route) if not translated else exchange.source not in target.RUNS_OF:
        read_in_full(exchange)
    check(exchange, source, counted=counted)
    body = fulfilled(exchange, route)
    if translated:
        built = target.build_request(source.parse_request(body), facts)
        body = built.body
        exchange.drop(*built.dropped)
    else:
        body = dict(body)
    body["model"] = route.entry.id
    body["stream"] = exchange.stream or must_stream(route, body)
    if not counted:
        lower_ceilings(
            exchange,
            body,
            endpoint_format=route.endpoint.format,
            account=route.account,
            model=route.entry.id,
            efforts=facts.efforts,
        )
    betas, dropped = betas_for(exchange, route, body)
    exchange.drop(*dropped)
    is_chat = route.endpoint is CHAT_COMPLETIONS
    remembered = is_chat and memory.restore(route.account.id, route.entry.id, body)
    context = quirks.QuirkContext(
        betas=frozenset(betas or ()), stream=body["stream"], translated=translated
    )
    if quirks.look_at_all(route.endpoint.name, body, facts, context):
        decode_runs(body)
    exchange.record.quirks = [
        *([reasoning_memory.NAME] if remembered else []),
        *quirks.apply(route.endpoint.name, body, facts, context),
        *(write_runs(body) if exchange.has_runs else ()),
    ]
    quirks.check(route.endpoint.name, body, facts)
    exchange.drop(*context.dropped)
    return body, betas


def needs_all(exchange: Exchange, route: Route) -> bool:
    """Whether a body that passes through must be decoded in full before it is prepared."""
    match exchange.source:
        case "chat_completions":
            return memory.knows(route.account.id, route.entry.id)
        case "messages":
            return web_search.is_asked(exchange.body)
        case "responses":
            return compaction.is_asked(exchange.body)
    return False


def check(exchange: Exchange, source: Format, *, counted: bool) -> None:
    """Raises `InvalidRequest` naming the field."""
    try:
        source.check(exchange.body, counted=counted)
    except InvalidRequest:
        # In an outline it is not known how many messages stand before the wrong one.
        read_in_full(exchange)
        source.check(exchange.body, counted=counted)
        raise


def fulfilled(exchange: Exchange, route: Route) -> dict[str, Any]:
    """The client's body, where what its vendor's servers would do is done here instead."""
    match exchange.source:
        case "responses":
            return compaction.prepare(exchange)
        case "messages":
            return web_search.prepare(exchange, route)
    return exchange.body


def must_stream(route: Route, body: Mapping[str, Any]) -> bool:
    """True when the upstream caps whole answers below what is asked: then stream and collect."""
    cap = route.entry.facts.max_non_streaming_output_tokens
    asked = body.get("max_tokens")
    return (
        route.endpoint.format == "messages"
        and cap is not None
        and isinstance(asked, int)
        and asked > cap
    )


def betas_for(
    exchange: Exchange, route: Route, body: dict[str, Any]
) -> tuple[list[str] | None, list[str]]:
    """Betas to send and betas left out; None off the messages endpoint."""
    if route.endpoint.format != "messages":
        return None, []
    asked = exchange.headers.get("anthropic-beta") if exchange.source == "messages" else None
    return accepted_betas(asked, route.profile, quirks.needed_betas(body))


async def relay(exchange: Exchange, route: Route, upstream: UpstreamResponse) -> HttpResponseBase:
    """The answer on its way back; see `proxy.relay`."""

    def account(spent: Spent) -> None:
        account_for(exchange, route, spent)

    headers = {**disclosure(exchange), **answer_headers(upstream.headers)}
    way = Relay(exchange, route.endpoint.format, upstream, headers, account)
    if route.endpoint is CHAT_COMPLETIONS:
        way.watch = memory.watch(route.account.id, route.entry.id).read
    try:
        return await way.respond()
    except BaseException as error:
        if way.pieces or isinstance(error, asyncio.CancelledError):
            # It had begun to produce, which is what the upstream charges for.
            account(Spent(None, False, way.pieces))
        await asyncio.shield(upstream.close())
        raise


async def searching(
    exchange: Exchange, route: Route, upstream: UpstreamResponse
) -> HttpResponseBase:
    """The answer's way back when the model may search on the way; see `proxy.web_search`."""
    exchange.record.quirks.append(web_search.QUIRK)
    steps = web_search.Steps(prepare, account_for, finish_failed)
    headers = {**disclosure(exchange), **answer_headers(upstream.headers)}
    return await web_search.Searching(exchange, route, steps, headers).respond(upstream)


def believed(usage: Usage) -> Usage:
    """The same object when every figure can be true; else another one without those that cannot.

    No prompt has no tokens: a negative or a textual figure was read as none.
    """
    figures = dict(zip(TOKEN_FIGURES, _figures_of(usage), strict=True))
    if usage.input_tokens and max(figures.values()) <= MOST_TOKENS:
        return usage
    kept = {name: count if count <= MOST_TOKENS else 0 for name, count in figures.items()}
    return Usage(**kept, nano_aiu=usage.nano_aiu)


def account_for(exchange: Exchange, route: Route, spent: Spent) -> None:
    """What the request used and cost: as the upstream said, else estimated and marked so."""
    record = exchange.record
    usage = believed(spent.usage or Usage())
    if usage is not spent.usage or not spent.is_complete:
        # The upstream has charged for what it produced; four bytes a token, and a token a frame, are
        # our guess of it.
        guess = min(record.bytes_in // 4, route.entry.facts.max_prompt_tokens or record.bytes_in)
        usage = Usage(
            input_tokens=usage.input_tokens or guess,
            output_tokens=max(usage.output_tokens, spent.pieces),
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            nano_aiu=usage.nano_aiu,
        )
        record.usage_estimated = True
    exchange.note_usage(usage)
    pricing.apply_cost(record, usage.nano_aiu, route.entry.prices)
    estimates.learn(exchange)


def disclosure(exchange: Exchange) -> dict[str, str]:
    """Headers that say what the gateway did with the request."""
    record = exchange.record
    headers = {"x-request-id": exchange.request_id}
    named = exchange.headers.get("x-request-id", "")
    if named and HARMLESS_ID.fullmatch(named):
        # The client finds its own id; the record has ours, which is the only one of its kind.
        headers = {"x-request-id": named, "x-gateway-request-id": exchange.request_id}
    if record.model_used:
        headers["x-gateway-model"] = record.model_used
    if exchange.fallback:
        headers["x-gateway-fallback"] = exchange.fallback
    if record.target:
        how = "passthrough" if record.target == exchange.source else "translated"
        how = "summarised" if exchange.voice is not None else how
        headers["x-gateway-route"] = f"{exchange.source}->{record.target}, {how}"
    if exchange.estimate is not None and exchange.estimate.is_priced:
        headers["x-gateway-estimated-credits"] = exchange.estimate.credits
    headers.update(exchange.disclosed)
    if exchange.dropped:
        headers["x-gateway-dropped"] = ", ".join(dict.fromkeys(exchange.dropped))[:1000]
    return headers


async def serve_embeddings(
    request: HttpRequest,
    caller: Caller,
    *,
    complete: Rewrite | None = None,
    write: Rewrite | None = None,
) -> HttpResponse:
    """Embeddings walk the same line: admitted, routed, sent in batches, put together, recorded.

    `complete` makes the client's body OpenAI's, `write` makes OpenAI's answer the client's.
    """
    exchange = Exchange.begin(request, "embeddings", caller)
    exchange.complete = complete
    try:
        await admit(exchange, kind="embeddings")
        await approval.ask_person(exchange)
        body = embeddings.prepare(exchange.body)
        exchange.dropped += [k for k in exchange.body if k not in (*body, "encoding_format")]
        route = (await pick(exchange)).through(EMBEDDINGS)
        await admit_to_seat(exchange, route.account, route.entry.id)
        exchange.record.target = "embeddings"
        body["model"] = route.entry.id
        exchange.open_record()
        answers = []
        for batch in embeddings.batches(body):
            while True:
                try:
                    answers.append(await _whole(exchange, route, batch))
                    break
                except GatewayError as error:
                    route = (await elsewhere(exchange, route, error)).through(EMBEDDINGS)
                    await admit_to_seat(exchange, route.account, route.entry.id)
        answer = embeddings.finish(answers, exchange.body)
        payload = orjson.dumps(answer if write is None else write(answer))
        account_for(exchange, route, Spent(embeddings.read_usage(answer), True, 0))
    except BaseException as error:
        finish_failed(exchange, error)
        raise
    response = HttpResponse(payload, content_type="application/json")
    set_headers(response, disclosure(exchange))
    exchange.record.bytes_out = len(payload)
    exchange.finish("completed", 200)
    return response


async def serve_count_tokens(
    request: HttpRequest,
    caller: Caller,
    *,
    source: str = "messages",
    complete: Rewrite | None = None,
    write: Rewrite | None = None,
) -> HttpResponse:
    """Copilot's own counter for models that are served as Messages, else a count of ours.

    `write` makes `{"input_tokens": n}` the client's answer.
    """
    exchange = Exchange.begin(request, source, caller)
    exchange.complete = complete
    exchange.records = False
    try:
        await admit(exchange, kind="count_tokens")
        # Counting costs nothing.
        exchange.estimate = None
        await approval.ask_person(exchange)
        FORMATS[source].parse_request(exchange.body)
        route = await pick(exchange)
        await admit_to_seat(exchange, route.account, route.entry.id)
        tokens = await count(exchange, route)
    except BaseException as error:
        finish_failed(exchange, error)
        raise
    answer = {"input_tokens": tokens}
    response = HttpResponse(
        orjson.dumps(answer if write is None else write(answer)), content_type="application/json"
    )
    set_headers(response, disclosure(exchange))
    exchange.finish("completed", 200)
    return response


async def count(exchange: Exchange, route: Route) -> int:
    if route.endpoint.format == "messages":
        counter = route.through(COUNT_TOKENS)
        body, betas = prepare(exchange, counter, counted=True)
        body.pop("stream", None)
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_S):
                answer = await _whole(exchange, counter, body, betas=betas)
            tokens = answer.get("input_tokens")
            if isinstance(tokens, int) and tokens > 0:
                return tokens
        except (GatewayError, TimeoutError) as error:
            logger.info("count_tokens falls back to a local count: %s", error)
    # What is counted here is read in the upstream's words; those of Messages count as they are.
    body = (
        exchange.body
        if exchange.source == "messages"
        else prepare(exchange, route, counted=True)[0]
    )
    return await counting.count_locally(body, route.entry.vendor)


async def _whole(
    exchange: Exchange, route: Route, body: dict[str, Any], *, betas: list[str] | None = None
) -> dict[str, Any]:
    """One call whose answer is one JSON object."""
    upstream = await open_response(exchange, route, body, betas=betas)
    try:
        return read_json(await upstream.read())
    finally:
        await asyncio.shield(upstream.close())
