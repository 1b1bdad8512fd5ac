"""What the upstream does wrong in its answers and streams, and what clients get: rows U of the faults."""

from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import ROUTES, WIRES, read_stream

every_route = pytest.mark.parametrize(("wire_name", "model"), ROUTES)


@every_route
@pytest.mark.parametrize("place", ["mid_block", "block_end", "after_created"])
@pytest.mark.parametrize("how", ["clean", "fin", "reset"])
def test_u07_u08_a_cut_stream_ends_with_an_error_event(
    ask: Any, wire_name: str, model: str, place: str, how: str
) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, f"hi [[cut at={place} how={how}]]")

    if stream.status == 200:
        assert wire.error_in(stream.frames)
        assert wire.ends(stream.raw) == 0
    else:
        assert stream.status == 502
        assert "error" in stream.raw


def test_u07_a_cut_stream_is_recorded_with_the_tokens_so_far(ask: Any, last_record: Any) -> None:
    ask(WIRES["chat_completions"], "gpt-4.1", "hi [[cut at=mid_block]]")

    record = last_record(outcome="upstream_error")
    assert record["usage_estimated"]
    assert record["output_tokens"] > 0
    assert record["cost_source"] == "estimated"


@every_route
def test_u09_silence_is_bridged_by_heartbeats_and_ended_at_the_idle_limit(
    ask: Any, last_record: Any, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, "hi [[stall at=mid_block]]")

    heartbeat = "event: ping" if wire_name == "messages" else ": keep-alive"
    assert stream.raw.count(heartbeat) >= 3
    assert wire.error_in(stream.frames)
    assert wire.ends(stream.raw) == 0
    last_record(outcome="timeout", status=200)


@every_route
def test_u10_u11_a_slow_stream_is_never_cut(ask: Any, wire_name: str, model: str) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, "hi [[drip chunks=10 delay=0.5]]")

    assert "word10" in wire.text_of(stream.frames)
    assert wire.ends(stream.raw) == 1


def test_u06_an_upstream_that_never_answers_times_out(
    gateway: Gateway, ask: Any, last_record: Any, simulator: SimulatorThread
) -> None:
    stream = ask(WIRES["messages"], "claude-sonnet-4.6", "hi [[hang]]")

    assert stream.status == 504
    assert "timeout_error" in stream.raw
    last_record(outcome="timeout", status=504)
    assert simulator.wait_closed(2)
    assert len(simulator.generations) == 1


@every_route
@pytest.mark.parametrize("scenario", ["reset_before", "close_before"])
def test_u04_a_connection_lost_before_any_byte_is_tried_once_more(
    ask: Any, simulator: SimulatorThread, wire_name: str, model: str, scenario: str
) -> None:
    wire = WIRES[wire_name]
    simulator.play(scenario, times=1)
    assert ask(wire, model, "hello").status == 200

    simulator.play(scenario)
    before = len(simulator.generations)
    assert ask(wire, model, "hello").status == 502
    assert len(simulator.generations) - before == 2


def test_u05_a_pooled_connection_that_died_is_replaced(
    ask: Any, simulator: SimulatorThread
) -> None:
    wire = WIRES["chat_completions"]
    assert ask(wire, "gpt-4.1", "hello").status == 200
    simulator.play("stale_connection", times=1)
    assert ask(wire, "gpt-4.1", "hello").status == 200


@every_route
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("scenario", ["broken_json_200", "empty_200", "html_200", "garbage"])
def test_u12_u13_u33_nonsense_is_a_502_also_for_streams(
    ask: Any, wire_name: str, model: str, streamed: bool, scenario: str
) -> None:
    stream = ask(WIRES[wire_name], model, f"hi [[{scenario}]]", stream=streamed)

    assert stream.status == 502
    assert stream.headers["content-type"] == "application/json"
    assert "<html" not in stream.raw


@every_route
def test_u14_a_broken_line_ends_the_stream_with_an_error(
    ask: Any, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, "hi [[broken_line]]")

    # On a busy machine the limit on the first byte may come before that on the size.
    assert stream.status in (502, 504) or wire.error_in(stream.frames)
    assert wire.ends(stream.raw) == 0


