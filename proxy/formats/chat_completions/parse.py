"""A client's Chat Completions body, read into the canonical request.

What has two spellings on this wire (limits, legacy functions, a single stop string) is remembered,
so that building it again gives the same body.
"""

from typing import Any

from proxy.errors import InvalidRequest
from proxy.formats.canonical import OutputFormat, Reasoning, Request, Tool, ToolChoice
from proxy.formats.chat_completions.checks import check
from proxy.formats.chat_completions.fields import (
    Body,
    Fields,
    find_cache,
    mapping,
    string,
    without,
    wrong,
)
from proxy.formats.chat_completions.parse_messages import parse_messages
from proxy.formats.chat_completions.wire import FAMILY, NAME


class ChatRequest(Request, kw_only=True):
    """A request as a Chat Completions client spelled it.

    `limit_field` is the name under which the output limit came, `plain_stop` says that stop was one
    string, `stream_options` is what else stood in that object (None: there was none).
    """

    limit_field: str | None = None
    plain_stop: bool = False
    stream_options: dict[str, Any] | None = None


def parse_request(body: Body) -> Request:
    """Raises `InvalidRequest` naming the field that is missing or of the wrong type."""
    check(body)
    fields = Fields(body)
    model = fields.text("model")
    if not model:
        raise InvalidRequest("'model' is required.", param="model")
    messages = parse_messages(fields.take("messages", list, "a list"))
    limit_field = next(
        (f for f in ("max_completion_tokens", "max_tokens") if f in fields.rest), None
    )
    limit = fields.whole(limit_field) if limit_field else None
    stop = fields.take("stop", (str, list), "a string or a list of strings")
    if isinstance(stop, list) and not all(isinstance(word, str) for word in stop):
        raise wrong("stop", "a string or a list of strings")
    stream_options = fields.mapping("stream_options")
    include_usage = None
    if stream_options is not None:
        stream_options = dict(stream_options)
        include_usage = stream_options.pop("include_usage", None)
        if include_usage is not None and not isinstance(include_usage, bool):
            raise wrong("stream_options.include_usage", "true or false")
    tools = _tools(fields)
    tool_choice = _tool_choice(fields)
    return ChatRequest(
        source=NAME,
        model=model,
        messages=messages,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tools=fields.flag("parallel_tool_calls"),
        max_output_tokens=limit,
        limit_field=limit_field,
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.whole("top_k"),
        stop=[stop] if isinstance(stop, str) else stop,
        plain_stop=isinstance(stop, str),
        seed=fields.whole("seed"),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
        logprobs=fields.flag("logprobs"),
        top_logprobs=fields.whole("top_logprobs"),
        n=fields.whole("n"),
        user=fields.text("user"),
        metadata=fields.mapping("metadata"),
        verbosity=fields.text("verbosity"),
        reasoning=_reasoning(fields),
        output_format=_output_format(fields),
        prompt_cache_key=fields.text("prompt_cache_key"),
        stream=fields.flag("stream"),
        include_usage=include_usage,
        stream_options=stream_options,
        extras=fields.rest,
    )


def _reasoning(fields: Fields) -> Reasoning | None:
    effort = fields.text("reasoning_effort")
    budget = fields.whole("thinking_budget")
    if effort is None and budget is None:
        return None
    return Reasoning(effort=effort, budget_tokens=budget)


def _output_format(fields: Fields) -> OutputFormat | None:
    value = fields.mapping("response_format")
    if value is None:
        return None
    match value.get("type"):
        case "text":
            return OutputFormat(kind="text")
        case "json_object":
            return OutputFormat(kind="json_object")
        case "json_schema":
            return _schema(mapping(value.get("json_schema"), "response_format.json_schema"))
        case str():
            # A kind of a later day: only the wire that knows it can take it.
            fields.rest["response_format"] = value
            return None
        case _:
            raise wrong("response_format.type", "a string")


def _schema(value: Body) -> OutputFormat:
    where = "response_format.json_schema"
    schema, strict = value.get("schema"), value.get("strict")
    if schema is not None:
        mapping(schema, f"{where}.schema")
    if strict is not None and not isinstance(strict, bool):
        raise wrong(f"{where}.strict", "true or false")
    for name in ("name", "description"):
        if value.get(name) is not None:
            string(value[name], f"{where}.{name}")
    return OutputFormat(
        kind="json_schema",
        name=value.get("name"),
        schema=schema,
        strict=strict,
        description=value.get("description"),
    )


