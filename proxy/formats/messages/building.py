"""The Messages body of a canonical request, and the names of what had no place in it."""

from typing import Any

import orjson

from proxy.errors import UnsupportedContent
from proxy.formats.canonical import Built, ModelFacts, Reasoning, Request, Tool
from proxy.formats.messages import thinking, turns
from proxy.formats.messages.blocks import drop, text_block

NAME = "messages"
# `max_tokens` is mandatory here; this stands in when neither the request nor the catalog says one.
FALLBACK_MAX_TOKENS = 4096
_MAX_USER_ID = 256
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {}}
_FREE_TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's input as plain text."}},
    "required": ["input"],
}


def build_request(request: Request, model: ModelFacts) -> Built:
    """Write `request` for the Messages endpoint.

    A request that came in this format is written as it was read (only `max_tokens` is limited and
    reasoning of other families left out); quirks of single models are not this function's business.
    Raises `UnsupportedContent` when content would be lost.
    """
    dropped: list[str] = []
    body: dict[str, Any] = {"model": model.id or request.model}
    body["max_tokens"] = _max_tokens(request, model)
    if request.source == NAME:
        _write_as_read(body, request, dropped)
    else:
        _write_translated(body, request, model, dropped)
    return Built(body=body, dropped=dropped)


def _max_tokens(request: Request, model: ModelFacts) -> int:
    wanted, limit = request.max_output_tokens, model.max_output_tokens
    if wanted is None:
        return limit or FALLBACK_MAX_TOKENS
    return min(wanted, limit) if limit else wanted


def _write_shared(body: dict[str, Any], request: Request) -> None:
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.top_k is not None:
        body["top_k"] = request.top_k
    if request.stream is not None:
        body["stream"] = request.stream


def _write_as_read(body: dict[str, Any], request: Request, dropped: list[str]) -> None:
    body["messages"] = turns.as_read(request, dropped)
    system = request.system
    if system is not None:
        plain = request.system_plain and len(system) == 1
        body["system"] = system[0].text if plain else [text_block(one, True) for one in system]
    if request.tools is not None:
        body["tools"] = [_tool_as_read(tool) for tool in request.tools]
    if request.stop is not None:
        body["stop_sequences"] = request.stop
    if request.user is not None or request.metadata is not None:
        body["metadata"] = dict(request.metadata or {})
        if request.user is not None:
            body["metadata"]["user_id"] = request.user
    _write_shared(body, request)
    body.update(request.extras)
    _tool_choice_as_read(body, request)
    _write_reasoning_as_read(body, request.reasoning)
    if request.output_format is not None:
        config = {**body.get("output_config", {})}
        config["format"] = {"type": "json_schema", "schema": request.output_format.schema}
        body["output_config"] = config


def _tool_as_read(tool: Tool) -> dict[str, Any]:
    if tool.kind == "server":
        return tool.extras or {}
    entry: dict[str, Any] = {"name": tool.name, "input_schema": tool.schema}
    if tool.description is not None:
        entry["description"] = tool.description
    if tool.strict is not None:
        entry["strict"] = tool.strict
    if tool.defer_loading is not None:
        entry["defer_loading"] = tool.defer_loading
    if tool.cache is not None:
        entry["cache_control"] = tool.cache
    entry.update(tool.extras or {})
    return entry


def _tool_choice_as_read(body: dict[str, Any], request: Request) -> None:
    choice = request.tool_choice
    if choice is None:
        return
    entry: dict[str, Any] = {"type": choice.mode}
    if choice.name is not None:
        entry["name"] = choice.name
    if request.parallel_tools is not None:
        entry["disable_parallel_tool_use"] = not request.parallel_tools
    entry.update(choice.extras or {})
    body["tool_choice"] = entry


def _write_reasoning_as_read(body: dict[str, Any], reasoning: Reasoning | None) -> None:
    if reasoning is None:
        return
    if reasoning.mode is not None:
        entry: dict[str, Any] = {"type": reasoning.mode}
        if reasoning.budget_tokens is not None:
            entry["budget_tokens"] = reasoning.budget_tokens
        if reasoning.display is not None:
            entry["display"] = reasoning.display
        entry.update(reasoning.extras or {})
        body["thinking"] = entry
    if reasoning.effort is not None:
        body["output_config"] = {**body.get("output_config", {}), "effort": reasoning.effort}


