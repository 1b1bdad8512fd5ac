"""Streams and bodies of the upstream's /responses, read as events."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamFailed
from proxy.formats import responses
from proxy.formats.canonical import (
    AnnotationDelta,
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Failure,
    Foreign,
    Opaque,
    OpaqueDelta,
    Start,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolUse,
    Usage,
    UsageReport,
)
from proxy.formats.sse import Frame
from tests.formats.responses.responses_golden import (
    GOLDEN,
    SCRAPS,
    answer,
    decode,
    decode_payloads,
    encode,
    final_response,
    frame,
    frames,
    joined,
    payloads,
    spoil,
    streams,
)

COPILOT = (GOLDEN / "copilot_rotating_ids.sse").read_bytes()
CREATED = {"type": "response.created", "response": {"id": "r", "model": "m"}}
DONE = {"type": "response.completed", "response": {"status": "completed", "output": []}}


def item(index: int, wire: dict[str, Any], *, done: bool = False) -> dict[str, Any]:
    kind = "response.output_item.done" if done else "response.output_item.added"
    return {"type": kind, "output_index": index, "item": wire}


def call(name: str, arguments: str = "") -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": f"call_{name}",
        "name": name,
        "arguments": arguments,
    }


def piece(index: int, delta: str) -> dict[str, Any]:
    return {
        "type": "response.function_call_arguments.delta",
        "output_index": index,
        "delta": delta,
    }


def said(index: int, delta: str, part: int = 0) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "output_index": index,
        "content_index": part,
        "delta": delta,
    }


def well_formed(events: list[Event]) -> bool:
    """Blocks open one at a time, are numbered from 0, and all close."""
    is_open, next_index = False, 0
    for event in events:
        if isinstance(event, BlockStart):
            if is_open or event.index != next_index:
                return False
            is_open, next_index = True, next_index + 1
        elif isinstance(event, BlockStop):
            if not is_open or event.index != next_index - 1:
                return False
            is_open = False
        elif isinstance(event, (Start, Stop, UsageReport, Failure)):
            continue
        elif not is_open or event.index != next_index - 1:
            return False
    return not is_open


def test_ids_that_change_with_every_event_do_not_matter() -> None:
    assert decode(COPILOT) == [
        Start(payloads(COPILOT)[0]["response"]["id"], "gpt-5.5"),
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "Thought."),
        OpaqueDelta(0, Opaque("openai", "gWhole==")),
        BlockStop(0),
        BlockStart(1, Text(text="", extras={"phase": "final_answer"})),
        TextDelta(1, "H"),
        TextDelta(1, "i"),
        BlockStop(1),
        BlockStart(2, ToolUse(id="call_9", name="lookup")),
        ArgumentsDelta(2, '{"key":"a"}'),
        BlockStop(2),
        UsageReport(
            Usage(
                input_tokens=1120,
                output_tokens=30,
                cache_read_tokens=1000,
                reasoning_tokens=16,
                nano_aiu=200_000_000,
            )
        ),
        Stop("tool_use"),
    ]


@pytest.mark.parametrize("name", [*streams(), "copilot"])
def test_a_whole_body_tells_the_same_as_its_stream(name: str) -> None:
    data = COPILOT if name == "copilot" else streams()[name]
    last = payloads(data)[-1]
    body = {**last["response"], "copilot_usage": last.get("copilot_usage")}

    def told(events: list[Event]) -> list[Event]:
        # A piece's logprobs are per token in a stream; the id of a rotating stream differs.
        return [e for e in joined(events) if not isinstance(e, Start)]

    assert told(responses.decode_body(body)) == told(decode(data))


@pytest.mark.parametrize("name", streams())
def test_the_streamed_answer_collected_is_the_body(name: str) -> None:
    data = streams()[name]

    assert responses.encode_body(decode(data), answer()) == final_response(data)


def test_parallel_calls_that_interleave_open_one_after_the_other() -> None:
    events = decode_payloads(
        [
            CREATED,
            item(0, call("a")),
            item(1, call("b")),
            piece(1, '{"b"'),
            piece(0, '{"a"'),
            piece(1, ":1}"),
            item(1, call("b", '{"b":1}'), done=True),
            piece(0, ":2}"),
            item(0, call("a", '{"a":2}'), done=True),
            DONE,
        ]
    )

    assert joined(events)[1:-1] == [
        BlockStart(0, ToolUse(id="call_a", name="a")),
        ArgumentsDelta(0, '{"a":2}'),
        BlockStop(0),
        BlockStart(1, ToolUse(id="call_b", name="b")),
        ArgumentsDelta(1, '{"b":1}'),
        BlockStop(1),
    ]


@pytest.mark.parametrize(
    "given_events",
    [
        [item(3, call("a", '{"k":1}'), done=True)],
        [item(3, call("a")), item(3, call("a", '{"k":1}'), done=True)],
        [item(3, call("a")), piece(3, '{"k"'), item(3, call("a", '{"k":1}'), done=True)],
        [
            item(3, call("a")),
            {
                "type": "response.function_call_arguments.done",
                "output_index": 3,
                "arguments": '{"k":1}',
            },
            item(3, call("a", ""), done=True),
        ],
        [piece(3, '{"k"'), item(3, call("a", '{"k":1}'), done=True)],
        [item(3, call("a")), piece(3, '{"k":1}')],
    ],
)
def test_arguments_are_whole_however_they_come(given_events: list[dict[str, Any]]) -> None:
    events = joined(decode_payloads([CREATED, *given_events, DONE]))

    assert events[1:] == [
        BlockStart(0, ToolUse(id="call_a", name="a")),
        ArgumentsDelta(0, '{"k":1}'),
        BlockStop(0),
        Stop("tool_use"),
    ]


def test_two_versions_of_a_call_are_not_run() -> None:
    with pytest.raises(UpstreamFailed):
        decode_payloads(
            [
                CREATED,
                item(0, call("a")),
                piece(0, "gAAAAencrypted"),
                item(0, call("a", '{"k":1}'), done=True),
            ]
        )


def test_a_call_without_a_name_is_a_failure() -> None:
    with pytest.raises(UpstreamFailed):
        decode_payloads([CREATED, item(0, {"type": "function_call", "call_id": "c"}, done=True)])


def test_text_without_any_frame_around_it_is_read() -> None:
    events = decode_payloads([said(0, "Hel"), said(0, "lo"), DONE])

    assert joined(events) == [
        Start("", ""),
        BlockStart(0, Text(text="")),
        TextDelta(0, "Hello"),
        BlockStop(0),
        Stop("end_turn"),
    ]


def test_parts_of_a_message_are_blocks() -> None:
    whole = {
        "type": "message",
        "content": [
            {"type": "output_text", "text": "One"},
            {"type": "refusal", "refusal": "No."},
        ],
    }
    events = decode_payloads(
        [CREATED, said(0, "On"), said(0, "e"), item(0, whole, done=True), DONE]
    )

    assert joined(events)[1:] == [
        BlockStart(0, Text(text="")),
        TextDelta(0, "One"),
        BlockStop(0),
        BlockStart(1, Text(text="", refusal=True)),
        TextDelta(1, "No."),
        BlockStop(1),
        Stop("refusal"),
    ]


def test_paragraphs_of_a_summary_are_one_thought() -> None:
    def thought(part: int, delta: str) -> dict[str, Any]:
        return {
            "type": "response.reasoning_summary_text.delta",
            "output_index": 0,
            "summary_index": part,
            "delta": delta,
        }

    whole = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text} for text in ("AB", "C", "D")],
        "encrypted_content": "gAA",
    }
    events = decode_payloads(
        [
            CREATED,
            thought(0, "A"),
            thought(0, "B"),
            thought(1, "C"),
            item(0, whole, done=True),
            DONE,
        ]
    )

    assert joined(events)[1:-1] == [
        BlockStart(0, Thinking()),
        ThinkingDelta(0, "AB\n\nC\n\nD"),
        OpaqueDelta(0, Opaque("openai", "gAA")),
        BlockStop(0),
    ]


def test_raw_reasoning_text_is_a_thought() -> None:
    delta = {
        "type": "response.reasoning_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "raw",
    }
    whole = {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "raw"}],
    }

    events = decode_payloads([CREATED, delta, item(0, whole, done=True), DONE])

    assert ThinkingDelta(0, "raw") in events
    assert sum(isinstance(event, ThinkingDelta) for event in events) == 1


def test_items_of_openai_alone_ride_through() -> None:
    search = {"type": "web_search_call", "id": "x", "status": "completed", "action": {}}
    events = decode_payloads(
        [
            CREATED,
            item(0, {"type": "web_search_call", "id": "y", "status": "in_progress"}),
            {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "z"},
            item(0, search, done=True),
            said(1, "Found."),
            DONE,
        ]
    )

    foreign = Foreign(family="openai", kind="web_search_call", value=search)
    assert events[1:3] == [BlockStart(0, foreign), BlockStop(0)]
    assert BlockStart(1, Text(text="")) in events


def test_annotations_come_once() -> None:
    note = {"type": "url_citation", "url": "https://example.test"}
    part = {"type": "output_text", "text": "See", "annotations": [note, note]}
    events = decode_payloads(
        [
            CREATED,
            said(0, "See"),
            {
                "type": "response.output_text.annotation.added",
                "output_index": 0,
                "content_index": 0,
                "annotation": note,
            },
            item(0, {"type": "message", "content": [part]}, done=True),
            DONE,
        ]
    )

    assert sum(isinstance(event, AnnotationDelta) for event in events) == 2


def test_a_custom_tool_gives_free_text() -> None:
    wire = {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": ""}
    delta = {"type": "response.custom_tool_call_input.delta", "output_index": 0, "delta": "*** B"}
    events = decode_payloads(
        [CREATED, item(0, wire), delta, item(0, {**wire, "input": "*** Begin"}, done=True), DONE]
    )

    assert joined(events)[1:3] == [
        BlockStart(0, ToolUse(id="c", name="apply_patch", custom=True)),
        ArgumentsDelta(0, "*** Begin"),
    ]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("max_output_tokens", Stop("max_tokens")),
        ("content_filter", Stop("content_filter")),
        ("max_messages", Stop("max_tokens", details={"reason": "max_messages"})),
        (None, Stop("max_tokens")),
    ],
)
def test_an_incomplete_answer_says_why(reason: str | None, stop: Stop) -> None:
    last = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}}}

    assert decode_payloads([CREATED, said(0, "x"), last])[-1] == stop


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            {"type": "error", "code": "rate_limited", "message": "Slow."},
            Failure(429, "rate_limited", "Slow."),
        ),
        (
            {"type": "error", "error": {"code": "quota_exceeded", "message": "None left."}},
            Failure(402, "quota_exceeded", "None left."),
        ),
        (
            {"type": "error", "error": {"code": "invalid_request_body", "message": "Your input "
             "exceeds the context window of this model. Please adjust your input and try again."}},
            Failure(
                400,
                "context_length_exceeded",
                "Your input exceeds the context window of this model. Please adjust your input "
                "and try again.",
            ),
        ),
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "server_error", "message": "Boom."}},
            },
            Failure(502, "server_error", "Boom."),
        ),
        (
            {"type": "response.cancelled", "response": {}},
            Failure(502, "cancelled", "The upstream cancelled the answer."),
        ),
        ({"error": {"message": "Bare."}}, Failure(502, "upstream_error", "Bare.")),
        (
            {"type": "error", "message": None, "code": 7},
            Failure(502, "error", "The upstream failed without saying why."),
        ),
    ],
)  # fmt: skip
def test_a_failure_inside_the_stream_is_told(error: dict[str, Any], failure: Failure) -> None:
    decoder = responses.decoder()
    decoder.feed(frame(CREATED))
    decoder.feed(frame(said(0, "x")))

    events = decoder.feed(Frame(None, json.dumps(error).encode()))

    assert events[-1] == failure
    assert decoder.finished
    assert decoder.feed(frame(said(0, "late"))) == []


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "rate_limited", "message": "Slow."}},
        {"status": "failed", "output": [], "error": {"code": "rate_limited", "message": "Slow."}},
    ],
)
def test_a_failure_in_a_body_is_told(body: dict[str, Any]) -> None:
    assert responses.decode_body(body)[-1] == Failure(429, "rate_limited", "Slow.")


@pytest.mark.parametrize("body", [{}, {"output": None}, {"choices": []}])
def test_a_body_that_is_no_response_fails(body: dict[str, Any]) -> None:
    with pytest.raises(UpstreamFailed):
        responses.decode_body(body)


@pytest.mark.parametrize("data", [b"{", b"[]", b"7", b"<html>", b'{"a":1}', b'{"type":"\xff"}'])
def test_what_is_no_event_fails(data: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        responses.decoder().feed(Frame(None, data))


def test_a_second_end_and_late_text_are_dropped() -> None:
    decoder = responses.decoder()
    for one in (CREATED, said(0, "Hi"), DONE):
        decoder.feed(frame(one))

    assert decoder.feed(frame(DONE)) == []
    assert decoder.feed(frame(said(0, "late"))) == []
    assert decoder.feed(Frame(None, b"[DONE]")) == []


def test_a_cut_stream_is_not_finished() -> None:
    decoder = responses.decoder()
    for one in frames(COPILOT)[:-1]:
        decoder.feed(one)

    assert not decoder.finished
    assert decoder.close() == []
    assert decoder.usage is None


@pytest.mark.parametrize(
    ("usage", "cost", "expected"),
    [
        (None, None, None),
        ("many", None, None),
        ({"input_tokens": "12"}, None, None),
        ({"input_tokens": -5, "output_tokens": 10**30}, None, Usage(output_tokens=2**31 - 1)),
        ({"input_tokens": 7.0, "output_tokens": None}, None, Usage(input_tokens=7)),
        (
            {"input_tokens": 9, "output_tokens": 1, "input_tokens_details": None},
            {"total_nano_aiu": 5, "token_details": [{"token_type": "cache_write",
             "token_count": 4}]},
            Usage(input_tokens=9, output_tokens=1, cache_write_tokens=4, nano_aiu=5),
        ),
        (
            None,
            {"token_details": [{"token_type": "input", "token_count": 2}, {"token_type":
             "cache_read", "token_count": 3}, {"token_type": "output", "token_count": 4}, None]},
            Usage(input_tokens=5, output_tokens=4, cache_read_tokens=3),
        ),
    ],
)  # fmt: skip
def test_usage_is_read_within_its_bounds(usage: Any, cost: Any, expected: Usage | None) -> None:
    decoder = responses.decoder()
    last = {**DONE, "response": {"output": [], "usage": usage}, "copilot_usage": cost}

    events = decoder.feed(frame(last))

    assert decoder.usage == expected
    reports = [event.usage for event in events if isinstance(event, UsageReport)]
    assert reports == ([] if expected is None else [expected])


def test_items_the_upstream_left_open_are_completed_from_its_last_event() -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    last = {**DONE, "response": {"output": [message, call("a", '{"k":1}')]}}

    events = decode_payloads([CREATED, said(0, "Hel"), item(5, call("a")), piece(5, '{"k'), last])

    assert joined(events)[1:] == [
        BlockStart(0, Text(text="")),
        TextDelta(0, "Hello"),
        BlockStop(0),
        BlockStart(1, ToolUse(id="call_a", name="a")),
        ArgumentsDelta(1, '{"k":1}'),
        BlockStop(1),
        Stop("tool_use"),
    ]


CLEAN = {"copilot": COPILOT, **streams()}


@settings(max_examples=600, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@example("stream_annotations", 45, [11, 0], [])
@given(
    st.sampled_from(sorted(CLEAN)),
    st.integers(0, 60),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([*SCRAPS, ...]),
)
def test_odd_streams_fail_cleanly_or_stay_well_formed(
    name: str, position: int, path: list[int], scrap: Any
) -> None:
    given_events: list[Any] = payloads(CLEAN[name])
    position %= len(given_events)
    given_events[position] = spoil(given_events[position], path, scrap)
    decoder, tap = responses.decoder(), responses.tap(answer())
    events: list[Event] = []
    try:
        for one in given_events:
            events += decoder.feed(Frame(None, json.dumps(one).encode()))
    except UpstreamFailed:
        return
    finally:
        try:
            for one in given_events:
                for written in payloads(tap.feed(Frame(None, json.dumps(one).encode()))):
                    assert isinstance(written, dict)
            tap.fail(UpstreamFailed("cut"))
        except UpstreamFailed:
            pass
    if decoder.finished and not any(isinstance(event, Failure) for event in events):
        assert well_formed(events)
        assert payloads(encode(events))[-1]["type"] in (
            "response.completed",
            "response.incomplete",
        )


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(CLEAN)),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([*SCRAPS, ...]),
)
def test_odd_bodies_fail_cleanly(name: str, path: list[int], scrap: Any) -> None:
    body = spoil(payloads(CLEAN[name])[-1]["response"], path, scrap)
    if not isinstance(body, dict):
        return

    responses.repair_body(body, answer())
    with contextlib.suppress(UpstreamFailed):
        assert responses.decode_body(body)
