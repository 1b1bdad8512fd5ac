"""`generateContent` bodies read into canonical requests."""

from typing import Any

from proxy.formats.canonical import Request, Text, Tool, ToolChoice
from proxy.formats.gemini import generation
from proxy.formats.gemini.checks import check, contents_of
from proxy.formats.gemini.conversation import Reader
from proxy.formats.gemini.fields import (
    NAME,
    Body,
    json_object,
    optional_flag,
    optional_string,
    others,
    proto,
    sequence,
    string,
    strings,
    wrong,
)
from proxy.formats.gemini.schemas import json_schema

_TOP = frozenset(
    {
        "model",
        "stream",
        "alt",
        "contents",
        "systemInstruction",
        "tools",
        "toolConfig",
        "generationConfig",
        "cachedContent",
    }
)
_FUNCTION = frozenset({"name", "description", "parameters", "parametersJsonSchema"})
_CALLING = frozenset({"mode", "allowedFunctionNames"})


class GeminiRequest(Request, kw_only=True):
    """A request with what only this wire tells apart, so that it can be written again.

    `all_tools` are the tools on offer before `allowed` names left some out; `format_fields` are the
    fields that asked for the output format, as they came.
    """

    alt: str | None = None
    all_tools: list[Tool] | None = None
    allowed: list[str] | None = None
    includes_thoughts: bool | None = None
    format_fields: Body | None = None


def parse_request(body: Body) -> Request:
    """Read a body with `model` and `stream` from the URL.

    Raises `InvalidRequest` naming the field, `UnsupportedContent` for content that is at Google's.
    """
    check(body)
    entry = proto(body, "body")
    reader = Reader()
    request = GeminiRequest(
        source=NAME,
        model=string(entry.get("model"), "model"),
        messages=[reader.content(one, i) for i, one in enumerate(contents_of(entry))],
        system=_system(entry.get("systemInstruction")),
        stream=optional_flag(entry.get("stream"), "stream"),
        alt=optional_string(entry.get("alt"), "alt"),
        extras=others(entry, _TOP),
    )
    if entry.get("tools") is not None:
        request.tools = request.all_tools = _tools(entry["tools"])
    if entry.get("toolConfig") is not None:
        _read_tool_config(request, proto(entry["toolConfig"], "toolConfig"))
    if entry.get("generationConfig") is not None:
        config = proto(entry["generationConfig"], "generationConfig")
        generation.read_sampling(request, config)
        request.includes_thoughts, request.reasoning = generation.reasoning(config)
        request.format_fields, request.output_format = generation.output_format(config)
        for name, value in generation.rest(config).items():
            request.extras[f"generationConfig.{name}"] = value
    return request


def _system(value: Any) -> list[Text] | None:
    """The instruction's texts; its other fields (a role) ride on the first."""
    if value is None:
        return None
    if isinstance(value, str):
        return [Text(text=value, extras={"plain": True})]
    entry = proto(value, "systemInstruction")
    parts = entry.get("parts")
    if parts is None and "text" in entry:
        parts, entry = [entry], {}
    texts: list[Text] = []
    for i, one in enumerate([] if parts is None else sequence(parts, "systemInstruction.parts")):
        where = f"systemInstruction.parts[{i}]"
        part = proto(one, where)
        text = Text(text=string(part.get("text"), f"{where}.text"))
        rest = others(part, frozenset({"text"}))
        text.extras = {"part": rest} if rest else None
        texts.append(text)
    rest = others(entry, frozenset({"parts"}))
    if rest and texts:
        texts[0].extras = {**(texts[0].extras or {}), "content": rest}
    return texts


def _tools(value: Any) -> list[Tool]:
    """Each entry may hold many functions, and tools that Google would run."""
    tools: list[Tool] = []
    for group, one in enumerate(sequence(value, "tools")):
        where = f"tools[{group}]"
        for key, offer in proto(one, where).items():
            if offer is None:
                continue
            if key != "functionDeclarations":
                extras = {"group": group, "value": offer}
                tools.append(Tool(name=key, kind="server", family="gemini", extras=extras))
                continue
            at = f"{where}.functionDeclarations"
            for i, declared in enumerate(sequence(offer, at)):
                tools.append(_function(declared, f"{at}[{i}]", group))
    return tools


def _function(value: Any, where: str, group: int) -> Tool:
    entry = proto(value, where)
    extras: Body = {"group": group, "entry": others(entry, _FUNCTION)}
    schema = entry.get("parametersJsonSchema")
    if schema is not None:
        schema = json_object(schema, f"{where}.parametersJsonSchema")
    elif entry.get("parameters") is not None:
        schema = json_schema(entry["parameters"], f"{where}.parameters")
        extras["entry"]["parameters"] = entry["parameters"]
    return Tool(
        name=string(entry.get("name"), f"{where}.name"),
        description=optional_string(entry.get("description"), f"{where}.description"),
        schema=schema,
        extras=extras,
    )


def _read_tool_config(request: GeminiRequest, config: Body) -> None:
    for name, value in others(config, frozenset({"functionCallingConfig"})).items():
        request.extras[f"toolConfig.{name}"] = value
    if config.get("functionCallingConfig") is None:
        return
    where = "toolConfig.functionCallingConfig"
    calling = proto(config["functionCallingConfig"], where)
    mode = (optional_string(calling.get("mode"), f"{where}.mode") or "AUTO").upper()
    if calling.get("allowedFunctionNames") is not None:
        names = strings(calling["allowedFunctionNames"], f"{where}.allowedFunctionNames")
        request.allowed = names or None
    request.tool_choice = choice = _choice(mode, request.allowed, f"{where}.mode")
    for name, value in others(calling, _CALLING).items():
        request.extras[f"{where}.{name}"] = value
    if request.allowed and choice.mode != "tool" and mode in ("ANY", "VALIDATED"):
        _leave_out(request, request.allowed, f"{where}.allowedFunctionNames")


def _choice(mode: str, allowed: list[str] | None, where: str) -> ToolChoice:
    match mode:
        case "AUTO" | "MODE_UNSPECIFIED":
            return ToolChoice(mode="auto")
        case "VALIDATED":
            # Its promise, arguments that match the schema, is the upstream's to keep.
            return ToolChoice(mode="auto", extras={"mode": mode})
        case "NONE":
            return ToolChoice(mode="none")
        case "ANY" if allowed and len(allowed) == 1:
            return ToolChoice(mode="tool", name=allowed[0])
        case "ANY":
            return ToolChoice(mode="any")
    raise wrong(where, "AUTO, ANY, NONE or VALIDATED")


def _leave_out(request: GeminiRequest, allowed: list[str], where: str) -> None:
    """Other wires have no such list: what is not allowed is not offered."""
    tools = request.tools or []
    request.tools = [tool for tool in tools if tool.kind == "server" or tool.name in allowed]
    if not any(tool.kind == "function" for tool in request.tools):
        raise wrong(where, "names of functions in tools")
