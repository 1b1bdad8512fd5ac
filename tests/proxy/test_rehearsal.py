"""`POST /api/translate`: what a request becomes, told without sending it."""

import json
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import WIRES

HELLO = [{"role": "user", "content": "hello"}]


def rehearse(gateway: Gateway, **wish: Any) -> Any:
    with gateway.client() as client:
        answer = client.post("/api/translate", json=wish)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("format_", "model", "endpoint", "way"),
    [
        ("chat_completions", "gpt-4.1", "/chat/completions", "passthrough"),
        ("chat_completions", "claude-sonnet-4.6", "/chat/completions", "passthrough"),
        ("messages", "gpt-5.5", "/responses", "translated"),
        ("messages", "claude-sonnet-4-6", "/v1/messages", "passthrough"),
        ("responses", "claude-sonnet-4.6", "/v1/messages", "translated"),
        ("gemini", "gpt-5.5", "/responses", "translated"),
    ],
)
def test_every_step_is_told_and_nothing_is_sent(
    gateway: Gateway,
    simulator: SimulatorThread,
    format_: str,
    model: str,
    endpoint: str,
    way: str,
) -> None:
    body: dict[str, Any] = {"model": model, "messages": HELLO, "temperature": 0.5}
    if format_ == "messages":
        body["max_tokens"] = 100
    if format_ == "responses":
        body = {"model": model, "input": HELLO}
    if format_ == "gemini":
        body = {"model": model, "contents": [{"role": "user", "parts": [{"text": "hello"}]}]}

    told = rehearse(gateway, format=format_, request=body)

    assert (told["route"]["endpoint"], told["route"]["way"]) == (endpoint, way)
    assert told["route"]["account"] == "octocat"
    assert told["parsed"]["messages"] == [{"role": "user", "blocks": ["Text"]}]
    assert told["initiator"]["value"] == "user"
    assert told["initiator"]["rule"]
    assert "hello" in json.dumps(told["body"])
    assert told["headers"]["X-Initiator"] == "user"
    assert "authorization" not in json.dumps(told).lower()
    assert "tid=" not in json.dumps(told)
    assert told["answer_headers"]["x-gateway-route"].endswith(way)
    assert simulator.generations == []
    assert gateway.records("path = '/api/translate'") == []


def test_it_is_what_is_sent_then(
    gateway: Gateway, simulator: SimulatorThread, last_record: Any
) -> None:
    body = {
        **WIRES["messages"].body("hello", "gpt-5.5", stream=False),
        "top_k": 7,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    told = rehearse(gateway, format="messages", request=body)
    with gateway.client() as client:
        answer = client.post("/v1/messages", json=body)

    assert answer.status_code == 200
    assert json.loads(simulator.generations[-1].body) == told["body"]
    assert told["dropped"] == ["top_k"]
    assert answer.headers["x-gateway-dropped"] == "top_k"
    assert json.loads(last_record(status=200)["quirks"]) == told["quirks"]
    sent = {name.lower(): value for name, value in told["headers"].items()}
    for name in ("x-initiator", "openai-intent", "editor-version"):
        if name in sent:
            assert simulator.generations[-1].headers[name] == sent[name]


def test_a_clients_own_headers_and_another_model_may_be_tried(gateway: Gateway) -> None:
    told = rehearse(
        gateway,
        format="messages",
        model="claude-sonnet-4.6",
        request={"model": "gpt-4.1", "max_tokens": 10, "messages": HELLO},
        headers={"X-Claude-Code-Agent-Id": "sub-1"},
    )
    assert told["route"]["model"] == "claude-sonnet-4.6"
    assert told["initiator"]["value"] == "agent"


@pytest.mark.parametrize(
    ("wish", "step", "said"),
    [
        ({"request": {"model": "gpt-4.1", "messages": []}}, "parse", "messages: a non-empty list"),
        ({"request": {"model": "none-such", "messages": HELLO}}, "route", "none-such"),
        ({"request": {"messages": HELLO}}, "read", "model"),
        (
            {
                "format": "messages",
                "request": {"model": "gpt-4.1", "messages": HELLO},
            },
            "prepare",
            "max_tokens: a positive integer",
        ),
    ],
)
def test_a_refusal_names_its_step(
    gateway: Gateway, simulator: SimulatorThread, wish: dict[str, Any], step: str, said: str
) -> None:
    told = rehearse(gateway, **{"format": "chat_completions", **wish})

    assert told["refused"]["step"] == step
    assert said in told["refused"]["message"]
    assert "body" not in told
    assert simulator.generations == []


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({}, "format"),
        ({"format": "latin"}, "format"),
        ({"format": "messages"}, "request"),
        ({"format": "messages", "request": {}, "headers": 7}, "headers"),
    ],
)
def test_a_wrong_wish_is_refused(gateway: Gateway, wish: dict[str, Any], field: str) -> None:
    with gateway.client() as client:
        answer = client.post("/api/translate", json=wish)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]


def test_a_wrong_key_is_refused(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.post(
            "/api/translate", json={}, headers={"authorization": "Bearer cgw_nobody_nothing"}
        )
    assert answer.status_code == 401
