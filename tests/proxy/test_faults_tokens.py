"""Copilot tokens that end, and exchanges that fail, as clients meet them: rows T of the faults."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.asking import ENDPOINTS, error_message
from tests.proxy.conftest import WIRES
from tests.proxy.seats import MODEL, PATH, Seats, body, make

CHAT = ENDPOINTS["chat"]
EXCHANGE = "/copilot_internal/v2/token"
# What may go wrong with the exchange, by the account that it happens to.
FAILURES = {
    "fails": "error_500",
    "closes": "close_before",
    "hangs": "hang",
    "says-html": "html_200",
    "says-nothing": "empty_200",
    "says-an-empty-object": "json_200",
    "limits": "rest_limit_429",
}


def test_t01_a_hundred_requests_that_meet_an_ended_token_cause_one_exchange(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway(token="ghu_mona")
    with gateway.client() as client, ThreadPoolExecutor(50) as pool:
        assert client.post(CHAT.path, json=CHAT.good).status_code == 200
        exchanges = simulator.exchanges("mona")
        simulator.config(exchange_latency_s=0.5)
        simulator.revoke_copilot_tokens("mona")
        answers = list(
            pool.map(lambda _: client.post(CHAT.path, json=CHAT.good).status_code, range(100))
        )
    assert answers == [200] * 100
    assert simulator.exchanges("mona") == exchanges + 1


def test_t04_t05_a_failing_exchange_is_said_within_ten_seconds_and_comes_back_by_itself(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway()
    pools = {f"seat-{name}": {"seats": {f"seat-{name}": 1}} for name in FAILURES}
    seats = Seats(gateway, simulator, make(gateway, simulator, pools))
    for pool in pools:
        assert gateway.wait_for(lambda pool=pool: seats.ask(pool, "ready").status_code == 200)
    for name, scenario in FAILURES.items():
        match = {"login": f"seat-{name}", "path": EXCHANGE}
        more = {"body": "{}"} if scenario == "json_200" else {}
        if scenario == "rest_limit_429":
            more = {"retry_after": 5}
        simulator.play(scenario, match=match, **more)
        simulator.revoke_copilot_tokens(f"seat-{name}")

    def ask(pool: str) -> float:
        began = time.monotonic()
        with gateway.client(headers={"authorization": f"Bearer {seats.keys[pool]}"}) as client:
            answer = client.post(PATH, json=body("hello"))
        assert answer.status_code in (502, 503, 504), (pool, answer.status_code, answer.text)
        assert error_message(CHAT, answer)
        if answer.status_code == 503:
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        return time.monotonic() - began

    with ThreadPoolExecutor(len(pools)) as pool:
        for _ in range(2):
            # A token that was rejected is not used again: nobody is served meanwhile.
            assert max(pool.map(ask, pools)) < 13
        simulator.clear()
        cleared_at = time.monotonic()

        def served(name: str) -> bool:
            return bool(gateway.wait_for(lambda: seats.ask(name, "hi").status_code == 200, 30))

        assert all(pool.map(served, pools))
    assert time.monotonic() - cleared_at < 30


def test_t09_a_model_list_that_fails_hinders_no_start_and_the_stored_one_is_served(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    simulator.play("error_500", match={"path": "/models"})
    gateway = new_gateway()
    with gateway.client() as client:
        refused = client.post(CHAT.path, json=CHAT.good)
        assert refused.status_code in (502, 503)
        assert error_message(CHAT, refused)
        assert client.get("/healthz").status_code == 200
        simulator.clear()
        assert gateway.wait_for(
            lambda: client.post(CHAT.path, json=CHAT.good).status_code == 200, 30
        )
        known = client.get("/v1/models").json()["data"]
        assert known
    # Later, and also over a restart.
    simulator.play("error_500", match={"path": "/models"})
    gateway.stop()
    gateway.output.clear()
    gateway.start()
    with gateway.client() as client:
        listed = client.get("/v1/models").json()["data"]
        assert {m["id"] for m in listed} == {m["id"] for m in known}
        assert client.post(CHAT.path, json=CHAT.good).status_code == 200


@pytest.mark.parametrize("wire_name", WIRES)
def test_t16_a_token_that_ends_in_mid_stream_ends_no_stream(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread, wire_name: str
) -> None:
    gateway = new_gateway(token="ghu_mona")
    wire = WIRES[wire_name]
    request = wire.body("hi [[drip chunks=12 delay=0.1]]", MODEL)
    with gateway.client() as client:
        with client.stream("POST", wire.path, json=request) as answer:
            pieces = answer.iter_text()
            read = next(pieces)
            simulator.revoke_copilot_tokens("mona")
            simulator.config(token_life_s=1)
            read += "".join(pieces)
        assert answer.status_code == 200
        assert "word12" in read
        assert wire.ends(read) == 1
        simulator.config(token_life_s=1800)
        # The next one gets a new token.
        assert client.post(wire.path, json=wire.body("hello", MODEL)).status_code == 200
