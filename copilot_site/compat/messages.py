"""Messages as the Anthropic SDKs and Claude Code read it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from copilot_site.compat.scenarios import HELLO, NO_MODEL, SCHEMA, WEATHER, Models, Scenario
from copilot_site.compat.wire import Answer, Body, Client, Frame, expect, parsed

PATH = "/v1/messages"
MAX_TOKENS = 2000
TOOL: Body = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
REASONS = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "pause_turn")


def scenarios() -> Iterator[Scenario]:
    for target in ("messages", "chat", "responses"):
        for name, run in (("text", text), ("stream", stream), ("tools", tools)):
            label = f"anthropic: messages {name}, model on {target}"
            yield Scenario(label, partial(run, target=target))
    yield Scenario("anthropic: messages tool stream", tool_stream)
    yield Scenario("anthropic: count_tokens", count_tokens)
    yield Scenario("anthropic: messages errors", errors)


def asked(model: str, said: str = HELLO, **more: Any) -> Body:
    messages = [{"role": "user", "content": said}]
    return {"model": model, "max_tokens": MAX_TOKENS, "messages": messages, **more}


def post(client: Client, body: Body, path: str = PATH) -> Answer:
    return client.post(path, body, anthropic_version="2023-06-01")


def text(client: Client, models: Models, *, target: str) -> None:
    message = _checked(post(client, asked(models.of(target))).ok().json())
    said = [b["text"] for b in message["content"] if b["type"] == "text"]
    expect("".join(said), "content is empty")


def _checked(message: Body) -> Body:
    expect(message.get("type") == "message", "type is not 'message'")
    expect(message.get("role") == "assistant", "role is not 'assistant'")
    for name, kind in (("id", str), ("model", str), ("content", list)):
        expect(isinstance(message.get(name), kind), f"{name} is missing")
    expect("stop_sequence" in message, "stop_sequence is missing")
    reason = message.get("stop_reason")
    expect(reason in REASONS, f"stop_reason is {reason!r}")
    _check_usage(message.get("usage"))
    return message


def _check_usage(usage: Any) -> None:
    for name in ("input_tokens", "output_tokens"):
        expect(isinstance((usage or {}).get(name), int), f"usage.{name} is missing")


def stream(client: Client, models: Models, *, target: str) -> None:
    body = asked(models.of(target), stream=True)
    blocks = _blocks(post(client, body).frames())
    said = [b["text"] for b in blocks if b["type"] == "text"]
    expect("".join(said), "the stream says nothing")


def _blocks(frames: list[Frame]) -> list[Body]:
    """The blocks of a stream, put together; the grammar of its events is checked on the way."""
    blocks: list[Body] = []
    is_open = False
    events = [(frame.event, frame.json()) for frame in frames if frame.event != "ping"]
    for name, event in events:
        expect(name == event.get("type"), f"event {name!r} holds the type {event.get('type')!r}")
        expect(name != "error", f"the stream says: {event.get('error')}")
    names = [name for name, _ in events]
    expect(names[:1] == ["message_start"], "the stream does not begin with message_start")
    expect(names[-2:] == ["message_delta", "message_stop"], f"the stream ends with {names[-2:]}")
    _check_usage(events[0][1]["message"].get("usage"))
    for name, event in events[1:-2]:
        if name == "content_block_start":
            expect(not is_open, "a block begins inside another")
            expect(event.get("index") == len(blocks), "the indexes of blocks have gaps")
            blocks.append({**event["content_block"], "pieces": []})
        else:
            expect(is_open, f"{name} outside of a block")
            expect(event.get("index") == len(blocks) - 1, f"{name} of another block")
        is_open = name != "content_block_stop"
        if name == "content_block_delta":
            _add(blocks[-1], event["delta"])
    expect(not is_open, "a block is never closed")
    end = events[-2][1]
    expect(end["delta"].get("stop_reason") in REASONS, "message_delta has no stop_reason")
    expect(isinstance(end.get("usage", {}).get("output_tokens"), int), "the last usage is missing")
    return blocks


def _add(block: Body, delta: Body) -> None:
    match delta.get("type"):
        case "text_delta":
            expect(block["type"] == "text", "text in a block of another kind")
            block["text"] += delta["text"]
        case "input_json_delta":
            block["pieces"].append(delta["partial_json"])
        case "thinking_delta" | "signature_delta":
            expect(block["type"] == "thinking", "thinking in a block of another kind")
        case "citations_delta":
            expect(block["type"] == "text", "citations in a block of another kind")
        case kind:
            expect(False, f"unknown delta {kind!r}")


def tools(client: Client, models: Models, *, target: str) -> None:
    choice = {"type": "tool", "name": "get_weather"}
    body = asked(models.of(target), WEATHER, tools=[TOOL], tool_choice=choice)
    message = _checked(post(client, body).ok().json())
    expect(message["stop_reason"] == "tool_use", f"stop_reason is {message['stop_reason']!r}")
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    expect(calls, "no tool was called")
    _check_call(calls[0], calls[0].get("input"))
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": "rain, 12 C"}
        for call in calls
    ]
    history = [
        *body["messages"],
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": results},
    ]
    after = {"model": body["model"], "max_tokens": MAX_TOKENS, "messages": history}
    told = _checked(post(client, {**after, "tools": [TOOL]}).ok().json())
    expect(any(b.get("text") for b in told["content"]), "nothing is said after the tool's result")


def _check_call(block: Body, arguments: Any) -> None:
    expect(isinstance(block.get("id"), str) and block["id"], "the call has no id")
    expect(block.get("name") == "get_weather", f"the call's name is {block.get('name')!r}")
    expect(isinstance(arguments, dict) and "city" in arguments, f"the input is {arguments!r}")


def tool_stream(client: Client, models: Models) -> None:
    body = asked(
        models.of("chat" if models.chat else "messages"),
        WEATHER,
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather"},
        stream=True,
    )
    blocks = _blocks(post(client, body).frames())
    calls = [block for block in blocks if block["type"] == "tool_use"]
    expect(calls, "no tool was called")
    _check_call(calls[0], parsed("".join(calls[0]["pieces"]) or "{}"))


def count_tokens(client: Client, models: Models) -> None:
    counts = []
    for said in (HELLO, HELLO * 50):
        body = {"model": models.of("messages"), "messages": [{"role": "user", "content": said}]}
        counted = post(client, body, f"{PATH}/count_tokens").ok().json().get("input_tokens")
        expect(isinstance(counted, int), "input_tokens is missing")
        counts.append(counted)
    expect(0 < counts[0] < counts[1], f"a longer text counts {counts[1]} after {counts[0]}")


def errors(client: Client, models: Models) -> None:
    model = models.of("messages")
    for answer, status, kind in (
        (post(client, asked(NO_MODEL)), 404, "not_found_error"),
        (post(client, {"model": model, "max_tokens": 10}), 400, "invalid_request_error"),
        (client.send("POST", PATH, b"{broken"), 400, "invalid_request_error"),
    ):
        expect(answer.status == status, f"status {answer.status} instead of {status}")
        body = answer.json()
        expect(body.get("type") == "error", "type is not 'error'")
        error = body.get("error") or {}
        expect(error.get("type") == kind, f"the error's type is {error.get('type')!r}")
        expect(error.get("message"), "the error has no message")
