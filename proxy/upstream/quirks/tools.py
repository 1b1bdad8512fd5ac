"""Quirks of tools on /v1/messages. Source: docs/upstream.md#messages-fields."""

from typing import Any, Final

from proxy.formats.canonical import ModelFacts
from proxy.formats.outlines import is_run
from proxy.upstream.quirks.body import (
    Quirk,
    QuirkContext,
    dicts_of,
    drop_tools,
    pop_from_each,
    watches,
)

DEFERRAL_BETA: Final = "advanced-tool-use-2025-11-20"
DEFERRAL_BETAS: Final = frozenset({DEFERRAL_BETA, "tool-search-tool-2025-11-19"})


@watches("tools")
def web_search(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 `The use of the web search tool is not supported.`

    Reported by 2026-08. Source: docs/upstream.md#messages-fields.
    Remove when Copilot runs Anthropic's web search.
    """
    if not drop_tools(body, lambda tool: str(tool.get("type")).startswith("web_search_")):
        return False
    context.drop("web_search")
    return True


@watches("eager_input_streaming")
def eager_input_streaming(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`tools.N.custom.eager_input_streaming: Extra inputs are not permitted` (400).

    Seen by 2026-07; the AI SDK and opencode send it. Source: docs/upstream.md#messages-fields.
    Remove when all backends take it.
    """
    acted = pop_from_each(dicts_of(body.get("tools")), "eager_input_streaming")
    if acted:
        context.drop("eager_input_streaming")
    return acted


@watches("strict")
def strict_tools(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`tools[].strict` is refused when Vertex serves the call, and no call says who will.

    Seen by 2026-08. Source: docs/upstream.md#messages-fields.
    Remove when all backends take it.
    """
    acted = pop_from_each(dicts_of(body.get("tools")), "strict")
    if acted:
        context.drop("tools.strict")
    return acted


@watches("input_schema")
def tool_schemas(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """A tool's schema must say `type: object` and must not name its `$schema`.

    Claude Code sends `$schema` with every tool. Seen 2026-08.
    Source: docs/upstream.md#messages-fields. Remove when all backends take it.
    """
    acted = False
    for tool in dicts_of(body.get("tools")):
        schema = tool.get("input_schema")
        if isinstance(schema, dict):
            acted = schema.pop("$schema", None) is not None or acted
            acted = acted or "type" not in schema
            schema.setdefault("type", "object")
    return acted


@watches("defer_loading")
def deferral_beta(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`defer_loading` is refused without a beta that allows it: the tools are then sent in full.

    Seen 2026-08-24. Source: docs/upstream.md#beta-headers.
    Remove when deferral needs no beta.
    """
    if context.betas & DEFERRAL_BETAS:
        return False
    acted = pop_from_each(dicts_of(body.get("tools")), "defer_loading")
    if acted:
        context.drop("defer_loading")
    return acted


@watches("defer_loading")
def all_deferred(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `At least one tool must have defer_loading=false. All tools cannot be deferred.`

    Seen 2026-08-24. Source: docs/upstream.md#messages-fields.
    Remove never: Anthropic's own rule.
    """
    tools = dicts_of(body.get("tools"))
    if not tools or not all(tool.get("defer_loading") is True for tool in tools):
        return False
    if any(map(is_run, body["tools"])):
        # None of those is deferred.
        return False
    del tools[0]["defer_loading"]
    return True


def has_deferred_marker(body: dict[str, Any]) -> bool:
    return any(
        tool.get("defer_loading") is True and "cache_control" in tool
        for tool in dicts_of(body.get("tools"))
    )


@watches("defer_loading")
def deferred_cache_marker(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `Tool 't' cannot have both defer_loading=true and cache_control set.`

    The marker moves to the last tool that is sent in full, where it covers the same tools.
    Seen 2026-08-24. Source: docs/upstream.md#messages-fields. Remove never: Anthropic's own rule.
    """
    tools = list(dicts_of(body.get("tools")))
    deferred = [tool for tool in tools if tool.get("defer_loading") is True]
    markers = [tool.pop("cache_control") for tool in deferred if "cache_control" in tool]
    full = [tool for tool in tools if tool.get("defer_loading") is not True]
    if markers and full and isinstance(markers[-1], dict):
        full[-1].setdefault("cache_control", markers[-1])
    return bool(markers)


TOOL_QUIRKS: Final[tuple[Quirk, ...]] = (
    web_search,
    eager_input_streaming,
    strict_tools,
    tool_schemas,
    deferral_beta,
    all_deferred,
    deferred_cache_marker,
)
