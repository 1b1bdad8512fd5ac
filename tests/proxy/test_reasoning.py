"""Reasoning on its way back, prompt caches, and bodies that are refused before they are sent."""

import json
from typing import Any

import httpx
import openai
import pytest

from proxy import reasoning_memory
from proxy.reasoning_memory import ReasoningMemory
from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import WIRES

GEMINI = "gemini-3.1-pro-preview"
CLAUDE = "claude-sonnet-4.6"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
CHAT_TOOL = {"type": "function", "function": {"name": "read", "parameters": SCHEMA}}
MESSAGES_TOOL = {"name": "read", "input_schema": SCHEMA}
ASK = 'please call read {"path": "a"}'


@pytest.mark.parametrize(
    ("wire_name", "model", "change", "said"),
    [
        ("chat_completions", "gpt-4.1", {"messages": []}, "messages: a non-empty list"),
        ("chat_completions", CLAUDE, {"messages": []}, "messages: a non-empty list"),
        ("chat_completions", "gpt-4.1", {"n": 500}, "n: a whole number from 1 to 128"),
        ("messages", CLAUDE, {"max_tokens": None}, "max_tokens: a positive integer"),
        ("messages", "gpt-4.1", {"max_tokens": None}, "max_tokens: a positive integer"),
        ("messages", CLAUDE, {"max_tokens": -3}, "max_tokens: a positive integer"),
        ("responses", "gpt-5.5", {"input": []}, "input: a string or a non-empty list"),
        ("responses", CLAUDE, {"temperature": "x"}, "temperature: a number from 0 to 2"),
    ],
)
def test_a_wrong_body_is_refused_here_and_never_sent(
    ask: Any,
    simulator: SimulatorThread,
    wire_name: str,
    model: str,
    change: dict[str, Any],
    said: str,
) -> None:
    answer = ask(WIRES[wire_name], model, "hello", **change)

    assert answer.status == 400
    assert said in answer.raw
    assert simulator.generations == []


def test_a_count_needs_no_limit(gateway: Gateway) -> None:
    body = {"model": CLAUDE, "messages": [{"role": "user", "content": "hello"}]}
    with gateway.client() as client:
        answer = client.post("/v1/messages/count_tokens", json=body)
    assert answer.status_code == 200
    assert answer.json()["input_tokens"] > 0


# Memory.


@pytest.mark.parametrize("stream", [True, False])
def test_openais_sdk_goes_through_a_tool_loop_with_gemini(
    gateway: Gateway, simulator: SimulatorThread, stream: bool
) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0)
    messages: list[Any] = [{"role": "user", "content": ASK}]
    call = first_call(client, messages, stream)
    # What the SDK's own types hold, and nothing else: `reasoning_opaque` is lost.
    messages.append({"role": "assistant", "tool_calls": [call]})
    messages.append({"role": "tool", "tool_call_id": call["id"], "content": "it says hi"})

    answer = client.chat.completions.create(model=GEMINI, messages=messages, tools=[CHAT_TOOL])

    assert "it says hi" in (answer.choices[0].message.content or "")
    assert [item.status for item in simulator.generations] == [200, 200]
    sent = json.loads(simulator.generations[-1].body)["messages"]
    assert sent[1]["reasoning_opaque"]
    client.close()


def first_call(client: openai.OpenAI, messages: list[Any], stream: bool) -> dict[str, Any]:
    if not stream:
        whole = client.chat.completions.create(model=GEMINI, messages=messages, tools=[CHAT_TOOL])
        made = (whole.choices[0].message.tool_calls or [])[0]
        function = {"name": made.function.name, "arguments": made.function.arguments}
        return {"id": made.id, "type": "function", "function": function}
    call: dict[str, Any] = {"type": "function", "function": {"name": "", "arguments": ""}}
    for chunk in client.chat.completions.create(
        model=GEMINI, messages=messages, tools=[CHAT_TOOL], stream=True
    ):
        for choice in chunk.choices:
            for part in choice.delta.tool_calls or []:
                call["id"] = part.id or call.get("id")
                call["function"]["name"] += part.function.name or ""
                call["function"]["arguments"] += part.function.arguments or ""
    return call


