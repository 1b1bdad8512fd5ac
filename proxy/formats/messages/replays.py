"""Replayed reasoning that Anthropic has not signed, taken out of a body that passes through.

A conversation that began with another vendor's model carries that model's reasoning in thinking
blocks (see `wrapping`). Claude's endpoint answers 400 to them, so a passthrough must drop them;
a translation does it by itself.
"""

from typing import Any

from proxy.formats.messages.wrapping import SIGNATURE_PREFIX


def without_foreign_thinking(body: dict[str, Any]) -> dict[str, Any]:
    """`body` itself when there is nothing to drop, else a copy without such blocks.

    A message that held nothing else goes too. Values of the wrong type are left as they are.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not any(map(_has_foreign, messages)):
        return body
    kept: list[Any] = []
    for message in messages:
        if not _has_foreign(message):
            kept.append(message)
            continue
        content = [block for block in message["content"] if not _is_foreign(block)]
        if content:
            kept.append({**message, "content": content})
    return {**body, "messages": kept}


def _has_foreign(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and any(map(_is_foreign, content))


def _is_foreign(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") != "thinking":
        return False
    signature = block.get("signature")
    if signature is None:
        return True
    return isinstance(signature, str) and (not signature or signature.startswith(SIGNATURE_PREFIX))
