"""Passthrough: the upstream's own stream and body, repaired where clients would stumble."""

import copy
import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from proxy.errors import RateLimited, UpstreamFailed
from proxy.formats import responses
from proxy.formats.canonical import Usage
from proxy.formats.sse import Frame
from tests.formats.responses.responses_golden import (
    EVENTS,
    GOLDEN,
    answer,
    frame,
    frames,
    opened_and_closed,
    payloads,
    sdk,
    streams,
)

COPILOT = (GOLDEN / "copilot_rotating_ids.sse").read_bytes()
CREATED = {"type": "response.created", "sequence_number": 0, "response": {"id": "Q2x" * 60}}


def tapped(data: bytes) -> bytes:
    tap = responses.tap(answer())
    return b"".join(tap.feed(one) for one in frames(data)) + tap.end()


def ids(payload: Any) -> Any:
    """The payload with every id taken out of it."""
    if isinstance(payload, dict):
        return {k: ids(v) for k, v in payload.items() if k not in ("id", "item_id")}
    return [ids(value) for value in payload] if isinstance(payload, list) else payload


def test_ids_are_pinned_and_nothing_else_is_touched() -> None:
    before, after = payloads(COPILOT), payloads(tapped(COPILOT))

    assert [ids(payload) for payload in after] == [ids(payload) for payload in before]
    by_index: dict[int, set[str]] = {}
    for payload in after:
        if "response" in payload:
            assert payload["response"]["id"] == "resp_0a1b2c"
        elif "item_id" in payload:
            by_index.setdefault(payload["output_index"], set()).add(payload["item_id"])
        elif "item" in payload:
            by_index.setdefault(payload["output_index"], set()).add(payload["item"]["id"])
    assert by_index == {0: {"rs_0a1b2c_0"}, 1: {"msg_0a1b2c_1"}, 2: {"fc_0a1b2c_2"}}
    assert [item["id"] for item in after[-1]["response"]["output"]] == [
        "rs_0a1b2c_0",
        "msg_0a1b2c_1",
        "fc_0a1b2c_2",
    ]


def test_the_sdk_stops_at_rotating_ids_and_takes_pinned_ones() -> None:
    with (
        pytest.raises(RuntimeError, match="identity changed"),
        sdk(COPILOT).responses.stream(model="m", input="hi") as stream,
    ):
        stream.until_done()

    with sdk(tapped(COPILOT)).responses.stream(model="m", input="hi") as stream:
        final = stream.get_final_response()

    assert final.output_text == "Hi"


@pytest.mark.parametrize("name", streams())
def test_a_clean_stream_passes_unchanged(name: str) -> None:
    data = streams()[name]

    assert payloads(tapped(data)) == payloads(data)


def test_usage_model_and_end_are_read_on_the_way() -> None:
    tap = responses.tap(answer())
    *before, last = frames(COPILOT)
    for one in before:
        tap.feed(one)
    assert not tap.finished

    tap.feed(last)

    assert tap.finished
    assert tap.model == "gpt-5.5"
    assert tap.stop_reason == "completed"
    assert tap.failure is None
    assert tap.usage == Usage(
        input_tokens=1120,
        output_tokens=30,
        cache_read_tokens=1000,
        reasoning_tokens=16,
        nano_aiu=200_000_000,
    )


def test_the_reason_of_an_incomplete_answer_is_noted() -> None:
    tap = responses.tap(answer())
    for one in frames(streams()["stream_incomplete_text"]):
        tap.feed(one)

    assert (tap.finished, tap.stop_reason) == (True, "max_output_tokens")


def test_frames_that_break_clients_are_left_out() -> None:
    tap = responses.tap(answer())
    tap.feed(frame(CREATED))

    assert tap.feed(frame({"type": "ping"})) == b""
    assert tap.feed(Frame(None, b"[DONE]")) == b""
    tap.feed(frames(COPILOT)[-1])
    assert tap.feed(frame(CREATED)) == b""


