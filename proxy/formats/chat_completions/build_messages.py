"""The conversation as `messages`: one's own written as it came, another format's fitted.

Source: docs/upstream.md#chat-completions.
"""

import base64
import binascii
from itertools import groupby
from typing import Any

import orjson

from proxy.errors import UnsupportedContent
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Message,
    ModelFacts,
    Request,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from proxy.formats.chat_completions.build_runs import fit_run
from proxy.formats.chat_completions.wire import FAMILY, NAME, tool_call_id

Body = dict[str, Any]

# Notes of a vendor that it ran a search: what was found stands in the text that follows.
_BOOKKEEPING = frozenset({"web_search_call"})
_CACHE_MARKER = {"type": "ephemeral"}
# Vendors whose models cache by themselves need no markers, and may not know them.
MARKED_VENDORS = ("", "Anthropic")


def build_messages(request: Request, model: ModelFacts, dropped: list[str]) -> list[Any]:
    """Raises `UnsupportedContent` naming the kind of block that has no place."""
    if request.source == NAME:
        return [entry for message in request.messages for entry in _own_entries(message, model)]
    return _Fitter(model, dropped).fit(request)


class _Fitter:
    """Fits messages of another format into the wire's order.

    Calls and their results are neighbours: all results of a turn come first, then the words and
    the images that the results held.
    """

    def __init__(self, model: ModelFacts, dropped: list[str]) -> None:
        self.model = model
        self.dropped = dropped
        self.marks = model.vendor in MARKED_VENDORS

    def fit(self, request: Request) -> list[Any]:
        entries: list[Any] = self._system(request.system) if request.system else []
        for kind, turn in groupby(request.messages, _kind_of):
            match kind:
                case "run":
                    entries += [fit_run(m.run, self.dropped) for m in turn if m.run is not None]
                case "assistant":
                    entries += self._assistant(list(turn))
                case _:
                    entries += self._others(list(turn))
        return entries

    def _system(self, blocks: list[Text]) -> list[Body]:
        texts = [block.text for block in blocks if block.text]
        if not texts:
            return []
        entry: Body = {"role": "system", "content": "\n\n".join(texts)}
        if self.marks and any(block.cache for block in blocks):
            entry["content"] = [{"type": "text", "text": text} for text in texts]
            entry["copilot_cache_control"] = _CACHE_MARKER
        return [entry]

    def _others(self, turn: list[Message]) -> list[Body]:
        results: list[Body] = []
        images: list[Body] = []
        words: list[Body] = []
        for message in turn:
            if message.role != "user":
                words += self._system(self._texts_only(message))
                continue
            rest: list[Block] = []
            for block in message.blocks:
                if isinstance(block, ToolResult):
                    results.append(self._result(block, images))
                else:
                    rest.append(block)
            words += self._user(rest, message)
        if images:
            words.insert(0, {"role": "user", "content": images})
        return results + words

    def _texts_only(self, message: Message) -> list[Text]:
        for block in message.blocks:
            if not isinstance(block, Text):
                raise _no_place(block, f"{message.role} messages")
        return [block for block in message.blocks if isinstance(block, Text)]

    def _user(self, blocks: list[Block], message: Message) -> list[Body]:
        parts = [part for block in blocks if (part := self._part(block, "user messages"))]
        if not parts:
            return []
        entry: Body = {"role": "user", "content": _shortest(parts)}
        if message.name is not None:
            entry["name"] = message.name
        self._mark(entry, blocks)
        return [entry]

    def _part(self, block: Block, where: str) -> Body | None:
        match block:
            case Text():
                return {"type": "text", "text": block.text} if block.text else None
            case Image():
                return image_part(block, self.model)
            case Document():
                return {"type": "text", "text": _document_text(block)}
            case Foreign() if block.kind == "tool_reference":
                return {"type": "text", "text": _reference_text(block)}
            case Foreign() if block.family == FAMILY:
                return block.value
            case Foreign() if block.kind in _BOOKKEEPING:
                return None
        raise _no_place(block, where)

    def _result(self, result: ToolResult, images: list[Body]) -> Body:
        texts: list[str] = []
        pictures: list[Body] = []
        for block in result.content:
            part = self._part(block, "tool results")
            if part is None:
                continue
            if isinstance(block, Image):
                pictures.append(part)
            elif part.get("type") == "text":
                texts.append(part["text"])
            else:
                raise _no_place(block, "tool results")
        identity = tool_call_id(result.tool_use_id)
        content = "\n".join(texts)
        if pictures:
            images.append({"type": "text", "text": f"Images in the result of {identity}:"})
            images += pictures
            content = content or "The result is in the images that follow."
        if not content and result.is_error:
            content = "Error"
        entry: Body = {"role": "tool", "tool_call_id": identity, "content": content}
        if self.marks and result.cache:
            entry["copilot_cache_control"] = _CACHE_MARKER
        return entry

    def _assistant(self, turn: list[Message]) -> list[Body]:
        """Consecutive assistant messages are one: calls stand in the message before results."""
        blocks = [block for message in turn for block in message.blocks]
        texts = [text for m in turn if (text := self._assistant_text(m))]
        calls = [_fit_call(block) for block in blocks if isinstance(block, ToolUse)]
        entry: Body = {"role": "assistant", "content": "\n\n".join(texts) or None}
        self._reason(entry, [block for block in blocks if isinstance(block, Thinking)])
        if calls:
            entry["tool_calls"] = calls
        elif not texts:
            # Only foreign reasoning, or nothing: the endpoint refuses empty messages.
            return []
        self._mark(entry, blocks)
        return [entry]

    def _assistant_text(self, message: Message) -> str:
        texts: list[str] = []
        for block in message.blocks:
            match block:
                case Text():
                    texts.append(block.text)
                case Document():
                    texts.append(_document_text(block))
                case Thinking() | ToolUse():
                    pass
                case Foreign() if block.kind in _BOOKKEEPING:
                    pass
                case _:
                    raise _no_place(block, "assistant messages")
        return "".join(texts)

    def _reason(self, entry: Body, thoughts: list[Thinking]) -> None:
        """The endpoint's own reasoning goes back to it; all else means nothing to its models."""
        own = [t.opaque.value for t in thoughts if t.opaque and t.opaque.family == FAMILY]
        if not own:
            if thoughts:
                self.dropped.append("thinking")
            return
        kept = [t for t in thoughts if t.opaque is None or t.opaque.family == FAMILY]
        if len(kept) < len(thoughts):
            self.dropped.append("thinking")
        text = "".join(t.text for t in kept)
        if text:
            entry["reasoning_text"] = text
        entry["reasoning_opaque"] = own[-1]

    def _mark(self, entry: Body, blocks: list[Block]) -> None:
        marked = any(getattr(block, "cache", None) for block in blocks)
        if self.marks and marked:
            entry["copilot_cache_control"] = _CACHE_MARKER


