"""`manage.py start` through its life: nobody signed in, GitHub away, Ctrl-C, kill -9."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.asking import ENDPOINTS, error_message
from tests.proxy.conftest import WIRES, Stream

MakeGateway = Callable[..., Gateway]
CHAT = ENDPOINTS["chat"]


def is_served(gateway: Gateway) -> bool:
    with gateway.client() as client:
        return client.post(CHAT.path, json=CHAT.good).status_code == 200


# Nobody has signed in, or GitHub is away.


def test_without_an_account_every_caller_is_told_so_and_a_sign_in_makes_it_serve(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    simulator.config(device_interval_s=1)
    gateway = new_gateway(token=None, empty=True, GATEWAY_DEVICE_FLOW_MARGIN_S="0")
    with gateway.client() as client:
        for endpoint in ENDPOINTS.values():
            answer = client.post(endpoint.path, json=endpoint.good)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "sign" in error_message(endpoint, answer)
        for path in ("/v1/models", "/usage"):
            answer = client.get(path)
            assert answer.status_code == 503
            error_message(None, answer)
        assert client.get("/healthz").status_code == 200

        code = gateway.wait_for(
            lambda: re.search(r"Enter\s+([A-Z0-9]{4}-[A-Z0-9]{4})", gateway.text)
        )
        assert code is not None
        assert "/login/device" in gateway.text
        simulator.approve_device("octocat", code[1])
        assert gateway.wait_for(lambda: "Signed in as octocat" in gateway.text, 15)
        for endpoint in ENDPOINTS.values():
            assert client.post(endpoint.path, json=endpoint.good).status_code == 200


@pytest.fixture
def own_simulator() -> Iterator[SimulatorThread]:
    """GitHub and Copilot of this test alone: it may go away."""
    with SimulatorThread() as running:
        yield running


def test_github_away_at_the_start_is_survived(
    own_simulator: SimulatorThread, tmp_path: Path
) -> None:
    known = Gateway(tmp_path / "known", own_simulator.url, ("--github-token", "ghu_octocat"))
    known.wait_signed_in()
    known.stop()
    own_simulator.refuse_connections()
    known.arguments = ()
    known.output.clear()
    known.start()
    fresh = Gateway(tmp_path / "fresh", own_simulator.url, ("--github-token", "ghu_octocat"))
    nobody = Gateway(tmp_path / "nobody", own_simulator.url)
    gateways = (known, fresh, nobody)
    try:
        assert fresh.wait_for(lambda: "Trying again" in fresh.text, 20)
        assert nobody.wait_for(lambda: "Trying again" in nobody.text, 20)
        for gateway in gateways:
            with gateway.client() as client:
                for name in ("chat", "messages", "responses"):
                    answer = client.post(ENDPOINTS[name].path, json=ENDPOINTS[name].good)
                    # Who has a token already hears that Copilot itself cannot be reached.
                    assert answer.status_code == (502 if gateway is known else 503)
                    assert gateway is known or "retry-after" in answer.headers
                    error_message(ENDPOINTS[name], answer)
                assert client.get("/readyz").status_code == 200
            assert gateway.process.poll() is None
            assert "Traceback" not in gateway.text

        own_simulator.accept_connections()
        fresh.wait_signed_in()
        assert is_served(fresh)
        assert known.wait_for(lambda: is_served(known), 35)
        assert nobody.wait_for(lambda: "Enter " in nobody.text, 30)
    finally:
        for gateway in gateways:
            gateway.stop()


# What cannot be started.


def two_lines(done: "subprocess.CompletedProcess[str]") -> list[str]:
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    return lines


def test_a_port_that_is_taken_is_said_with_the_next_one(gateway: Gateway) -> None:
    done = gateway.manage("start", "--port", str(gateway.port), check=False)
    assert done.returncode == 4
    what, next_step = two_lines(done)
    assert str(gateway.port) in what
    assert f"--port {gateway.port + 1}" in next_step


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "abc"),
        ("--port", "70000"),
        ("--port", "-1"),
        ("--rate-limit", "-1"),
        ("--rate-limit", "soon"),
        ("--rate-limit", "nan"),
        ("--no-such-flag",),
        ("--prot", "4141"),
        ("--account-type", "royal"),
        ("--port",),
        ("surplus",),
    ],
    ids=" ".join,
)
def test_a_wrong_flag_is_two_lines_and_exit_code_2(
    gateway: Gateway, arguments: tuple[str, ...]
) -> None:
    done = gateway.manage("start", *arguments, check=False)
    assert done.returncode == 2
    two_lines(done)


def test_an_address_that_is_not_ours_is_exit_code_4(gateway: Gateway) -> None:
    done = gateway.manage("start", "--host", "203.0.113.7", "--port", "0", check=False)
    assert done.returncode == 4
    two_lines(done)


def test_beyond_loopback_a_key_is_required(new_gateway: MakeGateway) -> None:
    gateway = new_gateway("--host", "0.0.0.0")
    key = gateway.manage("create-key", "lan").stdout.strip()
    with gateway.client() as client:
        assert client.post(CHAT.path, json=CHAT.good).status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        assert gateway.wait_for(
            lambda: client.post(CHAT.path, json=CHAT.good, headers=headers).status_code == 200, 5
        )
    assert "required" in gateway.text


def test_on_loopback_any_key_is_the_solo_person(gateway: Gateway) -> None:
    with gateway.client() as client:
        for headers in ({}, {"authorization": "Bearer dummy"}, {"x-api-key": "sk-anything"}):
            assert client.post(CHAT.path, json=CHAT.good, headers=headers).status_code == 200
        invented = {"authorization": "Bearer cgw_" + "z" * 43}
        assert client.post(CHAT.path, json=CHAT.good, headers=invented).status_code == 401


# The end.


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_p10_p11_a_stop_lets_streams_end_and_ends_the_rest_with_an_error(
    new_gateway: MakeGateway, simulator: SimulatorThread, how: signal.Signals
) -> None:
    gateway = new_gateway(GATEWAY_DRAIN_S="4", GATEWAY_HEARTBEAT_S="0.5")
    cases = [(name, model, scenario)
             for name, model in (("chat_completions", "gpt-4.1"), ("messages", "gpt-5.5"),
                                 ("messages", "claude-sonnet-4.6"), ("responses", "gpt-5.5"))
             for scenario in ("[[drip chunks=10 delay=0.05]]", "[[stall at=mid_block]]")]  # fmt: skip

    with gateway.client() as client, ThreadPoolExecutor(len(cases)) as pool:
        begun: list[str] = []

        def read(case: tuple[str, str, str]) -> Stream:
            name, model, text = case
            wire = WIRES[name]
            with client.stream("POST", wire.path, json=wire.body(text, model)) as response:
                raw = b""
                for piece in response.iter_bytes():
                    if not raw:
                        begun.append(name)
                    raw += piece
                return Stream(response.status_code, response.headers, raw.decode())

        reading = [pool.submit(read, case) for case in cases]
        assert gateway.wait_for(lambda: len(begun) == len(cases))
        began = time.monotonic()
        gateway.process.send_signal(how)
        for case, future in zip(cases, reading, strict=True):
            stream = future.result()
            wire = WIRES[case[0]]
            assert stream.status == 200
            if "drip" in case[2]:
                assert "word10" in wire.text_of(stream.frames)
                assert wire.ends(stream.raw) == 1
                assert wire.error_in(stream.frames) is None
            else:
                assert wire.ends(stream.raw) == 0
                assert "shutting down" in (wire.error_in(stream.frames) or "")
        assert gateway.process.wait(10) == 0
        assert 3.5 < time.monotonic() - began < 12

    text = gateway.text
    assert f"Finishing {len(cases)} requests" in text
    assert "Served " in text
    assert "Traceback" not in text
    outcomes = [r["outcome"] for r in gateway.records()]
    assert outcomes.count("completed") == 4
    assert outcomes.count("interrupted") == 4
    assert len(outcomes) == 8


def test_p10_a_stop_answers_what_has_not_begun_with_a_503(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    gateway = new_gateway(
        "--rate-limit", "30", "--wait", GATEWAY_DRAIN_S="1.5", GATEWAY_QUEUE_LIMIT="1"
    )
    with gateway.client() as client, ThreadPoolExecutor(3) as pool:
        silent = {**CHAT.good, "messages": [{"role": "user", "content": "hi [[hang]]"}]}
        waiting_upstream = pool.submit(client.post, CHAT.path, json=silent)
        assert gateway.wait_for(lambda: simulator.generations)
        queueing = [pool.submit(client.post, CHAT.path, json=CHAT.good) for _ in range(2)]
        # The queue has one place: when one is refused the other stands in it.
        assert gateway.wait_for(lambda: any(q.done() for q in queueing))
        gateway.process.send_signal(signal.SIGINT)
        full, waiting_turn = sorted(queueing, key=lambda q: not q.done())
        assert full.result().status_code == 429
        for waiting in (waiting_upstream, waiting_turn):
            answer = waiting.result()
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
            assert "shutting down" in error_message(CHAT, answer)
        assert gateway.process.wait(10) == 0
    assert simulator.wait_closed(1)
    outcomes = sorted((r["error_code"], r["outcome"]) for r in gateway.records())
    assert outcomes == [
        ("rate_limited", "refused"),
        ("unavailable", "interrupted"),
        ("unavailable", "refused"),
    ]


def test_p11_a_stop_ends_whole_answers_that_stand_still(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    gateway = new_gateway(GATEWAY_DRAIN_S="1")
    with gateway.client() as client, ThreadPoolExecutor(3) as pool:
        waiting = []
        for name, model in (("chat", "gpt-4.1"), ("messages", "gpt-5.5")):
            endpoint = ENDPOINTS[name]
            said = [{"role": "user", "content": "hi [[silent_body]]"}]
            body = {**endpoint.good, "model": model, "messages": said}
            waiting.append((endpoint, pool.submit(client.post, endpoint.path, json=body)))
        assert gateway.wait_for(lambda: len(simulator.generations) == 2)
        gateway.process.send_signal(signal.SIGTERM)
        for endpoint, pending in waiting:
            answer = pending.result()
            assert answer.status_code == 503
            assert "shutting down" in error_message(endpoint, answer)
        assert gateway.process.wait(10) == 0
    assert {r["outcome"] for r in gateway.records()} == {"interrupted"}


def test_a_second_ctrl_c_stops_now(new_gateway: MakeGateway, simulator: SimulatorThread) -> None:
    gateway = new_gateway(GATEWAY_DRAIN_S="60")
    wire = WIRES["chat_completions"]
    with gateway.client() as client:
        body = wire.body("hi [[drip chunks=500 delay=0.1]]", "gpt-4.1")
        with client.stream("POST", wire.path, json=body) as response:
            pieces = response.iter_raw()
            next(pieces)
            gateway.process.send_signal(signal.SIGINT)
            assert gateway.wait_for(lambda: "again to stop now" in gateway.text)
            gateway.process.send_signal(signal.SIGINT)
            rest = b"".join(pieces).decode()
            assert gateway.process.wait(10) == 130
    assert "shutting down" in rest
    assert wire.ends(rest) == 0
    assert "Traceback" not in gateway.text
    assert "Served " in gateway.text
    (record,) = gateway.records()
    assert record["outcome"] == "interrupted"


def test_an_idle_gateway_stops_at_once_and_says_a_sum(new_gateway: MakeGateway) -> None:
    gateway = new_gateway()
    assert is_served(gateway)
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 8
    assert "Served 1 requests (0 failed)" in gateway.text or "Served 1 request (" in gateway.text
    assert "Finishing" not in gateway.text


def test_p01_killed_during_fifty_streams_it_has_fifty_records_after_a_restart(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    gateway = new_gateway()
    wire = WIRES["chat_completions"]
    connections = []
    for number in range(50):
        model = ("gpt-4.1", "gpt-5.5", "claude-sonnet-4.6")[number % 3]
        body = json.dumps(wire.body(f"{number} [[drip chunks=200 delay=0.1]]", model)).encode()
        connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        connections.append(connection)
        head = (
            f"POST {wire.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
    for connection in connections:
        seen = b""
        while b"word3" not in seen:
            seen += connection.recv(65536)
    gateway.kill()
    for connection in connections:
        connection.close()
    assert gateway.records() == []

    gateway.output.clear()
    gateway.start()
    records = gateway.wait_for_records(50)
    assert len(records) == 50
    assert len({r["id"] for r in records}) == 50
    assert {r["outcome"] for r in records} == {"interrupted"}
    assert {r["model_used"] for r in records} == {"gpt-4.1", "gpt-5.5", "claude-sonnet-4.6"}
    # It serves, and a further restart writes none of them again.
    assert gateway.wait_for(lambda: is_served(gateway))
    gateway.stop()
    gateway.output.clear()
    gateway.start()
    assert len(gateway.wait_for_records(51)) == 51
    assert gateway.query("SELECT sum(requests) AS n FROM usage_rollup")[0]["n"] % 51 == 0


def test_p09_a_second_gateway_on_the_same_folder_is_refused_and_harms_nothing(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    first = new_gateway()
    wire = WIRES["chat_completions"]
    with first.client() as client, ThreadPoolExecutor(1) as pool:
        body = wire.body("hi [[drip chunks=30 delay=0.2]]", "gpt-4.1")
        running = pool.submit(client.post, wire.path, json=body)
        assert first.wait_for(lambda: simulator.generations)
        second = first.manage("start", "--port", "0", check=False)
        assert second.returncode == 1
        what, _ = two_lines(second)
        assert "Another gateway" in what
        assert running.result().status_code == 200
    (record,) = first.wait_for_records(1)
    assert record["outcome"] == "completed"


# What must not be told.


def test_x04_no_log_and_no_file_tells_a_secret(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--verbose", empty=True)
    key = gateway.manage("create-key", "secret").stdout.strip()
    headers = {"authorization": f"Bearer {key}", "cookie": "session=canary-cookie"}
    with gateway.client(headers=headers) as client:
        assert gateway.wait_for(lambda: client.get("/v1/models").status_code == 200, 5)
        for endpoint in ENDPOINTS.values():
            client.post(endpoint.path, json=endpoint.good)
        for scenario in ("leaky_error", "error_500_html", "token_expired", "garbage"):
            body = {**CHAT.good, "messages": [{"role": "user", "content": f"hi [[{scenario}]]"}]}
            client.post(CHAT.path, json=body)
        client.post(f"{CHAT.path}?key=canary-query", json=CHAT.good)
        client.get("/v1beta/models", params={"key": "cgw_canary-gemini"})
        prompt = {**CHAT.good, "messages": [{"role": "user", "content": "canary-prompt"}]}
        client.post(CHAT.path, json=prompt)
    tokens = {
        r.headers["authorization"].partition(" ")[2]
        for r in simulator.received
        if "authorization" in r.headers
    }
    assert any(t.startswith("tid=") for t in tokens)
    gateway.stop()

    secrets = [*tokens, "tid=", "ghu_octocat", key, "canary-cookie", "canary-query",
               "cgw_canary-gemini", "canary-prompt"]  # fmt: skip
    for secret in secrets:
        assert secret not in gateway.text
    for path in gateway.data_dir.rglob("*"):
        if path.is_file() and path.name not in ("secret_key", "encryption_keys"):
            content = path.read_bytes()
            for secret in secrets:
                assert secret.encode() not in content, f"{secret[:8]} in {path.name}"
    for name in ("secret_key", "encryption_keys"):
        if (gateway.data_dir / name).exists():
            assert (gateway.data_dir / name).stat().st_mode & 0o077 == 0
    assert os.stat(gateway.data_dir).st_mode & 0o077 == 0


# What is read rather than asked.


def test_models_have_the_shape_that_the_client_reads(gateway: Gateway) -> None:
    with gateway.client() as client:
        for path in ("/v1/models", "/models"):
            common = client.get(path).json()
            assert common["object"] == "list"
            assert common["has_more"] is False
            first = common["data"][0]
            assert {"id", "object", "created", "owned_by", "display_name"} <= set(first)

            version = {"anthropic-version": "2023-06-01"}
            theirs = client.get(path, headers=version).json()
            assert theirs["first_id"] == theirs["data"][0]["id"]
            assert theirs["last_id"] == theirs["data"][-1]["id"]
            assert theirs["data"][0]["type"] == "model"
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", theirs["data"][0]["created_at"])
            assert "object" not in theirs["data"][0]

        one = client.get("/v1/models/claude-sonnet-4.6").json()
        assert one["id"] == "claude-sonnet-4.6"
        assert client.get("/v1/models/claude-sonnet-4-6").json()["id"] == "claude-sonnet-4-6"
        anthropic = client.get("/models/gpt-4.1", headers=version).json()
        assert anthropic["type"] == "model"
        unknown = client.get("/v1/models/no-such-model")
        assert unknown.status_code == 404
        assert "no-such-model" in error_message(None, unknown)


def test_usage_is_the_seeds_json(gateway: Gateway) -> None:
    with gateway.client() as client:
        usage = gateway.wait_for(lambda: client.get("/usage").json())
    assert {"copilot_plan", "quota_snapshots", "quota_reset_date"} <= set(usage)
    assert "premium_interactions" in usage["quota_snapshots"]
    premium = usage["quota_snapshots"]["premium_interactions"]
    assert {"entitlement", "remaining", "percent_remaining", "unlimited"} <= set(premium)


def test_p18_health_readiness_and_the_api_description(gateway: Gateway) -> None:
    with gateway.client() as client:
        assert client.get("/healthz").json()["status"] == "ok"
        ready = client.get("/readyz").json()
        assert ready["status"] == "ok"
        assert all(ready["checks"].values())

        assert client.get("/api/docs").status_code == 200
        described = client.get("/api/openapi.json").json()
        assert {"/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"} <= set(
            described["paths"]
        )


def test_p18_a_gateway_that_drains_is_not_ready(
    new_gateway: MakeGateway, simulator: SimulatorThread
) -> None:
    gateway = new_gateway(GATEWAY_DRAIN_S="3")
    wire = WIRES["chat_completions"]
    limits = httpx.Limits(max_connections=2)
    with gateway.client(limits=limits) as client, gateway.client() as other:
        assert other.get("/readyz").status_code == 200
        body = wire.body("hi [[drip chunks=100 delay=0.1]]", "gpt-4.1")
        with client.stream("POST", wire.path, json=body) as response:
            pieces = response.iter_raw()
            next(pieces)
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.wait_for(lambda: "Finishing 1 request" in gateway.text)
            # Over a connection that is open already; new ones are not taken any more.
            assert other.get("/readyz").status_code == 503
            refused = other.post(CHAT.path, json=CHAT.good)
            assert refused.status_code == 503
            assert "shutting down" in error_message(CHAT, refused)
