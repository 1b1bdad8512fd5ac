"""`contents` as canonical messages: parts become blocks, results find their calls.

What a part holds beside its canonical fields is kept in its block's `extras["part"]`, from which
`building` writes the same part again.
"""

from typing import Any

from proxy.errors import InvalidRequest, UnsupportedContent
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Message,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from proxy.formats.gemini.fields import (
    Body,
    json_text,
    mapping,
    optional_flag,
    optional_string,
    others,
    proto,
    sequence,
    string,
    wrong,
)
from proxy.formats.gemini.signatures import PREFIX, unwrap

# Parts that only Google's models make and read.
FOREIGN_KINDS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
# The one key of a function's response that holds its text. Source: Gemini API reference,
# `FunctionResponse` ("output" and "error"); Google's Python SDK writes "result".
_OUTPUTS = ("output", "result", "content")
_ROLES = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}
_CALL = frozenset({"id", "name", "args"})
_RESPONSE = frozenset({"id", "name", "response", "parts"})
_BLOB = frozenset({"mimeType", "data", "displayName"})
_FILE = frozenset({"mimeType", "fileUri", "displayName"})
_GOOGLES_FILES = ("gs://", "https://generativelanguage.googleapis.com/")


class Reader:
    """Reads the contents of one conversation in order.

    Calls without an id get one from their place, the same in each request of the conversation.
    """

    def __init__(self) -> None:
        self._unanswered: list[tuple[str, str]] = []
        self._role = ""

    def content(self, value: Any, turn: int) -> Message:
        where = f"contents[{turn}]"
        entry = proto(value, where)
        given = optional_string(entry.get("role"), f"{where}.role")
        role = _ROLES.get((given or "user").lower())
        if role is None:
            raise wrong(f"{where}.role", "'user' or 'model'")
        extras = others(entry, frozenset({"role", "parts"}))
        if given not in ("user", "model"):
            extras["role"] = given
        message = Message(
            role="assistant" if role == "assistant" else "user", blocks=[], extras=extras or None
        )
        parts = [] if entry.get("parts") is None else sequence(entry["parts"], f"{where}.parts")
        for i, part in enumerate(parts):
            self._part(part, message, f"{where}.parts[{i}]", turn)
        self._role = role
        return message

    def _part(self, value: Any, message: Message, where: str, turn: int) -> None:
        part = proto(value, where)
        kinds = [key for key in (*_READERS, *FOREIGN_KINDS) if part.get(key) is not None]
        if len(kinds) > 1:
            raise InvalidRequest(
                f"Invalid value at '{where}': one part holds one of {', '.join(kinds)}.",
                param=where,
            )
        signature = optional_string(part.get("thoughtSignature"), f"{where}.thoughtSignature")
        thought = optional_flag(part.get("thought"), f"{where}.thought")
        if not kinds and (signature is not None or thought):
            # A signature may come alone, where the text before it was complete already.
            kinds = ["text"]
        if not kinds:
            known = ", ".join(str(key)[:40] for key in part) or "nothing"
            raise InvalidRequest(
                f"Invalid value at '{where}': a part needs text, inlineData, fileData, "
                f"functionCall or functionResponse; this one has {known}.",
                param=where,
            )
        kind = kinds[0]
        if thought and kind == "text":
            self._thought(message.blocks, part, signature, where)
            return
        if kind in FOREIGN_KINDS:
            message.blocks.append(Foreign(family="gemini", kind=kind, value=part))
            return
        rest = others(part, frozenset({kind, "thoughtSignature"}))
        own = self._signed(message.blocks, signature, rest)
        block = self._block(kind, part.get(kind), message, f"{where}.{kind}", turn)
        if own and isinstance(block, ToolUse):
            block.opaque, _ = unwrap(own)
        elif own:
            rest["thoughtSignature"] = own
        if rest:
            block.extras = {**(block.extras or {}), "part": rest}
        message.blocks.append(block)

    def _thought(self, blocks: list[Block], part: Body, signature: str | None, where: str) -> None:
        """Thoughts stream in pieces; neighbours without a signature between them are one."""
        text = optional_string(part.get("text"), f"{where}.text") or ""
        opaque, redacted = unwrap(signature or "")
        block = blocks[-1] if blocks else None
        if not isinstance(block, Thinking) or block.opaque is not None or (redacted and block.text):
            block = Thinking(extras={"parts": []})
            blocks.append(block)
        block.text += text
        block.opaque, block.redacted = opaque, redacted
        if block.extras is not None:
            block.extras["parts"].append(part)

    def _signed(self, blocks: list[Block], signature: str | None, rest: Body) -> str:
        """Google's own signature of a part; another family's goes to the thinking before it."""
        if signature is None:
            return ""
        opaque, redacted = unwrap(signature)
        if opaque is not None and not signature.startswith(PREFIX):
            return signature
        rest["thoughtSignature"] = signature
        if opaque is None:
            return ""
        last = blocks[-1] if blocks else None
        if isinstance(last, Thinking) and last.opaque is None and not redacted:
            last.opaque = opaque
        else:
            blocks.append(Thinking(opaque=opaque, redacted=redacted, extras={"parts": []}))
        return ""

    def _block(
        self, kind: str, value: Any, message: Message, where: str, turn: int
    ) -> Text | Image | Document | ToolUse | ToolResult:
        match kind:
            case "functionCall":
                if message.role != "assistant":
                    raise wrong(where, "the role 'model' for function calls")
                return self._call(proto(value, where), message, where, turn)
            case "functionResponse":
                if message.role != "user":
                    raise wrong(where, "the role 'user' for function responses")
                return self._result(proto(value, where), message, where, turn)
            case "inlineData":
                return inline_data(proto(value, where), where)
            case "fileData":
                return file_data(proto(value, where), where)
        return Text(text="" if value is None else string(value, where))

    def _call(self, call: Body, message: Message, where: str, turn: int) -> ToolUse:
        name = string(call.get("name"), f"{where}.name")
        given = optional_string(call.get("id"), f"{where}.id")
        args = call.get("args")
        number = sum(isinstance(block, ToolUse) for block in message.blocks)
        if not number and self._role != "assistant":
            # Calls of earlier turns that nobody has answered cannot be meant any more.
            self._unanswered = []
        block = ToolUse(
            id=given or f"call_{turn}_{number}",
            name=name,
            arguments="" if args is None else json_text(mapping(args, f"{where}.args"), where),
        )
        rest = others(call, _CALL)
        if not given:
            rest["id"] = given
        if rest:
            block.extras = {"functionCall": rest}
        self._unanswered.append((block.id, name))
        return block

    def _result(self, result: Body, message: Message, where: str, turn: int) -> ToolResult:
        name = optional_string(result.get("name"), f"{where}.name")
        given = optional_string(result.get("id"), f"{where}.id")
        number = sum(isinstance(block, ToolResult) for block in message.blocks)
        block = ToolResult(
            tool_use_id=self._answered(given, name) or f"call_{turn}_{number}",
            content=[],
            name=name,
        )
        rest = others(result, _RESPONSE)
        if given != block.tool_use_id:
            rest["id"] = given
        response = result.get("response")
        if response is not None:
            self._say(block, mapping(response, f"{where}.response"), rest, where)
        self._attach(block, result.get("parts"), f"{where}.parts")
        if rest:
            block.extras = {"functionResponse": rest}
        return block

    def _answered(self, given: str | None, name: str | None) -> str | None:
        """The id of the call that a result answers: by its id, else by name, in order."""
        calls = self._unanswered
        found = next((call for call in calls if call[0] == given), None)
        if found is None:
            found = next((call for call in calls if call[1] == name), None)
        if found is None and given is None and name is None and calls:
            found = calls[0]
        if found is None:
            return given
        calls.remove(found)
        return found[0]

    def _say(self, block: ToolResult, response: Body, rest: Body, where: str) -> None:
        """The response as text; as JSON where it is more than one text."""
        (key, value), *more = list(response.items()) or [("", None)]
        if isinstance(value, str) and not more and (key in _OUTPUTS or key == "error"):
            block.content.append(Text(text=value))
            if key == "error":
                block.is_error = True
            elif key != "output":
                rest["response"] = response
            return
        block.content.append(Text(text=json_text(response, f"{where}.response")))
        if "error" in response:
            block.is_error = True
        rest["response"] = response

    def _attach(self, block: ToolResult, value: Any, where: str) -> None:
        for i, one in enumerate([] if value is None else sequence(value, where)):
            at = f"{where}[{i}]"
            part = proto(one, at)
            if part.get("inlineData") is not None:
                at = f"{at}.inlineData"
                block.content.append(inline_data(proto(part["inlineData"], at), at))
            elif part.get("fileData") is not None:
                at = f"{at}.fileData"
                block.content.append(file_data(proto(part["fileData"], at), at))
            elif part.get("text") is not None:
                block.content.append(Text(text=string(part["text"], f"{at}.text")))
            else:
                raise wrong(at, "inlineData or fileData")


