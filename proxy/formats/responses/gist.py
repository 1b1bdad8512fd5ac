"""What admission and routing must know of a request, read without translating it."""

from typing import Any, Literal

from proxy.formats.contract import Gist
from proxy.formats.responses.fields import as_dict, as_list, as_str

_SKIPPED = frozenset({"additional_tools", "item_reference"})


def gist(body: dict[str, Any]) -> Gist:
    """Never raises: what is missing or of the wrong type counts as absent."""
    given = body.get("input")
    items = as_list(given)
    if isinstance(given, str):
        items = [{"role": "user", "content": given}]
    limit = body.get("max_output_tokens")
    effort = as_dict(body.get("reasoning")).get("effort")
    tools = as_list(body.get("tools"))
    added = [t for i in items if _kind(i) == "additional_tools" for t in as_list(i.get("tools"))]
    return Gist(
        last=_last(items),
        has_images=any(_has_image(item) for item in items),
        messages=len(items),
        tools=len(tools) + len(added),
        max_output_tokens=limit if type(limit) is int else None,
        effort=effort if isinstance(effort, str) else None,
        conversation=_conversation(body),
        opening=next((text for item in items if (text := words_of(item))), ""),
    )


def _kind(item: object) -> str:
    fields = as_dict(item)
    kind = fields.get("type")
    if isinstance(kind, str):
        return kind
    return "message" if "role" in fields else ""


def _last(items: list[Any]) -> Literal["user", "tool", "assistant"]:
    """Whose word is the last: reminders, system and developer messages do not count."""
    for item in reversed(items):
        kind = _kind(item)
        if kind == "message":
            role = item.get("role")
            if role == "assistant":
                return "assistant"
            if role == "user" and _is_said(item.get("content")):
                return "user"
        elif kind.endswith(("_output", "_response")):
            return "tool"
        elif kind and kind not in _SKIPPED:
            return "assistant"
    return "user"


def _is_said(content: object) -> bool:
    """Whether a user message holds more than `<system-reminder>` texts."""
    if isinstance(content, str):
        return not _is_reminder(content)
    return any(
        not isinstance(part, dict) or "text" not in part or not _is_reminder(as_str(part["text"]))
        for part in as_list(content)
    )


def _is_reminder(text: str) -> bool:
    text = text.strip()
    return text.startswith("<system-reminder>") and text.endswith("</system-reminder>")


def _has_image(item: object) -> bool:
    fields = as_dict(item)
    if fields.get("type") == "computer_call_output":
        return True
    parts = as_list(fields.get("content")) + as_list(fields.get("output"))
    return any(as_dict(part).get("type") == "input_image" for part in parts)


def words_of(item: object) -> str:
    """The text of a user message."""
    fields = as_dict(item)
    if _kind(item) != "message" or fields.get("role") != "user":
        return ""
    content = fields.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(as_str(as_dict(part).get("text")) for part in as_list(content))


def _conversation(body: dict[str, Any]) -> str | None:
    metadata = as_dict(body.get("client_metadata"))
    candidates = (
        body.get("prompt_cache_key"),
        metadata.get("session_id"),
        metadata.get("thread_id"),
    )
    return next((value for value in candidates if isinstance(value, str) and value), None)
