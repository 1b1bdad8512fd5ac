"""Tools on the messages leg: their fields, deferral, tool search, and calls paired with results.

Source: docs/upstream.md (field refusals).
"""

from __future__ import annotations

import re
from typing import Any

from simulator.prompts import Prompt, Tool
from simulator.refusals import Refusal, invalid
from simulator.script import Call
from simulator.state import Json

DEFERRING_BETAS = frozenset({"advanced-tool-use-2025-11-20", "tool-search-tool-2025-11-19"})
_NAME = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
_CUSTOM_FIELDS = frozenset(
    {
        "type",
        "name",
        "description",
        "input_schema",
        "cache_control",
        "defer_loading",
        "input_examples",
        "allowed_callers",
    }
)
_CLIENT_TOOLS = ("bash_", "text_editor_", "memory_")
_BETA_FIELDS = ("defer_loading", "input_examples", "allowed_callers")


def read_tools(call: Call, body: Json, betas: list[str], prompt: Prompt) -> None:
    """Check the tools and add them to the prompt; raises Refusal."""
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    may_defer = bool(DEFERRING_BETAS & set(betas))
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise invalid(f"tools.{number}: Input should be an object")
        kind = tool.get("type", "custom")
        if kind == "custom":
            _read_custom(call, tool, f"tools.{number}.custom", prompt, may_defer=may_defer)
        else:
            _read_typed(str(kind), tool, number, prompt, may_defer=may_defer)
        if tool.get("cache_control") is not None:
            prompt.mark_cache()
    if tools and all(tool.get("defer_loading") is True for tool in tools):
        raise invalid(
            "At least one tool must have defer_loading=false. All tools cannot be deferred."
        )
    _check_references(body, {str(tool.get("name")) for tool in tools})


def _read_custom(call: Call, tool: Json, path: str, prompt: Prompt, *, may_defer: bool) -> None:
    for key in tool:
        if key not in _CUSTOM_FIELDS or (key in _BETA_FIELDS and not may_defer):
            raise invalid(f"{path}.{key}: Extra inputs are not permitted")
    name = tool.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise invalid(f"{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise invalid(f"{path}.input_schema: Field required")
    if schema.get("type") != "object":
        raise invalid(f"{path}.input_schema.type: Input should be 'object'")
    deferred = tool.get("defer_loading") is True
    if deferred and tool.get("cache_control") is not None:
        raise invalid(
            f"Tool '{name}' cannot have both defer_loading=true and cache_control set. "
            "Tools with defer_loading cannot use prompt caching."
        )
    if not deferred:
        prompt.add_json({key: value for key, value in tool.items() if key != "cache_control"})
    prompt.tools.append(Tool(name, schema, deferred=deferred))


def _read_typed(kind: str, tool: Json, number: int, prompt: Prompt, *, may_defer: bool) -> None:
    if kind.startswith(("web_search", "web_fetch")):
        raise invalid("The use of the web search tool is not supported.")
    is_search = kind.startswith("tool_search_tool_")
    if not (is_search and may_defer) and not kind.startswith(_CLIENT_TOOLS):
        raise invalid(
            f"tools.{number}: Input tag '{kind}' found using 'type' does not match any of the "
            "expected tags: 'bash_20250124', 'custom', 'memory_20250818', 'text_editor_20250728', "
            "'tool_search_tool_bm25_20251119', 'tool_search_tool_regex_20251119'"
        )
    prompt.add_json(tool)
    kind_of_tool = "tool_search" if is_search else "function"
    prompt.tools.append(Tool(str(tool.get("name")), kind=kind_of_tool))


def _check_references(body: Json, names: set[str]) -> None:
    """Every tool_reference inside a tool_result names an offered tool."""
    for message in body.get("messages") or []:
        for block in _blocks(message, "tool_result"):
            for part in _blocks({"content": block.get("content")}, "tool_reference"):
                if part.get("tool_name") not in names:
                    raise invalid(f"Tool '{part.get('tool_name')}' not found in provided tools")


def _blocks(message: Any, kind: str) -> list[Json]:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return []
    return [item for item in content if isinstance(item, dict) and item.get("type") == kind]


def check_tool_pairs(messages: list[Json]) -> None:
    """Refuse calls without a result in the next message, and results without a call before.

    Messages of the same role that follow each other count as one; system messages in between do
    not separate a call from its result.
    """
    waiting: list[str] = []
    previous = ""
    for number, message in enumerate(messages):
        role = message["role"]
        if role == "system":
            continue
        if role == "assistant":
            if waiting and previous == "user":
                raise _unanswered(number - 1, waiting)
            waiting += [str(block["id"]) for block in _blocks(message, "tool_use")]
        else:
            results = _blocks(message, "tool_result")
            for index, block in enumerate(results):
                if block["tool_use_id"] not in waiting:
                    raise invalid(
                        f"messages.{number}.content.{index}: unexpected `tool_use_id` found in "
                        f"`tool_result` blocks: {block['tool_use_id']}. Each `tool_result` block "
                        "must have a corresponding `tool_use` block in the previous message."
                    )
                waiting.remove(block["tool_use_id"])
            if waiting and not results:
                raise _unanswered(number, waiting)
        previous = role
    if waiting:
        raise _unanswered(len(messages) - 1, waiting)


def _unanswered(number: int, waiting: list[str]) -> Refusal:
    return invalid(
        f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately "
        f"after: {', '.join(waiting)}. Each `tool_use` block must have a corresponding "
        "`tool_result` block in the next message."
    )
