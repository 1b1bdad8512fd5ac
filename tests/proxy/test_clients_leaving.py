"""Clients that hang up, at every moment at which they can: rows C of the faults."""

import contextlib
import json
import random
import re
import select
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.asking import ENDPOINTS
from tests.proxy.conftest import ROUTES, WIRES, Wire

every_route = pytest.mark.parametrize(("wire_name", "model"), ROUTES)
CHAT = ENDPOINTS["chat"]


class Leaver:
    """A client that may close its connection whenever it likes."""

    def __init__(self, gateway: Gateway, path: str, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(raw)}\r\n\r\n"
        self.connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        self.connection.sendall(head.encode() + raw)
        self.seen = b""

    def read_until(self, pattern: bytes, times: int = 1) -> bytes:
        while len(re.findall(pattern, self.seen)) < times:
            chunk = self.connection.recv(65536)
            assert chunk, self.seen
            self.seen += chunk
        return self.seen

    def leave(self, *, reset: bool = False) -> None:
        if reset:
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    @property
    def record_id(self) -> str:
        found = re.search(rb"x-request-id: req_(\w+)", self.seen)
        assert found is not None, self.seen
        return found[1].decode()


def piece(wire: Wire) -> bytes:
    """What every piece of a stream of numbered words holds."""
    return rb"word\d"


@every_route
@pytest.mark.parametrize("streamed", [True, False])
def test_c01_leaving_before_the_answer_closes_the_upstream_call(
    gateway: Gateway,
    simulator: SimulatorThread,
    last_record: Any,
    wire_name: str,
    model: str,
    streamed: bool,
) -> None:
    wire = WIRES[wire_name]
    client = Leaver(gateway, wire.path, wire.body("hi [[hang]]", model, stream=streamed))
    assert simulator.wait_received(1, path=simulator_path(simulator))
    client.leave()

    assert simulator.closed_within(1)
    record = last_record(outcome="cancelled")
    assert record["status"] is None
    assert len(simulator.generations) == 1


def simulator_path(simulator: SimulatorThread) -> str:
    deadline = time.monotonic() + 5
    while not simulator.generations:
        assert time.monotonic() < deadline, "the upstream was never called"
        time.sleep(0.01)
    return simulator.generations[-1].path


@every_route
@pytest.mark.parametrize("reset", [False, True])
def test_c02_leaving_in_mid_stream_closes_the_upstream_and_is_recorded_with_what_came(
    gateway: Gateway, simulator: SimulatorThread, wire_name: str, model: str, reset: bool
) -> None:
    wire = WIRES[wire_name]
    client = Leaver(gateway, wire.path, wire.body("hi [[drip chunks=100 delay=0.1]]", model))
    client.read_until(piece(wire), 4)
    client.leave(reset=reset)

    assert simulator.closed_within(1)
    (record,) = gateway.wait_for_records(1, "id = ?", client.record_id)
    assert record["outcome"] == "cancelled"
    assert record["usage_estimated"]
    assert record["input_tokens"] > 0
    assert record["output_tokens"] >= 4
    assert record["nano_aiu"] > 0
    assert record["bytes_out"] > 0


