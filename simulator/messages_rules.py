"""What the messages leg accepts: reads an Anthropic Messages body into a prompt or refuses it.

The provider behind Copilot is strict about every field; its texts are copied as far as known.
Source: docs/upstream.md (messages, field refusals).
"""

from __future__ import annotations

import re
from typing import Any

from simulator import minting
from simulator.generation import limit_of, supports
from simulator.messages_tools import check_tool_pairs, read_tools
from simulator.prompts import Prompt, visible_text
from simulator.refusals import Refusal, capi, invalid, invalid_body, messages_overflow
from simulator.script import Call
from simulator.state import Json

ACCEPTED_BETAS = frozenset(
    {
        "claude-code-20250219",
        "oauth-2025-04-20",
        "interleaved-thinking-2025-05-14",
        "fine-grained-tool-streaming-2025-05-14",
        "context-management-2025-06-27",
        "prompt-caching-2024-07-31",
        "extended-cache-ttl-2025-04-11",
        "prompt-caching-scope-2026-01-05",
        "mid-conversation-system-2026-04-07",
        "tool-search-tool-2025-11-19",
        "advanced-tool-use-2025-11-20",
        "token-efficient-tools-2025-02-19",
        "effort-2025-11-24",
    }
)
CONTEXT_MANAGEMENT = "context-management-2025-06-27"
MID_CONVERSATION_SYSTEM = "mid-conversation-system-2026-04-07"
MAX_CACHE_MARKERS = 4

# Models that only think adaptively refuse a budget. Source: docs/upstream.md (2026-04-16).
ADAPTIVE_ONLY = frozenset(
    {"claude-opus-4.7", "claude-opus-4.8", "claude-opus-5", "claude-sonnet-5"}
)

_FIELDS = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "system",
        "stream",
        "tools",
        "tool_choice",
        "thinking",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "metadata",
        "output_config",
        "context_management",
    }
)
_BLOCK_FIELDS: dict[str, frozenset[str]] = {
    kind: frozenset(names.split()) | {"type"}
    for kind, names in {
        "text": "text cache_control citations",
        "image": "source cache_control",
        "document": "source title context citations cache_control",
        "search_result": "source title content citations cache_control",
        "tool_use": "id name input cache_control caller",
        "tool_result": "tool_use_id content is_error cache_control",
        "thinking": "thinking signature",
        "redacted_thinking": "data",
        "server_tool_use": "id name input cache_control caller",
        "tool_search_tool_result": "tool_use_id content cache_control",
        "tool_reference": "tool_name cache_control",
    }.items()
}
_ROLE_BLOCKS = {
    "user": {"text", "image", "document", "search_result", "tool_result"},
    "assistant": {
        "text",
        "tool_use",
        "thinking",
        "redacted_thinking",
        "server_tool_use",
        "tool_search_tool_result",
    },
    "system": {"text"},
    "tool_result": {"text", "image", "document", "search_result", "tool_reference"},
}
_TOOL_ID = re.compile(r"^[A-Za-z0-9_-]+$")


def extra(path: str) -> Refusal:
    return invalid(f"{path}: Extra inputs are not permitted")


def betas_of(call: Call) -> list[str]:
    return [beta.strip() for beta in call.header("anthropic-beta").split(",") if beta.strip()]


def read_messages(call: Call, entry: Json, body: Json) -> Prompt:
    """Read a Messages body; raises Refusal for everything that the leg refuses."""
    return _read(call, entry, body, counting=False)


def read_for_counting(call: Call, entry: Json, body: Json) -> Prompt:
    """Read a body of count_tokens, where `max_tokens` may be missing."""
    return _read(call, entry, body, counting=True)


def _read(call: Call, entry: Json, body: Json, *, counting: bool) -> Prompt:
    betas = betas_of(call)
    refused = [beta for beta in betas if beta not in ACCEPTED_BETAS]
    if refused:
        raise invalid_body(f"unsupported beta header(s): {', '.join(refused)}")
    _check_fields(entry, body, betas, counting=counting)
    _check_thinking(call, entry, body)
    _check_effort(call, entry, body)
    prompt = Prompt()
    _count_markers(body)
    read_tools(call, body, betas, prompt)
    _read_system(body.get("system"), prompt)
    _read_conversation(call, entry, body, betas, prompt)
    _read_wishes(entry, body, prompt)
    limit = limit_of(entry, "max_context_window_tokens")
    if limit is not None and prompt.tokens > limit and not counting:
        raise messages_overflow(prompt.tokens, limit)
    return prompt


