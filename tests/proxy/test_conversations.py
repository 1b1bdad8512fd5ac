"""What makes two requests one conversation: what real clients send, else how it begins."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Gateway

RECORDED = ROOT / "tests" / "clients" / "recorded"
CHAT = "/v1/chat/completions"


def conversation_of(gateway: Gateway, path: str, body: Any, headers: dict[str, str]) -> str:
    with gateway.client(headers=headers) as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    exchange = answer.headers["x-request-id"].removeprefix("req_")
    found = gateway.wait_for_records(1, "id = ?", exchange)[0]["conversation"]
    return str(found)


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return {"model": "gpt-4.1", "messages": turns, **more}


@pytest.mark.parametrize(
    "header",
    [
        "x-claude-code-session-id",
        "session-id",
        "x-session-id",
        "x-session-affinity",
        "x-opencode-session",
        "thread-id",
    ],
)
def test_a_session_header_names_the_conversation(gateway: Gateway, header: str) -> None:
    session = {header: f"ses_{time.monotonic_ns()}"}

    first = conversation_of(gateway, CHAT, chat("one thing"), session)

    assert conversation_of(gateway, CHAT, chat("quite another"), session) == first
    other = {header: f"ses_{time.monotonic_ns()}"}
    assert conversation_of(gateway, CHAT, chat("one thing"), other) != first


def test_a_sub_agent_belongs_to_the_conversation_of_its_parent(gateway: Gateway) -> None:
    parent, child = f"ses_{time.monotonic_ns()}", f"ses_{time.monotonic_ns()}"
    mine = {"x-session-id": parent, "x-session-affinity": parent}
    its = {"x-session-id": child, "x-session-affinity": child, "x-parent-session-id": parent}

    first = conversation_of(gateway, CHAT, chat("the task"), mine)

    assert conversation_of(gateway, CHAT, chat("a part of it"), its) == first


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/messages",
            {
                "model": "claude-sonnet-4.6",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": "hello"}],
                "metadata": {"user_id": '{"device_id":"d","session_id":"SESSION"}'},
            },
        ),
        (
            "/v1/messages",
            {
                "model": "claude-sonnet-4.6",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": "hello"}],
                "metadata": {"user_id": "user_1_account__session_SESSION"},
            },
        ),
        ("/v1/responses", {"model": "gpt-5.5", "input": "hello", "prompt_cache_key": "SESSION"}),
        (CHAT, chat("hello", prompt_cache_key="SESSION")),
    ],
)
def test_a_name_in_the_body_names_the_conversation(
    gateway: Gateway, path: str, body: dict[str, Any]
) -> None:
    name = f"s{time.monotonic_ns()}"
    text = json.dumps(body).replace("SESSION", name)

    first = conversation_of(gateway, path, json.loads(text), {})

    again = json.loads(text.replace('"hello"', '"something else"'))
    assert conversation_of(gateway, path, again, {}) == first
    other = json.loads(json.dumps(body).replace("SESSION", f"s{time.monotonic_ns()}"))
    assert conversation_of(gateway, path, other, {}) != first


def test_without_a_name_the_first_words_make_the_conversation(gateway: Gateway) -> None:
    text = f"topic {time.monotonic_ns()}"
    first = conversation_of(gateway, CHAT, chat(text), {})

    assert conversation_of(gateway, CHAT, chat(text, "an answer", "go on"), {}) == first
    assert conversation_of(gateway, CHAT, chat(f"{text}, another"), {}) != first


def recorded_sessions() -> list[Path]:
    """One request of each client that names its session."""
    return [
        next(RECORDED.glob("claude-code/01-*.json")),
        next(RECORDED.glob("codex/01-*.json")),
        next(RECORDED.glob("opencode/01-*.json")),
        next(RECORDED.glob("opencode/11-*.json")),
    ]


@pytest.mark.parametrize("path", recorded_sessions(), ids=lambda p: f"{p.parent.name}-{p.stem[:2]}")
def test_real_clients_keep_one_conversation_over_their_turns(gateway: Gateway, path: Path) -> None:
    request = json.loads(path.read_text())["request"]
    headers = {
        k: v
        for k, v in request["headers"].items()
        if k not in ("authorization", "x-api-key", "content-length", "host") and v.isascii()
    }
    body = request["body"] | {"stream": False}
    turns = body.get("messages", body.get("input"))

    first = conversation_of(gateway, request["path"], body, headers)
    turns.append({"role": "user", "content": f"a later turn {time.monotonic_ns()}"})
    turns.reverse()
    later = conversation_of(gateway, request["path"], body, headers)

    assert later == first != ""
