"""What clients ask by the way: quiet answers, and nothing for strangers."""

from collections.abc import Callable

import pytest

from tests.conftest import Gateway

CLAUDE_EVENTS = {"events": [{"event_type": "ClaudeCodeInternalEvent", "event_data": {}}]}


@pytest.mark.parametrize("path", ["/api/event_logging/batch", "/api/event_logging/v2/batch"])
def test_claude_codes_telemetry_is_taken_and_forgotten(gateway: Gateway, path: str) -> None:
    before = len(gateway.records())
    with gateway.client() as client:
        answer = client.post(path, json=CLAUDE_EVENTS)
        assert (answer.status_code, answer.json()) == (200, {})
        assert client.post(path, content=b"no json").status_code == 200
    assert len(gateway.records()) == before
    assert "event_logging" not in gateway.text


def test_somebody_is_there(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.head("/")
        assert (answer.status_code, answer.content) == (200, b"")


def test_codex_reads_its_own_model_list_beside_the_common_one(gateway: Gateway) -> None:
    with gateway.client() as client:
        plain = client.get("/v1/models").json()
        codex = client.get("/v1/models", params={"client_version": "0.169.0"}).json()
        claude = client.get("/v1/models", params={"limit": 1000}).json()
    assert "models" not in plain
    # An entry would take the model's system prompt from Codex; it needs the list to be there.
    assert codex["models"] == []
    assert codex["data"] == plain["data"] == claude["data"] != []


def test_ollamas_clients_see_version_and_models(gateway: Gateway) -> None:
    with gateway.client() as client:
        version = client.get("/api/version").json()["version"]
        listed = client.get("/api/tags").json()["models"]
        ids = [m["id"] for m in client.get("/v1/models").json()["data"]]
    assert tuple(int(part) for part in version.split(".")) >= (0, 13, 4)
    assert {m["name"] for m in listed} <= set(ids)
    assert "gpt-5.5" in {m["model"] for m in listed}
    assert "text-embedding-3-small" not in {m["model"] for m in listed}
    assert set(listed[0]) == {"name", "model", "modified_at", "size", "digest", "details"}
    assert len(listed[0]["digest"]) == 64


def test_the_documentation_is_not_caught(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert client.get("/api/openapi.json").json()["info"]["title"] == "Copilot Gateway"
        assert "html" in client.get("/api/docs").headers["content-type"]


def test_strangers_learn_no_model(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway("--require-keys")
    key = gateway.manage("create-key", "laptop").stdout.strip()
    with gateway.client() as client:
        assert client.get("/api/tags").json() == {"models": []}
        assert client.get("/api/tags", headers={"x-api-key": "cgw_wrong"}).status_code == 401
        mine = {"Authorization": f"Bearer {key}"}
        gateway.wait_for(lambda: client.get("/api/tags", headers=mine).status_code == 200)
        assert client.get("/api/tags", headers=mine).json()["models"]
        assert client.post("/api/event_logging/batch", json=CLAUDE_EVENTS).json() == {}
        assert client.get("/api/version").status_code == 200
        assert client.get("/v1/responses/resp_1").status_code == 401