def _check_fields(entry: Json, body: Json, betas: list[str], *, counting: bool) -> None:
    for name in body:
        if name not in _FIELDS:
            raise extra(name)
    if "context_management" in body and CONTEXT_MANAGEMENT not in betas:
        raise extra("context_management")
    value = body.get("max_tokens")
    if value is None:
        if counting:
            return
        raise invalid("max_tokens: Field required")
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if value < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    limit = limit_of(entry, "max_output_tokens")
    if limit is not None and value > limit:
        raise invalid(
            f"max_tokens: {value} > {limit}, which is the maximum allowed number of output tokens "
            f"for {entry['id']}"
        )


def _check_thinking(call: Call, entry: Json, body: Json) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    allowed = {"adaptive": {"display"}, "enabled": {"display", "budget_tokens"}, "disabled": set()}
    tags = "'adaptive', 'disabled', 'enabled'"
    if kind == "adaptive" and not supports(entry, "adaptive_thinking"):
        kind, tags = None, "'disabled', 'enabled'"
    if kind not in allowed:
        found = thinking.get("type") if isinstance(thinking, dict) else thinking
        raise invalid(
            f"thinking: Input tag '{found}' found using 'type' does not match any of the "
            f"expected tags: {tags}"
        )
    for name in thinking:
        if name != "type" and name not in allowed[str(kind)]:
            raise extra(f"thinking.{kind}.{name}")
    if thinking.get("display") not in (None, "summarized", "omitted"):
        raise invalid("thinking.display: Input should be 'summarized' or 'omitted'")
    if kind == "enabled":
        _check_budget(entry, body, thinking.get("budget_tokens"))


def _check_budget(entry: Json, body: Json, budget: Any) -> None:
    if entry["id"] in ADAPTIVE_ONLY:
        raise invalid(
            '"thinking.type.enabled" is not supported for this model. Use '
            '"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
        )
    if not isinstance(budget, int):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < 1024:
        raise invalid(
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        )
    if body.get("max_tokens") is not None and budget >= body["max_tokens"]:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _check_effort(call: Call, entry: Json, body: Json) -> None:
    config = body.get("output_config")
    if config is None:
        return
    if not isinstance(config, dict):
        raise invalid("output_config: Input should be an object")
    for name in config:
        if name not in ("effort", "format"):
            raise extra(f"output_config.{name}")
    efforts = supports(entry, "reasoning_effort")
    if "effort" in config and not efforts:
        raise extra("output_config.effort")
    if config.get("effort") is not None and config["effort"] not in (efforts or []):
        raise capi(
            400,
            f"output_config.effort: {config['effort']!r} is not supported by {entry['id']}",
            "invalid_reasoning_effort",
        )
    if "format" in config and call.state.config.vertex_is_strict:
        raise invalid("FAILED_PRECONDITION: output_config.format is not available on Vertex")


