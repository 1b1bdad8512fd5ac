"""Hosts, headers, the model list and what the front door refuses."""

from __future__ import annotations

import socket
import uuid

import httpx


def test_a_bearer_at_another_accounts_host_is_misdirected(simulator, copilot):
    simulator.add_account("mona", host=simulator.other_url)
    token = copilot.exchange("ghu_mona")
    assert copilot.rest("/copilot_internal/v2/token", "ghu_mona").json()["endpoints"]["api"] == (
        simulator.other_url
    )
    copilot.bearer = token
    answer = copilot.chat()
    assert (answer.status_code, answer.text) == (421, "Misdirected Request")

    with httpx.Client(base_url=simulator.other_url, trust_env=False) as other:
        body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
        good = other.post("/chat/completions", json=body, headers=copilot.headers())
        assert good.status_code == 200
        octocat = copilot.headers() | {"authorization": "Bearer ghu_octocat"}
        assert other.post("/chat/completions", json=body, headers=octocat).status_code == 421


def test_the_clients_identity_is_checked(copilot):
    copilot.bearer = copilot.exchange()
    missing = copilot.get("/models", editor_version="")
    assert (missing.status_code, missing.text) == (
        400,
        "bad request: missing Editor-Version header for IDE auth\n",
    )
    assert copilot.get("/models", copilot_integration_id="my-tool").status_code == 400
    assert copilot.get("/models", editor_version="vscode/1.80.0").status_code == 466
    copilot.bearer = "gho_opencode"
    assert copilot.get("/models", editor_version="").status_code == 200


def test_images_need_the_vision_header(simulator, copilot):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": [image]}]}
    assert copilot.post("/chat/completions", body).status_code == 400
    assert copilot.post("/chat/completions", body, copilot_vision_request="true").status_code == 200
    simulator.config(vision="drop")
    assert copilot.post("/chat/completions", body).status_code == 200


def test_every_answer_carries_copilots_headers(copilot):
    wanted = str(uuid.uuid4())
    answer = copilot.get("/models", x_request_id=wanted)
    assert answer.headers["x-request-id"] == wanted
    assert answer.headers["x-github-request-id"].count(":") == 4
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert "x-quota-snapshot-premium_interactions" in answer.headers
    refused = copilot.chat(model="nobody")
    assert "x-copilot-service-request-id" in refused.headers
    assert "x-quota-snapshot-chat" not in refused.headers


def test_the_model_list_tells_more_to_newer_clients(copilot):
    def entry(version):
        listed = copilot.get("/models", x_github_api_version=version).json()["data"]
        return next(model for model in listed if model["id"] == "gpt-5.4")

    old, flat, tiered = entry("2025-04-01"), entry("2026-06-01"), entry("2026-08-01")
    assert old["billing"]["multiplier"] == 1
    assert "warning_message" in old
    assert "token_prices" not in old["billing"]
    assert flat["billing"]["token_prices"]["input_price"] == 250
    assert tiered["billing"]["token_prices"]["long_context"]["output_price"] == 2250


def test_the_model_list_is_as_untidy_as_the_real_one(copilot):
    listed = copilot.get("/models").json()["data"]
    ids = [model["id"] for model in listed]
    assert ids.count("gpt-4") == 2
    kinds = {model["capabilities"]["type"] for model in listed}
    assert kinds == {"chat", "embeddings", "completion"}
    by_id = {model["id"]: model for model in listed}
    assert "supported_endpoints" not in by_id["gpt-4.1"]
    assert "policy" not in by_id["gpt-5-mini"]
    assert by_id["grok-4.6"]["policy"]["state"] == "disabled"
    assert by_id["claude-opus-5"]["capabilities"]["limits"]["max_prompt_tokens"] == 936_000


def test_a_disabled_model_serves_once_its_terms_are_accepted(copilot):
    assert copilot.responses(model="grok-4.6").json()["error"]["code"] == "model_not_supported"
    assert copilot.post("/models/grok-4.6/policy", {"state": "enabled"}).status_code == 200
    assert copilot.responses(model="grok-4.6").status_code == 200
    copilot.bearer = "ghu_mona"
    assert copilot.post("/models/grok-4.6/policy", {"state": "enabled"}).status_code == 403


def test_a_plan_may_not_include_a_model(simulator, copilot):
    simulator.add_account("octocat", plan="individual")
    assert copilot.responses(model="gpt-5.6-sol").json()["error"]["code"] == "model_not_supported"


def test_a_body_above_the_limit_is_refused_before_it_is_read(simulator, copilot):
    simulator.config(max_body_bytes=1000)
    assert copilot.chat("x" * 2000).status_code == 413
    simulator.config(max_body_bytes=64 * 1024 * 1024)
    assert copilot.chat("x" * 2000).status_code == 200


def test_a_large_chunked_upload_arrives_whole(simulator, copilot):
    def body():
        yield b'{"model":"text-embedding-3-small","input":["'
        for _ in range(40):
            yield b"x" * 1024 * 1024
        yield b'"]}'

    answer = copilot.http.post("/embeddings", content=body(), headers=copilot.headers())
    assert answer.status_code == 400  # far above 8191 tokens, so it was read to its end
    assert simulator.received[-1].size > 40 * 1024 * 1024


def test_an_upload_that_stops_is_answered_with_408(simulator):
    simulator.config(upload_timeout_s=0.1)
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=5) as raw:
        raw.sendall(b"POST /responses HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"user_request_timeout" in answer


def test_auto_is_gated_by_the_api_version(copilot):
    assert copilot.post("/auto", {"prompt": "x"}).json()["selected_model"]["id"] == "gpt-5.4"
    assert (
        copilot.post("/auto", {"prompt": "x"}, x_github_api_version="2026-01-09").status_code == 404
    )
    assert "session_token" in copilot.post("/models/session", {"auto_mode": {}}).json()
    assert copilot.http.get("/_ping").status_code == 200
    assert copilot.get("/nowhere").status_code == 404
