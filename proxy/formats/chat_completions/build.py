"""The canonical request as a Chat Completions body for Copilot.

A request that came in this format is written as it came; one of another format is fitted to what
the endpoint takes. Source: docs/upstream.md#chat-completions.
"""

from typing import Any

from proxy.formats.canonical import Built, ModelFacts, Reasoning, Request, Tool
from proxy.formats.chat_completions.build_messages import MARKED_VENDORS, build_messages
from proxy.formats.chat_completions.build_runs import fit_tools
from proxy.formats.chat_completions.parse import ChatRequest
from proxy.formats.chat_completions.wire import FAMILY, NAME

Body = dict[str, Any]

_OPENAI_VENDORS = ("OpenAI", "Azure OpenAI")
_ANTHROPIC = "Anthropic"
# From the least to the most. Source: docs/upstream.md#models.
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Tokens below which a budget means that effort.
_BUDGETS = (("low", 4096), ("medium", 16384))
_PLAIN_KNOBS = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
)
# What a free-text tool becomes: every model can fill in one string.
_CUSTOM_SCHEMA: Body = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}


def build_request(request: Request, model: ModelFacts) -> Built:
    """Raises `UnsupportedContent` when content would be lost."""
    dropped: list[str] = []
    own = request.source == NAME
    body: Body = {"model": model.id, "messages": build_messages(request, model, dropped)}
    for name in _PLAIN_KNOBS:
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    _write_tools(body, request, model, dropped)
    _write_limit(body, request, model)
    _write_reasoning(body, request, model, dropped)
    _write_output_format(body, request, model, dropped)
    _write_stream(body, request)
    if request.stop is not None:
        plain = isinstance(request, ChatRequest) and request.plain_stop and len(request.stop) == 1
        body["stop"] = request.stop[0] if plain else request.stop
    _write_openai_knobs(body, request, model, dropped)
    if own:
        body.update(request.extras)
    else:
        dropped += [name for name, value in request.extras.items() if value is not None]
    return Built(body=body, dropped=list(dict.fromkeys(dropped)))


def _write_openai_knobs(
    body: Body, request: Request, model: ModelFacts, dropped: list[str]
) -> None:
    own = request.source == NAME
    for name in ("verbosity", "prompt_cache_key"):
        value = getattr(request, name)
        if value is None:
            continue
        if own or model.vendor in _OPENAI_VENDORS:
            body[name] = value
        else:
            dropped.append(name)
    for name in ("top_k", "n", "user", "metadata"):
        value = getattr(request, name)
        if value is None:
            continue
        if own:
            body[name] = value
        elif not (name == "n" and value == 1):
            dropped.append(name)


def _write_stream(body: Body, request: Request) -> None:
    if request.stream is not None:
        body["stream"] = request.stream
    if request.source != NAME:
        # Without it OpenAI models report no usage in a stream.
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        return
    rest = request.stream_options if isinstance(request, ChatRequest) else None
    if request.include_usage is not None:
        body["stream_options"] = {**(rest or {}), "include_usage": request.include_usage}
    elif rest is not None:
        body["stream_options"] = rest


def _write_limit(body: Body, request: Request, model: ModelFacts) -> None:
    limit = request.max_output_tokens
    if limit is None:
        return
    ceilings = [model.max_output_tokens]
    if not request.stream:
        ceilings.append(model.max_non_streaming_output_tokens)
    limit = min([limit, *(ceiling for ceiling in ceilings if ceiling is not None)])
    name = "max_completion_tokens" if model.vendor in _OPENAI_VENDORS else "max_tokens"
    if not model.vendor and isinstance(request, ChatRequest) and request.limit_field:
        name = request.limit_field
    body[name] = limit


def _write_reasoning(body: Body, request: Request, model: ModelFacts, dropped: list[str]) -> None:
    reasoning = request.reasoning
    if reasoning is None:
        return
    own = request.source == NAME
    wanted = reasoning.effort if own else _effort_wanted(reasoning, model)
    if wanted is not None:
        effort = clamp_effort(wanted, model)
        if effort is None:
            dropped.append("reasoning_effort")
        else:
            body["reasoning_effort"] = effort
    if reasoning.budget_tokens is not None and (own or reasoning.budget_tokens > 0):
        if model.vendor == _ANTHROPIC or (own and not model.vendor):
            _write_budget(body, reasoning.budget_tokens, model, dropped)
        elif "reasoning_effort" not in body:
            dropped.append("thinking")
    _drop_words(reasoning, body, dropped)


def _effort_wanted(reasoning: Reasoning, model: ModelFacts) -> str | None:
    """Another format's wish as an effort, for models that know efforts but no budgets."""
    if reasoning.effort is not None or model.vendor == _ANTHROPIC or not model.efforts:
        return reasoning.effort
    budget = reasoning.budget_tokens
    if reasoning.mode == "disabled" or budget == 0:
        return "none"
    if budget is None or budget < 0:
        return None
    return next((effort for effort, below in _BUDGETS if budget < below), "high")


def _drop_words(reasoning: Reasoning, body: Body, dropped: list[str]) -> None:
    said = "reasoning_effort" in body or "thinking_budget" in body
    if reasoning.mode in ("adaptive", "enabled") and not said:
        dropped.append("thinking")
    if reasoning.display is not None:
        dropped.append("thinking.display")
    if reasoning.summary is not None:
        dropped.append("reasoning.summary")
    dropped += [f"reasoning.{name}" for name in reasoning.extras or {}]