@every_route
@pytest.mark.parametrize(
    "scenario",
    ["crlf", "comments", "no_blank", "split size=1", "split size=7", "split_data_lines",
     "byte_order_mark", "until_close", "early_hints", "gzip", "wrong_type", "extra_fields",
     "no_object", "cookies"],
)  # fmt: skip
def test_u15_u16_u27_u28_odd_framing_changes_nothing(
    ask: Any, wire_name: str, model: str, scenario: str
) -> None:
    wire = WIRES[wire_name]
    plain = wire.text_of(ask(wire, model, "hello wörld").frames)
    odd = ask(wire, model, f"hello wörld [[{scenario}]]")

    assert odd.status == 200
    assert wire.text_of(odd.frames).startswith(plain)
    assert wire.ends(odd.raw) == 1
    assert wire.error_in(odd.frames) is None
    for header in ("set-cookie", "access-control-allow-origin", "strict-transport-security"):
        assert header not in odd.headers


@every_route
def test_u37_separators_in_text_arrive_as_they_are(ask: Any, wire_name: str, model: str) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, "hi [[unicode]]")

    text = wire.text_of(stream.frames)
    assert "\u2028" in text
    assert "\u2029" in text
    assert "\u0085" in text


@every_route
def test_u17_invalid_utf8_never_reaches_the_client(ask: Any, wire_name: str, model: str) -> None:
    wire = WIRES[wire_name]
    # Reading decodes strictly: invalid bytes would fail here.
    stream = ask(wire, model, "hi [[invalid_utf8]]")
    assert stream.status == 502 or wire.error_in(stream.frames) or wire.ends(stream.raw) == 1


@every_route
def test_u18_a_line_of_megabytes_passes(ask: Any, wire_name: str, model: str) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, "hi [[huge_line]]")

    assert len(wire.text_of(stream.frames)) > 1_000_000
    assert wire.ends(stream.raw) == 1


@every_route
def test_u19_a_line_without_end_is_cut_off(ask: Any, wire_name: str, model: str) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, "hi [[endless_line 12]]")
    # On a busy machine the limit on the first byte may come before that on the size.
    assert stream.status in (502, 504) or wire.error_in(stream.frames)


@every_route
@pytest.mark.parametrize("scenario", ["no_done", "double_done", "late_text"])
def test_u20_u22_there_is_exactly_one_end(
    ask: Any, wire_name: str, model: str, scenario: str
) -> None:
    wire = WIRES[wire_name]
    if scenario == "no_done" and model == "gpt-5.5":
        # Without its terminal event a Responses stream is a cut one: see U08.
        return
    stream = ask(wire, model, f"hello [[{scenario}]]")

    assert stream.status == 200
    assert wire.ends(stream.raw) == 1
    assert wire.text_of(stream.frames).startswith("You said: hello")
    assert wire.error_in(stream.frames) is None


@every_route
@pytest.mark.parametrize("scenario", ["late_text", "double_done"])
def test_u20_u22_what_comes_after_the_end_is_dropped_and_not_waited_for(
    ask: Any,
    last_record: Any,
    simulator: SimulatorThread,
    wire_name: str,
    model: str,
    scenario: str,
) -> None:
    wire = WIRES[wire_name]
    # The connection stays open behind the last word.
    stream = ask(wire, model, f"hello [[{scenario}]] [[cut at=after_end how=stall]]")

    assert stream.status == 200
    assert wire.ends(stream.raw) == 1
    assert wire.text_of(stream.frames).count("You said: hello") == 1
    assert wire.error_in(stream.frames) is None
    last_record(outcome="completed")
    assert simulator.wait_closed(3)


@every_route
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    "kind", ["empty", "null", "missing", "null_delta", "null_content", "null_usage"]
)
def test_u25_odd_choices_break_nothing_and_lose_no_text(
    gateway: Gateway, ask: Any, wire_name: str, model: str, kind: str, streamed: bool
) -> None:
    wire = WIRES[wire_name]
    answer = ask(wire, model, f"hello [[odd_choices {kind}]]", stream=streamed)

    if streamed:
        if answer.status == 200 and wire.error_in(answer.frames) is None:
            assert wire.text_of(answer.frames).startswith("You said: hello")
            assert wire.ends(answer.raw) == 1
        else:
            # Frames that do not belong to the endpoint at all are no part of its answer.
            assert model != "gpt-4.1"
    else:
        # A whole body without choices has no text that could be lost.
        assert answer.status in (200, 502)
        assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in gateway.text


@every_route
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("scenario", ["cookies", "plain"])
def test_u31_of_the_upstreams_headers_none_but_its_id_comes_through(
    ask: Any, wire_name: str, model: str, streamed: bool, scenario: str
) -> None:
    answer = ask(WIRES[wire_name], model, f"hello [[{scenario}]]", stream=streamed)

    assert answer.status == 200
    allowed = {
        "date", "content-type", "content-length", "transfer-encoding", "cache-control",
        "x-accel-buffering", "x-request-id", "x-content-type-options", "content-security-policy",
    }  # fmt: skip
    others = {name for name in answer.headers if name not in allowed}
    assert all(name.startswith(("x-gateway-", "x-ratelimit-")) for name in others), others
    assert "sandbox" not in answer.headers.get("content-security-policy", "")
    assert "keep-alive" not in answer.headers.get("connection", "")