def _count_markers(body: Json) -> None:
    """Refuse more than four cache markers and any scope, wherever they stand."""
    found = 0
    for path, block in _marked_blocks(body):
        marker = block.get("cache_control")
        if marker is None:
            continue
        found += 1
        if not isinstance(marker, dict) or marker.get("type") != "ephemeral":
            raise invalid(f"{path}.cache_control.type: Input should be 'ephemeral'")
        for name in marker:
            if name not in ("type", "ttl"):
                raise extra(f"{path}.cache_control.ephemeral.{name}")
        if marker.get("ttl") not in (None, "5m", "1h"):
            raise invalid(f"{path}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
    if found > MAX_CACHE_MARKERS:
        raise invalid(
            f"A maximum of {MAX_CACHE_MARKERS} blocks with cache_control may be provided. "
            f"Found {found}."
        )


def _marked_blocks(body: Json) -> list[tuple[str, Json]]:
    blocks: list[tuple[str, Json]] = []
    for number, tool in enumerate(_dicts(body.get("tools"))):
        blocks.append((f"tools.{number}.custom", tool))
    for number, block in enumerate(_dicts(body.get("system"))):
        blocks.append((f"system.{number}", block))
    for number, message in enumerate(_dicts(body.get("messages"))):
        for index, block in enumerate(_dicts(message.get("content"))):
            path = f"messages.{number}.content.{index}.{block.get('type')}"
            blocks.append((path, block))
            for inner, part in enumerate(_dicts(block.get("content"))):
                blocks.append((f"{path}.content.{inner}.{part.get('type')}", part))
    return blocks


def _dicts(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _read_system(system: Any, prompt: Prompt) -> None:
    if system is None:
        return
    if isinstance(system, str):
        prompt.add(system, 4)
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid list")
    for number, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"system.{number}.type: Input should be 'text'")
        _read_block(block, f"system.{number}", prompt)


def _read_conversation(
    call: Call, entry: Json, body: Json, betas: list[str], prompt: Prompt
) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise invalid("messages: Field required")
    if not messages:
        raise invalid("messages: at least one message is required")
    for number, message in enumerate(messages):
        path = f"messages.{number}"
        if not isinstance(message, dict):
            raise invalid(f"{path}: Input should be an object")
        role = message.get("role")
        if role == "system" and MID_CONVERSATION_SYSTEM in betas:
            pass
        elif role not in ("user", "assistant"):
            raise invalid(
                f'{path}.role: Unexpected role "{role}". The Messages API accepts a top-level '
                "`system` parameter, not a message role."
                if role == "system"
                else f"{path}.role: Input should be 'user' or 'assistant'"
            )
        for name in message:
            if name not in ("role", "content"):
                raise extra(f"{path}.{name}")
        _read_content(call, entry, message, path, prompt)
    spoken = [message for message in messages if message["role"] != "system"]
    if not spoken or spoken[-1]["role"] == "assistant":
        raise invalid(
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    check_tool_pairs(messages)
    _read_turn(messages, prompt)


def _read_content(call: Call, entry: Json, message: Json, path: str, prompt: Prompt) -> None:
    content = message.get("content")
    if isinstance(content, str):
        if not content.strip():
            raise invalid("messages: text content blocks must be non-empty")
        prompt.add(content, 4)
        return
    if not isinstance(content, list):
        raise invalid(f"{path}.content: Field required")
    if not content:
        raise invalid(f"{path}: all messages must have non-empty content")
    for index, block in enumerate(content):
        where = f"{path}.content.{index}"
        kind = block.get("type") if isinstance(block, dict) else None
        allowed = _ROLE_BLOCKS[message["role"]]
        if kind not in allowed:
            raise _wrong_tag(where, kind, allowed)
        _read_block(block, f"{where}.{kind}", prompt)
        if kind == "thinking":
            _check_signature(call, entry, block, where)
        elif kind == "redacted_thinking":
            _check_redacted(call, entry, block, where)


def _wrong_tag(where: str, kind: Any, allowed: set[str]) -> Refusal:
    tags = ", ".join(f"'{tag}'" for tag in sorted(allowed))
    return invalid(
        f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected "
        f"tags: {tags}"
    )


def _read_block(block: Json, path: str, prompt: Prompt) -> None:
    kind = str(block["type"])
    for name in block:
        if name not in _BLOCK_FIELDS[kind]:
            raise extra(f"{path}.{name}")
    match kind:
        case "text":
            if not isinstance(block.get("text"), str):
                raise invalid(f"{path}.text: Field required")
            if not block["text"].strip():
                raise invalid("messages: text content blocks must be non-empty")
            prompt.add(block["text"], 2)
        case "image" | "document":
            _read_source(block.get("source"), path, prompt)
        case "tool_use" | "server_tool_use":
            _check_tool_id(block.get("id"), f"{path}.id")
            if not isinstance(block.get("input"), dict):
                raise invalid(f"{path}.input: Input should be an object")
            prompt.add_json({"name": block.get("name"), "input": block["input"]})
        case "tool_result":
            _check_tool_id(block.get("tool_use_id"), f"{path}.tool_use_id")
            _read_result(block.get("content"), path, prompt)
        case "thinking":
            prompt.add(str(block.get("thinking", "")))
        case _:
            prompt.add_json({key: value for key, value in block.items() if key != "cache_control"})
    if block.get("cache_control") is not None:
        prompt.mark_cache()


def _read_result(content: Any, path: str, prompt: Prompt) -> None:
    if content is None:
        return
    if isinstance(content, str):
        prompt.add(content)
        return
    if not isinstance(content, list):
        raise invalid(f"{path}.content: Input should be a valid list")
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        where = f"{path}.content.{index}"
        if kind not in _ROLE_BLOCKS["tool_result"]:
            raise _wrong_tag(where, kind, _ROLE_BLOCKS["tool_result"])
        _read_block(part, f"{where}.{kind}", prompt)


def _read_source(source: Any, path: str, prompt: Prompt) -> None:
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "base64":
        prompt.add_image(str(source.get("data", "")))
    elif kind == "text":
        prompt.add(str(source.get("data", "")))
    elif kind == "url":
        prompt.add_image(str(source.get("url", "")))
    else:
        raise invalid(f"{path}.source: Input tag '{kind}' found using 'type' does not match")


def _check_tool_id(value: Any, path: str) -> None:
    if not isinstance(value, str) or not _TOOL_ID.match(value):
        raise invalid(f"{path}: String should match pattern '^[a-zA-Z0-9_-]+$'")


def _check_signature(call: Call, entry: Json, block: Json, where: str) -> None:
    if not call.state.config.check_signatures:
        return
    verdict = minting.check_seal(
        call.state,
        "signature",
        call.known_account.login,
        str(entry["id"]),
        str(block.get("signature", "")),
        str(block.get("thinking", "")),
    )
    if verdict == "foreign":
        raise invalid(f"{where}: Invalid signature in thinking block")
    if verdict == "modified":
        raise invalid(
            f"{where}: `thinking` or `redacted_thinking` blocks in the latest assistant message "
            "cannot be modified (thinking blocks cannot be modified). These blocks must remain "
            "as they were in the original response."
        )


def _check_redacted(call: Call, entry: Json, block: Json, where: str) -> None:
    login, model = call.known_account.login, str(entry["id"])
    data = str(block.get("data", ""))
    if minting.check_seal(call.state, "redacted", login, model, data) != "ok":
        raise invalid(f"{where}: Invalid data in redacted_thinking block")


def _block_texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in _dicts(content) if isinstance(block.get("text"), str)]


def messages_user_text(body: Json) -> str:
    """Return the last text that the user wrote, an empty string when there is none."""
    for message in reversed(_dicts(body.get("messages"))):
        texts = _block_texts(message.get("content"))
        if message.get("role") == "user" and texts:
            return visible_text(texts)
    return ""


def _read_turn(messages: list[Json], prompt: Prompt) -> None:
    prompt.user_text = messages_user_text({"messages": messages})
    for message in reversed(messages):
        if message["role"] == "assistant":
            return
        for block in reversed(_dicts(message["content"])):
            if block.get("type") == "tool_result":
                result = " ".join(_block_texts(block.get("content")))
                prompt.tool_results.insert(0, result)


def _read_wishes(entry: Json, body: Json, prompt: Prompt) -> None:
    thinking = body.get("thinking") or {}
    prompt.wants_thinking = thinking.get("type") in ("adaptive", "enabled")
    limit = body.get("max_tokens")
    cap = limit_of(entry, "max_non_streaming_output_tokens")
    if not body.get("stream") and limit and cap:
        limit = min(limit, cap)
    prompt.max_output_tokens = limit
    prompt.stop = [stop for stop in body.get("stop_sequences") or [] if isinstance(stop, str)]
    choice = body.get("tool_choice") or {}
    prompt.tools_forbidden = choice.get("type") == "none"
    prompt.forced_tool = {"any": "*", "tool": choice.get("name")}.get(choice.get("type", ""))
    wanted = (body.get("output_config") or {}).get("format")
    if isinstance(wanted, dict):
        prompt.schema = wanted.get("schema") or {}
