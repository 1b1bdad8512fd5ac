"""The canonical request as a Responses body.

A request of this same format becomes its own items again (see `parsing`). One of another format is
translated: system text to `instructions`, system messages inside the conversation to `developer`
items, tool calls and results to items of their own.
"""

from typing import Any

from proxy.errors import UnsupportedContent
from proxy.formats.canonical import (
    Block,
    Built,
    Document,
    Foreign,
    Image,
    Message,
    ModelFacts,
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
from proxy.formats.responses.fields import NAME, as_dict, call_id
from proxy.formats.responses.parsing import ENTRY, MEMBER, OF_EMPTY_LIST

# Lowest first; the catalog's words. Source: docs/upstream.md#models.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# The upstream refuses less. Source: docs/upstream.md#responses.
MIN_OUTPUT_TOKENS = 16
# What a budget in tokens means as an effort: below the first, below the second, and above.
LOW_BUDGET_TOKENS, MEDIUM_BUDGET_TOKENS = 4096, 16384

Item = dict[str, Any]


def build_request(request: Request, model: ModelFacts) -> Built:
    """Raises `UnsupportedContent` when content would be lost."""
    same = request.source == NAME
    if request.n is not None and request.n > 1:
        raise UnsupportedContent(
            "This model answers with one choice only: 'n' must be 1.", param="n"
        )
    writer = _Items(same=same)
    body: dict[str, Any] = {"model": request.model, "input": writer.input(request.messages)}
    dropped = writer.dropped
    if request.system is not None:
        body["instructions"] = "\n\n".join(text.text for text in request.system)
    _add_tools(body, request, dropped)
    _add_limits(body, request, model)
    _add_text(body, request)
    _add_reasoning(body, request, model, dropped)
    _add_rest(body, request, dropped)
    return Built(body=body, dropped=list(dict.fromkeys(dropped)))


def _add_limits(body: dict[str, Any], request: Request, model: ModelFacts) -> None:
    if request.max_output_tokens is not None:
        limit = model.max_output_tokens or request.max_output_tokens
        body["max_output_tokens"] = max(MIN_OUTPUT_TOKENS, min(request.max_output_tokens, limit))
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.top_logprobs is not None:
        body["top_logprobs"] = request.top_logprobs
    if request.prompt_cache_key is not None:
        body["prompt_cache_key"] = request.prompt_cache_key
    if request.stream is not None:
        body["stream"] = request.stream


def _add_rest(body: dict[str, Any], request: Request, dropped: list[str]) -> None:
    """What only this format knows, or only the others do."""
    knobs = {
        "top_k": request.top_k,
        _named(request, "stop"): request.stop,
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    dropped += [name for name, value in knobs.items() if value is not None]
    openai = request.source in (NAME, "chat_completions")
    for name, value in (("metadata", request.metadata), ("user", request.user)):
        if value is not None and openai:
            body[name] = value
        elif value is not None:
            # Other vendors' values break the rules of these fields (64 characters, strings only).
            dropped.append(_named(request, name))
    if request.source == NAME:
        for key, value in request.extras.items():
            body[key] = _merged(value, body[key]) if key in body else value
        return
    dropped += [key for key, value in request.extras.items() if value is not None]
    body["store"] = False
    include = []
    if request.reasoning is not None and request.reasoning.mode != "disabled":
        include.append("reasoning.encrypted_content")
    if request.logprobs:
        include.append("message.output_text.logprobs")
    if include:
        body["include"] = include


def _named(request: Request, name: str) -> str:
    """The client's own name of a field."""
    if request.source == "messages":
        return {"stop": "stop_sequences", "user": "metadata"}.get(name, name)
    return name


def _merged(extra: Any, own: Any) -> Any:
    """The unknown fields of `text` beside the known ones, one level of objects deep."""
    if not isinstance(extra, dict) or not isinstance(own, dict):
        return own
    return {**extra, **{k: _merged(extra[k], v) if k in extra else v for k, v in own.items()}}


def _add_text(body: dict[str, Any], request: Request) -> None:
    text: dict[str, Any] = {}
    if request.output_format is not None:
        text["format"] = _format(request.output_format, same=request.source == NAME)
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    if text:
        body["text"] = text


def _format(given: OutputFormat, *, same: bool) -> dict[str, Any]:
    form: dict[str, Any] = {"type": given.kind}
    if given.kind == "json_schema" and given.name is None and not same:
        form["name"] = "response"
    for key in ("name", "schema", "strict", "description"):
        value = getattr(given, key)
        if value is not None:
            form[key] = value
    return form


# Reasoning.


def _add_reasoning(
    body: dict[str, Any], request: Request, model: ModelFacts, dropped: list[str]
) -> None:
    given = request.reasoning
    if given is None:
        return
    same = request.source == NAME
    wire: dict[str, Any] = dict(given.extras or {}) if same else {}
    effort = _effort(given, model)
    if effort is not None:
        wire["effort"] = effort
    summary = given.summary
    if summary is None and not same and _shows_thinking(given):
        summary = "auto"
    if summary is not None:
        wire["summary"] = summary
    if not same:
        dropped += [f"reasoning.{key}" for key in given.extras or {}]
    if wire or same:
        body["reasoning"] = wire


def _shows_thinking(given: Reasoning) -> bool:
    """Whether the client wants to read thoughts; Anthropic's `enabled` shows them unless told."""
    return given.display == "summarized" or (given.mode == "enabled" and given.display is None)


def _effort(given: Reasoning, model: ModelFacts) -> str | None:
    effort = given.effort
    if given.mode == "disabled":
        if not model.efforts:
            return None
        return "none" if "none" in model.efforts else _clamped("none", model.efforts)
    if effort is None and given.budget_tokens is not None:
        effort = _effort_of(given.budget_tokens)
    if effort is None or not model.efforts:
        return effort
    return _clamped(effort, model.efforts)


def _effort_of(budget_tokens: int) -> str:
    if budget_tokens < LOW_BUDGET_TOKENS:
        return "low"
    return "medium" if budget_tokens < MEDIUM_BUDGET_TOKENS else "high"


def _clamped(effort: str, listed: tuple[str, ...]) -> str:
    """The nearest lower effort that the model lists, else its lowest."""
    if effort in listed:
        return effort
    known = [word for word in EFFORTS if word in listed]
    if not known:
        return listed[0]
    if effort not in EFFORTS:
        return "medium" if "medium" in known else known[-1]
    # Thinking that was asked for is not switched off: "none" must be asked by name.
    rank = EFFORTS.index(effort)
    lower = [word for word in known if EFFORTS.index(word) < rank and word != "none"]
    if lower:
        return lower[-1]
    return next((word for word in known if word != "none"), known[0])


# Tools.


def _add_tools(body: dict[str, Any], request: Request, dropped: list[str]) -> None:
    same = request.source == NAME
    if request.parallel_tools is not None and (same or request.tools):
        body["parallel_tool_calls"] = request.parallel_tools
    if request.tools is not None:
        entries = _own_tools(request.tools) if same else _tools(request, dropped)
        if entries is not None:
            body["tools"] = entries
    if request.tool_choice is not None and (same or body.get("tools")):
        body["tool_choice"] = _tool_choice(request.tool_choice, same=same)


def _own_tools(tools: list[Tool]) -> list[dict[str, Any]] | None:
    """The entries as they came; members stand inside another entry or an input item."""
    entries: list[dict[str, Any]] = []
    marks: list[Any] = []
    for tool in tools:
        extras = tool.extras or {}
        if MEMBER in extras:
            marks.append(extras[MEMBER])
        elif ENTRY in extras:
            entries.append(extras[ENTRY])
        elif tool.kind == "server":
            entries.append(extras)
        else:
            entry = {**_tool(tool, strict=tool.strict), **extras}
            if tool.defer_loading is not None:
                entry["defer_loading"] = tool.defer_loading
            entries.append(entry)
    if not entries and marks and OF_EMPTY_LIST not in marks:
        return None
    return entries


def _tools(request: Request, dropped: list[str]) -> list[dict[str, Any]] | None:
    entries: list[dict[str, Any]] = []
    for tool in request.tools or []:
        if tool.kind == "server":
            # What another vendor runs for its model is an offer, not content.
            dropped.append(f"tools.{tool.name}")
            continue
        # Strict rules differ between the vendors: only OpenAI's own clients mean OpenAI's.
        strict = bool(tool.strict) and request.source == "chat_completions"
        if tool.strict and not strict:
            dropped.append("tools.strict")
        entry = _tool(tool, strict=strict)
        if tool.kind == "function":
            entry.setdefault("parameters", {"type": "object", "properties": {}})
        elif (form := _grammar((tool.extras or {}).get("format"))) is not None:
            entry["format"] = form
        entries.append(entry)
    return entries or None


def _tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": tool.kind, "name": tool.name}
    if tool.description is not None:
        entry["description"] = tool.description
    if tool.kind == "function":
        if tool.schema is not None:
            entry["parameters"] = tool.schema
        if strict is not None:
            entry["strict"] = strict
    return entry


def _grammar(form: object) -> dict[str, Any] | None:
    """A custom tool's format; Chat Completions nests the grammar one level deeper."""
    wire = as_dict(form)
    if wire.get("type") == "grammar" and isinstance(wire.get("grammar"), dict):
        return {"type": "grammar", **wire["grammar"]}
    return wire or None


def _tool_choice(choice: ToolChoice, *, same: bool) -> str | dict[str, Any]:
    extras = (choice.extras or {}) if same else {}
    if choice.mode != "tool" and extras:
        # The whole entry, under its type: allowed_tools, or a tool that the vendor runs.
        return dict(next(iter(extras.values())))
    if choice.mode == "tool" and choice.name is not None:
        return {"type": "custom" if choice.custom else "function", "name": choice.name, **extras}
    return {"any": "required", "tool": "required"}.get(choice.mode, choice.mode)


# Input items.


class _Items:
    """Messages in, input items out; `same` says that the request came in this format."""

    def __init__(self, *, same: bool) -> None:
        self.dropped: list[str] = []
        self._same = same
        self._items: list[Item] = []

    def input(self, messages: list[Message]) -> str | list[Item]:
        for message in messages:
            extras = self._extras(message)
            if extras.get("bare") and len(messages) == 1:
                return "".join(block.text for block in message.blocks if isinstance(block, Text))
            self._items += extras.get("before", ())
            if extras.get("ghost"):
                continue
            if message.name is not None:
                self.dropped.append("messages.name")
            if message.role == "assistant":
                self._assistant(message)
            else:
                self._other(message)
        return self._items

    def _extras(self, block: Block | Message) -> dict[str, Any]:
        """Fields that `parsing` set aside; those of another format mean nothing here."""
        return (getattr(block, "extras", None) or {}) if self._same else {}

    def _other(self, message: Message) -> None:
        """A message of the user, or of the system: results and content parts in their order."""
        parts: list[Item] = []
        fields = self._extras(message).get("item")
        for block in message.blocks:
            if isinstance(block, ToolResult):
                self._say(message, parts)
                parts = []
                self._items.append(self._result(block))
            elif isinstance(block, Foreign) and not block.kind.startswith("content:"):
                self._say(message, parts)
                parts = []
                self._items.append(_foreign(block))
            else:
                parts += self._part(block, "input_text")
        if parts or (fields is not None and not message.blocks):
            self._say(message, parts, empty=True)

    def _say(self, message: Message, parts: list[Item], *, empty: bool = False) -> None:
        if not parts and not empty:
            return
        fields = self._extras(message).get("item", {"type": "message"})
        role = message.role
        content: str | list[Item] = parts
        if self._same and message.plain and len(parts) == 1:
            content = parts[0]["text"]
        elif not self._same and role == "system":
            role = "developer"
        self._items.append({"role": role, "content": content, **fields})

    def _assistant(self, message: Message) -> None:
        said: Item | None = None
        for block in message.blocks:
            if isinstance(block, Text):
                extras = self._extras(block)
                part = self._part(block, "output_text")
                if extras.get("plain"):
                    said = None
                    self._items.append(
                        {"role": "assistant", "content": block.text, **extras["item"]}
                    )
                elif said is not None and "item" not in extras:
                    said["content"] += part
                elif part:
                    fields = extras.get("item", {"type": "message"})
                    said = {"role": "assistant", "content": part, **fields}
                    self._items.append(said)
                continue
            said = None
            match block:
                case Thinking():
                    self._think(block)
                case ToolUse():
                    self._items.append(self._call(block))
                case Foreign():
                    self._items.append(_foreign(block))
                case _:
                    raise UnsupportedContent(
                        f"{NAME} has no place for {_kind(block)} in an assistant message."
                    )

    def _think(self, block: Thinking) -> None:
        fields = self._extras(block).get("item")
        if block.opaque is None and fields is not None:
            self._items.append(dict(fields))
        elif block.opaque is not None and block.opaque.family == "openai":
            if fields is None:
                summary = [{"type": "summary_text", "text": block.text}] if block.text else []
                fields = {"type": "reasoning", "summary": summary}
            self._items.append({**fields, "encrypted_content": block.opaque.value})
        else:
            # Another model's thoughts: this one cannot verify them and would refuse them.
            self.dropped.append("thinking")

    def _call(self, block: ToolUse) -> Item:
        kind = "custom_tool_call" if block.custom else "function_call"
        item: Item = {"type": kind, "name": block.name}
        if self._same:
            item["call_id"] = block.id
            item["input" if block.custom else "arguments"] = block.arguments
            return {**item, **self._extras(block).get("item", {})}
        item["call_id"] = call_id(block.id)
        if block.custom:
            item["input"] = block.arguments
        else:
            item["arguments"] = block.arguments or "{}"
        return item

    def _result(self, block: ToolResult) -> Item:
        kind = "custom_tool_call_output" if block.custom else "function_call_output"
        parts = [part for inner in block.content for part in self._part(inner, "input_text")]
        output: str | list[Item] = parts
        only_text = all(part.get("type") == "input_text" for part in parts)
        if (block.plain and len(parts) == 1) or (not self._same and only_text):
            output = "\n\n".join(part["text"] for part in parts)
        called = block.tool_use_id if self._same else call_id(block.tool_use_id)
        fields = self._extras(block).get("item", {})
        return {"type": kind, "call_id": called, "output": output, **fields}

    def _part(self, block: Block, own: str) -> list[Item]:
        """The block as a content part; a list, because an empty text of others is left out."""
        fields = self._extras(block).get("part", {})
        match block:
            case Text():
                if not block.text and not self._same:
                    return []
                return [_text(block, own, same=self._same) | fields]
            case Image():
                return [_image(block, same=self._same) | fields]
            case Document():
                return [_document(block, same=self._same) | fields]
            case Foreign(family="openai") if block.kind.startswith("content:"):
                return [block.value]
            case Foreign(family="anthropic", kind="tool_reference"):
                # Deferred tools go out in full, so that the tool found is indeed there.
                name = block.value.get("tool_name")
                return [{"type": "input_text", "text": f"Tool {name} is available."}]
            case _:
                raise UnsupportedContent(f"{NAME} has no place for {_kind(block)} blocks.")


def _kind(block: Block) -> str:
    return repr(block.kind) if isinstance(block, Foreign) else type(block).__name__.lower()


def _foreign(block: Foreign) -> Item:
    if block.family != "openai":
        raise UnsupportedContent(f"{NAME} has no place for {block.kind!r} blocks.")
    return block.value


def _text(block: Text, own: str, *, same: bool) -> Item:
    if block.refusal and (same or own == "output_text"):
        return {"type": "refusal", "refusal": block.text}
    part: Item = {"type": own, "text": block.text}
    if same and block.annotations is not None:
        part["annotations"] = block.annotations
    return part


def _image(block: Image, *, same: bool) -> Item:
    part: Item = {"type": "input_image"}
    if block.data is not None:
        part["image_url"] = f"data:{block.media_type or 'image/png'};base64,{block.data}"
    else:
        part["image_url"] = block.url
    # The wire demands a detail, and "auto" is not taken by every model.
    detail = block.detail if same or block.detail in ("low", "high") else "high"
    if detail is not None:
        part["detail"] = detail
    return part


def _document(block: Document, *, same: bool) -> Item:
    if block.text is not None and block.data is None and block.url is None:
        return {"type": "input_text", "text": block.text}
    part: Item = {"type": "input_file"}
    if block.name is not None:
        part["filename"] = block.name
    if block.data is not None:
        bare = same and block.media_type is None
        media_type = block.media_type or "application/pdf"
        part["file_data"] = block.data if bare else f"data:{media_type};base64,{block.data}"
        if not same:
            part.setdefault("filename", f"document.{media_type.rpartition('/')[2]}")
    if block.url is not None:
        part["file_url"] = block.url
    return part