def _write_translated(
    body: dict[str, Any], request: Request, model: ModelFacts, dropped: list[str]
) -> None:
    if request.n is not None and request.n > 1:
        raise UnsupportedContent("messages gives one answer; n must be 1", param="n")
    system, body["messages"] = turns.translated(request, dropped)
    _write_shared(body, request)
    _limit_sampling(body, dropped)
    if request.stop:
        stop = [one for one in request.stop if one.strip()]
        if stop:
            body["stop_sequences"] = stop
        if len(stop) < len(request.stop):
            drop(dropped, "stop")
    if request.user is not None:
        if len(request.user) <= _MAX_USER_ID:
            body["metadata"] = {"user_id": request.user}
        else:
            drop(dropped, "user")
    _write_tools(body, request, dropped)
    instruction = _write_output_format(body, request, model, dropped)
    if instruction is not None:
        system.append({"type": "text", "text": instruction})
    if system:
        body["system"] = system
    thinking.apply(body, request, model, dropped)
    _name_the_rest(request, dropped)


def _limit_sampling(body: dict[str, Any], dropped: list[str]) -> None:
    """OpenAI's temperature goes to 2, Claude's to 1; newer Claude models refuse it with `top_p`."""
    temperature = body.get("temperature")
    if temperature is None:
        return
    if temperature > 1:
        body["temperature"] = 1.0
        drop(dropped, "temperature")
    if temperature == 1 and body.get("top_p", 1) != 1:
        del body["temperature"]
    elif body.pop("top_p", 1) != 1:
        drop(dropped, "top_p")


def _name_the_rest(request: Request, dropped: list[str]) -> None:
    for name in (
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "metadata",
        "verbosity",
        "prompt_cache_key",
    ):
        value = getattr(request, name)
        # Zero and false ask for nothing; a seed of 0 is a seed.
        if value or (name == "seed" and value is not None):
            drop(dropped, name)
    for name in request.extras:
        drop(dropped, name)


def _write_tools(body: dict[str, Any], request: Request, dropped: list[str]) -> None:
    entries: list[dict[str, Any]] = []
    for tool in request.tools or []:
        entry = _offered(tool, dropped)
        if entry is not None:
            entries.append(entry)
    choice = request.tool_choice
    if not entries:
        if choice is not None and choice.mode in ("any", "tool"):
            drop(dropped, "tool_choice")
        return
    body["tools"] = entries
    wire: dict[str, Any] = {}
    if choice is not None:
        if choice.mode != "tool":
            wire["type"] = choice.mode
        elif any(entry.get("name") == choice.name for entry in entries):
            wire.update(type="tool", name=choice.name)
        else:
            drop(dropped, "tool_choice")
        for name in choice.extras or {}:
            drop(dropped, f"tool_choice.{name}")
    if request.parallel_tools is False and wire.get("type") != "none":
        wire.setdefault("type", "auto")
        wire["disable_parallel_tool_use"] = True
    if wire:
        body["tool_choice"] = wire


def _offered(tool: Tool, dropped: list[str]) -> dict[str, Any] | None:
    """A tool of another format; None for one that another vendor's server would have run.

    Deferred tools are offered at once: the search that would load them is not there.
    """
    if tool.kind == "server":
        if tool.family == "anthropic" and tool.extras:
            return tool.extras
        drop(dropped, f"tools.{tool.name}")
        return None
    if tool.strict:
        drop(dropped, "tools.strict")
    description = tool.description
    if tool.kind == "custom":
        schema = _FREE_TEXT
        description = _with_grammar(description, tool.extras)
    else:
        schema = _object_schema(tool.schema)
    entry: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if description:
        entry["description"] = description
    if tool.cache is not None:
        entry["cache_control"] = tool.cache
    return entry


def _with_grammar(description: str | None, extras: dict[str, Any] | None) -> str | None:
    """A free-text tool's grammar is all that tells the model how its input must look."""
    grammar = (extras or {}).get("format")
    definition = grammar.get("definition") if isinstance(grammar, dict) else None
    if not isinstance(definition, str):
        return description
    return f"{description or ''}\n\nThe input must follow this grammar:\n{definition}".strip()


def _object_schema(schema: dict[str, Any] | None) -> dict[str, Any]:
    """Claude's endpoint takes object schemas only, and no `$schema`."""
    if not schema:
        return _ANY_OBJECT
    entry = {key: value for key, value in schema.items() if key != "$schema"}
    if entry.get("type") != "object":
        entry["type"] = "object"
    return entry


def _write_output_format(
    body: dict[str, Any], request: Request, model: ModelFacts, dropped: list[str]
) -> str | None:
    """Ask for JSON; the instruction for the system prompt where the model has no such mode."""
    wanted = request.output_format
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "json_object" or wanted.schema is None:
        return "Answer with one JSON object and nothing else: no other text, no code fence."
    if model.structured_outputs:
        schema = {key: value for key, value in wanted.schema.items() if key != "$schema"}
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return None
    try:
        schema_text = orjson.dumps(wanted.schema).decode()
    except TypeError:
        drop(dropped, "response_format")
        return None
    return (
        "Answer with one JSON value that follows this JSON schema and nothing else: no other text,"
        f" no code fence.\n{schema_text}"
    )