def test_a_messages_client_that_keeps_no_thinking_goes_on_with_gemini(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    question = {"role": "user", "content": ASK}
    fields = {"model": GEMINI, "max_tokens": 1000, "tools": [MESSAGES_TOOL]}
    with gateway.client() as client:
        first = client.post("/v1/messages", json={**fields, "messages": [question]}).json()
        calls = [block for block in first["content"] if block["type"] == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": calls[0]["id"], "content": "it says hi"}
        history = [
            question,
            {"role": "assistant", "content": calls},
            {"role": "user", "content": [result]},
        ]
        second = client.post("/v1/messages", json={**fields, "messages": history})

    assert second.status_code == 200
    assert "it says hi" in second.text
    assert [item.status for item in simulator.generations] == [200, 200]


def test_a_seal_that_nobody_remembers_costs_one_retry(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    function = {"name": "read", "arguments": "{}"}
    call = {"id": "call_unknown", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_unknown", "content": "it says hi"},
    ]
    body = {"model": GEMINI, "messages": messages, "tools": [CHAT_TOOL]}
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200
    assert answer.headers["x-gateway-dropped"] == "thinking"
    assert [item.status for item in simulator.generations] == [400, 200]


def test_the_memory_is_bounded_in_number_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ReasoningMemory()
    for number in range(reasoning_memory.MAX_ENTRIES + 5):
        memory.keep(1, "m", f"call_{number}", "seal")
    assert len(memory) == reasoning_memory.MAX_ENTRIES
    assert memory.get(1, "m", "call_0") is None
    assert memory.get(1, "m", "call_9") == "seal"
    assert memory.get(2, "m", "call_9") is None
    assert memory.get(1, "other", "call_9") is None

    monkeypatch.setattr(reasoning_memory, "MAX_AGE_S", -1.0)
    memory.keep(1, "m", "old", "seal")
    assert memory.get(1, "m", "old") is None

    memory.keep(1, "m", "huge", "x" * (reasoning_memory.MAX_SEAL + 1))
    assert memory.get(1, "m", "huge") is None


# Recovery.


def claude_history(signature: str) -> dict[str, Any]:
    thinking = {"type": "thinking", "thinking": "hm", "signature": signature}
    said = {"type": "text", "text": "hi"}
    return {
        "model": CLAUDE,
        "max_tokens": 1000,
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": [thinking, said]},
            {"role": "user", "content": "and now?"},
        ],
    }


@pytest.mark.parametrize("stream", [True, False])
def test_a_refused_signature_costs_one_retry_without_thinking(
    gateway: Gateway, simulator: SimulatorThread, last_record: Any, stream: bool
) -> None:
    with gateway.client() as client:
        body = {**claude_history("bm90IHlvdXJz"), "stream": stream}
        answer = client.post("/v1/messages", json=body)

    assert answer.status_code == 200
    assert answer.headers["x-gateway-dropped"] == "thinking"
    assert [item.status for item in simulator.generations] == [400, 200]
    sent = json.loads(simulator.generations[-1].body)["messages"]
    assert [block["type"] for block in sent[1]["content"]] == ["text"]
    record = last_record(status=200)
    assert json.loads(record["dropped"]) == ["thinking"]


def test_there_is_one_such_retry_and_none_for_a_clean_history(
    ask: Any, gateway: Gateway, simulator: SimulatorThread
) -> None:
    simulator.play("invalid_signature")
    with gateway.client() as client:
        answer = client.post("/v1/messages", json=claude_history("bm90IHlvdXJz"))
    assert answer.status_code == 400
    assert "Invalid signature" in answer.text
    assert len(simulator.generations) == 2

    simulator.reset(keep_tokens=True)
    simulator.play("invalid_signature")
    assert ask(WIRES["messages"], CLAUDE, "hello").status == 400
    assert len(simulator.generations) == 1


def test_sealed_reasoning_of_nobody_costs_one_retry_without_it(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    items = [
        {"role": "user", "content": "hello"},
        {"type": "reasoning", "summary": [], "encrypted_content": "bm90IHlvdXJz"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "and now?"},
    ]
    with gateway.client() as client:
        answer = client.post("/v1/responses", json={"model": "gpt-5.5", "input": items})

    assert answer.status_code == 200
    assert answer.headers["x-gateway-dropped"] == "thinking"
    assert [item.status for item in simulator.generations] == [400, 200]
    assert "bm90IHlvdXJz" not in simulator.generations[-1].body.decode()


def test_another_models_thinking_is_left_out_before_it_is_refused(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/messages", json=claude_history("cgw1.openai.abc"))
    assert answer.status_code == 200
    assert answer.headers["x-gateway-dropped"] == "thinking"
    assert [item.status for item in simulator.generations] == [200]


# Prompt caches.


@pytest.mark.parametrize("wire_name", ["chat_completions", "responses"])
def test_a_translated_conversation_with_claude_is_read_from_the_cache(
    gateway: Gateway, simulator: SimulatorThread, last_record: Any, wire_name: str
) -> None:
    simulator.config(claude_cache_needs_markers=True)
    wire = WIRES[wire_name]
    long = f"{wire_name} " + "many words " * 500
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": f"You are thorough. {long}"},
        {"role": "user", "content": long},
    ]
    field = "input" if wire_name == "responses" else "messages"
    with gateway.client() as client:
        assert sent(client, wire.path, field, turns) == 200
        assert last_record()["cache_read_tokens"] == 0
        turns += [
            {"role": "assistant", "content": "You said many words."},
            {"role": "user", "content": "and now?"},
        ]
        assert sent(client, wire.path, field, turns) == 200

    count = len(simulator.generations)
    gateway.wait_for(lambda: last_record()["cache_read_tokens"] > 0, 5)
    record = last_record()
    assert count == 2
    assert record["cache_read_tokens"] > 2000
    assert record["input_tokens"] > record["cache_read_tokens"]


def sent(client: httpx.Client, path: str, field: str, turns: list[dict[str, Any]]) -> int:
    body = {"model": CLAUDE, field: turns, "stream": False}
    return client.post(path, json=body).status_code
