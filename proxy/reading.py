"""The body of a request, read once: its JSON, and what the gates and routing need to know of it."""

import asyncio
from typing import Any

import orjson

from proxy import catalog, estimates
from proxy.errors import InvalidRequest, UnsupportedMediaType
from proxy.exchange import Exchange
from proxy.formats import FORMATS
from proxy.formats.contract import Format
from proxy.formats.outlines import Outline, decode_runs
from proxy.upstream.initiator import decide, traits

# orjson reads 1024 levels and writes 254; translation adds a few. Nobody's schema is half as deep.
MAX_LEVELS = 200
# A history of 5 000 messages has some 30 000 values, 200 tools have 10 000.
MAX_VALUES = 150_000
# Embeddings are also asked for by tokens; numbers cost less than objects.
MAX_TOKENS = 600_000
# Bytes. In fewer there is no room for too many values.
COUNTED_FROM = 256 * 1024
# Bytes. Smaller bodies cost little either way.
OUTLINED_FROM = 16_384
# Bytes. What is done at once with 15 MB takes up to 50 ms, which is as long as a stream may wait.
LARGE = 1_000_000
# Long enough for another request to take a few turns.
BREATH_S = 0.001


async def breathe(exchange: Exchange) -> None:
    """Let others have the event loop between two steps over a large body."""
    if exchange.record.bytes_in >= LARGE:
        await asyncio.sleep(BREATH_S)


async def read_body(exchange: Exchange) -> None:
    """Decode the body once and read what the gates and routing need of it."""
    source = FORMATS.get(exchange.source)
    await check_size(exchange.raw, MAX_TOKENS if source is None else MAX_VALUES)
    await breathe(exchange)
    outline = None
    if exchange.in_outline and source is not None and len(exchange.raw) >= OUTLINED_FROM:
        outline = outline_of(source, exchange.raw)
    if outline is not None:
        exchange.body = outline.body
        exchange.has_runs = True
    else:
        exchange.body = decode_json(exchange.raw, exchange.headers.get("content-type", ""))
    exchange.raw = b""
    await breathe(exchange)
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
    if source is None:
        estimates.note(exchange)
        return
    exchange.gist = gist = source.gist(body)
    if outline is not None:
        gist.messages, gist.tools = outline.items, outline.tools
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
    await breathe(exchange)
    estimates.note(exchange)


async def check_size(raw: bytes, most: int) -> None:
    """Refuses a body of more values than anybody sends: it would hold the event loop for seconds.

    Five million empty lists fit into 15 MB and take four seconds to become objects; the same bytes as
    text take 30 ms. Only calls that run through all bytes in C are made here: no object for each value.
    Raises `InvalidRequest`.
    """
    if len(raw) < COUNTED_FROM or _values_in(raw) <= most:
        return
    # What looks like structure may be text: once more, without the strings.
    bare = raw
    for escaped in (b"\\\\", b'\\"'):
        bare = bare.replace(escaped, b"")
        await asyncio.sleep(BREATH_S)
    is_crowded = bare.count(b'"') // 2 > most
    if not is_crowded:
        bare = b" ".join(bare.split(b'"')[::2])
        await asyncio.sleep(BREATH_S)
    if is_crowded or _values_in(bare) > most:
        raise InvalidRequest(f"The body holds more than {most} values.")


def _values_in(json: bytes) -> int:
    """About how many values there are; in strings, their brackets and commas count, too."""
    return json.count(b",") + json.count(b"[") + json.count(b"{")


def outline_of(source: Format, raw: bytes) -> Outline | None:
    """A body whose conversation is left in bytes where nothing needs to see it."""
    outline = source.outline(raw)
    return None if outline is None or is_deeper(outline.body, MAX_LEVELS) else outline


def read_in_full(exchange: Exchange) -> None:
    """Decode what was left in bytes, for steps that look at all of a conversation."""
    if decode_runs(exchange.body):
        exchange.asked = as_asked(exchange.body)


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
    # Without so many brackets there cannot be so many levels: most bodies need no second look.
    if raw.count(b"{") + raw.count(b"[") > MAX_LEVELS and is_deeper(body, MAX_LEVELS):
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
