"""What the responses leg accepts: reads a Responses body into a prompt or refuses it.

Source: docs/upstream.md (responses).
"""

from __future__ import annotations

from typing import Any

from simulator import minting
from simulator.generation import limit_of, supports
from simulator.prompts import Prompt, Tool, visible_text
from simulator.refusals import Refusal, capi, invalid_body, responses_overflow
from simulator.script import Call
from simulator.state import Json

_FIELDS = frozenset(
    {
        "model",
        "input",
        "instructions",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_output_tokens",
        "max_tool_calls",
        "store",
        "truncation",
        "reasoning",
        "include",
        "text",
        "top_logprobs",
        "prompt_cache_key",
        "prompt_cache_retention",
        "context_management",
        "previous_response_id",
        "metadata",
        "temperature",
        "top_p",
        "user",
        "background",
    }
)
_REFUSED = ("service_tier", "safety_identifier")
_TOOL_KINDS = ("function", "custom", "namespace", "tool_search", "web_search")
_NO_COMPACTION = ("gpt-5-mini", "gpt-5.1", "gpt-5.2")
_ITEM_KINDS = (
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "web_search_call",
    "tool_search_call",
    "tool_search_output",
    "compaction",
)
_ID_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
    "web_search_call": "ws",
    "tool_search_call": "tsc",
}
_CALLS = ("function_call", "custom_tool_call", "tool_search_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output", "tool_search_output")
_PARTS = {
    "user": ("input_text", "input_image", "input_file"),
    "system": ("input_text",),
    "developer": ("input_text",),
    "assistant": ("output_text", "refusal"),
}


def unsupported(name: str) -> Refusal:
    return capi(
        400,
        f"{name} is not supported",
        "unsupported_value",
        param=name,
        type="invalid_request_error",
    )


def read_responses(call: Call, entry: Json, body: Json) -> Prompt:
    """Read a Responses body; raises Refusal for everything that the leg refuses."""
    _check_fields(call, body)
    _check_limits(entry, body)
    prompt = Prompt()
    _read_tools(body.get("tools"), prompt)
    if isinstance(body.get("instructions"), str):
        prompt.add(body["instructions"], 4)
    items = _items(body)
    for number, item in enumerate(items):
        _read_item(call, entry, item, number, prompt)
    _check_pairs(items)
    _read_turn(items, prompt)
    _read_wishes(entry, body, prompt)
    limit = limit_of(entry, "max_prompt_tokens")
    if limit is not None and prompt.tokens > limit:
        raise responses_overflow()
    return prompt


def _check_fields(call: Call, body: Json) -> None:
    if body.get("store") is True:
        raise unsupported("store")
    for name in body:
        if name in _REFUSED:
            raise unsupported(name)
        if name not in _FIELDS:
            raise invalid_body(f"Unknown parameter: '{name}'.")
    if body.get("previous_response_id") is not None:
        wanted = body["previous_response_id"]
        raise capi(
            400,
            f"Previous response with id '{wanted}' not found.",
            "previous_response_not_found",
            param="previous_response_id",
        )
    if body.get("background") is True:
        raise unsupported("background")


def _check_limits(entry: Json, body: Json) -> None:
    value = body.get("max_output_tokens")
    if value is not None:
        if not isinstance(value, int):
            raise invalid_body("Invalid type for 'max_output_tokens': expected an integer.")
        if value < 16:
            raise invalid_body(
                "Invalid 'max_output_tokens': integer below minimum value. "
                f"Expected a value >= 16, but got {value} instead."
            )
    efforts = supports(entry, "reasoning_effort") or []
    effort = (body.get("reasoning") or {}).get("effort")
    if effort is not None and effort not in efforts:
        listed = ", ".join(f"'{known}'" for known in efforts)
        raise capi(
            400,
            f"Unsupported value: '{effort}' is not supported with the '{entry['id']}' model. "
            f"Supported values are: {listed}.",
            "invalid_reasoning_effort",
            param="reasoning.effort",
        )
    if body.get("context_management") and entry["id"] in _NO_COMPACTION:
        raise unsupported("context_management")


def _read_tools(tools: Any, prompt: Prompt) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise invalid_body("Invalid type for 'tools': expected an array.")
    for number, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "image_generation":
            raise unsupported(f"tools[{number}].type image_generation")
        if kind not in _TOOL_KINDS:
            raise invalid_body(f"Invalid value: '{kind}'. Supported tools are: {_TOOL_KINDS}.")
        if kind in ("function", "custom", "namespace") and not tool.get("name"):
            raise invalid_body(f"Missing required parameter: 'tools[{number}].name'.")
        prompt.add_json(tool)
        prompt.tools += _tools_of(tool)


def _tools_of(tool: Json, namespace: str | None = None) -> list[Tool]:
    match tool["type"]:
        case "namespace":
            name = str(tool["name"])
            inner = [item for item in tool.get("tools") or [] if isinstance(item, dict)]
            return [found for item in inner for found in _tools_of(item, name)]
        case "web_search" | "tool_search":
            return [Tool(tool["type"], tool.get("parameters") or {}, kind=tool["type"])]
    kind = "custom" if tool["type"] == "custom" else "function"
    return [Tool(str(tool["name"]), tool.get("parameters") or {}, kind, namespace=namespace)]


def _items(body: Json) -> list[Json]:
    given = body.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise invalid_body("Missing required parameter: 'input'.")
    for number, item in enumerate(given):
        if not isinstance(item, dict):
            raise invalid_body(f"Invalid type for 'input[{number}]': expected an object.")
    return given


def _kind(item: Json) -> Any:
    return item.get("type", "message" if "role" in item else None)