def _write_budget(body: Body, budget: int, model: ModelFacts, dropped: list[str]) -> None:
    low, high = model.min_thinking_budget, model.max_thinking_budget
    if high is not None:
        budget = min(budget, high)
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if model.vendor and limit is not None:
        # Anthropic counts thoughts as output and refuses a budget that leaves no room for words.
        budget = min(budget, limit - 1)
    if low is not None and budget < low:
        if limit is not None and low >= limit:
            dropped.append("thinking")
            return
        budget = low
    body["thinking_budget"] = budget


def clamp_effort(effort: str, model: ModelFacts) -> str | None:
    """The nearest lower effort of the model, else its lowest; None when it knows no efforts."""
    if effort in model.efforts:
        return effort
    if not model.efforts:
        # Nothing known about the model at all: the upstream decides.
        return None if model.vendor else effort
    known = [word for word in _EFFORTS if word in model.efforts]
    if effort not in _EFFORTS or not known:
        return known[0] if known else model.efforts[0]
    lower = [word for word in known if _EFFORTS.index(word) < _EFFORTS.index(effort)]
    return lower[-1] if lower else known[0]


def _write_output_format(
    body: Body, request: Request, model: ModelFacts, dropped: list[str]
) -> None:
    wanted = request.output_format
    if wanted is None:
        return
    if wanted.kind != "json_schema":
        body["response_format"] = {"type": wanted.kind}
        return
    if not model.structured_outputs:
        dropped.append("response_format")
        return
    name = wanted.name
    if name is None and request.source != NAME:
        # OpenAI asks for a name; the other formats have none.
        name = "response"
    schema = {
        "name": name,
        "description": wanted.description,
        "schema": wanted.schema,
        "strict": wanted.strict,
    }
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {key: value for key, value in schema.items() if value is not None},
    }


# Tools


def _write_tools(body: Body, request: Request, model: ModelFacts, dropped: list[str]) -> None:
    if request.source == NAME:
        _write_own_tools(body, request)
        return
    tools: list[Any] = [
        entry for tool in request.tools or [] if (entry := _fit_tool(tool, dropped))
    ]
    names = {entry["function"]["name"] for entry in tools}
    if request.tool_run is not None:
        tools.append(fit_tools(request.tool_run))
        names = {tool.name for tool in request.tool_run.entries}
    if not tools:
        # OpenAI refuses a choice among no tools.
        return
    if model.vendor not in MARKED_VENDORS and request.tool_run is None:
        tools = [{k: v for k, v in tool.items() if k != "copilot_cache_control"} for tool in tools]
    body["tools"] = tools
    choice = request.tool_choice
    if choice is not None and (choice.mode != "tool" or choice.name in names):
        body["tool_choice"] = _choice_word(choice.mode) or {
            "type": "function",
            "function": {"name": choice.name},
        }
    elif choice is not None:
        dropped.append("tool_choice")
    if request.parallel_tools is not None:
        body["parallel_tool_calls"] = request.parallel_tools


def _fit_tool(tool: Tool, dropped: list[str]) -> Body | None:
    if tool.kind == "server" and tool.family != FAMILY:
        # The vendor's endpoint would run it; here nobody can.
        dropped.append(f"tools.{tool.name}")
        return None
    function: Body = {"name": tool.name}
    description = _with_grammar(tool) if tool.kind == "custom" else tool.description
    if description is not None:
        function["description"] = description
    schema = _CUSTOM_SCHEMA if tool.kind == "custom" else tool.schema
    function["parameters"] = schema or {"type": "object", "properties": {}}
    if tool.strict is not None:
        function["strict"] = tool.strict
    entry: Body = {"type": "function", "function": function}
    if tool.cache is not None:
        entry["copilot_cache_control"] = {"type": "ephemeral"}
    return entry


def _with_grammar(tool: Tool) -> str | None:
    """A free-text tool's grammar is all that tells the model how its input must look."""
    grammar = (tool.extras or {}).get("format")
    definition = grammar.get("definition") if isinstance(grammar, dict) else None
    if not isinstance(definition, str):
        return tool.description
    said = tool.description or ""
    return f"{said}\n\nThe input must follow this grammar:\n{definition}".strip()


def _write_own_tools(body: Body, request: Request) -> None:
    if request.tools is not None:
        legacy = [tool for tool in request.tools if tool.extras and "legacy" in tool.extras]
        if legacy:
            body["functions"] = [_own_function(tool) for tool in legacy]
        if len(legacy) < len(request.tools) or not request.tools:
            body["tools"] = [_own_tool(tool) for tool in request.tools if tool not in legacy]
    choice = request.tool_choice
    if choice is not None:
        extras = choice.extras or {}
        if "legacy" in extras:
            body["function_call"] = _choice_word(choice.mode) or {"name": choice.name}
        elif "entry" in extras:
            body["tool_choice"] = extras["entry"]
        else:
            kind = "custom" if choice.custom else "function"
            body["tool_choice"] = (
                extras.get("word")
                or _choice_word(choice.mode)
                or {"type": kind, kind: {"name": choice.name}}
            )
    if request.parallel_tools is not None:
        body["parallel_tool_calls"] = request.parallel_tools


def _choice_word(mode: str) -> str | None:
    return {"auto": "auto", "none": "none", "any": "required"}.get(mode)


def _own_tool(tool: Tool) -> Body:
    extras = tool.extras or {}
    if tool.kind == "server":
        return extras
    if tool.kind == "custom":
        custom = {"name": tool.name, **extras.get("custom", {})}
        if tool.description is not None:
            custom["description"] = tool.description
        return {"type": "custom", "custom": custom, **extras.get("entry", {})}
    return {"type": "function", "function": _own_function(tool), **extras.get("entry", {})}


def _own_function(tool: Tool) -> Body:
    function: Body = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.schema is not None:
        function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    function.update((tool.extras or {}).get("function", {}))
    return function
