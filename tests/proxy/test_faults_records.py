"""One row for each request, and what stands in it: rows V of the faults."""

import json
import time
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import ROUTES, WIRES, read_stream

every_route = pytest.mark.parametrize(("wire_name", "model"), ROUTES)


def rows_since(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    """The rows after the first `count`, oldest first, once there is one and no other follows."""
    gateway.wait_for(lambda: len(gateway.records()) > count)
    time.sleep(0.3)
    return gateway.records()[count:]


@every_route
@pytest.mark.parametrize("streamed", [True, False])
def test_v01_a_good_request_is_one_row_with_the_upstreams_own_figures(
    gateway: Gateway,
    ask: Any,
    last_record: Any,
    simulator: SimulatorThread,
    wire_name: str,
    model: str,
    streamed: bool,
) -> None:
    before = gateway.query("SELECT count(*) AS n FROM usage_usagerecord")[0]["n"]
    stream = ask(WIRES[wire_name], model, "count my tokens please", stream=streamed)
    assert stream.status == 200

    row = last_record(outcome="completed", status=200)
    assert stream.headers["x-request-id"] == f"req_{row['id']}"
    charged = simulator.ledger()["requests"][-1]
    assert row["output_tokens"] == charged["output"]
    assert row["input_tokens"] == sum(charged[k] for k in ("input", "cache_read", "cache_write"))
    assert row["nano_aiu"] == charged["nano_aiu"]
    assert row["cost_source"] == "exact"
    assert not row["usage_estimated"]
    assert row["total_ms"] >= (row["first_token_ms"] or 0) >= 0
    assert gateway.query("SELECT count(*) AS n FROM usage_usagerecord")[0]["n"] == before + 1


@every_route
def test_v02_what_the_upstream_cut_is_one_row_with_the_tokens_so_far(
    gateway: Gateway, ask: Any, last_record: Any, wire_name: str, model: str
) -> None:
    ask(WIRES[wire_name], model, "hi [[long n=400]] [[cut at=before_finish how=fin]]")

    row = last_record(outcome="upstream_error")
    assert row["usage_estimated"]
    assert row["input_tokens"] > 0
    assert row["output_tokens"] >= 20
    assert row["error_message"]


@every_route
def test_v03_what_the_client_left_is_one_row_with_the_tokens_so_far(
    gateway: Gateway, last_record: Any, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    body = wire.body("hi [[drip chunks=100 delay=0.05]]", model)
    with gateway.client() as client, client.stream("POST", wire.path, json=body) as response:
        read = ""
        for piece in response.iter_text():
            read += piece
            if "word9" in read:
                break
    row = last_record(outcome="cancelled")
    assert f"req_{row['id']}" == response.headers["x-request-id"]
    assert row["usage_estimated"]
    assert row["input_tokens"] > 0
    assert row["output_tokens"] >= 9


@pytest.mark.parametrize("scenario", ["error_503", "reset_before", "upload_timeout"])
def test_v04_however_often_it_is_tried_it_is_one_row(
    gateway: Gateway, ask: Any, simulator: SimulatorThread, scenario: str
) -> None:
    before = len(gateway.records())
    simulator.play(scenario)
    refused = ask(WIRES["messages"], "gpt-4.1", "hello")
    assert refused.status >= 500
    simulator.clear()
    simulator.play(scenario, times=1)
    assert ask(WIRES["messages"], "gpt-4.1", "hello").status == 200

    failed, served = rows_since(gateway, before + 1)[-1:], gateway.records()[before:]
    assert len(served) == 2
    assert failed
    assert [row["outcome"] for row in served] == [served[0]["outcome"], "completed"]
    assert served[0]["outcome"] in ("upstream_error", "timeout")
    for row in served:
        assert len(json.loads(row["attempts"])) == 2


@every_route
@pytest.mark.parametrize("kind", ["negative", "huge", "text", "list", "null"])
def test_v05_v06_usage_that_nobody_can_believe_is_bounded_and_marked(
    ask: Any,
    last_record: Any,
    simulator: SimulatorThread,
    wire_name: str,
    model: str,
    kind: str,
) -> None:
    stream = ask(WIRES[wire_name], model, f"hello [[odd_usage {kind}]]")
    assert stream.status == 200

    row = last_record(outcome="completed")
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"):
        assert 0 <= (row[name] or 0) < 100_000
    assert row["input_tokens"] > 0
    charged = simulator.ledger()["requests"][-1]
    # The bill beside it may have said it truly.
    is_known = row["output_tokens"] == charged["output"] and model == "gpt-5.5"
    assert row["usage_estimated"] or is_known
    assert row["nano_aiu"] == charged["nano_aiu"]


@every_route
@pytest.mark.parametrize("streamed", [True, False])
def test_v06_without_usage_it_is_estimated_and_marked(
    ask: Any, last_record: Any, wire_name: str, model: str, streamed: bool
) -> None:
    text = "a question of some length, so that there is something to estimate"
    assert ask(WIRES[wire_name], model, f"{text} [[no_usage]]", stream=streamed).status == 200

    row = last_record(outcome="completed")
    assert row["usage_estimated"]
    assert row["input_tokens"] > 5
    assert row["output_tokens"] > 5


@every_route
def test_v07_what_is_refused_is_a_row_of_a_known_caller_without_attempts(
    ask: Any, gateway: Gateway, last_record: Any, simulator: SimulatorThread,
    wire_name: str, model: str,
) -> None:  # fmt: skip
    assert ask(WIRES[wire_name], "no-such-model", "hello").status == 404

    row = last_record(outcome="refused", status=404)
    assert json.loads(row["attempts"]) == []
    assert (row["output_tokens"] or 0) == 0
    assert not row["nano_aiu"]
    assert simulator.generations == []
    # A stranger leaves no row: see the tests of keys.
    before = len(gateway.records())
    with gateway.client(headers={"authorization": "Bearer cgw_nobody"}) as client:
        wire = WIRES[wire_name]
        assert client.post(wire.path, json=wire.body("hello", model)).status_code == 401
        assert read_stream(client, "/v1/nothing", {}).status == 404
    time.sleep(0.3)
    assert len(gateway.records()) == before