_READERS = ("text", "functionCall", "functionResponse", "inlineData", "fileData")


def inline_data(blob: Body, where: str) -> Image | Document:
    """Bytes in base64: an image, or a document of whatever type."""
    media_type = string(blob.get("mimeType"), f"{where}.mimeType")
    data = string(blob.get("data"), f"{where}.data")
    name = optional_string(blob.get("displayName"), f"{where}.displayName")
    rest = others(blob, _BLOB)
    extras: Body | None = {"inlineData": rest} if rest else None
    if media_type.startswith("image/"):
        if name is not None:
            extras = {"inlineData": {**rest, "displayName": name}}
        return Image(media_type=media_type, data=data, extras=extras)
    return Document(media_type=media_type, data=data, name=name, extras=extras)


def file_data(file: Body, where: str) -> Image | Document:
    """A file by its address. Raises `UnsupportedContent` for files that only Google can read."""
    url = string(file.get("fileUri"), f"{where}.fileUri")
    if url.startswith(_GOOGLES_FILES):
        raise UnsupportedContent(
            "Files that were uploaded to Google cannot be read by Copilot's models; send them as "
            "inlineData.",
            param=f"{where}.fileUri",
        )
    media_type = optional_string(file.get("mimeType"), f"{where}.mimeType")
    name = optional_string(file.get("displayName"), f"{where}.displayName")
    rest = others(file, _FILE)
    extras: Body | None = {"fileData": rest} if rest else None
    if media_type is not None and media_type.startswith("image/"):
        if name is not None:
            extras = {"fileData": {**rest, "displayName": name}}
        return Image(media_type=media_type, url=url, extras=extras)
    return Document(media_type=media_type, url=url, name=name, extras=extras)
