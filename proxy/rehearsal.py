"""Rehearsal: what a request would become, step by step, by the code that serves, without sending it.

Nothing is recorded, counted or bound, and no gate but the key's model list is passed.
"""

from typing import Any, Final

import orjson
from django.http import HttpRequest

from accounts.auth import Caller
from proxy import policies, routing
from proxy.attempts import attempt_headers
from proxy.errors import GatewayError, InvalidRequest
from proxy.exchange import Exchange
from proxy.formats import FORMATS
from proxy.formats.canonical import Message, Request
from proxy.pipeline import disclosure, prepare
from proxy.reading import read_body
from proxy.routing import Route

PATHS: Final = {
    "chat_completions": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "gemini": "/v1beta/models/{model}:generateContent",
}
# Header names that carry a secret: never shown, not even masked.
SECRET_HEADERS: Final = frozenset({"authorization"})
MAX_HEADERS: Final = 50
# The knobs of a canonical request: what is neither conversation nor tools.
_NOT_KNOBS: Final = frozenset({"source", "model", "messages", "system", "tools", "extras"})

Json = dict[str, Any]


async def rehearse(caller: Caller, wish: Json) -> Json:
    """The steps of a request. `wish` is `{format, request, model?, headers?}`.

    `headers` are those of the client that matter (`anthropic-beta`, `x-claude-code-agent-id`, ...).
    A step that refuses is the last one told, with the error that the client would get. Raises
    `InvalidRequest` when the wish itself is wrong.
    """
    exchange = _exchange(caller, wish)
    steps: Json = {"format": exchange.source}
    step = "read"
    try:
        await read_body(exchange)
        policies.check(exchange.caller, exchange.model)
        steps["initiator"] = _initiator(exchange)
        step = "parse"
        steps["parsed"] = summary(FORMATS[exchange.source].parse_request(exchange.body))
        step = "route"
        route = await _pick(exchange)
        steps["route"] = _route(exchange, route)
        step = "prepare"
        body, betas = prepare(exchange, route)
    except GatewayError as error:
        steps["refused"] = {
            "step": step,
            "status": error.status,
            "code": error.code,
            "param": error.param,
            "message": error.message,
        }
        return steps
    headers = attempt_headers(exchange, route, request_id="(new)", betas=betas, body=body)
    steps["quirks"] = exchange.record.quirks
    steps["dropped"] = exchange.dropped
    steps["headers"] = {k: v for k, v in headers.items() if k.lower() not in SECRET_HEADERS}
    steps["body"] = body
    steps["answer_headers"] = {
        name: value for name, value in disclosure(exchange).items() if name != "x-request-id"
    }
    return steps


def _exchange(caller: Caller, wish: Json) -> Exchange:
    source, body, headers = wish.get("format"), wish.get("request"), wish.get("headers", {})
    if not isinstance(source, str) or source not in FORMATS:
        raise InvalidRequest(f"format: one of {', '.join(FORMATS)} is required", param="format")
    if not isinstance(body, dict):
        raise InvalidRequest("request: an object is required", param="request")
    if not isinstance(headers, dict) or len(headers) > MAX_HEADERS:
        raise InvalidRequest("headers: an object of strings is required", param="headers")
    if wish.get("model") is not None:
        body = {**body, "model": wish["model"]}
    request = HttpRequest()
    request.path = PATHS.get(source, "/").format(model=body.get("model"))
    request._body = orjson.dumps(body)
    exchange = Exchange.begin(request, source, caller)
    exchange.records = False
    exchange.headers = {str(name).lower(): str(value) for name, value in headers.items()}
    return exchange


async def _pick(exchange: Exchange) -> Route:
    """The route, without binding a conversation to an account that it has not been to."""
    conversation = exchange.conversation
    if routing.affinity.get(conversation) is None:
        exchange.conversation = ""
    try:
        return await routing.pick(exchange)
    finally:
        exchange.conversation = conversation


def _initiator(exchange: Exchange) -> Json:
    decision = exchange.decision
    return {} if decision is None else {"value": decision.initiator, "rule": decision.rule}


def _route(exchange: Exchange, route: Route) -> Json:
    is_same = exchange.source == route.endpoint.format
    return {
        "account": route.account.login,
        "asked": exchange.model,
        "model": route.entry.id,
        "fallback": exchange.fallback,
        "endpoint": route.endpoint.path,
        "format": route.endpoint.format,
        "way": "passthrough" if is_same else "translated",
    }


def summary(request: Request) -> Json:
    """A canonical request without its words: who speaks, what kinds of blocks, which knobs."""
    fields = {name: getattr(request, name) for name in Request.__struct_fields__}
    knobs = {k: v for k, v in fields.items() if k not in _NOT_KNOBS and v is not None}
    return {
        "model": request.model,
        "system_blocks": len(request.system or []),
        "messages": [_message(message) for message in request.messages],
        "tools": [{"name": tool.name, "kind": tool.kind} for tool in request.tools or []],
        "knobs": {name: _plain(value) for name, value in knobs.items()},
        "unknown_fields": sorted(request.extras),
    }


def _message(message: Message) -> Json:
    return {
        "role": message.role,
        "blocks": [type(block).__name__ for block in message.blocks],
    }


def _plain(value: Any) -> Any:
    """A knob as JSON: structs as the fields that say something."""
    names = getattr(value, "__struct_fields__", None)
    if names is None:
        return value
    return {name: one for name in names if (one := getattr(value, name)) is not None}