def _tools(fields: Fields) -> list[Tool] | None:
    entries = fields.take("tools", list, "a list")
    legacy = fields.take("functions", list, "a list")
    if entries is None and legacy is None:
        return None
    tools = [_tool(entry, f"tools[{i}]") for i, entry in enumerate(entries or [])]
    for i, entry in enumerate(legacy or []):
        tool = _function(mapping(entry, f"functions[{i}]"), f"functions[{i}]")
        tool.extras = {**(tool.extras or {}), "legacy": True}
        tools.append(tool)
    return tools


def _tool(value: Any, where: str) -> Tool:
    entry = mapping(value, where)
    kind = string(entry.get("type"), f"{where}.type")
    if kind == "function":
        tool = _function(mapping(entry.get("function"), f"{where}.function"), f"{where}.function")
        rest = without(entry, "type", "function")
        if rest:
            tool.extras = {**(tool.extras or {}), "entry": rest}
        tool.cache = find_cache(entry)
        return tool
    if kind == "custom":
        custom = mapping(entry.get("custom"), f"{where}.custom")
        return Tool(
            name=string(custom.get("name"), f"{where}.custom.name"),
            kind="custom",
            description=_description(custom, f"{where}.custom"),
            cache=find_cache(entry),
            extras={
                **_grammar(custom),
                "custom": without(custom, "name", "description"),
                "entry": without(entry, "type", "custom"),
            },
        )
    return Tool(name=kind, kind="server", family=FAMILY, extras=entry)


def _grammar(custom: Body) -> Body:
    """The grammar of a free-text tool as the Responses wire spells it: there it is one level up."""
    given = custom.get("format")
    inner = given.get("grammar") if isinstance(given, dict) else None
    return {"format": {"type": "grammar", **inner}} if isinstance(inner, dict) else {}


def _function(function: Body, where: str) -> Tool:
    name = string(function.get("name"), f"{where}.name")
    schema, strict = function.get("parameters"), function.get("strict")
    if schema is not None:
        mapping(schema, f"{where}.parameters")
    if strict is not None and not isinstance(strict, bool):
        raise wrong(f"{where}.strict", "true or false")
    known = [k for k in ("description", "parameters", "strict") if function.get(k) is not None]
    rest = without(function, "name", *known)
    return Tool(
        name=name,
        description=_description(function, where),
        schema=schema,
        strict=strict,
        extras={"function": rest} if rest else None,
    )


def _description(source: Body, where: str) -> str | None:
    value = source.get("description")
    return None if value is None else string(value, f"{where}.description")


def _tool_choice(fields: Fields) -> ToolChoice | None:
    value = fields.take("tool_choice", (str, dict), "a string or an object")
    if value is not None:
        return _choice(value, "tool_choice")
    legacy = fields.take("function_call", (str, dict), "a string or an object")
    if legacy is None:
        return None
    if isinstance(legacy, dict):
        name = string(legacy.get("name"), "function_call.name")
        return ToolChoice(mode="tool", name=name, extras={"legacy": True})
    choice = _choice(legacy, "function_call")
    choice.extras = {"legacy": True}
    return choice


def _choice(value: str | Body, where: str) -> ToolChoice:
    if isinstance(value, str):
        match value:
            case "auto":
                return ToolChoice(mode="auto")
            case "none":
                return ToolChoice(mode="none")
            case "required" | "any":
                return ToolChoice(
                    mode="any", extras=None if value == "required" else {"word": value}
                )
        raise wrong(where, "'auto', 'none', 'required' or an object")
    match value.get("type"):
        case "function" | "custom" as kind:
            target = mapping(value.get(kind), f"{where}.{kind}")
            name = string(target.get("name"), f"{where}.{kind}.name")
            return ToolChoice(mode="tool", name=name, custom=kind == "custom")
        case "allowed_tools":
            allowed = value.get("allowed_tools")
            required = isinstance(allowed, dict) and allowed.get("mode") == "required"
            return ToolChoice(mode="any" if required else "auto", extras={"entry": value})
    raise wrong(f"{where}.type", "'function', 'custom' or 'allowed_tools'")
