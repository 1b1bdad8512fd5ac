"""Requests that real clients sent, replayed: served at the first try, with nothing refused upstream."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

RECORDED = Path(__file__).parent / "recorded"
SERVED = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/models")
# What Copilot has no place for, and what is answered instead.
REFUSED_BY_US = {
    # Codex opens a websocket first: the answer makes it use HTTP at once.
    "codex/10-responses.json": 426,
    "codex/11-websocket-handshake.json": 426,
    "codex/13-websocket-turn-frame.json": 426,
}


def recorded() -> Iterator[Any]:
    for path in sorted(RECORDED.glob("*/*.json")):
        name = f"{path.parent.name}/{path.name}"
        document = json.loads(path.read_text())
        if document["request"]["path"].startswith(SERVED):
            yield pytest.param(name, document["request"], id=name.removesuffix(".json"))


@pytest.mark.parametrize(("name", "request_"), list(recorded()))
def test_a_recorded_request_is_served_without_an_upstream_refusal(
    gateway: Gateway, simulator: SimulatorThread, name: str, request_: dict[str, Any]
) -> None:
    # Their signatures and sealed reasoning were made by a recording server, not by an upstream.
    simulator.config(check_signatures=False)
    headers = {
        key: value.encode()
        for key, value in request_["headers"].items()
        if key not in ("host", "content-length", "connection", "accept-encoding", "upgrade")
    }
    body = request_["body"]
    with gateway.client() as client:
        answer = client.request(
            request_["method"],
            request_["path"],
            params=request_["query"],
            headers=headers,
            content=None if body is None else json.dumps(body),
        )
    assert answer.status_code == REFUSED_BY_US.get(name, 200), answer.text[:300]
    refused = [(r.path, r.status) for r in simulator.generations if r.status >= 400]
    assert refused == []
    if answer.status_code == 200 and isinstance(body, dict) and body.get("stream"):
        assert_whole(request_["path"], answer.text)


def assert_whole(path: str, raw: str) -> None:
    if path.endswith("/messages"):
        assert raw.count("event: message_start") == 1
        assert raw.count("event: message_stop") == 1
        assert '"usage"' in raw
    elif path.endswith("/responses"):
        assert raw.count("event: response.created") == 1
        assert raw.count("event: response.completed") == 1
    else:
        assert raw.count("data: [DONE]") == 1