@every_route
@pytest.mark.parametrize("scenario", ["no_usage", "odd_usage", "odd_usage text", "odd_usage huge"])
def test_u21_u36_unbelievable_usage_does_no_harm(
    ask: Any, last_record: Any, wire_name: str, model: str, scenario: str
) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, f"hello [[{scenario}]]")

    assert stream.status == 200
    assert wire.ends(stream.raw) == 1
    record = last_record(outcome="completed")
    assert 0 <= record["input_tokens"] < 2**31
    assert 0 <= record["output_tokens"] < 2**31
    if scenario == "no_usage":
        assert record["usage_estimated"]
        assert record["input_tokens"] > 0


@every_route
@pytest.mark.parametrize("streamed", [True, False])
def test_u23_u24_errors_inside_a_200_are_errors(
    ask: Any, wire_name: str, model: str, streamed: bool
) -> None:
    wire = WIRES[wire_name]
    scenario = "error_event" if streamed else "error_in_200"
    stream = ask(wire, model, f"hi [[{scenario}]]", stream=streamed)

    if stream.status == 200:
        assert wire.error_in(stream.frames)
        assert wire.ends(stream.raw) == 0
    else:
        assert stream.status >= 400
        assert "error" in stream.raw


@every_route
def test_u26_interleaved_tool_calls_arrive_whole(ask: Any, wire_name: str, model: str) -> None:
    wire = WIRES[wire_name]
    stream = ask(wire, model, "hi [[interleaved]]", **tools_for(wire_name))
    assert stream.status == 200
    assert wire.ends(stream.raw) == 1


def tools_for(wire_name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    match wire_name:
        case "chat_completions":
            tool: dict[str, Any] = {
                "type": "function",
                "function": {"name": "read_file", "parameters": schema},
            }
        case "messages":
            tool = {"name": "read_file", "input_schema": schema}
        case _:
            tool = {"type": "function", "name": "read_file", "parameters": schema}
    return {"tools": [tool]}


@every_route
def test_u29_a_body_that_stops_is_no_answer(ask: Any, wire_name: str, model: str) -> None:
    wire = WIRES[wire_name]
    assert ask(wire, model, "hi [[short_body]]", stream=False).status == 502
    assert ask(wire, model, "hi [[silent_body]]", stream=False).status == 504


def test_u30_a_redirect_is_not_followed(ask: Any, simulator: SimulatorThread) -> None:
    stream = ask(WIRES["chat_completions"], "gpt-4.1", "hi [[redirect]]")
    assert stream.status == 502
    assert len(simulator.generations) == 1


@every_route
@pytest.mark.parametrize("streamed", [True, False])
def test_u32_a_body_for_a_stream_and_the_other_way_are_converted(
    ask: Any, wire_name: str, model: str, streamed: bool
) -> None:
    wire = WIRES[wire_name]
    answer = ask(wire, model, "hello [[swap]]", stream=streamed)

    assert answer.status == 200
    if streamed:
        assert "You said: hello" in wire.text_of(answer.frames)
        assert wire.ends(answer.raw) == 1
    else:
        assert "You said: hello" in answer.raw


def test_u34_a_hundred_requests_at_once_keep_their_answers_apart(gateway: Gateway) -> None:
    from concurrent.futures import ThreadPoolExecutor

    wire = WIRES["messages"]
    models = ["claude-sonnet-4.6", "gpt-4.1", "gpt-5.5", "gemini-3.1-pro-preview"]

    with gateway.client() as client, ThreadPoolExecutor(25) as pool:

        def one(number: int) -> str:
            body = wire.body(f"number {number:03}", models[number % 4])
            return wire.text_of(read_stream(client, wire.path, body).frames)

        texts = list(pool.map(one, range(100)))
    assert texts == [f"You said: number {number:03}" for number in range(100)]


def test_u01_an_upstream_that_refuses_connections_is_a_502_and_recovers(
    ask: Any, simulator: SimulatorThread, last_record: Any
) -> None:
    wire = WIRES["chat_completions"]
    assert ask(wire, "gpt-4.1", "hello").status == 200
    simulator.refuse_connections()
    try:
        assert ask(wire, "gpt-4.1", "hello").status == 502
        last_record(outcome="upstream_error", status=502)
    finally:
        simulator.accept_connections()
    assert ask(wire, "gpt-4.1", "hello").status == 200