@every_route
def test_c02_leaving_while_the_upstream_is_silent_closes_it_too(
    gateway: Gateway, simulator: SimulatorThread, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    client = Leaver(gateway, wire.path, wire.body("hi [[stall at=mid_block]]", model))
    client.read_until(rb"data: ")
    client.leave()

    assert simulator.closed_within(1)
    (record,) = gateway.wait_for_records(1, "id = ?", client.record_id)
    assert record["outcome"] == "cancelled"


@pytest.mark.parametrize("name", ["embeddings", "count_tokens"])
def test_c01_leaving_before_embeddings_or_a_count_closes_the_upstream_call(
    gateway: Gateway, simulator: SimulatorThread, name: str
) -> None:
    endpoint = ENDPOINTS[name]
    # Counting is no generation for the simulator's wish list: it is named by its path.
    path = {"embeddings": "/embeddings", "count_tokens": "/v1/messages/count_tokens"}[name]
    simulator.play("hang", match={"path": path})
    client = Leaver(gateway, endpoint.path, endpoint.good)
    assert simulator.wait_received(1, path=path)
    client.leave()
    assert gateway.wait_for(lambda: simulator.received_on(path)[-1].finished, 1) == "client_closed"


def test_c04_after_leaving_nothing_is_tried_again(
    gateway: Gateway, simulator: SimulatorThread, last_record: Any
) -> None:
    simulator.play("error_503")
    client = Leaver(gateway, CHAT.path, CHAT.good)
    assert simulator.wait_received(1, path="/chat/completions")
    client.leave()
    last_record(outcome="cancelled")
    # Longer than the pause before a repetition.
    assert not simulator.wait_received(2, path="/chat/completions", seconds=0.8)


def test_c03_leaving_during_a_token_refresh_lets_it_end_for_the_others(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    # Another account: the shared gateway's token is not to be revoked under it.
    gateway = new_gateway(token="ghu_mona")
    exchanges = simulator.exchanges("mona")
    simulator.config(exchange_latency_s=6)
    simulator.revoke_copilot_tokens("mona")

    with gateway.client() as client, ThreadPoolExecutor(1) as pool:
        leaver = Leaver(gateway, CHAT.path, CHAT.good)
        assert gateway.wait_for(
            lambda: (
                simulator.exchanges("mona") > exchanges
                or (simulator.generations and simulator.generations[-1].status == 401)
            ),
            6,
        )
        other = pool.submit(client.post, CHAT.path, json=CHAT.good)
        assert gateway.wait_for(lambda: len(simulator.generations) == 2, 6)
        leaver.leave()
        assert other.result().status_code == 200
    assert simulator.exchanges("mona") == exchanges + 1
    assert [r.status for r in simulator.generations] == [401, 401, 200]


def test_c03_leaving_the_queue_frees_the_place_and_is_never_sent(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--rate-limit", "5", "--wait", GATEWAY_QUEUE_LIMIT="1")
    with gateway.client() as client:
        assert client.post(CHAT.path, json=CHAT.good).status_code == 200
        pair = [Leaver(gateway, CHAT.path, CHAT.good) for _ in range(2)]
        # The queue has one place: when one of the two is refused, the other stands in it.
        ready, _, _ = select.select([one.connection for one in pair], [], [], 4)
        (refused,) = [one for one in pair if one.connection in ready]
        (waiting,) = [one for one in pair if one is not refused]
        assert b" 429 " in refused.read_until(rb"\r\n\r\n")
        refused.leave()
        waiting.leave()
        last = gateway.wait_for(lambda: answered(client), 5)
        assert last is not None
    assert len(simulator.generations) == 2


def answered(client: httpx.Client) -> httpx.Response | None:
    answer = client.post(CHAT.path, json=CHAT.good)
    return answer if answer.status_code == 200 else None


def test_c03_leaving_during_approval_takes_the_question_back(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--manual")
    with gateway.client(follow_redirects=True) as person:
        assert person.get(gateway.sign_in_link).status_code == 200

        def waiting() -> int:
            page = person.get("/dashboard/approvals/").text
            return int(re.search(r'data-waiting="(\d+)"', page)[1])  # type: ignore[index]

        client = Leaver(gateway, CHAT.path, CHAT.good)
        assert gateway.wait_for(lambda: waiting() == 1)
        client.leave()
        assert gateway.wait_for(lambda: waiting() == 0, 1)
    assert not simulator.generations


def test_c11_after_hundreds_of_hang_ups_nothing_is_open_and_every_slot_is_free(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway(GATEWAY_MAX_IN_FLIGHT="60")
    chance = random.Random(11)
    moments = ["[[drip chunks=60 delay=0.03]]", "[[hang]]", "[[slow seconds=0.3]]", "[[paced]]", ""]

    def hang_up(number: int) -> None:
        name, model = ROUTES[number % len(ROUTES)]
        wire = WIRES[name]
        body = wire.body(f"hi {chance.choice(moments)}", model, stream=number % 3 > 0)
        client = Leaver(gateway, wire.path, body)
        # The moment itself is what is random here, from before the routing to after the end.
        client.connection.settimeout(chance.random() * 0.6 + 0.001)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while client.connection.recv(4096) and chance.random() > 0.2:
                pass
        client.leave(reset=number % 2 > 0)

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(hang_up, range(200)))
    assert simulator.wait_closed(2)
    assert simulator.open_streams() == 0

    # All slots are taken at once: one that was lost would be a 503.
    simulator.play("slow", seconds=1.5)
    with gateway.client(limits=httpx.Limits(max_connections=60)) as client:
        with ThreadPoolExecutor(60) as pool:
            answers = list(
                pool.map(lambda _: client.post(CHAT.path, json=CHAT.good).status_code, range(60))
            )
        assert answers == [200] * 60
        assert client.get("/readyz").status_code == 200
    assert gateway.wait_for(
        lambda: gateway.query("SELECT count(*) AS n, count(DISTINCT id) AS d "
                              "FROM usage_usagerecord WHERE outcome = 'interrupted'")[0]["n"] == 0
    )  # fmt: skip
