"""Quirks of /responses. Source: docs/upstream.md#responses-fields."""

from collections.abc import Iterator
from typing import Any, Final

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks.body import (
    Quirk,
    QuirkContext,
    clamp_effort,
    dicts_of,
    drop_tools,
    drop_unknown,
    integer,
    pop_fields,
    pop_from_each,
    watches,
)
from proxy.upstream.quirks.replays import foreign_items

KNOWN_FIELDS: Final = frozenset(
    {
        "context_management",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
        # Content that lives at the upstream: refused there (or before), never lost in silence.
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "store",
        "stream",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    }
)
# What a client says about itself or its stream: no answer depends on it.
SILENT_FIELDS: Final = frozenset({"client_metadata", "stream_options", "type", "generate"})
REFUSED_FIELDS: Final = ("service_tier", "safety_identifier")
STORED_FIELDS: Final = ("previous_response_id", "conversation", "prompt", "background")
IMAGE_DETAILS: Final = frozenset({"low", "high", "auto"})
MIN_OUTPUT_TOKENS: Final = 16
ITEM_METADATA: Final = "internal_chat_message_metadata_passthrough"


@watches(*STORED_FIELDS)
def unused_store(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot keeps nothing, and refuses some of the fields about it even when they say nothing.

    SDKs write `null` and `false` for what was not asked; what was asked is refused before this.
    Seen by 2026-07. Source: docs/upstream.md#responses-fields.
    Remove together with `store`.
    """
    empty = [name for name in STORED_FIELDS if name in body and not body[name]]
    for name in empty:
        del body[name]
    return bool(empty)


@watches(*REFUSED_FIELDS)
def refused_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 to `service_tier` and `safety_identifier`.

    Seen by 2026-07. Source: docs/upstream.md#service-tier.
    Remove when the upstream takes the fields.
    """
    gone = pop_fields(body, REFUSED_FIELDS)
    context.drop(*gone)
    return bool(gone)


def unknown_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot refuses parameters that it does not know, and clients invent new ones weekly.

    Codex 0.169 sends `client_metadata`, others keys and addresses (`api_key`, `api_base`), which
    must not leave the house. Seen 2026-11-20. Source: docs/upstream.md#responses-fields.
    Remove never: an allow-list is the safe policy; extend it as fields are seen to be accepted.
    """
    return drop_unknown(body, context, known=KNOWN_FIELDS, silent=SILENT_FIELDS)


def store(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 `store is not supported`; a missing field means true to OpenAI.

    Seen by 2026-07. Source: docs/upstream.md#responses-ids.
    Remove when the upstream keeps responses.
    """
    if body.get("store") is False:
        return False
    if body.get("store") is True:
        context.drop("store")
    body["store"] = False
    return True


@watches("tools")
def image_generation(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 to the tool `image_generation`.

    Seen by 2026-07. Source: docs/upstream.md#responses-fields.
    Remove when the upstream takes the tool.
    """
    if not drop_tools(body, lambda tool: tool.get("type") == "image_generation"):
        return False
    context.drop("image_generation")
    return True


@watches("id")
def item_ids(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot refuses the ids of input items: `input item ID does not belong to this connection`.

    Its own ids are bound to the connection that made them, the ones that clients replay are ours or
    minted by the client. `call_id` and `encrypted_content` carry all that is needed.
    Seen by 2026-07 and 2026-08. Source: docs/upstream.md#responses-ids.
    Remove when ids survive a second request.
    """
    return pop_from_each(dicts_of(body.get("input")), "id")


def item_references(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot keeps no responses, so an `item_reference` points at nothing and is refused.

    Seen by 2026-07. Source: docs/upstream.md#responses-ids.
    Remove together with `store`.
    """
    items = body.get("input")
    if not isinstance(items, list):
        return False
    kept = [item for item in items if not _has_type(item, "item_reference")]
    if len(kept) == len(items):
        return False
    body["input"] = kept
    context.drop("item_reference")
    return True


def additional_tools(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Whether Copilot takes Codex's input item `additional_tools` is unknown; `tools` it takes.

    Codex moves the tools of models in its own catalog into such an item; they are offered in
    `tools` instead, where every model has them. Seen 2026-11-20 in requests of Codex 0.169.
    Source: docs/upstream.md#responses-fields. Remove when Copilot is known to take the item.
    """
    items = body.get("input")
    if not isinstance(items, list):
        return False
    kept = [item for item in items if not _has_type(item, "additional_tools")]
    if len(kept) == len(items):
        return False
    offered = body.get("tools")
    tools = list(offered) if isinstance(offered, list) else []
    for item in items:
        if _has_type(item, "additional_tools"):
            tools += list(dicts_of(item.get("tools")))
    body["input"] = kept
    if tools:
        body["tools"] = tools
    return True


@watches(ITEM_METADATA)
def item_metadata(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Codex marks input items for OpenAI's own backend; Copilot knows no such field.

    Seen 2026-11-20 in requests of Codex.
    Source: docs/upstream.md#responses-fields. Remove when Copilot is known to take it.
    """
    return pop_from_each(dicts_of(body.get("input")), ITEM_METADATA)


@watches("detail")
def image_details(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot takes the image details low, high and auto; clients also send `original`.

    Reported by 2026-09. Source: docs/upstream.md#responses-fields.
    Remove when all models take `original`.
    """
    acted = False
    for part in _parts(body):
        detail = part.get("detail")
        wrong = not isinstance(detail, str) or detail not in IMAGE_DETAILS
        if _has_type(part, "input_image") and detail is not None and wrong:
            part["detail"] = "high"
            acted = True
    return acted


@watches("max_output_tokens")
def output_limit(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 to `max_output_tokens` below 16, and takes the model's limit at most.

    `Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16`, seen in
    recordings of 2026-08. Source: docs/upstream.md#responses-fields.
    Remove when the minimum is gone.
    """
    asked = integer(body.get("max_output_tokens"))
    if asked is None:
        return False
    given = max(MIN_OUTPUT_TOKENS, asked)
    if model.max_output_tokens:
        given = min(given, max(MIN_OUTPUT_TOKENS, model.max_output_tokens))
    body["max_output_tokens"] = given
    return given != asked


@watches("reasoning")
def effort(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 `invalid_reasoning_effort` to an effort that the model does not list.

    Seen by 2026-07. Source: docs/upstream.md#models.
    Remove never: the list of a model is a fact of the catalog.
    """
    reasoning = body.get("reasoning")
    if not isinstance(reasoning, dict) or not clamp_effort(reasoning, "effort", model.efforts):
        return False
    if not reasoning:
        del body["reasoning"]
    context.drop("reasoning.effort")
    return True


QUIRKS: Final[tuple[Quirk, ...]] = (
    unused_store,
    refused_fields,
    unknown_fields,
    store,
    additional_tools,
    image_generation,
    item_references,
    foreign_items,
    item_ids,
    item_metadata,
    image_details,
    output_limit,
    effort,
)


def _has_type(value: object, kind: str) -> bool:
    return isinstance(value, dict) and value.get("type") == kind


def _parts(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The content parts of input messages and of tool outputs."""
    for item in dicts_of(body.get("input")):
        yield from dicts_of(item.get("content"))
        yield from dicts_of(item.get("output"))
