"""Replayed reasoning: taken out of a history where the upstream would not take it back.

A conversation that began with another vendor's model carries that model's reasoning, sealed for it
and marked by us (`cgw1.`), so that it finds its way back to its maker. An endpoint that did not
make it answers 400. A translation leaves it out by itself; a body that passes through does it here.
Source: docs/upstream.md#thinking, docs/upstream.md#reasoning.
"""

from collections.abc import Callable
from typing import Any, Final

from proxy.formats.canonical import ModelFacts
from proxy.formats.messages.wrapping import SIGNATURE_PREFIX
from proxy.upstream.quirks.body import QuirkContext, dicts_of, pop_from_each, watches

# The name under which left-out reasoning is disclosed, whatever the endpoint calls it.
DISCLOSED: Final = "thinking"
_THINKING_KINDS: Final = ("thinking", "redacted_thinking")
_CHAT_REASONING: Final = ("reasoning_opaque", "reasoning_text", "reasoning_content", "cot_id")

Wish = Callable[[dict[str, Any]], bool]


def foreign_thinking(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `Invalid signature in thinking block` for reasoning that Anthropic has not signed.

    Blocks without a signature, and those that carry another vendor's reasoning, are left out.
    Seen 2026-08. Source: docs/upstream.md#thinking.
    Remove never: only its maker can read sealed reasoning.
    """
    acted = _drop_blocks(body, _is_foreign_block)
    if acted:
        context.drop(DISCLOSED)
    return acted


def foreign_items(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`The encrypted content ... could not be verified` for reasoning of another vendor's model.

    Reasoning items without encrypted content point at what Copilot never kept, and go as well.
    Seen 2026-07. Source: docs/upstream.md#responses-ids.
    Remove never: only its maker can read sealed reasoning.
    """
    acted = _drop_items(body, _is_foreign_item)
    if acted:
        context.drop(DISCLOSED)
    return acted


@watches("reasoning_opaque")
def foreign_opaque(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`reasoning_opaque` of a model behind another endpoint means nothing here.

    Its text goes with it: reasoning that nobody has sealed is refused or ignored.
    Seen 2026-03-28. Source: docs/upstream.md#reasoning.
    Remove never: only its maker can read sealed reasoning.
    """
    acted = _drop_fields(body, lambda message: _is_marked(message.get("reasoning_opaque")))
    if acted:
        context.drop(DISCLOSED)
    return acted


def is_thoughtless_loop(messages: object) -> bool:
    """Whether tool results answer an assistant's turn that has no thinking at its head."""
    turns = list(dicts_of(messages))
    if len(turns) < 2 or turns[-1].get("role") != "user" or turns[-2].get("role") != "assistant":
        return False
    results = [b for b in dicts_of(turns[-1].get("content")) if b.get("type") == "tool_result"]
    said = list(dicts_of(turns[-2].get("content")))
    return bool(results and said) and said[0].get("type") not in _THINKING_KINDS


def forget(wire: str, body: dict[str, Any]) -> bool:
    """Take all reasoning and all ids of items out of a history; whether there was any.

    The last resort when an upstream refuses what a client replays.
    """
    match wire:
        case "messages":
            return _drop_blocks(body, lambda block: block.get("type") in _THINKING_KINDS)
        case "responses":
            acted = _drop_items(body, lambda item: item.get("type") == "reasoning")
            return pop_from_each(dicts_of(body.get("input")), "id") or acted
        case "chat_completions":
            return _drop_fields(body, lambda message: True)
    return False


def _is_marked(value: object) -> bool:
    return isinstance(value, str) and value.startswith(SIGNATURE_PREFIX)


def _is_foreign_block(block: dict[str, Any]) -> bool:
    match block.get("type"):
        case "thinking":
            return not block.get("signature") or _is_marked(block["signature"])
        case "redacted_thinking":
            return _is_marked(block.get("data"))
    return False


def _is_foreign_item(item: dict[str, Any]) -> bool:
    if item.get("type") != "reasoning":
        return False
    sealed = item.get("encrypted_content")
    return not sealed or _is_marked(sealed)


def _drop_blocks(body: dict[str, Any], unwanted: Wish) -> bool:
    """Take blocks out of the messages; a message that held nothing else goes too."""
    acted = False
    emptied: list[dict[str, Any]] = []
    for message in dicts_of(body.get("messages")):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        kept = [block for block in content if not (isinstance(block, dict) and unwanted(block))]
        if len(kept) < len(content):
            message["content"] = kept
            acted = True
            if not kept:
                emptied.append(message)
    if emptied:
        body["messages"] = [m for m in body["messages"] if not any(m is each for each in emptied)]
    return acted


def _drop_items(body: dict[str, Any], unwanted: Wish) -> bool:
    items = body.get("input")
    if not isinstance(items, list):
        return False
    kept = [item for item in items if not (isinstance(item, dict) and unwanted(item))]
    body["input"] = kept
    return len(kept) < len(items)


def _drop_fields(body: dict[str, Any], unwanted: Wish) -> bool:
    acted = False
    for message in dicts_of(body.get("messages")):
        if unwanted(message):
            acted = (
                bool([message.pop(name) for name in _CHAT_REASONING if name in message]) or acted
            )
    return acted