def test_a_frame_that_is_not_json_is_not_passed_on() -> None:
    with pytest.raises(UpstreamFailed):
        responses.tap(answer()).feed(Frame(None, b'{"type":'))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "error": {"code": "rate_limited", "message": "Slow."}},
        {"type": "error", "code": "rate_limited", "message": "Slow.", "sequence_number": 1},
        {
            "type": "response.failed",
            "sequence_number": 1,
            "response": {"id": "x", "error": {"code": "rate_limited", "message": "Slow."}},
        },
    ],
)
def test_an_error_of_the_upstream_is_said_in_every_clients_way(event: dict[str, Any]) -> None:
    tap = responses.tap(answer())
    data = tap.feed(frame(CREATED)) + tap.feed(frame(event))

    assert isinstance(tap.failure, RateLimited)
    assert tap.finished
    error, failed = payloads(data)[-2:]
    assert (error["type"], error["code"], error["message"]) == ("error", "rate_limited", "Slow.")
    assert (error["sequence_number"], failed["sequence_number"]) == (1, 2)
    assert failed["response"]["id"] == payloads(data)[0]["response"]["id"]
    assert failed["response"]["error"]["code"] == "rate_limit_exceeded"
    assert tap.fail(UpstreamFailed("again")) == b""
    with pytest.raises(openai.APIError, match="Slow"):
        list(sdk(data).responses.create(model="m", input="hi", stream=True))


@pytest.mark.parametrize("source", [COPILOT, *streams().values()], ids=["copilot", *streams()])
def test_a_cut_anywhere_is_closed_and_said(source: bytes) -> None:
    given = frames(source)
    for length in range(1, len(given)):
        tap = responses.tap(answer())
        data = b"".join(tap.feed(one) for one in given[:length])
        assert not tap.finished

        data += tap.fail(UpstreamFailed("The upstream broke off."))

        for opened, closed in opened_and_closed(data):
            assert opened == closed
        assert [p["type"] for p in payloads(data)[-2:]] == ["error", "response.failed"]
        numbers = [payload["sequence_number"] for payload in payloads(data)]
        assert numbers == list(range(len(numbers)))
        EVENTS.validate_json(frames(data)[-1].data, strict=True)
        with (
            pytest.raises(openai.APIError, match="broke off"),
            sdk(data).responses.stream(model="m", input="hi") as stream,
        ):
            stream.until_done()


def test_what_came_before_a_cut_stands_in_the_failed_response() -> None:
    tap = responses.tap(answer())
    for one in frames(COPILOT)[:8]:
        tap.feed(one)

    failed = payloads(tap.fail(UpstreamFailed("cut")))[-1]["response"]

    assert [item["type"] for item in failed["output"]] == ["reasoning", "message"]
    assert failed["output"][1]["status"] == "incomplete"
    assert failed["output"][1]["content"][0]["text"] == "Hi"


def test_a_body_gets_our_ids() -> None:
    body = payloads(COPILOT)[-1]["response"]
    before = copy.deepcopy(body)

    repaired = responses.repair_body(body, answer())

    assert body == before
    assert repaired["id"] == "resp_0a1b2c"
    assert [item["id"] for item in repaired["output"]] == [
        "rs_0a1b2c_0",
        "msg_0a1b2c_1",
        "fc_0a1b2c_2",
    ]
    assert ids(repaired) == ids(before)
    reply = sdk(json.dumps(repaired).encode()).responses.create(model="m", input="hi")
    assert reply.output_text == "Hi"


def test_a_poor_body_gets_the_fields_that_clients_read() -> None:
    message = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [],
    }

    repaired = responses.repair_body({"id": "resp_up", "output": [message]}, answer())

    Response.model_validate(repaired, strict=True)
    assert repaired["id"] == "resp_up"
    assert repaired["output"] == [message]


def test_an_error_body_is_left_as_it_is() -> None:
    body = {"error": {"message": "x"}}

    assert responses.repair_body(body, answer()) == body
