"""Bodies as large as agents send them: read in outline, sent on whole, refused where they are wrong."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

Json = dict[str, Any]
LINE = 'def handle(self): return "as it was"  # é, 100 %\n'
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "translated": "/v1/messages",
    "responses": "/v1/responses",
}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as opened:
        yield opened


def schema() -> Json:
    return {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def chat_body(turns: int = 30) -> Json:
    messages: list[Json] = [{"role": "system", "content": LINE * 20}]
    for turn in range(turns):
        function = {"name": "read", "arguments": '{"path": "a"}'}
        call = {"id": f"call_{turn}", "type": "function", "function": function}
        messages += [
            {"role": "user", "content": f"Step {turn}."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{turn}", "content": LINE * 30},
        ]
    tool = {"name": "read", "description": "Reads.", "parameters": schema()}
    return {
        "model": "gpt-4.1",
        "messages": messages,
        "tools": [{"type": "function", "function": tool}],
        "temperature": 0.5,
    }


def messages_body(model: str = "claude-sonnet-4.6", turns: int = 30) -> Json:
    messages: list[Json] = []
    for turn in range(turns):
        use = {"type": "tool_use", "id": f"toolu_{turn}", "name": "read", "input": {"path": "a"}}
        result = {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": LINE * 30}
        messages += [
            {"role": "user", "content": [{"type": "text", "text": f"Step {turn}."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."}, use]},
            {"role": "user", "content": [result]},
        ]
    tool = {"name": "read", "description": "Reads.", "input_schema": schema()}
    return {
        "model": model,
        "max_tokens": 500,
        "system": LINE,
        "messages": messages,
        "tools": [tool],
    }


def responses_body(turns: int = 30) -> Json:
    items: list[Json] = []
    for turn in range(turns):
        call = {"call_id": f"call_{turn}", "name": "read", "arguments": "{}", "id": f"fc_{turn}"}
        items += [
            {"role": "user", "content": f"Step {turn}."},
            {"type": "function_call", **call},
            {"type": "function_call_output", "call_id": f"call_{turn}", "output": LINE * 30},
        ]
    tool = {"type": "function", "name": "read", "parameters": schema()}
    return {"model": "gpt-5.5", "input": items, "tools": [tool], "store": False}


BODIES = {
    "chat": chat_body(),
    "messages": messages_body(),
    "translated": messages_body("gpt-4.1"),
    "responses": responses_body(),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_long_history_reaches_the_upstream_word_for_word(
    client: httpx.Client, simulator: SimulatorThread, gateway: Gateway, name: str
) -> None:
    body = BODIES[name]
    answer = client.post(PATHS[name], json=body)
    assert answer.status_code == 200
    sent = json.loads(simulator.generations[-1].body)
    match name:
        case "chat" | "messages":
            assert sent["messages"] == body["messages"]
            assert sent["tools"] == body["tools"]
        case "responses":
            bare = [{k: v for k, v in item.items() if k != "id"} for item in body["input"]]
            assert sent["input"] == bare
            assert sent["tools"] == body["tools"]
        case _:
            assert [m["role"] for m in sent["messages"]] == (
                ["system", *["user", "assistant", "tool"] * 30]
            )
            assert {m["content"] for m in sent["messages"] if m["role"] == "tool"} == {LINE * 30}
            assert sent["tools"][0]["function"]["parameters"] == schema()
    identity = answer.headers["x-request-id"].removeprefix("req_")
    [record] = gateway.wait_for_records(1, "id = ?", identity)
    assert record["messages_sent"] == len(body.get("messages") or body["input"])
    assert record["tools_sent"] == 1
    assert record["initiator_rule"] == "last_item_tool"


@pytest.mark.parametrize("name", ["chat", "messages", "translated"])
def test_a_wrong_message_in_a_long_history_is_named_by_its_place(
    client: httpx.Client, simulator: SimulatorThread, name: str
) -> None:
    before = len(simulator.generations)
    body = json.loads(json.dumps(BODIES[name]))
    body["messages"][70]["role"] = "king"
    answer = client.post(PATHS[name], json=body)
    assert answer.status_code == 400
    assert "70" in answer.json()["error"]["message"]
    assert len(simulator.generations) == before


@pytest.mark.parametrize("name", BODIES)
def test_a_long_body_that_is_no_json_says_where(client: httpx.Client, name: str) -> None:
    raw = json.dumps(BODIES[name]).encode()[:-1]
    answer = client.post(PATHS[name], content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert f"byte {len(raw)}" in answer.json()["error"]["message"]


def test_a_deep_schema_beside_a_long_history_is_refused(client: httpx.Client) -> None:
    body = json.dumps(chat_body()).replace(
        '"path": {"type": "string"}', '"path": ' + '{"a":' * 300 + "1" + "}" * 300
    )
    answer = client.post(PATHS["chat"], content=body)
    assert answer.status_code == 400
    assert "levels" in answer.json()["error"]["message"]


CROWDS = {
    "lists": '"x": [' + "[]," * 4_999_999 + "[]]",
    "objects": '"x": [' + "{}," * 4_999_999 + "{}]",
    "strings": '"x": [' + '"",' * 4_999_999 + '""]',
    "keys": '"x": {' + ",".join(f'"{i}":1' for i in range(1_300_000)) + "}",
}


@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS)
def test_p19_millions_of_values_are_refused_and_hold_nobody_up(
    client: httpx.Client, gateway: Gateway, crowd: str
) -> None:
    raw = (json.dumps(BODIES["chat"])[:-1] + ", " + crowd + "}").encode()
    slowest = 0.0
    with ThreadPoolExecutor(1) as pool, gateway.client() as other:
        hostile = pool.submit(client.post, PATHS["chat"], content=raw)
        while not hostile.done():
            before = time.monotonic()
            assert other.get("/healthz").status_code == 200
            slowest = max(slowest, time.monotonic() - before)
    answer = hostile.result()
    assert answer.status_code == 400
    assert "values" in answer.json()["error"]["message"]
    # Four seconds for the lists when they were made objects; the machine may be busy.
    assert slowest < 1.0


def test_text_that_looks_like_many_values_is_served(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    text = '[,{,"\\' * 60_000
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": text}]}
    assert client.post(PATHS["chat"], json=body).status_code == 200
    assert json.loads(simulator.generations[-1].body)["messages"] == body["messages"]
