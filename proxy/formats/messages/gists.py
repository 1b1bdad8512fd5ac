"""What admission and routing read of a Messages body without translating it."""

from collections.abc import Iterator
from typing import Any, Literal

import orjson

from proxy.formats.contract import Gist

_OPEN, _CLOSE = "<system-reminder>", "</system-reminder>"


def gist(body: dict[str, Any]) -> Gist:
    """Never raises. A PDF or linked document counts as an image: it needs the vision header too."""
    messages = _dicts(body.get("messages"))
    tools = body.get("tools")
    config = body.get("output_config")
    effort = config.get("effort") if isinstance(config, dict) else None
    limit = body.get("max_tokens")
    return Gist(
        last=_last(messages),
        has_images=any(_has_images(message) for message in messages),
        messages=len(messages),
        tools=len(tools) if isinstance(tools, list) else 0,
        max_output_tokens=limit if isinstance(limit, int) and not isinstance(limit, bool) else None,
        effort=effort if isinstance(effort, str) else None,
        conversation=_conversation(body.get("metadata")),
        opening=_opening(messages),
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return _dicts(content)


def _words(message: dict[str, Any]) -> Iterator[str]:
    """Texts of a message that a person may have written: not blank, not only reminders."""
    for block in _blocks(message):
        text = block.get("text") if block.get("type") == "text" else None
        if isinstance(text, str) and not _only_reminders(text):
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


def _last(messages: list[dict[str, Any]]) -> Literal["user", "tool", "assistant"]:
    for message in reversed(messages):
        role = message.get("role")
        if role == "assistant":
            return "assistant"
        if role != "user":
            continue
        kinds = [block.get("type") for block in _blocks(message)]
        results = any(isinstance(k, str) and k.endswith("tool_result") for k in kinds)
        if "image" in kinds or "document" in kinds or any(_words(message)):
            return "user"
        if results:
            return "tool"
    return "user"


def _has_images(message: dict[str, Any]) -> bool:
    for block in _dicts(message.get("content")):
        if _is_image(block):
            return True
        if block.get("type") == "tool_result":
            for inner in _dicts(block.get("content")):
                if _is_image(inner):
                    return True
    return False


def _is_image(block: dict[str, Any]) -> bool:
    kind = block.get("type")
    if kind == "document":
        source = block.get("source")
        return isinstance(source, dict) and source.get("type") in ("base64", "url")
    return kind == "image"


def _conversation(metadata: Any) -> str | None:
    """Claude Code's session id.

    It stands in the JSON of `metadata.user_id`, in older versions behind `_session_`.
    Source: docs/clients.md.
    """
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return None
    if user.startswith("{"):
        try:
            session = orjson.loads(user).get("session_id")
        except (ValueError, AttributeError):
            return None
        return session if isinstance(session, str) and session else None
    _, mark, session = user.rpartition("_session_")
    return session if mark and session else None


def _opening(messages: list[dict[str, Any]]) -> str:
    for message in messages:
        if message.get("role") == "user":
            return "\n".join(_words(message))
    return ""