def _kind_of(message: Message) -> str:
    if message.run is not None:
        return "run"
    return "assistant" if message.role == "assistant" else "others"


def _no_place(block: Block, where: str) -> UnsupportedContent:
    kind = block.kind if isinstance(block, Foreign) else type(block).__name__.lower()
    return UnsupportedContent(
        f"The model's endpoint ({NAME}) has no place for {kind!r} in {where}."
    )


def _shortest(parts: list[Body]) -> str | list[Body]:
    if len(parts) == 1 and parts[0].get("type") == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def image_part(image: Image, model: ModelFacts) -> Body:
    if not model.vision:
        raise UnsupportedContent(f"The model {model.id!r} takes no images.")
    if model.media_types and image.media_type and image.media_type not in model.media_types:
        raise UnsupportedContent(f"The model {model.id!r} takes no {image.media_type} images.")
    if image.data is not None:
        source: Body = {"url": f"data:{image.media_type or 'image/png'};base64,{image.data}"}
    elif image.url is not None:
        source = {"url": image.url}
    else:
        raise UnsupportedContent("An image without data and without a URL cannot be sent.")
    if image.detail is not None:
        source["detail"] = image.detail
    return {"type": "image_url", "image_url": source}


def _document_text(document: Document) -> str:
    if document.text is not None:
        return document.text
    if document.data is not None and (document.media_type or "").startswith("text/"):
        try:
            return base64.b64decode(document.data, validate=True).decode()
        except (binascii.Error, ValueError):
            raise UnsupportedContent("A text document is not UTF-8 in base64.") from None
    raise UnsupportedContent(
        f"The model's endpoint ({NAME}) takes text and images only, "
        f"no {document.media_type or 'document'!r} documents."
    )


