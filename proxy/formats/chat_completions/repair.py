"""A whole answer of the upstream as the strictest clients accept it.

Claude's answers come with text in one choice and calls in another, without `index`; pydantic-ai
refuses them. Source: docs/upstream.md#chat-completions, docs/clients.md.
"""

from typing import Any

import orjson

from proxy.errors import UpstreamFailed
from proxy.formats.chat_completions.failures import FILTERED, error_of, find_failure, is_filtered
from proxy.formats.chat_completions.tap import corrected_reason
from proxy.formats.chat_completions.wire import (
    REASONING_FIELDS,
    asks_for_several,
    count,
    known_text,
    merge_usage,
    model_id,
    text_of,
    usage_body,
)
from proxy.formats.contract import Answer

Body = dict[str, Any]


def repair_body(body: Body, answer: Answer) -> Body:
    """Raises the upstream's own error for an error object, `UpstreamFailed` for nonsense."""
    failure = find_failure(body) if not body.get("choices") or body.get("error") else None
    if failure is not None:
        raise error_of(failure)
    choices = [_choice(choice) for choice in _list(body.get("choices")) if choice is not None]
    if not choices:
        if is_filtered(body):
            raise error_of(FILTERED)
        raise UpstreamFailed("The upstream answered without choices.")
    if asks_for_several(answer.request) == 1:
        choices = [_merge(choices)]
    for position, choice in enumerate(choices):
        _finish(choice, position, answer)
    repaired = {**body, **_names(body, answer), "choices": choices}
    usage = merge_usage(None, {"usage": body.get("usage")})
    if usage is not None:
        given = body["usage"]
        counted = usage_body(usage)
        details = {k: v for k, v in given.items() if k not in counted or isinstance(v, dict)}
        repaired["usage"] = {**counted, **details}
    else:
        # Figures that cannot be read would break clients that check types.
        repaired.pop("usage", None)
    return repaired


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UpstreamFailed("The upstream sent choices that are not a list.")
    return value


def _names(body: Body, answer: Answer) -> Body:
    return {
        "id": known_text(body.get("id")) or f"chatcmpl-{answer.id}",
        "object": "chat.completion",
        "created": count(body.get("created")) or answer.created,
        "model": model_id(body.get("model")) or answer.model,
    }


def _choice(choice: Any) -> Body:
    """A copy of a choice whose message is one."""
    if not isinstance(choice, dict):
        raise UpstreamFailed("The upstream sent a choice that is not an object.")
    message = choice.get("message")
    if message is not None and not isinstance(message, dict):
        raise UpstreamFailed("The upstream sent a message that is not an object.")
    reason = choice.get("finish_reason")
    if reason is not None and not isinstance(reason, str):
        raise UpstreamFailed("The upstream sent a finish reason that is not a string.")
    if reason == "error":
        raise UpstreamFailed("The upstream stopped the answer with an error.")
    message = {key: value for key, value in (message or {}).items() if value is not None}
    for name in ("content", "refusal", *REASONING_FIELDS):
        if name in message:
            message[name] = text_of(message[name], name)
    message["tool_calls"] = _list(message.get("tool_calls"))
    return {**choice, "message": message}


def _merge(choices: list[Body]) -> Body:
    """Parts of one answer as one choice: texts joined, calls in order, fields of the first kept."""
    merged = {**choices[0], "message": dict(choices[0]["message"])}
    message: Body = merged["message"]
    for choice in choices[1:]:
        for name, value in choice["message"].items():
            if name == "tool_calls":
                message[name] = message[name] + value
            elif name in ("content", "refusal", *REASONING_FIELDS) and name in message:
                message[name] += value
            else:
                message.setdefault(name, value)
        for name, value in choice.items():
            merged.setdefault(name, value)
        if merged.get("finish_reason") in (None, "stop"):
            merged["finish_reason"] = choice.get("finish_reason")
    return merged


def _finish(choice: Body, position: int, answer: Answer) -> None:
    message: Body = choice["message"]
    calls = [_call(call, i, answer) for i, call in enumerate(message.pop("tool_calls")) if call]
    shown = next((message[name] for name in REASONING_FIELDS if message.get(name)), None)
    if shown is not None:
        # Clients other than Copilot's own know reasoning by this name.
        message.setdefault("reasoning_content", shown)
    if calls:
        message["tool_calls"] = calls
    message["role"] = "assistant"
    message.setdefault("content", None)
    choice["index"] = position
    choice["finish_reason"] = corrected_reason(choice.get("finish_reason"), calls=bool(calls))


def _call(call: Any, position: int, answer: Answer) -> Body:
    kind = "custom" if isinstance(call, dict) and "custom" in call else "function"
    target = call.get(kind) if isinstance(call, dict) else None
    if not isinstance(target, dict) or not isinstance(target.get("name"), str):
        raise UpstreamFailed("The upstream sent a tool call without a name.")
    field = "input" if kind == "custom" else "arguments"
    value = target.get(field)
    if isinstance(value, dict):
        value = orjson.dumps(value).decode()
    if not isinstance(value, str) or (not value and kind == "function"):
        value = "{}" if kind == "function" else ""
    return {
        **call,
        "id": known_text(call.get("id")) or f"call_{answer.id}_{position}",
        "type": kind,
        kind: {**target, field: value},
    }
