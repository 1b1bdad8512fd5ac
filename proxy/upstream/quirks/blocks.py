"""Fields of content blocks on /v1/messages: an allow-list by kind of block.

Clients replay an answer's blocks as their SDK knows them, with all fields of its own newest API.
"""

from collections.abc import Iterator
from typing import Any, Final

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks.body import QuirkContext, dicts_of, keep_fields

# Blocks of other kinds are left alone: what they may hold is not known well enough.
FIELDS: Final = {
    kind: frozenset({"type", "cache_control", *names.split()})
    for kind, names in {
        "text": "text citations",
        "image": "source",
        "document": "source title context citations",
        "search_result": "source title content citations",
        "tool_use": "id name input caller",
        "tool_result": "tool_use_id content is_error",
        "thinking": "thinking signature",
        "redacted_thinking": "data",
    }.items()
}
# Null where the SDK has nothing to say; whether null is taken is up to the backend of the call.
NULLABLE: Final = ("caller", "citations", "cache_control")


def block_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `tool_use.toolset_name: Extra inputs are not permitted` for fields newer than a backend.

    anthropic 2.10 writes `toolset_name: null` into each call when an answer is replayed by
    `model_dump()`. Seen in requests of the SDK 2026-11-20; that backends take only the listed fields is
    inferred. Source: docs/upstream.md#messages-fields.
    Remove never: an allow-list is the safe policy; extend it as fields are seen to be accepted.
    """
    acted = False
    for block in _blocks(body):
        kind = str(block.get("type"))
        known = FIELDS.get(kind)
        if known is None or (block.keys() <= known and None not in block.values()):
            continue
        said = {name for name, value in block.items() if value is not None}
        gone = keep_fields(block, known)
        empty = [name for name in NULLABLE if name in block and block[name] is None]
        for name in empty:
            del block[name]
        context.drop(*(f"messages.{kind}.{str(name)[:40]}" for name in gone if name in said))
        acted = bool(gone or empty) or acted
    return acted


def _blocks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for message in dicts_of(body.get("messages")):
        for block in dicts_of(message.get("content")):
            yield block
            yield from dicts_of(block.get("content"))
