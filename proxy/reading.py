"""The body of a request, read once: its JSON, and what the gates and routing need to know of it."""

from typing import Any

import orjson

from proxy import catalog
from proxy.errors import InvalidRequest, UnsupportedMediaType
from proxy.exchange import Exchange
from proxy.formats import FORMATS
from proxy.upstream.initiator import decide, traits

# orjson reads 1024 levels and writes 254; translation adds a few. Nobody's schema is half as deep.
MAX_LEVELS = 200


def read_body(exchange: Exchange) -> None:
    """Decode the body once and read what the gates and routing need of it."""
    exchange.body = decode_json(exchange.raw, exchange.headers.get("content-type", ""))
    exchange.raw = b""
    if exchange.complete is not None:
        exchange.body = exchange.complete(exchange.body)
    body = exchange.body
    exchange.asked = as_asked(body)
    record = exchange.record
    record.model_asked = str(body.get("model") or "")[:100]
    exchange.model = catalog.check_name(body.get("model"))
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream: a boolean is required.", param="stream")
    exchange.stream = bool(stream)
    record.streamed = exchange.stream
    source = FORMATS.get(exchange.source)
    if source is None:
        return
    exchange.gist = gist = source.gist(body)
    exchange.traits = traits(exchange.headers, exchange.path, body, exchange.source)
    exchange.decision = decide(
        gist,
        is_subagent=exchange.traits.is_subagent,
        is_compaction=exchange.traits.is_compaction,
        is_side_request=exchange.traits.is_side_request,
        client_value=exchange.headers.get("x-initiator"),
    )
    record.initiator = exchange.decision.initiator
    record.initiator_rule = exchange.decision.rule
    record.tools_sent = gist.tools
    record.messages_sent = gist.messages
    record.effort = (gist.effort or "")[:16]
    exchange.identify_conversation()


def as_asked(body: dict[str, Any]) -> dict[str, Any]:
    """The body's own fields as the client sent them, also after quirks have changed inner ones."""
    options = body.get("stream_options")
    return {**body, "stream_options": dict(options)} if isinstance(options, dict) else dict(body)


def decode_json(raw: bytes, content_type: str) -> dict[str, Any]:
    """The JSON object of a body. Raises `InvalidRequest`, or `UnsupportedMediaType`."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        kind = content_type.partition(";")[0].strip().lower()
        if kind and kind not in ("application/json", "text/plain") and "json" not in kind:
            raise UnsupportedMediaType(
                f"The body must be JSON (application/json), not {kind[:60]!r}."
            ) from None
        if not raw:
            raise InvalidRequest("The body is empty; a JSON object is required.") from None
        raise InvalidRequest(
            f"The body is not valid JSON: {error.msg} at byte {error.pos}."
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {_kind_of(body)}.")
    if is_deeper(body, MAX_LEVELS):
        raise InvalidRequest(f"The body is nested deeper than {MAX_LEVELS} levels.")
    return body


def is_deeper(body: dict[str, Any], levels: int) -> bool:
    """Whether objects and arrays lie within one another on more than so many levels."""
    within: list[Any] = [body]
    for _ in range(levels):
        within = [
            inner
            for value in within
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) is dict or type(inner) is list
        ]
        if not within:
            return False
    return True


def _kind_of(value: object) -> str:
    match value:
        case list():
            return "an array"
        case str():
            return "a string"
        case None:
            return "null"
        case bool():
            return "a boolean"
        case _:
            return "a number"
