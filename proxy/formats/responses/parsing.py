"""A Responses request as the canonical request.

Items of the assistant (reasoning, message, calls) that follow each other become one message, and so
do outputs of tools. What an item has beyond the canonical fields stays in the `extras` of its block
or message, so that `building` finds the same items again:

- `item`: the item's other fields, on its first block (or its message);
- `part`: the content part's other fields; `plain`: the content was one string;
- `before`: whole items that stand before this message and mean nothing elsewhere.

Tools of a namespace are canonical tools named `namespace__tool`; the first carries the whole
`entry`, the others are `member`s of it. Tools of an `additional_tools` item are members as well.
"""

import re
from typing import Any

from proxy.errors import InvalidRequest
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.formats.responses.checks import check
from proxy.formats.responses.fields import NAME, invalid, take, take_number, typed, unwrap

MEMBER = "member"
ENTRY = "entry"
OF_EMPTY_LIST = "of_empty_list"

_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_ROLES = ("user", "system", "developer", "assistant")


def parse_request(body: dict[str, Any]) -> Request:
    """Raises `InvalidRequest` naming the field that is missing or of the wrong type."""
    check(body)
    rest = dict(body)
    model = take(rest, "model", str)
    if not model:
        raise InvalidRequest("Missing required parameter: 'model'.", param="model")
    messages, added = _input(rest)
    instructions = take(rest, "instructions", str)
    choice = rest.pop("tool_choice", None)
    if choice is None and "tool_choice" in body:
        rest["tool_choice"] = None
    include = rest.get("include")
    request = Request(
        source=NAME,
        model=model,
        messages=messages,
        system=None if instructions is None else [Text(text=instructions)],
        system_plain=instructions is not None,
        tools=_all_tools(take(rest, "tools", list), added),
        tool_choice=None if choice is None else _tool_choice(choice),
        parallel_tools=take(rest, "parallel_tool_calls", bool),
        max_output_tokens=take(rest, "max_output_tokens", int),
        temperature=take_number(rest, "temperature"),
        top_p=take_number(rest, "top_p"),
        top_logprobs=take(rest, "top_logprobs", int),
        logprobs=True if _asks_logprobs(include) else None,
        user=take(rest, "user", str),
        metadata=take(rest, "metadata", dict),
        reasoning=_reasoning(take(rest, "reasoning", dict)),
        prompt_cache_key=take(rest, "prompt_cache_key", str),
        stream=take(rest, "stream", bool),
        extras=rest,
    )
    if request.max_output_tokens is not None and request.max_output_tokens < 1:
        raise invalid("max_output_tokens", "a positive integer")
    _text_settings(request, take(rest, "text", dict))
    return request


def _asks_logprobs(include: object) -> bool:
    return isinstance(include, list) and "message.output_text.logprobs" in include


def _reasoning(given: dict[str, Any] | None) -> Reasoning | None:
    if given is None:
        return None
    rest = dict(given)
    return Reasoning(
        effort=take(rest, "effort", str, "reasoning."),
        summary=take(rest, "summary", str, "reasoning."),
        extras=rest or None,
    )


def _text_settings(request: Request, given: dict[str, Any] | None) -> None:
    """`text` is verbosity and format; anything else of it stays in the extras."""
    if given is None:
        return
    rest = dict(given)
    request.verbosity = take(rest, "verbosity", str, "text.")
    form = take(rest, "format", dict, "text.")
    if form is not None:
        kind = typed(form.get("type"), str, "text.format.type")
        if kind in ("text", "json_object", "json_schema"):
            request.output_format, unknown = _output_format(kind, form)
            if unknown:
                rest["format"] = unknown
        else:
            rest["format"] = form
    if rest or not given:
        request.extras["text"] = rest


def _output_format(kind: Any, form: dict[str, Any]) -> tuple[OutputFormat, dict[str, Any]]:
    rest = {key: value for key, value in form.items() if key != "type"}
    where = "text.format."
    read = OutputFormat(
        kind=kind,
        name=take(rest, "name", str, where),
        schema=take(rest, "schema", dict, where),
        strict=take(rest, "strict", bool, where),
        description=take(rest, "description", str, where),
    )
    return read, rest


# Tools.


def _all_tools(given: list[Any] | None, added: list[Tool]) -> list[Tool] | None:
    if given is None:
        return added or None
    tools = _tools(given, "tools")
    if not given:
        for tool in added:
            tool.extras = {**(tool.extras or {}), MEMBER: OF_EMPTY_LIST}
    return tools + added


def _tools(given: list[Any], where: str) -> list[Tool]:
    tools: list[Tool] = []
    for index, entry in enumerate(given):
        at = f"{where}[{index}]"
        wire = typed(entry, dict, at)
        kind = typed(wire.get("type"), str, f"{at}.type")
        if kind == "namespace" and isinstance(wire.get("tools"), list) and wire["tools"]:
            tools += _namespace(wire, at)
        else:
            tools.append(_tool(wire, kind, at))
    return tools


