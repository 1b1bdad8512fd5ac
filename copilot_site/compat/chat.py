"""Chat Completions as the OpenAI SDKs read it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from copilot_site.compat.scenarios import HELLO, NO_MODEL, SCHEMA, WEATHER, Models, Scenario
from copilot_site.compat.wire import Body, Client, Frame, expect, parsed

PATH = "/v1/chat/completions"
TARGETS = ("chat", "messages", "responses")
TOOL: Body = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather", "parameters": SCHEMA},
}
REASONS = ("stop", "length", "tool_calls", "content_filter")


def scenarios() -> Iterator[Scenario]:
    for target in TARGETS:
        for name, run in (("text", text), ("stream", stream), ("tools", tools)):
            yield Scenario(f"openai: chat {name}, model on {target}", partial(run, target=target))
    yield Scenario("openai: chat tool stream", tool_stream)
    yield Scenario("openai: chat errors", errors)


def asked(model: str, said: str = HELLO, **more: Any) -> Body:
    return {"model": model, "messages": [{"role": "user", "content": said}], **more}


def text(client: Client, models: Models, *, target: str) -> None:
    body = client.post(PATH, asked(models.of(target))).ok().json()
    message = _message(body, "chat.completion")
    expect(isinstance(message.get("content"), str) and message["content"], "content is empty")
    _check_usage(body.get("usage"))


def _message(body: Body, kind: str) -> Body:
    expect(body.get("object") == kind, f"object is {body.get('object')!r}, not {kind!r}")
    for name, type_ in (("id", str), ("created", int), ("model", str)):
        expect(isinstance(body.get(name), type_), f"{name} is missing")
    choices = body.get("choices")
    expect(isinstance(choices, list) and len(choices or []) == 1, "there is not one choice")
    choice = (choices or [{}])[0]
    expect(choice.get("index") == 0, "choices[0].index is missing")
    expect(choice.get("finish_reason") in REASONS, f"finish_reason {choice.get('finish_reason')!r}")
    message = choice.get("message") or {}
    expect(message.get("role") == "assistant", "role is not 'assistant'")
    return dict(message)


def _check_usage(usage: Any) -> None:
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        expect(isinstance((usage or {}).get(name), int), f"usage.{name} is missing")


def stream(client: Client, models: Models, *, target: str) -> None:
    body = asked(models.of(target), stream=True, stream_options={"include_usage": True})
    chunks = _chunks(client.post(PATH, body).frames())
    said = "".join(d.get("content") or "" for d in _deltas(chunks))
    expect(said, "the stream says nothing")
    usages = [chunk for chunk in chunks if chunk.get("usage")]
    expect(len(usages) == 1 and usages[0]["choices"] == [], "usage is not in one last chunk")
    _check_usage(usages[0]["usage"])


def _chunks(frames: list[Frame]) -> list[Body]:
    expect(frames and frames[-1].data == "[DONE]", "the stream does not end with [DONE]")
    expect(not any(frame.event for frame in frames), "a frame has an event name")
    chunks: list[Body] = [frame.json() for frame in frames[:-1]]
    for chunk in chunks:
        expect("error" not in chunk, f"the stream says: {chunk.get('error')}")
        expect(chunk.get("object") == "chat.completion.chunk", "object of a chunk is wrong")
        for name, kind in (("id", str), ("created", int), ("model", str), ("choices", list)):
            expect(isinstance(chunk.get(name), kind), f"{name} of a chunk is missing")
        for choice in chunk["choices"]:
            expect(choice.get("index") == 0, "index of a choice is missing")
            expect(isinstance(choice.get("delta"), dict), "a choice has no delta")
    expect(len({chunk["id"] for chunk in chunks}) == 1, "the id changes from chunk to chunk")
    reasons = [c["finish_reason"] for k in chunks for c in k["choices"] if c.get("finish_reason")]
    expect(len(reasons) == 1 and reasons[0] in REASONS, f"finish reasons are {reasons}")
    return chunks


def _deltas(chunks: list[Body]) -> list[Body]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def tools(client: Client, models: Models, *, target: str) -> None:
    """A forced call, and the answer once its result is there."""
    choice = {"type": "function", "function": {"name": "get_weather"}}
    body = asked(models.of(target), WEATHER, tools=[TOOL], tool_choice=choice)
    message = _message(client.post(PATH, body).ok().json(), "chat.completion")
    calls = message.get("tool_calls") or []
    expect(len(calls) >= 1, "no tool was called")
    _check_call(calls[0].get("id"), calls[0].get("function") or {})
    history = [
        *body["messages"],
        {"role": "assistant", "content": message.get("content"), "tool_calls": calls},
        *({"role": "tool", "tool_call_id": c["id"], "content": "rain, 12 C"} for c in calls),
    ]
    after = client.post(PATH, {"model": body["model"], "messages": history, "tools": [TOOL]})
    told = _message(after.ok().json(), "chat.completion")
    expect(told.get("content"), "nothing is said after the tool's result")


def _check_call(call_id: Any, function: Body) -> None:
    expect(isinstance(call_id, str) and call_id, "the call has no id")
    expect(function.get("name") == "get_weather", f"the call's name is {function.get('name')!r}")
    arguments = parsed(str(function.get("arguments")))
    expect(isinstance(arguments.get("city"), str), f"the arguments are {arguments}")


def tool_stream(client: Client, models: Models) -> None:
    body = asked(
        models.of("messages" if models.messages else "chat"),
        WEATHER,
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
    )
    chunks = _chunks(client.post(PATH, body).frames())
    pieces = [call for d in _deltas(chunks) for call in d.get("tool_calls") or []]
    first = [piece for piece in pieces if piece.get("index") == 0]
    expect(first, "no tool was called")
    arguments = "".join((p.get("function") or {}).get("arguments") or "" for p in first)
    name = (first[0].get("function") or {}).get("name")
    _check_call(first[0].get("id"), {"name": name, "arguments": arguments})


def errors(client: Client, models: Models) -> None:
    check_error(client.post(PATH, asked(NO_MODEL)), 404)
    check_error(client.post(PATH, {"model": models.of("chat")}), 400)
    check_error(client.send("POST", PATH, b"{broken"), 400)


def check_error(answer: Any, status: int) -> None:
    """OpenAI's error envelope."""
    expect(answer.status == status, f"status {answer.status} instead of {status}")
    error = answer.json().get("error")
    expect(isinstance(error, dict), "there is no error object")
    expect({"message", "type", "param", "code"} <= set(error), f"the error has only {list(error)}")
    expect(isinstance(error["message"], str) and error["message"], "the error has no message")