def _reference_text(block: Foreign) -> str:
    """A tool found by the client's tool search: on this wire all tools are on offer already."""
    return f"The tool {block.value.get('tool_name', '')} is available."


def _fit_call(call: ToolUse) -> Body:
    arguments = call.arguments or "{}"
    if call.custom:
        # The counterpart of the one-string function that a custom tool becomes.
        arguments = orjson.dumps({"input": call.arguments}).decode()
    return {
        "id": tool_call_id(call.id),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


# What came in this format


def _own_entries(message: Message, model: ModelFacts) -> list[Body]:
    results = [block for block in message.blocks if isinstance(block, ToolResult)]
    if results:
        return [_own_result(result, model) for result in results]
    entry: Body = {"role": message.role, **(message.extras or {})}
    if message.name is not None:
        entry["name"] = message.name
    _write_own_content(entry, message, model)
    if message.role == "assistant":
        _write_own_answer(entry, message)
    return [entry]


def _write_own_content(entry: Body, message: Message, model: ModelFacts) -> None:
    parts = [part for block in message.blocks if (part := _own_part(block, model))]
    if message.plain:
        entry["content"] = "".join(part["text"] for part in parts)
    elif parts or message.role != "assistant":
        entry["content"] = parts


def _own_part(block: Block, model: ModelFacts) -> Body | None:
    """None for what stands beside the content: calls, reasoning, a refusal of its own."""
    extras = getattr(block, "extras", None) or {}
    match block:
        case Text(refusal=True):
            return {"refusal": block.text, **extras} if "type" in extras else None
        case Text():
            return {"type": "text", "text": block.text, **extras}
        case Image():
            return _own_image(block, model)
        case Document():
            file: Body = {"file_data": block.data}
            if block.media_type is not None:
                file["file_data"] = f"data:{block.media_type};base64,{block.data}"
            if block.name is not None:
                file["filename"] = block.name
            rest = {key: value for key, value in extras.items() if key != "file"}
            return {"type": "file", "file": {**file, **extras.get("file", {})}, **rest}
        case Foreign() if block.family == FAMILY:
            return block.value if block.kind != "audio" else None
        case Thinking() | ToolUse():
            return None
    raise _no_place(block, "messages")


def _own_image(image: Image, model: ModelFacts) -> Body:
    extras = image.extras or {}
    part = image_part(image, model)
    source = {**part["image_url"], **extras.get("image_url", {})}
    rest = {key: value for key, value in extras.items() if key not in ("plain", "image_url")}
    return {
        "type": "image_url",
        "image_url": source["url"] if "plain" in extras else source,
        **rest,
    }


def _write_own_answer(entry: Body, message: Message) -> None:
    calls: list[Body] = []
    for block in message.blocks:
        match block:
            case Thinking():
                entry.update(block.extras or {})
            case Text(refusal=True) if "type" not in (block.extras or {}):
                entry["refusal"] = block.text
            case Foreign(kind="audio"):
                entry["audio"] = block.value
            case ToolUse() if "legacy" in (block.extras or {}):
                entry["function_call"] = {"name": block.name, "arguments": block.arguments}
            case ToolUse():
                calls.append(_own_call(block))
    if calls:
        entry["tool_calls"] = calls


def _own_call(call: ToolUse) -> Body:
    extras = call.extras or {}
    rest = dict(extras.get("entry", {}))
    if call.custom:
        custom = {"name": call.name, "input": call.arguments}
        return {"id": call.id, "type": "custom", "custom": custom, **rest}
    function = {"name": call.name, "arguments": call.arguments, **extras.get("function", {})}
    entry: Body = {"id": call.id, "type": "function", "function": function, **rest}
    if entry["type"] is None:
        # Some clients leave the type out, and get it back so.
        del entry["type"]
    return entry


def _own_result(result: ToolResult, model: ModelFacts) -> Body:
    extras = dict(result.extras or {})
    legacy = extras.pop("legacy", False)
    parts = [part for block in result.content if (part := _own_part(block, model))]
    entry: Body = {"role": "function" if legacy else "tool"}
    if not legacy:
        entry["tool_call_id"] = result.tool_use_id
    entry["content"] = "".join(part["text"] for part in parts) if result.plain else parts
    if result.name is not None:
        entry["name"] = result.name
    # Holds the content, too, where it was null.
    return {**entry, **extras}
