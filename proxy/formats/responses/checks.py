"""What a Responses body must hold, looked at without parsing it."""

from typing import Any

from proxy.errors import InvalidRequest
from proxy.formats.checks import (
    A_NAME,
    Body,
    Fault,
    flags,
    lacks_text,
    listing,
    mappings,
    number,
    output_limit,
    refusal,
    texts,
    whole,
)
from proxy.formats.outlines import is_run

_ROLES = frozenset({"user", "assistant", "system", "developer"})
_MAX_TOP_LOGPROBS = 20
# The strings that items of these types cannot do without.
_NEEDS: dict[str, tuple[str, ...]] = {
    "function_call": ("call_id", "name", "arguments"),
    "custom_tool_call": ("call_id", "name", "input"),
    "function_call_output": ("call_id",),
    "custom_tool_call_output": ("call_id",),
}
# What would have to lie in a store on the other side. Source: docs/upstream.md#responses-ids.
_STORED = {
    "conversation": "Conversations are not kept here: send the full history in 'input'.",
    "prompt": "Prompts are not kept here: send the prompt's text in 'instructions' or 'input'.",
}


def check(body: Body, *, counted: bool = False) -> None:
    """Raises `InvalidRequest` naming the field. `counted` makes no difference on this wire."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise refusal("model", A_NAME)
    _check_stored(body)
    _check_input(body.get("input"))
    _check_tools(body)
    output_limit(body, "max_output_tokens")
    number(body, "temperature", 0, 2)
    number(body, "top_p", 0, 1)
    whole(body, "top_logprobs", 0, _MAX_TOP_LOGPROBS)
    flags(body, "parallel_tool_calls", "store", "stream")
    texts(body, "instructions", "prompt_cache_key", "truncation", "user")
    mappings(body, "metadata", "reasoning", "text")
    listing(body, "include")
    listing(body, "context_management")


def _check_stored(body: Body) -> None:
    """Whatever leans on an earlier answer: nothing is kept, and a part of a history is no history.

    Refused before anything is sent, because an answer without the history would look like one.
    """
    earlier = body.get("previous_response_id")
    if earlier is not None:
        raise InvalidRequest(
            f"Previous response {str(earlier)[:80]!r} was not found: responses are not stored here"
            " (store is always false). Send the full history in 'input', with the output items of"
            " the earlier answers, and leave previous_response_id out.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    for name, advice in _STORED.items():
        if body.get(name) is not None:
            raise InvalidRequest(advice, code="unsupported_parameter", param=name)
    if body.get("background") is True:
        raise InvalidRequest(
            "Answers in the background cannot be fetched later here: responses are not stored."
            " Leave 'background' out and stream the answer.",
            code="unsupported_parameter",
            param="background",
        )


def _check_input(given: Any) -> None:
    if isinstance(given, str):
        return
    if not isinstance(given, list) or not given:
        raise refusal("input", "a string or a non-empty list")
    for i, item in enumerate(given):
        if not is_run(item) and (fault := _item_fault(item)):
            raise refusal(f"input[{i}]{fault[0]}", fault[1])


def _item_fault(item: Any) -> Fault:
    if not isinstance(item, dict):
        return "", "an object"
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            return ".role", "one of user, assistant, system and developer"
        return _content_fault(item.get("content"), ".content")
    if not isinstance(kind, str):
        return ".type", "a string"
    if needs := _NEEDS.get(kind):
        if fault := lacks_text(item, *needs):
            return f".{fault[0]}", fault[1]
        if kind.endswith("_output"):
            return _content_fault(item.get("output"), ".output")
    return None


def _content_fault(content: Any, where: str) -> Fault:
    if isinstance(content, str):
        return None
    if not isinstance(content, list):
        return where, "a string or a list of parts"
    for i, part in enumerate(content):
        if not isinstance(part, dict):
            return f"{where}[{i}]", "an object"
        kind = part.get("type")
        if not isinstance(kind, str):
            return f"{where}[{i}].type", "a string"
        if kind in ("input_text", "output_text") and not isinstance(part.get("text"), str):
            return f"{where}[{i}].text", "a string"
    return None


def _check_tools(body: Body) -> None:
    for i, tool in enumerate(listing(body, "tools")):
        if is_run(tool):
            continue
        where = f"tools[{i}]"
        if not isinstance(tool, dict):
            raise refusal(where, "an object")
        kind = tool.get("type")
        if not isinstance(kind, str):
            raise refusal(f"{where}.type", "a string")
        if kind in ("function", "custom"):
            if not isinstance(tool.get("name"), str) or not tool["name"]:
                raise refusal(f"{where}.name", A_NAME)
            if not isinstance(tool.get("parameters"), dict | None):
                raise refusal(f"{where}.parameters", "an object")
    if not isinstance(body.get("tool_choice"), str | dict | None):
        raise refusal("tool_choice", "a string or an object")
