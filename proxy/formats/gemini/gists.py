"""What admission and routing read of a body without translating it."""

from collections.abc import Iterator
from typing import Any, Literal

from proxy.formats.contract import Gist
from proxy.formats.gemini.fields import Body, peek

_OPEN, _CLOSE = "<system-reminder>", "</system-reminder>"


def gist(body: Body) -> Gist:
    """Never raises. Files of any type count as images: they need the same header."""
    contents = _objects(body.get("contents"))
    limit = peek(body, "generationConfig", "maxOutputTokens")
    level = peek(body, "generationConfig", "thinkingConfig", "thinkingLevel")
    return Gist(
        last=_last(contents),
        has_images=any(_has_file(part) for content in contents for part in _parts(content)),
        messages=len(contents),
        tools=sum(_offers(tool) for tool in _objects(body.get("tools"))),
        max_output_tokens=limit if type(limit) is int else None,
        effort=level.lower() if isinstance(level, str) else None,
        opening=_opening(contents),
    )


def _objects(value: Any) -> list[Body]:
    if isinstance(value, dict):
        return [value]
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _parts(content: Body) -> list[Body]:
    return _objects(content.get("parts"))


def _offers(tool: Body) -> int:
    functions = _objects(peek(tool, "functionDeclarations"))
    return len(functions) or int(bool(tool))


def _has_file(part: Body) -> bool:
    if peek(part, "inlineData") or peek(part, "fileData"):
        return True
    inner = peek(part, "functionResponse", "parts")
    return any(peek(one, "inlineData") or peek(one, "fileData") for one in _objects(inner))


def _words(content: Body) -> Iterator[str]:
    """Texts that a person may have written: not blank, not only reminders."""
    for part in _parts(content):
        text = part.get("text")
        if isinstance(text, str) and part.get("thought") is not True and not _only_reminders(text):
            yield text


def _only_reminders(text: str) -> bool:
    """Whether nothing but blanks is left when all `<system-reminder>` passages are taken out."""
    at = 0
    while True:
        start = text.find(_OPEN, at)
        if start < 0:
            return not text[at:].strip()
        if text[at:start].strip():
            return False
        end = text.find(_CLOSE, start)
        if end < 0:
            return False
        at = end + len(_CLOSE)


def _is_model(content: Body) -> bool:
    role = content.get("role")
    return isinstance(role, str) and role.lower() == "model"


def _last(contents: list[Body]) -> Literal["user", "tool", "assistant"]:
    for content in reversed(contents):
        if _is_model(content):
            return "assistant"
        if any(_words(content)):
            return "user"
        parts = _parts(content)
        # Gemini CLI puts a file that a tool has read beside the tool's response.
        if any(isinstance(peek(part, "functionResponse"), dict) for part in parts):
            return "tool"
        if any(_has_file(part) for part in parts):
            return "user"
    return "user"


def _opening(contents: list[Body]) -> str:
    for content in contents:
        if not _is_model(content):
            return "\n".join(_words(content))
    return ""
