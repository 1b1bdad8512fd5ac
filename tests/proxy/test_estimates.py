"""Estimates: the header of every answer, what is learnt in a conversation, and `/api/estimate`."""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

HEADER = "x-gateway-estimated-credits"
WORDS = "The gateway says what a request will probably cost, before it is sent anywhere. "
TEXTS = {
    "prose": WORDS * 300,
    "code": "def add(left: int, right: int) -> int:\n    return left + right\n\n\n" * 200,
}
MODELS = {
    "chat_completions": "gpt-4.1",
    "messages": "claude-sonnet-4.6",
    "responses": "gpt-5.5",
    "gemini": "gemini-3.1-pro-preview",
}
every_format = pytest.mark.parametrize("name", MODELS)


def asked(name: str, text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of a request in that format. The simulator repeats its last words only."""
    model = MODELS[name]
    said = [("user", text), ("assistant", "I see."), ("user", "Good.")]
    if name == "gemini":
        contents = [
            {"role": "model" if role == "assistant" else role, "parts": [{"text": words}]}
            for role, words in said
        ]
        return f"/v1beta/models/{model}:generateContent", {"contents": contents, **more}
    turns = [{"role": role, "content": words} for role, words in said]
    if name == "responses":
        return "/v1/responses", {"model": model, "input": turns, **more}
    body = {"model": model, "messages": turns, **more}
    if name == "messages":
        return "/v1/messages", {"max_tokens": 500, **body}
    return "/v1/chat/completions", body


def ask(gateway: Gateway, name: str, text: str, **more: Any) -> httpx.Response:
    path, body = asked(name, text, **more)
    with gateway.client() as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def record_of(gateway: Gateway, answer: httpx.Response) -> dict[str, Any]:
    exchange = answer.headers["x-request-id"].removeprefix("req_")
    found: list[dict[str, Any]] = gateway.wait_for(lambda: gateway.records("id=?", exchange))
    return found[0]


@every_format
def test_every_answer_says_what_it_was_expected_to_cost(
    gateway: Gateway, simulator: SimulatorThread, name: str
) -> None:
    answer = ask(gateway, name, f"{random.random()} {TEXTS['prose']}")

    said = float(answer.headers[HEADER])
    record = record_of(gateway, answer)
    assert record["estimated_nano_aiu"] == pytest.approx(said * 1e9, abs=1000)
    # The simulator's answers are shorter than the usual ones.
    assert 0.8 < said / (record["nano_aiu"] / 1e9) < 2.5


@every_format
def test_streams_say_it_too(gateway: Gateway, simulator: SimulatorThread, name: str) -> None:
    path, body = asked(name, "Hello")
    if name == "gemini":
        path = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
    else:
        body["stream"] = True
    with gateway.client() as client, client.stream("POST", path, json=body) as answer:
        assert float(answer.headers[HEADER]) > 0
        answer.read()


def test_a_refusal_says_it_as_far_as_it_is_known(gateway: Gateway) -> None:
    turns = [{"role": "user", "content": "[[status code=400]] Hello"}]
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json={"model": "gpt-4.1", "messages": turns})
    assert answer.status_code >= 400
    assert float(answer.headers[HEADER]) > 0


def test_counting_tokens_costs_nothing_and_says_no_price(gateway: Gateway) -> None:
    _, body = asked("messages", "Hello")
    body.pop("max_tokens")
    with gateway.client() as client:
        answer = client.post("/v1/messages/count_tokens", json=body)
    assert answer.status_code == 200
    assert HEADER not in answer.headers


def test_a_picture_counts_by_rule_and_not_by_its_bytes(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    picture = base64.b64encode(random.Random(1).randbytes(400_000)).decode()
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
    ]
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": content}]}
    with gateway.client() as client:
        said = client.post("/api/estimate", json=body).json()
        answer = client.post("/v1/chat/completions", json=body)
    assert 1_000 < said["input_tokens"] < 3_000
    # A request of half a megabyte of words would cost some 26 credits.
    assert float(answer.headers[HEADER]) < 3


def test_a_conversation_is_estimated_from_what_it_was(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    # The simulator counts characters: letters of three bytes are what the usual figure knows least.
    chance = random.Random(2)
    text = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(20_000))
    marked = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [marked]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "Good."},
    ]
    body = {"model": "claude-sonnet-4.6", "max_tokens": 20, "messages": turns}
    headers = {"x-session-id": f"conversation {random.random()}"}
    errors = []
    with gateway.client(headers=headers) as client:
        for number in range(3):
            answer = client.post("/v1/messages", json=body)
            record = record_of(gateway, answer)
            errors.append(
                abs(record["estimated_nano_aiu"] - record["nano_aiu"]) / record["nano_aiu"]
            )
            turns += [
                {"role": "assistant", "content": "I see."},
                {"role": "user", "content": f"And number {number}?"},
            ]
    assert errors[0] > 0.5
    assert errors[1] < 0.2
    assert errors[2] < 0.2


# What programs ask for.


@every_format
def test_an_estimate_is_told_for_each_format_and_nothing_is_sent(
    gateway: Gateway, simulator: SimulatorThread, name: str
) -> None:
    records = len(gateway.records())
    path, body = asked(name, TEXTS["prose"])
    with gateway.client() as client:
        answer = client.post("/api/estimate", params={"path": path}, json=body)
        by_format = client.post(
            "/api/estimate", params={"format": name}, json={**body, "model": MODELS[name]}
        )
        seen = client.post("/api/estimate", json={**body, "model": MODELS[name]})
    said = answer.json()
    assert answer.status_code == 200, answer.text
    assert said["model"] == MODELS[name]
    assert said["format"] == name
    assert said["method"] == "counted"
    assert said["endpoint"].startswith("/")
    assert len(TEXTS["prose"]) / 8 < said["input_tokens"] < len(TEXTS["prose"]) / 3
    credits = said["credits"]
    assert 0 < credits["low"] < credits["expected"] < credits["high"]
    assert said["nano_aiu"] == pytest.approx(credits["expected"] * 1e9, rel=1e-3)
    assert said["prices"]["source"] == "catalog"
    assert said["prices"]["date"]
    assert said["prices"]["credits_per_million_tokens"]["output"] > 0
    assert {"context"} <= {one["limit"] for one in said["meets"]}
    assert by_format.json()["input_tokens"] == said["input_tokens"]
    # Without a word, Anthropic's and OpenAI's plain messages look alike.
    if name != "messages":
        assert seen.json()["format"] == name
    assert not simulator.generations
    assert len(gateway.records()) == records


@pytest.mark.parametrize("kind", TEXTS)
def test_the_count_is_near_what_the_upstream_counts(
    gateway: Gateway, simulator: SimulatorThread, kind: str
) -> None:
    path, body = asked("chat_completions", f"{random.random()} {TEXTS[kind]}")
    with gateway.client() as client:
        said = client.post("/api/estimate", json=body).json()
        usage = client.post(path, json=body).json()["usage"]
    assert said["input_tokens"] == pytest.approx(usage["prompt_tokens"], rel=0.3)


@pytest.mark.parametrize(
    ("body", "params", "status", "word"),
    [
        ({}, {}, 400, "none of the four formats"),
        ({"model": "gpt-4.1", "messages": "x"}, {}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, {}, 400, "model"),
        (
            {"model": "nobody-5", "messages": [{"role": "user", "content": "x"}]},
            {},
            404,
            "nobody-5",
        ),
        ({"model": "gpt-4.1", "messages": []}, {"format": "morse"}, 400, "format"),
        ({"model": "gpt-4.1", "messages": []}, {"path": "/v1/nothing"}, 400, "path"),
        ({"model": 5, "messages": [{"role": "user", "content": "x"}]}, {}, 400, "model"),
        ({"model": "gpt-4.1", "input": "x"}, {"path": "/v1/messages"}, 400, "messages"),
    ],
)
def test_what_cannot_be_estimated_is_refused_as_the_request_would_be(
    gateway: Gateway, body: dict[str, Any], params: dict[str, str], status: int, word: str
) -> None:
    with gateway.client() as client:
        answer = client.post("/api/estimate", json=body, params=params)
    assert answer.status_code == status, answer.text
    assert word in answer.json()["error"]["message"]


def test_only_callers_are_told_and_only_of_their_models_and_limits(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--require-keys")
    key = gateway.manage(
        "create-key", "small", "--models", "gpt-4.1", "--budget-day", "1"
    ).stdout.strip()
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": TEXTS["prose"]}]}
    with gateway.client() as stranger:
        assert stranger.post("/api/estimate", json=body).status_code == 401
    with gateway.client(headers={"authorization": f"Bearer {key}"}) as client:
        gateway.wait_for(lambda: client.get("/v1/models").status_code == 200)
        said = client.post("/api/estimate", json=body).json()
        limits = {one["limit"]: one for one in said["meets"]}
        day = next(one for name, one in limits.items() if "day" in name)
        assert day["fits"] is False
        other = client.post("/api/estimate", json={**body, "model": "claude-sonnet-4.6"})
        assert other.status_code == 403


def test_hostile_bodies_get_a_client_error_and_never_a_fault(gateway: Gateway) -> None:
    chance = random.Random(3)
    junk: list[Any] = [
        None,
        [],
        {},
        "x" * 300,
        7,
        True,
        [[{}]],
        {"type": "image", "data": "A" * 400},
    ]
    with gateway.client() as client:
        for _ in range(60):
            body = {
                "model": "gpt-4.1",
                "messages": [
                    {"role": chance.choice(["user", "tool", 5]), "content": chance.choice(junk)}
                    for _ in range(3)
                ],
                "tools": chance.choice(junk),
                "max_tokens": chance.choice([5, -1, "x", None, 10**30]),
            }
            params = {"format": chance.choice(list(MODELS))}
            answer = client.post("/api/estimate", content=json.dumps(body), params=params)
            assert answer.status_code in (200, 400), (body, answer.text)
