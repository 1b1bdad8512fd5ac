"""What a Chat Completions body must hold, looked at without parsing it."""

from typing import Any

from proxy.formats.checks import (
    A_NAME,
    Body,
    Fault,
    filled_list,
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

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
# OpenAI's own bounds. Source: OpenAI API reference, "Create chat completion".
_MAX_CHOICES = 128
_MAX_TOP_LOGPROBS = 20
_ANY_INTEGER = 2**63


def check(body: Body, *, counted: bool = False) -> None:
    """Raises `InvalidRequest` naming the field. `counted` makes no difference on this wire."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise refusal("model", A_NAME)
    for i, message in enumerate(filled_list(body, "messages")):
        if not is_run(message) and (fault := _message_fault(message)):
            raise refusal(f"messages[{i}]{fault[0]}", fault[1])
    _check_tools(body)
    _check_knobs(body)


def _message_fault(message: Any) -> Fault:
    if not isinstance(message, dict):
        return "", "an object"
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        return ".role", "one of system, developer, user, assistant and tool"
    if isinstance(content, list):
        for i, part in enumerate(content):
            if not isinstance(part, dict):
                return f".content[{i}]", "an object"
            kind = part.get("type")
            if not isinstance(kind, str):
                return f".content[{i}].type", "a string"
            if kind == "text" and not isinstance(part.get("text"), str):
                return f".content[{i}].text", "a string"
            if kind == "image_url" and not isinstance(part.get("image_url"), dict | str):
                return f".content[{i}].image_url", "an object"
    elif not isinstance(content, str) and (content is not None or role in _NEED_CONTENT):
        return ".content", "a string or a list of parts"
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        return ".tool_call_id", "a string"
    if role == "assistant" and message.get("tool_calls") is not None:
        return _calls_fault(message["tool_calls"])
    return None


_KNOBS = frozenset(
    {
        *("max_tokens", "max_completion_tokens", "temperature", "top_p", "presence_penalty"),
        *("frequency_penalty", "n", "top_logprobs", "seed", "stop", "logprobs"),
        *("parallel_tool_calls", "reasoning_effort", "user", "verbosity", "prompt_cache_key"),
        *("response_format", "stream_options", "metadata"),
    }
)
_NEED_CONTENT = frozenset({"system", "developer", "user"})


def _calls_fault(calls: Any) -> Fault:
    if not isinstance(calls, list):
        return ".tool_calls", "a list"
    for i, call in enumerate(calls):
        where = f".tool_calls[{i}]"
        if not isinstance(call, dict):
            return where, "an object"
        if fault := lacks_text(call, "id"):
            return f"{where}.{fault[0]}", fault[1]
        kind = call.get("type", "function")
        if kind != "function" and kind != "custom":
            return f"{where}.type", "'function' or 'custom'"
        target = call.get(kind)
        if not isinstance(target, dict):
            return f"{where}.{kind}", "an object"
        if fault := lacks_text(target, "name"):
            return f"{where}.{kind}.{fault[0]}", fault[1]
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
            _check_function(tool.get(kind), f"{where}.{kind}")
    for i, function in enumerate(listing(body, "functions")):
        _check_function(function, f"functions[{i}]")
    for name in ("tool_choice", "function_call"):
        if not isinstance(body.get(name), str | dict | None):
            raise refusal(name, "a string or an object")


def _check_function(function: Any, where: str) -> None:
    if not isinstance(function, dict):
        raise refusal(where, "an object")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise refusal(f"{where}.name", A_NAME)
    if not isinstance(function.get("parameters"), dict | None):
        raise refusal(f"{where}.parameters", "an object")


def _check_knobs(body: Body) -> None:
    if _KNOBS.isdisjoint(body):
        return
    output_limit(body, "max_tokens")
    output_limit(body, "max_completion_tokens")
    number(body, "temperature", 0, 2)
    number(body, "top_p", 0, 1)
    number(body, "presence_penalty", -2, 2)
    number(body, "frequency_penalty", -2, 2)
    whole(body, "n", 1, _MAX_CHOICES)
    whole(body, "top_logprobs", 0, _MAX_TOP_LOGPROBS)
    whole(body, "seed", -_ANY_INTEGER, _ANY_INTEGER)
    stop = body.get("stop")
    words = stop if isinstance(stop, list) else [stop or ""]
    if not all(isinstance(word, str) for word in words):
        raise refusal("stop", "a string or a list of strings")
    flags(body, "logprobs", "parallel_tool_calls")
    texts(body, "reasoning_effort", "user", "verbosity", "prompt_cache_key")
    mappings(body, "response_format", "stream_options", "metadata")
