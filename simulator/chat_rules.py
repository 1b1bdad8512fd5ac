"""What the chat leg accepts: reads a Chat Completions body into a prompt or refuses it.

Source: docs/upstream.md (chat completions).
"""

from __future__ import annotations

import re
from typing import Any

from simulator import minting
from simulator.generation import limit_of, supports
from simulator.prompts import Prompt, Tool, visible_text
from simulator.refusals import capi, chat_overflow, invalid_body, text
from simulator.script import Call
from simulator.state import Json

MAX_TOOLS = 128
_TOOL_NAME = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
_ANTHROPIC_ONLY = ("thinking", "cache_control", "top_k", "metadata", "system", "stop_sequences")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def read_chat(call: Call, entry: Json, body: Json) -> Prompt:
    """Read a Chat Completions body; raises Refusal for everything that the leg refuses."""
    _check_fields(call, entry, body)
    prompt = Prompt()
    _read_tools(body, prompt)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid_body("messages: at least one message is required")
    for number, message in enumerate(messages):
        _read_message(message, number, prompt)
    _check_tool_order(messages)
    if entry.get("vendor") == "Google":
        _check_opaque(call, str(entry["id"]), messages)
    _read_turn(messages, prompt)
    _read_wishes(entry, body, prompt)
    limit = limit_of(entry, "max_prompt_tokens")
    if limit is not None and prompt.tokens > limit:
        raise chat_overflow(prompt.tokens, limit)
    return prompt


def _check_fields(call: Call, entry: Json, body: Json) -> None:
    for name in _ANTHROPIC_ONLY:
        if name in body:
            raise invalid_body(f"Unrecognized request argument supplied: {name}")
    efforts = supports(entry, "reasoning_effort")
    effort = body.get("reasoning_effort")
    if effort is not None and effort not in (efforts or []):
        raise capi(
            400,
            f"reasoning effort {effort!r} is not supported by model {entry['id']}",
            "invalid_reasoning_effort",
        )
    count = body.get("n")
    if count is not None and not (isinstance(count, int) and 1 <= count <= 8):
        raise invalid_body("Invalid value for 'n'.")
    if (
        call.state.config.gpt5_refuses_max_tokens
        and str(entry["id"]).startswith("gpt-5")
        and "max_tokens" in body
    ):
        raise invalid_body(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead."
        )
    limit = limit_of(entry, "max_output_tokens")
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or value < 1:
            raise invalid_body(f"Invalid value for '{name}': expected an integer of at least 1.")
        if limit is not None and value > limit:
            raise invalid_body(
                f"{name} is too large: {value}. This model supports at most {limit} "
                "completion tokens."
            )


def _read_tools(body: Json, prompt: Prompt) -> None:
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise text(400, "Bad Request\n")
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise invalid_body(f"Invalid value for 'tools[{number}].type': expected 'function'.")
        if "cache_control" in tool:
            raise invalid_body(f"Unknown parameter: 'tools[{number}].cache_control'.")
        function = tool.get("function")
        function = function if isinstance(function, dict) else {}
        name = function.get("name")
        if not isinstance(name, str) or not _TOOL_NAME.match(name):
            raise invalid_body(f"Invalid 'tools[{number}].function.name': {name!r}.")
        prompt.add_json(tool)
        if "copilot_cache_control" in tool:
            prompt.mark_cache()
        prompt.tools.append(Tool(name, function.get("parameters") or {}))


def _read_message(message: Any, number: int, prompt: Prompt) -> None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise invalid_body(f"Invalid value for 'messages[{number}].role'.")
    if "cache_control" in message:
        raise invalid_body(f"Unknown parameter: 'messages[{number}].cache_control'.")
    content = message.get("content")
    if isinstance(content, str):
        prompt.add(content, 4)
    elif isinstance(content, list):
        for part in content:
            _read_part(part, number, prompt)
    elif content is not None:
        raise invalid_body(f"Invalid type for 'messages[{number}].content'.")
    if message.get("tool_calls"):
        prompt.add_json(message["tool_calls"])
    if "copilot_cache_control" in message:
        prompt.mark_cache()


