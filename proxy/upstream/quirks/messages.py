"""Quirks of /v1/messages and its count_tokens. Source: docs/upstream.md#messages-fields.

Claude Code answers a 400 by asking again with features taken away, up to six times. So what Copilot
refuses is taken out here, before the first request. Thinking signatures are never touched.
"""

import re
import zlib
from typing import Any, Final

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks.blocks import block_fields
from proxy.upstream.quirks.body import (
    Quirk,
    QuirkContext,
    dicts_of,
    drop_unknown,
    integer,
    keep_fields,
    pop_fields,
    watches,
)
from proxy.upstream.quirks.replays import foreign_thinking
from proxy.upstream.quirks.thinking import THINKING_QUIRKS
from proxy.upstream.quirks.tools import DEFERRAL_BETA, TOOL_QUIRKS

KNOWN_FIELDS: Final = frozenset(
    {
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
COUNTED_FIELDS: Final = frozenset(
    {
        "context_management",
        "messages",
        "model",
        "output_config",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
REFUSED_FIELDS: Final = ("service_tier", "inference_geo")
MESSAGE_FIELDS: Final = frozenset({"role", "content"})
CACHE_FIELDS: Final = frozenset({"type", "ttl"})
CACHE_CARRIERS: Final = frozenset({"text", "image", "document", "tool_use", "tool_result"})
MAX_CACHE_MARKERS: Final = 4
_ID_FIELDS: Final = {"tool_use": "id", "tool_result": "tool_use_id"}
_UNMARKED: Final = ("thinking", "redacted_thinking")

CONTEXT_BETA: Final = "context-management-2025-06-27"
SYSTEM_BETA: Final = "mid-conversation-system-2026-04-07"

_BILLING: Final = "x-anthropic-billing-header:"
_REMINDER: Final = "<system-reminder>"
_WRONG_IN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")


def has_system_message(body: dict[str, Any]) -> bool:
    return any(message.get("role") == "system" for message in dicts_of(body.get("messages")))


def needed_betas(body: dict[str, Any]) -> set[str]:
    """The betas without which this body would be refused. Source: docs/upstream.md#beta-headers."""
    needed = set()
    if has_system_message(body):
        needed.add(SYSTEM_BETA)
    if any(tool.get("defer_loading") is True for tool in dicts_of(body.get("tools"))):
        needed.add(DEFERRAL_BETA)
    if body.get("context_management") is not None:
        needed.add(CONTEXT_BETA)
    return needed


@watches("system")
def billing_line(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Claude Code's billing line changes with each request and defeats Copilot's prompt cache.

    It heads the system prompt, so nothing behind it is ever read from the cache, and it means
    nothing to Copilot. Seen 2026-11-20. Source: docs/upstream.md#prompt-cache.
    Remove when the line stays the same through a conversation.
    """
    system = body.get("system")
    if isinstance(system, str) and system.startswith(_BILLING):
        body["system"] = system.partition("\n")[2].lstrip("\n")
    elif isinstance(system, list):
        body["system"] = [block for block in system if not _is_billing(block)]
    else:
        return False
    acted = bool(body["system"] != system)
    if acted and not body["system"]:
        del body["system"]
    return acted


@watches(*REFUSED_FIELDS)
def refused_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 `Extra inputs are not permitted` to `service_tier`, `inference_geo`.

    Seen 2026-05 to 2026-09. Source: docs/upstream.md#service-tier.
    Remove when the upstream takes the fields.
    """
    gone = pop_fields(body, REFUSED_FIELDS)
    context.drop(*gone)
    return bool(gone)


@watches("output_format")
def output_format(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`output_format` is an older place of `output_config.format`, under a beta of its own.

    The beta, structured-outputs-2025-11-13, was seen 2026-11-20 from the AI SDK and opencode; that
    the field is refused is inferred. Source: docs/upstream.md#messages-fields.
    Remove when no client sends it.
    """
    if "output_format" not in body:
        return False
    wanted = body.pop("output_format")
    config = body.setdefault("output_config", {})
    if isinstance(wanted, dict) and isinstance(config, dict):
        config.setdefault("format", wanted)
    return True


def unknown_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Copilot answers 400 `Extra inputs are not permitted` to fields that its backend lacks.

    Which fields those are depends on the backend of the call (Anthropic, Bedrock, Vertex), so what
    all have is let through. Seen 2026-08. Source: docs/upstream.md#messages-fields.
    Remove never: an allow-list is the safe policy; extend it as fields are seen to be accepted.
    """
    return drop_unknown(body, context, known=KNOWN_FIELDS, silent=frozenset())


def count_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Counting takes the body of a completion without what belongs to its answer.

    Seen 2026-07. Source: docs/upstream.md#count-tokens.
    Remove never: Anthropic's own rule.
    """
    return bool(keep_fields(body, COUNTED_FIELDS))


def message_fields(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Messages hold a role and content; Claude Code 2.1.328 adds `output_config` for 5.5 models.

    Seen 2026-11-20, its beta per-turn-control-2026-07-01 is not among those that Copilot took.
    Source: docs/upstream.md#messages-fields. Remove the field from here when it is.
    """
    gone = [
        name
        for message in dicts_of(body.get("messages"))
        for name in keep_fields(message, MESSAGE_FIELDS)
    ]
    context.drop(*(f"messages.{str(name)[:40]}" for name in gone))
    return bool(gone)


def cache_scope(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `cache_control.ephemeral.scope: Extra inputs are not permitted`, even with its beta.

    Seen 2026-08-24. Source: docs/upstream.md#prompt-cache.
    Remove when the upstream takes `scope`.
    """
    acted = False
    for carrier in _cache_carriers(body):
        marker = carrier.get("cache_control")
        if isinstance(marker, dict):
            acted = bool(keep_fields(marker, CACHE_FIELDS)) or acted
    return acted


def blank_text(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """400 `messages: text content blocks must be non-empty`.

    A cache marker on a blank block moves to the block before. A message that is left with
    nothing goes too, unless it is the only one.
    Reported by 2026-08. Source: docs/upstream.md#messages-fields.
    Remove never: Anthropic's own rule.
    """
    acted = _drop_blanks(body, "system")
    if acted and not body["system"]:
        del body["system"]
    messages = body.get("messages")
    if not isinstance(messages, list):
        return acted
    emptied = []
    for message in dicts_of(messages):
        for block in dicts_of(message.get("content")):
            acted = _drop_blanks(block, "content") or acted
        if _drop_blanks(message, "content"):
            acted = True
            if not message["content"]:
                emptied.append(message)
        elif _is_blank(message.get("content")):
            emptied.append(message)
    kept = [message for message in messages if not any(message is each for each in emptied)]
    if kept and emptied:
        body["messages"] = kept
        acted = True
    return acted


def mid_conversation_system(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """A system message inside the conversation needs a beta; without it the role is refused.

    It then becomes a `<system-reminder>` in the user message before it (or behind it, or alone),
    the form in which Claude Code itself wrote such notes until then. The initiator was decided
    before and does not change. Seen 2026-11-20. Source: docs/upstream.md#messages-fields.
    Remove when the role needs no beta.
    """
    messages = body.get("messages")
    if SYSTEM_BETA in context.betas or not isinstance(messages, list):
        return False
    if not has_system_message(body):
        return False
    rebuilt: list[Any] = []
    waiting: list[Any] = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if role == "system":
            reminders = _as_reminders(message.get("content"))
            if rebuilt and _role_of(rebuilt[-1]) == "user" and not waiting:
                rebuilt[-1] = _extended(rebuilt[-1], reminders)
            else:
                waiting += reminders
            continue
        if waiting and role == "user":
            message, waiting = _extended(message, waiting), []
        elif waiting:
            rebuilt.append({"role": "user", "content": waiting})
            waiting = []
        rebuilt.append(message)
    if waiting:
        rebuilt.append({"role": "user", "content": waiting})
    body["messages"] = rebuilt
    return True


def tool_ids(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Ids of calls must be of `[A-Za-z0-9_-]+`; other vendors' ids have dots and colons.

    Seen 2026-08. Source: docs/upstream.md#messages-fields.
    Remove never: Anthropic's own rule.
    """
    acted = False
    for message in dicts_of(body.get("messages")):
        for block in dicts_of(message.get("content")):
            key = _ID_FIELDS.get(str(block.get("type")))
            old = block.get(key) if key else None
            if key and isinstance(old, str) and _WRONG_IN_ID.search(old):
                # The checksum keeps ids apart that differ only in what was replaced.
                checksum = zlib.crc32(old.encode("utf-8", "replace"))
                block[key] = f"{_WRONG_IN_ID.sub('_', old)}_{checksum:08x}"
                acted = True
    return acted


def cache_markers(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """More than four cache markers are refused. The last four stay: they cover most.

    Seen 2026-08. Source: docs/upstream.md#prompt-cache.
    Remove never: Anthropic's own rule.
    """
    marked = [
        carrier for carrier in _cache_carriers(body) if carrier.get("cache_control") is not None
    ]
    for carrier in marked[:-MAX_CACHE_MARKERS]:
        del carrier["cache_control"]
    return len(marked) > MAX_CACHE_MARKERS


def prompt_cache(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """Nothing of a prompt is cached without markers, and other formats have none.

    A translated request gets those that VS Code sets: on the last tool, the end of the system
    prompt and the last two turns of the user, so that each request finds what the one before it
    wrote. Seen 2026-03-28. Source: docs/upstream.md#prompt-cache.
    Remove when the upstream caches by itself.
    """
    if not context.translated or any("cache_control" in each for each in _cache_carriers(body)):
        return False
    turns = [m for m in dicts_of(body.get("messages")) if m.get("role") == "user"]
    ends = [_last(body.get("tools")), _last(body.get("system"))]
    for turn in turns[-2:]:
        if isinstance(turn.get("content"), str):
            turn["content"] = [{"type": "text", "text": turn["content"]}]
        ends.append(_last(turn.get("content")))
    marked = [end for end in ends if end is not None and end.get("type") not in _UNMARKED]
    for end in marked:
        end["cache_control"] = {"type": "ephemeral"}
    return bool(marked)


@watches("context_management")
def context_management(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`context_management: Extra inputs are not permitted` (400) without its beta.

    Seen by 2026-07. Source: docs/upstream.md#beta-headers.
    Remove when the field needs no beta.
    """
    if CONTEXT_BETA in context.betas or "context_management" not in body:
        return False
    del body["context_management"]
    context.drop("context_management")
    return True


def output_limit(body: dict[str, Any], model: ModelFacts, context: QuirkContext) -> bool:
    """`max_tokens` is demanded, and above the model's own limit refused.

    Claude Code asks for 128 000 by name of the model, the catalog says 64 000.
    Seen 2026-11-20. Source: docs/upstream.md#messages-fields.
    Remove never: the limit is a fact of the catalog.
    """
    most = model.max_output_tokens
    asked = integer(body.get("max_tokens"))
    if not most or (asked is None and body.get("max_tokens") is not None):
        return False
    if asked is not None and asked <= most:
        return False
    body["max_tokens"] = most
    return True


_SHAPE: Final[tuple[Quirk, ...]] = (
    message_fields,
    block_fields,
    foreign_thinking,
    *TOOL_QUIRKS,
    cache_scope,
    blank_text,
    mid_conversation_system,
    tool_ids,
    cache_markers,
    context_management,
)

QUIRKS: Final[tuple[Quirk, ...]] = (
    billing_line,
    refused_fields,
    output_format,
    unknown_fields,
    *_SHAPE,
    prompt_cache,
    output_limit,
    *THINKING_QUIRKS,
)
COUNT_TOKENS_QUIRKS: Final[tuple[Quirk, ...]] = (
    billing_line,
    output_format,
    count_fields,
    *_SHAPE,
    *THINKING_QUIRKS,
)


def _last(blocks: object) -> dict[str, Any] | None:
    last = blocks[-1] if isinstance(blocks, list) and blocks else None
    return last if isinstance(last, dict) else None


def _cache_carriers(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that may carry a cache marker, in the order of the prompt."""
    carriers = [*dicts_of(body.get("tools")), *dicts_of(body.get("system"))]
    for message in dicts_of(body.get("messages")):
        for block in dicts_of(message.get("content")):
            if isinstance(inner := block.get("content"), list):
                carriers += dicts_of(inner)
            carriers.append(block)
    return carriers


def _is_billing(block: object) -> bool:
    text = block.get("text") if isinstance(block, dict) else None
    return isinstance(text, str) and text.startswith(_BILLING)


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _drop_blanks(holder: dict[str, Any], key: str) -> bool:
    """Take blank text blocks out of a list of blocks; their cache markers move one block back."""
    blocks = holder.get(key)
    if not isinstance(blocks, list):
        return False
    kept: list[Any] = []
    for block in blocks:
        if not (isinstance(block, dict) and block.get("type") == "text") or not _is_blank(
            block.get("text")
        ):
            kept.append(block)
            continue
        before = kept[-1] if kept and isinstance(kept[-1], dict) else {}
        if block.get("cache_control") is not None and before.get("type") in CACHE_CARRIERS:
            before.setdefault("cache_control", block["cache_control"])
    if len(kept) == len(blocks):
        return False
    holder[key] = kept
    return True


def _role_of(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _as_reminders(content: object) -> list[Any]:
    """The content of a system message as blocks that a user message may hold."""
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    reminders: list[Any] = []
    for block in blocks:
        text = block.get("text") if isinstance(block, dict) else None
        if isinstance(text, str) and not text.lstrip().startswith(_REMINDER):
            block = {**block, "text": f"{_REMINDER}\n{text}\n</system-reminder>"}
        reminders.append(block)
    return reminders


def _extended(message: dict[str, Any], blocks: list[Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return {**message, "content": [*(content if isinstance(content, list) else []), *blocks]}