def _read_item(call: Call, entry: Json, item: Json, number: int, prompt: Prompt) -> None:
    kind = _kind(item)
    if kind == "additional_tools" and call.state.config.additional_tools:
        _read_tools(item.get("tools"), prompt)
        return
    if kind not in _ITEM_KINDS:
        listed = ", ".join(f"'{known}'" for known in _ITEM_KINDS)
        raise invalid_body(f"Invalid value: '{kind}'. Supported values are: {listed}.")
    _check_id(call, item, str(kind), number)
    match kind:
        case "message":
            _read_message(item, number, prompt)
        case "reasoning" | "compaction":
            _check_encrypted(call, entry, item, number)
            prompt.add_json(item.get("summary") or [])
        case _:
            prompt.add_json({name: value for name, value in item.items() if name != "id"})
    if kind in _CALLS + _OUTPUTS and not isinstance(item.get("call_id"), str):
        raise invalid_body(f"Missing required parameter: 'input[{number}].call_id'.")


def _check_id(call: Call, item: Json, kind: str, number: int) -> None:
    """Ids that we minted belong to the call that gave them; others need the right prefix."""
    id_ = item.get("id")
    if not isinstance(id_, str) or not id_:
        return
    if minting.is_opaque_id(call.state, id_):
        raise invalid_body("input item ID does not belong to this connection")
    prefix = _ID_PREFIXES.get(kind)
    if prefix is not None and not id_.startswith(prefix):
        raise invalid_body(
            f"Invalid 'input[{number}].id': '{id_}'. Expected an ID that begins with '{prefix}'."
        )


def _check_encrypted(call: Call, entry: Json, item: Json, number: int) -> None:
    value = item.get("encrypted_content")
    if value is None:
        return
    login, model = call.known_account.login, str(entry["id"])
    if not call.state.config.check_signatures:
        return
    if minting.check_seal(call.state, "reasoning", login, model, str(value)) != "ok":
        raise invalid_body(
            f"The encrypted content for item input[{number}] could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed."
        )


def _read_message(item: Json, number: int, prompt: Prompt) -> None:
    role = item.get("role")
    if role not in _PARTS:
        raise invalid_body(f"Invalid value: '{role}' for 'input[{number}].role'.")
    content = item.get("content")
    if isinstance(content, str):
        prompt.add(content, 4)
        return
    if not isinstance(content, list):
        raise invalid_body(f"Invalid type for 'input[{number}].content'.")
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        where = f"input[{number}].content[{index}]"
        if kind not in _PARTS[str(role)]:
            listed = ", ".join(f"'{known}'" for known in _PARTS[str(role)])
            raise invalid_body(
                f"Invalid value: '{kind}' for '{where}.type'. Supported values are: {listed}."
            )
        _read_part(part, where, prompt)


def _read_part(part: Json, where: str, prompt: Prompt) -> None:
    match part["type"]:
        case "input_image":
            if part.get("detail", "auto") not in ("low", "high", "auto"):
                raise invalid_body(f"Invalid value: '{part['detail']}' for '{where}.detail'.")
            prompt.add_image(str(part.get("image_url", "")))
        case "input_file":
            prompt.add_image(str(part.get("file_data", "")))
        case "refusal":
            prompt.add(str(part.get("refusal", "")))
        case _:
            if not isinstance(part.get("text"), str):
                raise invalid_body(f"Missing required parameter: '{where}.text'.")
            prompt.add(part["text"], 2)


def _check_pairs(items: list[Json]) -> None:
    """Every output has its call before it, every call has an output."""
    calls: set[str] = set()
    answered: set[str] = set()
    for item in items:
        kind = _kind(item)
        if kind in _CALLS:
            calls.add(item["call_id"])
        elif kind in _OUTPUTS:
            if item["call_id"] not in calls:
                raise invalid_body(
                    f"No tool call found for function call output with call_id {item['call_id']}."
                )
            answered.add(item["call_id"])
    missing = sorted(calls - answered)
    if missing:
        raise invalid_body(f"No tool output found for function call {missing[0]}.")


def _message_texts(item: Json) -> list[str]:
    content = item.get("content")
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and "text" in part]


def responses_user_text(body: Json) -> str:
    """Return the last text that the user wrote, an empty string when there is none."""
    given = body.get("input")
    if isinstance(given, str):
        return given
    for item in reversed(given if isinstance(given, list) else []):
        if isinstance(item, dict) and item.get("role") == "user" and _message_texts(item):
            return visible_text(_message_texts(item))
    return ""


def _read_turn(items: list[Json], prompt: Prompt) -> None:
    prompt.user_text = responses_user_text({"input": items})
    for item in reversed(items):
        kind = _kind(item)
        if kind in _OUTPUTS:
            prompt.tool_results.insert(0, _output_text(item))
        elif kind != "message" or item.get("role") not in ("system", "developer"):
            return


def _output_text(item: Json) -> str:
    output = item.get("output", item.get("tools"))
    if isinstance(output, str):
        return output
    parts = output if isinstance(output, list) else []
    return " ".join(str(part.get("text", part.get("name", ""))) for part in parts)


def _read_wishes(entry: Json, body: Json, prompt: Prompt) -> None:
    efforts = supports(entry, "reasoning_effort") or []
    effort = (body.get("reasoning") or {}).get("effort", "medium")
    prompt.wants_thinking = bool(efforts) and effort != "none"
    prompt.max_output_tokens = body.get("max_output_tokens")
    choice = body.get("tool_choice")
    prompt.tools_forbidden = choice == "none"
    if choice == "required":
        prompt.forced_tool = "*"
    elif isinstance(choice, dict):
        prompt.forced_tool = choice.get("name")
    wanted = (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        prompt.schema = wanted.get("schema") or {}
    prompt.wants_json = wanted.get("type") == "json_object"