def _namespace(wire: dict[str, Any], at: str) -> list[Tool]:
    space = typed(wire.get("name"), str, f"{at}.name")
    tools: list[Tool] = []
    for index, entry in enumerate(wire["tools"]):
        inner = typed(entry, dict, f"{at}.tools[{index}]")
        kind = typed(inner.get("type"), str, f"{at}.tools[{index}].type")
        tool = _tool(inner, kind, f"{at}.tools[{index}]")
        tool.name = f"{space}__{tool.name}"
        tool.extras = {**(tool.extras or {}), **({MEMBER: True} if tools else {ENTRY: wire})}
        tools.append(tool)
    return tools


def _tool(wire: dict[str, Any], kind: str, at: str) -> Tool:
    if kind not in ("function", "custom"):
        name = wire.get("name")
        return Tool(
            name=name if isinstance(name, str) else kind,
            kind="server",
            family="openai",
            extras=wire,
        )
    rest = {key: value for key, value in wire.items() if key != "type"}
    name = take(rest, "name", str, f"{at}.")
    if not name:
        raise invalid(f"{at}.name", "a string")
    tool = Tool(
        name=name,
        kind="function" if kind == "function" else "custom",
        description=take(rest, "description", str, f"{at}."),
        defer_loading=take(rest, "defer_loading", bool, f"{at}."),
    )
    if kind == "function":
        tool.schema = take(rest, "parameters", dict, f"{at}.")
        tool.strict = take(rest, "strict", bool, f"{at}.")
    tool.extras = rest or None
    return tool


def _tool_choice(given: object) -> ToolChoice:
    if isinstance(given, str):
        mode = _CHOICES.get(given)
        if mode is None:
            raise invalid("tool_choice", "none, auto, required or an object")
        return ToolChoice(mode=mode)  # type: ignore[arg-type]
    wire = typed(given, dict, "tool_choice")
    kind = typed(wire.get("type"), str, "tool_choice.type")
    if kind in ("function", "custom"):
        rest = {key: value for key, value in wire.items() if key != "type"}
        name = typed(rest.pop("name", None), str, "tool_choice.name")
        return ToolChoice(mode="tool", name=name, custom=kind == "custom", extras=rest or None)
    forced = kind != "allowed_tools" or wire.get("mode") == "required"
    return ToolChoice(mode="any" if forced else "auto", extras={kind: wire})


# Input items.


def _input(rest: dict[str, Any]) -> tuple[list[Message], list[Tool]]:
    given = rest.pop("input", None)
    if given is None:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input")
    if isinstance(given, str):
        said = Message(role="user", blocks=[Text(text=given)], plain=True, extras={"bare": True})
        return [said], []
    reader = _Items()
    for index, item in enumerate(typed(given, list, "input")):
        reader.read(typed(item, dict, f"input[{index}]"), f"input[{index}]")
    return reader.close(), reader.tools


