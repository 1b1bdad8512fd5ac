"""What admission and routing read of a client's body, whatever is in it."""

from typing import Any, Literal

from proxy.formats.canonical import Role
from proxy.formats.contract import Gist

_INSTRUCTIONS: tuple[Role, ...] = ("system", "developer")


def gist(body: dict[str, Any]) -> Gist:
    """Never raises: what is missing or of the wrong type counts as absent."""
    messages = _dicts(body.get("messages"))
    opening: list[str] | None = None
    has_images = False
    for message in messages:
        if opening is None and message.get("role") == "user":
            opening = _texts(message)
        if type(message.get("content")) is list:
            has_images = has_images or _has_image(message["content"])
    limit = _positive(body.get("max_completion_tokens"))
    effort = body.get("reasoning_effort")
    return Gist(
        last=_last(messages),
        has_images=has_images,
        messages=len(messages),
        tools=len(_dicts(body.get("tools"))) or len(_dicts(body.get("functions"))),
        max_output_tokens=limit if limit is not None else _positive(body.get("max_tokens")),
        effort=effort if isinstance(effort, str) else None,
        conversation=_conversation(body),
        opening="\n".join(opening or ()),
    )


def _last(messages: list[dict[str, Any]]) -> Literal["user", "tool", "assistant"]:
    for message in reversed(messages):
        role = message.get("role")
        if role in ("tool", "function"):
            return "tool"
        if role == "assistant":
            return "assistant"
        if role == "user" and not _is_reminder(message):
            return "user"
    return "user"


def _is_reminder(message: dict[str, Any]) -> bool:
    """Whether all that the message holds was put there by the client program, not by a person."""
    content = message.get("content")
    if isinstance(content, str):
        return _reminds(content)
    texts = _texts(message)
    parts = len(content) if isinstance(content, list) else 1
    return len(texts) == parts > 0 and all(map(_reminds, texts))


def _reminds(text: str) -> bool:
    text = text.strip()
    return text.startswith("<system-reminder>") and text.endswith("</system-reminder>")


def _texts(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in _dicts(content) if isinstance(part.get("text"), str)]


def _has_image(content: list[Any]) -> bool:
    return any(part.get("type") == "image_url" for part in _dicts(content))


def _conversation(body: dict[str, Any]) -> str | None:
    if "prompt_cache_key" not in body and "metadata" not in body:
        return None
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    for value in (body.get("prompt_cache_key"), metadata.get("session_id")):
        if isinstance(value, str) and value:
            return value
    return None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _positive(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return None
