"""Prompts and replies: what was asked, free of its wire format, and what is answered.

The reply is decided by the last text of the user: it is echoed; `call <tool> {json}` makes tool
calls; results of tools are told back. Everything is deterministic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from simulator.state import Json

_CALL = re.compile(r"\bcall ([A-Za-z0-9_.:/-]+)")
_DIRECTIVE = re.compile(r"\[\[.*?\]\]", re.DOTALL)
_IMAGE_TOKENS = 1000
RESULT_CHARS = 200


@dataclass(slots=True)
class Part:
    """A stretch of the prompt: the unit of the prompt cache."""

    text: str
    tokens: int


@dataclass(slots=True)
class Tool:
    """A tool as offered. `kind` is `function`, `custom`, `tool_search` or `web_search`."""

    name: str
    schema: Json = field(default_factory=dict)
    kind: str = "function"
    deferred: bool = False
    namespace: str | None = None


@dataclass(slots=True)
class Prompt:
    """A request in neutral form. `cache_until` is the number of parts before the last marker."""

    parts: list[Part] = field(default_factory=list)
    user_text: str = ""
    tool_results: list[str] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    schema: Json | None = None
    wants_json: bool = False
    wants_thinking: bool = False
    forced_tool: str | None = None
    tools_forbidden: bool = False
    max_output_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    cache_until: int = 0

    def add(self, text: str, overhead: int = 0) -> None:
        if text or overhead:
            self.parts.append(Part(text, (len(text) + 3) // 4 + overhead))

    def add_json(self, value: Any) -> None:
        self.add(orjson.dumps(value).decode())

    def add_image(self, data: str) -> None:
        self.parts.append(Part(f"image:{len(data)}:{data[-64:]}", _IMAGE_TOKENS))

    def mark_cache(self) -> None:
        self.cache_until = len(self.parts)

    @property
    def tokens(self) -> int:
        return sum(part.tokens for part in self.parts)


@dataclass(slots=True)
class ToolCall:
    name: str
    arguments: str
    kind: str = "function"
    deferred: bool = False
    namespace: str | None = None


@dataclass(slots=True)
class Reply:
    """What is answered. `finish` is one of `stop`, `length`, `tool_calls`, `stop_sequence`,
    `content_filter`, `refusal`, `error` or another word that a scenario sets.

    `text_pieces` overrides how the text is cut; `search_query` makes a web search item.
    """

    text: str = ""
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finish: str = "stop"
    stop_sequence: str | None = None
    text_pieces: list[str] | None = None
    argument_pieces: int | None = None
    search_query: str | None = None
    interleave_calls: bool = False
    index_gap: int = 0
    stream_summary: bool = False
    content_filters: bool = False
    redacted_thinking: bool = False


def visible_text(texts: list[str]) -> str:
    """Return the last text that a person wrote, passing over what clients inject."""
    for words in reversed(texts):
        if not words.lstrip().startswith(("<system-reminder>", "<environment_context>")):
            return words
    return texts[-1] if texts else ""


def compose(prompt: Prompt) -> Reply:
    """Decide the reply to a prompt."""
    asked = _DIRECTIVE.sub("", prompt.user_text).strip()
    calls = [] if prompt.tools_forbidden or prompt.tool_results else _calls(prompt, asked)
    if calls:
        reply = Reply(calls=calls, finish="tool_calls")
    elif prompt.schema is not None or prompt.wants_json:
        reply = Reply(text=orjson.dumps(example_of(prompt.schema or {"type": "object"})).decode())
    elif prompt.tool_results:
        reply = Reply(text=f"Tool said: {' | '.join(prompt.tool_results)[:RESULT_CHARS]}")
    else:
        reply = Reply(text=f"You said: {asked}")
    if _searches(prompt, asked):
        reply.search_query = asked
        reply.text = f"I searched the web. You said: {asked} (see the source)."
    if prompt.wants_thinking:
        reply.thinking = f"The user wrote {len(asked)} characters; I answer in a friendly way."
    _obey_limits(prompt, reply)
    return reply


def _searches(prompt: Prompt, asked: str) -> bool:
    offered = any(tool.kind == "web_search" for tool in prompt.tools)
    return offered and "search" in asked.lower() and not prompt.tool_results


def _obey_limits(prompt: Prompt, reply: Reply) -> None:
    for stop in prompt.stop:
        if stop and stop in reply.text:
            reply.text = reply.text.partition(stop)[0]
            reply.finish, reply.stop_sequence = "stop_sequence", stop
    limit = prompt.max_output_tokens
    if limit is not None and len(reply.text) > limit * 4:
        reply.text = reply.text[: limit * 4]
        reply.finish = "length"


def _calls(prompt: Prompt, asked: str) -> list[ToolCall]:
    tools = {tool.name: tool for tool in prompt.tools}
    calls: list[ToolCall] = []
    for match in _CALL.finditer(asked):
        tool = tools.get(match[1])
        if tool is not None:
            calls.append(_call(tool, asked[match.end() :].lstrip()))
    if not calls and prompt.forced_tool in tools:
        calls.append(_call(tools[prompt.forced_tool], ""))
    elif not calls and prompt.forced_tool == "*" and prompt.tools:
        calls.append(_call(prompt.tools[0], ""))
    return calls


def _call(tool: Tool, rest: str) -> ToolCall:
    if tool.kind == "custom":
        arguments = rest or "input for " + tool.name
    else:
        arguments = _leading_json(rest) or orjson.dumps(example_of(tool.schema)).decode()
    return ToolCall(tool.name, arguments, tool.kind, tool.deferred, tool.namespace)


def _leading_json(words: str) -> str | None:
    """Return the JSON object that `words` begins with, found by its braces."""
    if not words.startswith("{"):
        return None
    end = words.find("}")
    while end != -1:
        try:
            orjson.loads(words[: end + 1])
        except orjson.JSONDecodeError:
            end = words.find("}", end + 1)
        else:
            return words[: end + 1]
    return None


def example_of(schema: Json, depth: int = 0) -> Any:
    """Return a value that fits the JSON schema: the first of everything that is allowed."""
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example_of(schema[key][0], depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        fields = schema.get("properties", {})
        wanted = schema.get("required", list(fields) if depth < 4 else [])
        return {name: example_of(fields.get(name, {}), depth + 1) for name in wanted}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [example_of(schema.get("items", {}), depth + 1)] * count
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    return None if kind == "null" else "example"
