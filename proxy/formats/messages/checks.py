"""What a Messages body must hold, looked at without parsing it."""

from typing import Any

from proxy.formats.checks import (
    A_NAME,
    Body,
    Fault,
    filled_list,
    flags,
    lacks_text,
    listing,
    mapping,
    mappings,
    number,
    output_limit,
    refusal,
    texts,
    whole,
)
from proxy.formats.outlines import is_run

_ROLES = frozenset({"user", "assistant", "system"})
_CHOICES = frozenset({"auto", "any", "tool", "none"})
# The fields that the blocks of these types cannot do without, and of what type they are.
_NEEDS: dict[str, tuple[tuple[str, type, str], ...]] = {
    "text": (("text", str, "a string"),),
    "image": (("source", dict, "an object"),),
    "document": (("source", dict, "an object"),),
    "thinking": (("thinking", str, "a string"),),
    "redacted_thinking": (("data", str, "a string"),),
    "tool_use": (("id", str, "a string"), ("name", str, "a string"), ("input", dict, "an object")),
    "tool_result": (("tool_use_id", str, "a string"),),
}


def check(body: Body, *, counted: bool = False) -> None:
    """Raises `InvalidRequest` naming the field. A body that is only `counted` needs no limit."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise refusal("model", A_NAME)
    for i, message in enumerate(filled_list(body, "messages")):
        if not is_run(message) and (fault := _message_fault(message)):
            raise refusal(f"messages.{i}{fault[0]}", fault[1])
    _check_system(body.get("system"))
    _check_tools(body)
    output_limit(body, "max_tokens", required=not counted)
    number(body, "temperature", 0, 1)
    number(body, "top_p", 0, 1)
    whole(body, "top_k", 0, 2**31 - 1)
    for i, word in enumerate(listing(body, "stop_sequences")):
        if not isinstance(word, str):
            raise refusal(f"stop_sequences.{i}", "a string")
    flags(body, "stream")
    mappings(body, "metadata", "output_config")
    thinking = mapping(body, "thinking")
    if thinking is not None:
        texts(thinking, "type")
        if thinking.get("type") is None:
            raise refusal("thinking.type", "a string")
        if thinking["type"] == "enabled":
            _check_budget(thinking)


def _check_budget(thinking: Body) -> None:
    budget = thinking.get("budget_tokens")
    if budget is not None and (
        not isinstance(budget, int) or isinstance(budget, bool) or budget < 0
    ):
        raise refusal("thinking.budget_tokens", "a positive integer")


def _message_fault(message: Any) -> Fault:
    if not isinstance(message, dict):
        return "", "an object"
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        return ".role", "one of user, assistant and system"
    if isinstance(content, str):
        return None
    if not isinstance(content, list):
        return ".content", "a string or a list of blocks"
    for i, block in enumerate(content):
        if fault := _block_fault(block):
            return f".content.{i}{fault[0]}", fault[1]
    return None


def _block_fault(block: Any) -> Fault:
    if not isinstance(block, dict):
        return "", "an object"
    kind = block.get("type")
    if not isinstance(kind, str):
        return ".type", "a string"
    for name, wanted, words in _NEEDS.get(kind, ()):
        if not isinstance(block.get(name), wanted):
            return f".{name}", words
    if kind == "tool_result":
        inner = block.get("content")
        if isinstance(inner, list):
            for i, one in enumerate(inner):
                if not isinstance(one, dict):
                    return f".content.{i}", "an object"
        elif inner is not None and not isinstance(inner, str):
            return ".content", "a string or a list of blocks"
    return None


def _check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise refusal("system", "a string or a list of text blocks")
    for i, block in enumerate(system):
        if not isinstance(block, dict):
            raise refusal(f"system.{i}", "an object")
        if block.get("type") != "text":
            raise refusal(f"system.{i}.type", "'text'")
        if fault := lacks_text(block, "text"):
            raise refusal(f"system.{i}.{fault[0]}", fault[1])


def _check_tools(body: Body) -> None:
    for i, tool in enumerate(listing(body, "tools")):
        if is_run(tool):
            continue
        if not isinstance(tool, dict):
            raise refusal(f"tools.{i}", "an object")
        if not isinstance(tool.get("type"), str | None):
            raise refusal(f"tools.{i}.type", "a string")
        if tool.get("type") in (None, "custom"):
            if not isinstance(tool.get("name"), str) or not tool["name"]:
                raise refusal(f"tools.{i}.name", A_NAME)
            if not isinstance(tool.get("input_schema"), dict):
                raise refusal(f"tools.{i}.input_schema", "an object")
    choice = mapping(body, "tool_choice")
    if choice is None:
        return
    mode = choice.get("type")
    if not isinstance(mode, str) or mode not in _CHOICES:
        raise refusal("tool_choice.type", "one of auto, any, tool and none")
    if mode == "tool" and not isinstance(choice.get("name"), str):
        raise refusal("tool_choice.name", "a string")
