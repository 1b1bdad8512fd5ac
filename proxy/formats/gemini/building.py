"""The canonical request as a `generateContent` body, and the names of what had no place in it."""

from typing import Any

from proxy.errors import InvalidRequest
from proxy.formats.canonical import Built, ModelFacts, Reasoning, Request, Tool, ToolChoice
from proxy.formats.gemini import writing
from proxy.formats.gemini.fields import Body
from proxy.formats.gemini.requests import GeminiRequest

_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_MODES = {"auto": "AUTO", "any": "ANY", "tool": "ANY", "none": "NONE"}
_ANY_OBJECT: Body = {"type": "object", "properties": {}}
_FREE_TEXT: Body = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's input as plain text."}},
    "required": ["input"],
}
_SAMPLING = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "stopSequences": "stop",
    "candidateCount": "n",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}


def build_request(request: Request, model: ModelFacts) -> Built:
    """Raises `UnsupportedContent` when content would be lost."""
    dropped: list[str] = []
    body: Body = {"model": model.id or request.model}
    if request.stream is not None:
        body["stream"] = request.stream
    own = isinstance(request, GeminiRequest)
    config = _config(request, model)
    if isinstance(request, GeminiRequest):
        _write_as_read(body, request, config)
    else:
        system, body["contents"] = writing.translated(request, dropped)
        if not body["contents"]:
            raise InvalidRequest("messages: at least one message with content is required")
        if system:
            body["systemInstruction"] = {"parts": system}
        _write_tools(body, request, dropped)
        _write_thinking(config, request.reasoning)
        _write_format(config, request)
        _name_the_rest(request, dropped)
    if config:
        body["generationConfig"] = config
    if own:
        for name, value in request.extras.items():
            _put(body, name, value)
    return Built(body=body, dropped=list(dict.fromkeys(dropped)))


def _config(request: Request, model: ModelFacts) -> Body:
    config: Body = {}
    for name, ours in _SAMPLING.items():
        value = getattr(request, ours)
        if value is not None:
            config[name] = value
    limit = request.max_output_tokens
    if limit is not None:
        config["maxOutputTokens"] = min(limit, model.max_output_tokens or limit)
    return config


def _put(body: Body, name: str, value: Any) -> None:
    """Extras of inner objects are named by their path."""
    *path, last = name.split(".")
    for step in path:
        body = body.setdefault(step, {})
    body[last] = value


# What came in this format.


def _write_as_read(body: Body, request: GeminiRequest, config: Body) -> None:
    if request.alt is not None:
        body["alt"] = request.alt
    body["contents"] = writing.as_read(request)
    if request.system is not None:
        body["systemInstruction"] = writing.system_as_read(request.system)
    if request.all_tools is not None:
        body["tools"] = _grouped(request.all_tools)
    if request.tool_choice is not None:
        calling: Body = {"mode": _mode(request.tool_choice)}
        if request.allowed is not None:
            calling["allowedFunctionNames"] = request.allowed
        body["toolConfig"] = {"functionCallingConfig": calling}
    _write_own_thinking(config, request)
    config.update(request.format_fields or {})


def _mode(choice: ToolChoice) -> str:
    word: str = (choice.extras or {}).get("mode") or _MODES[choice.mode]
    return word


def _grouped(tools: list[Tool]) -> list[Body]:
    groups: dict[int, Body] = {}
    for tool in tools:
        extras = tool.extras or {}
        group = groups.setdefault(extras["group"], {})
        if tool.kind == "server":
            group[tool.name] = extras["value"]
            continue
        entry: Body = {"name": tool.name}
        if tool.description is not None:
            entry["description"] = tool.description
        entry.update(extras["entry"])
        if tool.schema is not None and "parameters" not in entry:
            entry["parametersJsonSchema"] = tool.schema
        group.setdefault("functionDeclarations", []).append(entry)
    return list(groups.values())


def _write_own_thinking(config: Body, request: GeminiRequest) -> None:
    thinking: Body = {}
    if request.includes_thoughts is not None:
        thinking["includeThoughts"] = request.includes_thoughts
    reasoning = request.reasoning
    if reasoning is not None:
        if reasoning.effort is not None:
            thinking["thinkingLevel"] = _LEVELS[reasoning.effort]
        if reasoning.mode == "adaptive":
            thinking["thinkingBudget"] = -1
        elif reasoning.budget_tokens is not None:
            thinking["thinkingBudget"] = reasoning.budget_tokens
    if thinking:
        config["thinkingConfig"] = thinking


# What came in another format.


def _write_tools(body: Body, request: Request, dropped: list[str]) -> None:
    declared: list[Body] = []
    for tool in request.tools or []:
        if tool.kind == "server":
            dropped.append(f"tools.{tool.name}")
            continue
        if tool.strict:
            dropped.append("tools.strict")
        entry: Body = {"name": tool.name}
        description = _with_grammar(tool) if tool.kind == "custom" else tool.description
        if description:
            entry["description"] = description
        schema = _FREE_TEXT if tool.kind == "custom" else tool.schema
        entry["parametersJsonSchema"] = schema or _ANY_OBJECT
        declared.append(entry)
    choice = request.tool_choice
    if not declared:
        if choice is not None and choice.mode in ("any", "tool"):
            dropped.append("tool_choice")
        return
    body["tools"] = [{"functionDeclarations": declared}]
    if request.parallel_tools is False:
        dropped.append("parallel_tool_calls")
    if choice is None:
        return
    calling: Body = {"mode": _MODES[choice.mode]}
    if choice.mode == "tool" and choice.name is not None:
        calling["allowedFunctionNames"] = [choice.name]
    body["toolConfig"] = {"functionCallingConfig": calling}


def _with_grammar(tool: Tool) -> str | None:
    """A free-text tool's grammar is all that tells the model how its input must look."""
    grammar = (tool.extras or {}).get("format")
    definition = grammar.get("definition") if isinstance(grammar, dict) else None
    if not isinstance(definition, str):
        return tool.description
    return f"{tool.description or ''}\n\nThe input must follow this grammar:\n{definition}".strip()


def _write_thinking(config: Body, reasoning: Reasoning | None) -> None:
    if reasoning is None:
        return
    thinking: Body = {}
    if reasoning.mode == "disabled" or reasoning.effort == "none":
        thinking["thinkingBudget"] = 0
    elif reasoning.effort is not None:
        thinking["thinkingLevel"] = _LEVELS.get(reasoning.effort, "HIGH")
    elif reasoning.budget_tokens is not None:
        thinking["thinkingBudget"] = reasoning.budget_tokens
    elif reasoning.mode == "adaptive":
        thinking["thinkingBudget"] = -1
    shown = reasoning.mode in ("enabled", "adaptive") and reasoning.display != "omitted"
    if shown or reasoning.display == "summarized" or reasoning.summary is not None:
        thinking["includeThoughts"] = True
    if thinking:
        config["thinkingConfig"] = thinking


def _write_format(config: Body, request: Request) -> None:
    wanted = request.output_format
    if wanted is None or wanted.kind == "text":
        return
    config["responseMimeType"] = "application/json"
    if wanted.kind == "json_schema" and wanted.schema is not None:
        config["responseJsonSchema"] = wanted.schema


def _name_the_rest(request: Request, dropped: list[str]) -> None:
    for name in ("user", "metadata", "verbosity", "prompt_cache_key"):
        if getattr(request, name):
            dropped.append(name)
    dropped += [name for name, value in request.extras.items() if value is not None]