def _read_part(part: Any, number: int, prompt: Prompt) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        if "cache_control" in part:
            raise invalid_body(f"Unknown parameter: 'messages[{number}].content.cache_control'.")
        prompt.add(part["text"])
    elif kind == "image_url" and isinstance(part.get("image_url"), dict):
        prompt.add_image(str(part["image_url"].get("url", "")))
    else:
        raise invalid_body("type has to be either 'image_url' or 'text'")


def _check_tool_order(messages: list[Json]) -> None:
    """Every tool call is answered right after it, and nothing else is answered."""
    waiting: set[str] = set()
    for number, message in enumerate(messages):
        if message["role"] == "tool":
            call_id = message.get("tool_call_id")
            if call_id not in waiting:
                raise invalid_body(
                    f"messages[{number}]: messages with role 'tool' must be a response to a "
                    "preceding message with 'tool_calls'."
                )
            waiting.discard(str(call_id))
            continue
        if waiting:
            raise _unanswered(waiting)
        if message["role"] == "assistant":
            waiting = {str(item.get("id")) for item in message.get("tool_calls") or []}
    if waiting:
        raise _unanswered(waiting)


def _unanswered(waiting: set[str]) -> Exception:
    return invalid_body(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        f"each 'tool_call_id'. Missing: {', '.join(sorted(waiting))}"
    )


def _check_opaque(call: Call, model: str, messages: list[Json]) -> None:
    """Gemini wants its thought signature back on the message that holds the tool calls.

    Checked for the running turn, everything after the last user message.
    """
    for message in reversed(messages):
        if message["role"] == "user":
            return
        if message["role"] != "assistant" or not message.get("tool_calls"):
            continue
        opaque = message.get("reasoning_opaque")
        login = call.known_account.login
        if (
            not isinstance(opaque, str)
            or minting.check_seal(call.state, "opaque", login, model, opaque) != "ok"
        ):
            name = message["tool_calls"][0].get("function", {}).get("name")
            raise invalid_body(
                f"Function call `{name}` is missing a thought_signature in functionCall parts."
            )


def _texts(message: Json) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [part["text"] for part in content if isinstance(part, dict) and "text" in part]
    return []


def chat_user_text(body: Json) -> str:
    """Return the last text that the user wrote, an empty string when there is none."""
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return visible_text(_texts(message))
    return ""


def _read_turn(messages: list[Json], prompt: Prompt) -> None:
    prompt.user_text = chat_user_text({"messages": messages})
    for message in reversed(messages):
        if message["role"] == "tool":
            prompt.tool_results.insert(0, " ".join(_texts(message)))
        elif message["role"] not in ("system", "developer"):
            return


def _read_wishes(entry: Json, body: Json, prompt: Prompt) -> None:
    effort = body.get("reasoning_effort")
    budget = body.get("thinking_budget")
    prompt.wants_thinking = bool(budget) or (effort is not None and effort != "none")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if not body.get("stream"):
        cap = limit_of(entry, "max_non_streaming_output_tokens")
        limit = min(limit, cap) if limit and cap else limit or cap
    prompt.max_output_tokens = limit
    stop = body.get("stop")
    prompt.stop = [stop] if isinstance(stop, str) else list(stop or [])
    choice = body.get("tool_choice")
    if choice == "none":
        prompt.tools_forbidden = True
    elif choice == "required":
        prompt.forced_tool = "*"
    elif isinstance(choice, dict):
        prompt.forced_tool = choice.get("function", {}).get("name")
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        prompt.schema = wanted.get("json_schema", {}).get("schema") or {}
    prompt.wants_json = isinstance(wanted, dict) and wanted.get("type") == "json_object"