class _Items:
    """Groups items into messages; `tools` are those of `additional_tools` items."""

    def __init__(self) -> None:
        self.tools: list[Tool] = []
        self._messages: list[Message] = []
        self._before: list[dict[str, Any]] = []
        self._group = ""

    def close(self) -> list[Message]:
        if self._before:
            # Nothing follows that could carry them.
            self._add(Message(role="developer", blocks=[], extras={"ghost": True}), "")
        return self._messages

    def read(self, item: dict[str, Any], at: str) -> None:
        kind = item.get("type", "message" if "role" in item else None)
        match typed(kind, str, f"{at}.type"):
            case "message":
                self._message(item, at)
            case "reasoning":
                self._turn("assistant", [_thinking(item, at)])
            case "function_call" | "custom_tool_call" as call:
                self._turn("assistant", [_tool_use(item, at, custom=call == "custom_tool_call")])
            case "function_call_output" | "custom_tool_call_output" as output:
                custom = output == "custom_tool_call_output"
                self._turn("user", [_tool_result(item, at, custom=custom)])
            case "additional_tools":
                tools = _tools(typed(item.get("tools"), list, f"{at}.tools"), f"{at}.tools")
                for tool in tools:
                    tool.extras = {**(tool.extras or {}), MEMBER: True}
                self.tools += tools
                self._before.append(item)
                self._group = ""
            case other:
                role = "user" if other.endswith(_USER_SIDE) else "assistant"
                self._turn(role, [Foreign(family="openai", kind=other, value=item)])

    def _message(self, item: dict[str, Any], at: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise invalid(f"{at}.role", "user, assistant, system or developer")
        content = item.get("content")
        plain = isinstance(content, str)
        blocks = _content(
            content, f"{at}.content", own="output_text" if role == "assistant" else ""
        )
        rest = {key: value for key, value in item.items() if key not in ("role", "content")}
        if role != "assistant":
            self._add(
                Message(role=role, blocks=blocks, plain=plain, extras={"item": rest}),
                "",
            )
        elif not blocks:
            self._before.append(item)
            self._group = ""
        elif not all(isinstance(block, Text) for block in blocks):
            self._turn("assistant", [Foreign(family="openai", kind="message", value=item)])
        else:
            mark = {"item": rest, "plain": True} if plain else {"item": rest}
            blocks[0].extras = {**(blocks[0].extras or {}), **mark}  # type: ignore[union-attr]
            self._turn("assistant", blocks)

    def _turn(self, role: Any, blocks: list[Block]) -> None:
        """Appends to the message before, if that is the same side's."""
        if self._group == role:
            self._messages[-1].blocks.extend(blocks)
        else:
            self._add(Message(role=role, blocks=blocks), role)

    def _add(self, message: Message, group: str) -> None:
        if self._before:
            message.extras = {**(message.extras or {}), "before": self._before}
            self._before = []
        self._messages.append(message)
        self._group = group


_USER_SIDE = ("_output", "_response", "item_reference", "compaction_trigger")


def _thinking(item: dict[str, Any], at: str) -> Thinking:
    rest = dict(item)
    encrypted = take(rest, "encrypted_content", str, f"{at}.")
    text = _joined(item.get("summary"), f"{at}.summary") or _joined(
        item.get("content"), f"{at}.content"
    )
    if encrypted is None:
        return Thinking(text=text, extras={"item": rest})
    opaque, redacted = unwrap(encrypted)
    return Thinking(text=text, opaque=opaque, redacted=redacted, extras={"item": rest})


def _joined(parts: object, at: str) -> str:
    if parts is None:
        return ""
    texts = []
    for index, part in enumerate(typed(parts, list, at)):
        texts.append(
            typed(typed(part, dict, f"{at}[{index}]").get("text"), str, f"{at}[{index}].text")
        )
    return "\n\n".join(texts)


def _tool_use(item: dict[str, Any], at: str, *, custom: bool) -> ToolUse:
    rest = dict(item)
    call = typed(rest.pop("call_id", None), str, f"{at}.call_id")
    name = typed(item.get("name"), str, f"{at}.name")
    key = "input" if custom else "arguments"
    arguments = typed(rest.pop(key, None), str, f"{at}.{key}")
    space = item.get("namespace")
    if isinstance(space, str) and space:
        # The item's own name stays in the extras and wins when it is written again.
        name = f"{space}__{name}"
    else:
        del rest["name"]
    return ToolUse(id=call, name=name, arguments=arguments, custom=custom, extras={"item": rest})


def _tool_result(item: dict[str, Any], at: str, *, custom: bool) -> ToolResult:
    rest = dict(item)
    call = typed(rest.pop("call_id", None), str, f"{at}.call_id")
    output = rest.pop("output", None)
    return ToolResult(
        tool_use_id=call,
        content=_content(output, f"{at}.output", own=""),  # type: ignore[arg-type]
        plain=isinstance(output, str),
        custom=custom,
        extras={"item": rest},
    )


def _content(content: object, at: str, *, own: str) -> list[Block]:
    if isinstance(content, str):
        return [Text(text=content)]
    if not isinstance(content, list):
        raise invalid(at, "a string or a list")
    return [
        _part(typed(part, dict, f"{at}[{index}]"), f"{at}[{index}]", own or "input_text")
        for index, part in enumerate(content)
    ]


def _part(part: dict[str, Any], at: str, own: str) -> Block:
    """One content part; `own` is the text type that this side writes."""
    rest = dict(part)
    kind = typed(rest.pop("type", None), str, f"{at}.type")
    match kind:
        case "input_text" | "output_text" | "text":
            annotations = take(rest, "annotations", list, f"{at}.")
            for index, annotation in enumerate(annotations or ()):
                typed(annotation, dict, f"{at}.annotations[{index}]")
            block: Block = Text(
                text=typed(rest.pop("text", None), str, f"{at}.text"), annotations=annotations
            )
            if kind != own:
                rest["type"] = kind
        case "refusal":
            block = Text(text=typed(rest.pop("refusal", None), str, f"{at}.refusal"), refusal=True)
        case "input_image" if part.get("image_url") is not None:
            block = _image(rest, at)
        case "input_file" if part.get("file_data") is not None or part.get("file_url") is not None:
            block = _document(rest, at)
        case _:
            return Foreign(family="openai", kind=f"content:{kind}", value=part)
    if rest and not isinstance(block, Foreign):
        block.extras = {"part": rest}
    return block


def _image(rest: dict[str, Any], at: str) -> Image:
    url = typed(rest.pop("image_url"), str, f"{at}.image_url")
    detail = take(rest, "detail", str, f"{at}.")
    if match := _DATA_URL.fullmatch(url):
        return Image(media_type=match[1], data=match[2], detail=detail)
    return Image(url=url, detail=detail)


def _document(rest: dict[str, Any], at: str) -> Document:
    name = take(rest, "filename", str, f"{at}.")
    data = take(rest, "file_data", str, f"{at}.")
    url = take(rest, "file_url", str, f"{at}.")
    if data is not None and (match := _DATA_URL.fullmatch(data)):
        return Document(media_type=match[1], data=match[2], url=url, name=name)
    return Document(data=data, url=url, name=name)
