"""Messages streams: read, written again, cut, damaged, and in the dialects of other backends."""

import contextlib
import copy
import re
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ContextOverflow, UpstreamFailed
from proxy.formats import canonical as c
from proxy.formats import messages
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame
from tests.formats.messages import messages_golden as golden

CLEAN = golden.names("clean-*.sse")
ALL = golden.names("*.sse")

START = {
    "type": "message_start",
    "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 5, "output_tokens": 1}},
}
END = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"output_tokens": 7},
}
STOP = {"type": "message_stop"}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def text(index: int, words: str) -> dict[str, Any]:
    return delta(index, type="text_delta", text=words)


def close(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def decode(*payloads: dict[str, Any]) -> list[c.Event]:
    return golden.decode([golden.frame(payload) for payload in payloads])


def words(events: list[c.Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, c.TextDelta))


def assert_in_order(events: list[c.Event]) -> None:
    """Blocks open and close one after the other, numbered from 0, before the one stop."""
    opened = None
    index = 0
    stopped = False
    for event in events:
        match event:
            case c.BlockStart():
                assert not stopped
                assert opened is None
                assert event.index == index
                opened, index = index, index + 1
            case c.BlockStop():
                assert opened == event.index
                opened = None
            case c.Stop():
                assert opened is None
                assert not stopped
                stopped = True
            case c.Start() | c.UsageReport() | c.Failure():
                pass
            case _:
                assert event.index == opened


@pytest.mark.parametrize("name", CLEAN)
def test_a_stream_is_written_as_it_was_read(name: str) -> None:
    data = (golden.GOLDEN / name).read_bytes()
    events = golden.decode(golden.stream(name))
    encoder = messages.encoder(golden.ANSWER)

    # The first two events come from one frame, as the relay hands them over.
    written = encoder.encode(events[:2])
    written += b"".join(encoder.encode([event]) for event in events[2:]) + encoder.end()

    assert golden.parsed(written) == golden.parsed(data)


@pytest.mark.parametrize("name", ALL)
def test_every_golden_stream_comes_out_in_order(name: str) -> None:
    decoder = messages.decoder()
    events = [event for frame in golden.stream(name) for event in decoder.feed(frame)]

    assert_in_order(events)
    assert decoder.finished
    assert decoder.usage is not None


def test_copilots_own_stream_with_its_price() -> None:
    decoder = messages.decoder()
    events = [e for frame in golden.stream("copilot-text.sse") for e in decoder.feed(frame)]

    assert events[0] == c.Start("msg_01Ab", "claude-opus-5")
    assert words(events) == "Hi"
    assert events[-1] == c.Stop("end_turn")
    assert decoder.usage == c.Usage(
        input_tokens=94 + 62104 + 1366,
        output_tokens=97,
        cache_read_tokens=62104,
        cache_write_tokens=1366,
        nano_aiu=4248450000,
    )


def test_a_call_without_arguments_has_an_empty_object() -> None:
    events = golden.decode(golden.stream("copilot-vertex-tool.sse"))

    assert [e for e in events if isinstance(e, c.OpaqueDelta)] == [
        c.OpaqueDelta(0, c.Opaque("anthropic", "EqQB+/=="))
    ]
    assert c.ArgumentsDelta(1, "{}") in events
    # The later report has only the output: the input of the first one stays.
    reports = [e.usage for e in events if isinstance(e, c.UsageReport)]
    assert reports[-1] == c.Usage(input_tokens=10, output_tokens=20)


def test_arguments_that_come_whole_in_the_start_are_kept() -> None:
    whole = begin(0, type="tool_use", id="t", name="n", input={"b": 1, "a": 2})

    assert c.ArgumentsDelta(0, '{"b":1,"a":2}') in decode(START, whole, close(0), END)


def test_blocks_filled_at_once_come_one_after_the_other() -> None:
    events = decode(
        START,
        begin(0, type="text", text=""),
        text(0, "one "),
        begin(3, type="tool_use", id="t", name="n", input={}),
        delta(3, type="input_json_delta", partial_json='{"a":'),
        text(0, "two"),
        delta(3, type="input_json_delta", partial_json="1}"),
        close(0),
        close(3),
        END,
        STOP,
    )

    assert_in_order(events)
    assert words(events) == "one two"
    assert "".join(e.json for e in events if isinstance(e, c.ArgumentsDelta)) == '{"a":1}'


def test_a_stream_without_starts_and_stops_is_understood() -> None:
    events = decode(text(0, "a"), delta(1, type="thinking_delta", thinking="b"), text(2, "c"), END)

    assert_in_order(events)
    assert words(events) == "ac"
    assert isinstance(events[0], c.Start)
    assert c.Stop("end_turn") in events


def test_words_given_in_the_start_of_a_block_are_kept() -> None:
    events = decode(START, begin(0, type="text", text="Hi"), close(0), END)

    assert words(events) == "Hi"


def test_late_words_and_second_ends_are_dropped() -> None:
    whole = [START, begin(0, type="text", text=""), text(0, "a"), close(0), END]
    late = [begin(1, type="text", text=""), text(1, "late"), END, STOP, STOP, START, text(0, "x")]

    events = decode(*whole, *late)

    assert words(events) == "a"
    assert sum(isinstance(e, c.Stop) for e in events) == 1


def test_a_message_delta_with_a_stop_reason_is_an_end() -> None:
    decoder = messages.decoder()

    decoder.feed(golden.frame(START))
    assert not decoder.finished
    decoder.feed(golden.frame(END))

    assert decoder.finished


def test_a_stop_without_a_message_delta_is_an_end_too() -> None:
    events = decode(START, begin(0, type="text", text=""), text(0, "a"), STOP)

    assert_in_order(events)
    assert events[-1] == c.Stop("end_turn")


def test_pings_new_events_and_done_say_nothing() -> None:
    frames = [
        golden.frame({"type": "ping"}),
        golden.frame({"type": "thinking_token_count", "count": 3}),
        Frame(None, b"[DONE]"),
        Frame(None, b""),
    ]

    assert golden.decode(frames) == []


@pytest.mark.parametrize("data", [b"{broken", b"[1]", b'"x"', b"{}", b'{"type":7}', b"<html>"])
def test_what_is_no_event_fails(data: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        messages.decoder().feed(Frame(None, data))
    with pytest.raises(UpstreamFailed):
        messages.tap(golden.ANSWER).feed(Frame(None, data))


def test_the_type_may_stand_in_the_event_line_alone() -> None:
    payload = {"index": 0, "delta": {"type": "text_delta", "text": "a"}}

    assert words(golden.decode([golden.frame(payload, b"content_block_delta")])) == "a"


def test_invalid_utf8_becomes_the_replacement_character() -> None:
    data = orjson.dumps(text(0, "a?b")).replace(b"?", b"\xff")

    assert words(golden.decode([Frame(None, data)])) == "a\ufffdb"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ("many", None),
        ({"input_tokens": "12"}, None),
        ({"input_tokens": -3, "output_tokens": 10**12}, c.Usage(output_tokens=2**31 - 1)),
        ({"input_tokens": True, "output_tokens": 4.0}, c.Usage(output_tokens=4)),
        (
            {"input_tokens": 1, "output_tokens_details": {"thinking_tokens": 9}},
            c.Usage(input_tokens=1, reasoning_tokens=9),
        ),
    ],
)
def test_odd_usage_is_clamped_or_unknown(usage: Any, expected: c.Usage | None) -> None:
    decoder = messages.decoder()
    decoder.feed(golden.frame({"type": "message_delta", "delta": {}, "usage": usage}))

    assert decoder.usage == expected


def test_a_later_zero_does_not_wipe_out_what_was_reported() -> None:
    decoder = messages.decoder()
    decoder.feed(golden.frame(START))
    zeros = {"input_tokens": 0, "output_tokens": 7}
    decoder.feed(golden.frame({**END, "usage": zeros}))

    assert decoder.usage == c.Usage(input_tokens=5, output_tokens=7)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, 529),
        ({"type": "rate_limit_error", "message": "Slow down"}, 429),
        ({"type": "authentication_error", "message": "bad token"}, 502),
        ({"type": "api_error", "message": "oops"}, 502),
        ("oops", 502),
        (None, 502),
    ],
)
def test_an_error_event_is_a_failure_and_the_last_word(error: Any, status: int) -> None:
    events = decode(START, {"type": "error", "error": error}, text(0, "late"), END)

    assert isinstance(events[-1], c.Failure)
    assert events[-1].status == status
    assert words(events) == ""


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("max_tokens", "max_tokens"),
        ("pause_turn", "pause_turn"),
        ("model_context_window_exceeded", "context_overflow"),
        ("something_new", "end_turn"),
    ],
)
def test_stop_reasons_are_read(wire: str, reason: str) -> None:
    assert decode({"type": "message_delta", "delta": {"stop_reason": wire}})[-1] == c.Stop(reason)


def test_a_compaction_is_handed_on_whole() -> None:
    events = decode(
        START,
        begin(0, type="compaction", content=None),
        delta(0, type="compaction_delta", content="all of "),
        delta(0, type="compaction_delta", content="it"),
        close(0),
        END,
    )

    value = {"type": "compaction", "content": "all of it"}
    assert c.BlockStart(0, c.Foreign(family="anthropic", kind="compaction", value=value)) in events
    assert_in_order(events)


# Writing


def answer(*events: c.Event, reason: c.StopReason = "end_turn") -> list[c.Event]:
    return [c.Start("up", "gpt-5.5"), *events, c.Stop(reason)]


def test_an_answer_of_another_family_carries_its_secrets_in_the_signature() -> None:
    events = answer(
        c.BlockStart(0, c.Thinking()),
        c.ThinkingDelta(0, "hm"),
        c.OpaqueDelta(0, c.Opaque("openai", "gAAA")),
        c.BlockStop(0),
        c.BlockStart(1, c.Thinking()),
        c.ThinkingDelta(1, "unsigned"),
        c.BlockStop(1),
    )

    body = messages.encode_body(events, golden.ANSWER)

    assert [block["signature"] for block in body["content"]] == ["cgw1.openai.gAAA", "cgw1.none."]
    replay = {"model": "m", "messages": [{"role": "assistant", "content": body["content"]}]}
    assert messages.parse_request(replay).messages[0].blocks == [
        c.Thinking(text="hm", opaque=c.Opaque("openai", "gAAA")),
        c.Thinking(text="unsigned"),
    ]


def test_the_opaque_value_of_a_call_gets_a_block_of_its_own() -> None:
    early = c.ToolUse(id="t1", name="n", opaque=c.Opaque("gemini", "early"))
    events = answer(
        c.BlockStart(0, early),
        c.ArgumentsDelta(0, "{}"),
        c.BlockStop(0),
        c.BlockStart(1, c.ToolUse(id="t2", name="n")),
        c.OpaqueDelta(1, c.Opaque("copilot_chat", "late")),
        c.ArgumentsDelta(1, "{}"),
        c.BlockStop(1),
    )

    written = golden.encode(events)
    body = messages.encode_body(events, golden.ANSWER)

    kinds = [(b["type"], b.get("signature")) for b in body["content"]]
    assert kinds == [
        ("thinking", "cgw1.gemini.early"),
        ("tool_use", None),
        ("tool_use", None),
        ("thinking", "cgw1.copilot_chat.late"),
    ]
    assert_in_order(golden.decode(golden.frames(written)))


@pytest.mark.parametrize("thought", ["", "hm"])
def test_a_seal_after_the_last_text_does_not_become_the_last_block(thought: str) -> None:
    events = answer(
        c.BlockStart(0, c.Thinking(text=thought)),
        c.BlockStop(0),
        c.BlockStart(1, c.Text(text="Done.")),
        c.BlockStop(1),
        c.BlockStart(2, c.Thinking()),
        c.OpaqueDelta(2, c.Opaque("copilot_chat", "seal")),
        c.BlockStop(2),
    )

    body = messages.encode_body(events, golden.ANSWER)

    assert [block["type"] for block in body["content"]] == ["thinking", "text"]
    assert_in_order(golden.decode(golden.frames(golden.encode(events))))


def test_a_seal_between_text_and_call_keeps_its_place() -> None:
    events = answer(
        c.BlockStart(0, c.Text(text="I look.")),
        c.BlockStop(0),
        c.BlockStart(1, c.Thinking()),
        c.OpaqueDelta(1, c.Opaque("copilot_chat", "seal")),
        c.BlockStop(1),
        c.BlockStart(2, c.ToolUse(id="t1", name="n")),
        c.ArgumentsDelta(2, "{}"),
        c.BlockStop(2),
    )

    body = messages.encode_body(events, golden.ANSWER)

    kinds = [(b["type"], b.get("signature")) for b in body["content"]]
    assert kinds == [("text", None), ("thinking", "cgw1.copilot_chat.seal"), ("tool_use", None)]


@pytest.mark.parametrize("tool_id", ["functions.read:0", "cgw1_YS5i", "", "ü"])
def test_ids_of_calls_that_the_wire_forbids_come_back(tool_id: str) -> None:
    events = answer(
        c.BlockStart(0, c.ToolUse(id=tool_id, name="read")),
        c.ArgumentsDelta(0, "{}"),
        c.BlockStop(0),
    )

    call = messages.encode_body(events, golden.ANSWER)["content"][0]
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "r"}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    request = messages.parse_request({"model": "m", "messages": turns})

    assert re.fullmatch(r"[A-Za-z0-9_-]+", call["id"])
    assert request.messages[0].blocks[0].id == tool_id
    assert request.messages[1].blocks[0].tool_use_id == tool_id
    built = messages.build_request(request, c.ModelFacts(id="m"))
    assert built.body["messages"] == turns


def test_usage_that_comes_after_the_stop_is_told() -> None:
    usage = c.Usage(input_tokens=100, cache_read_tokens=60, cache_write_tokens=10, output_tokens=5)

    payloads = golden.parsed(golden.encode([*answer(), c.UsageReport(usage)]))

    start, end = payloads[0][1]["message"]["usage"], payloads[-2][1]["usage"]
    assert start["input_tokens"] == start["output_tokens"] == 0
    assert end == {
        "input_tokens": 30,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 60,
        "output_tokens": 5,
    }


@pytest.mark.parametrize(
    ("reason", "wire"),
    [
        ("end_turn", "end_turn"),
        ("content_filter", "refusal"),
        ("context_overflow", "model_context_window_exceeded"),
        ("tool_use", "tool_use"),
    ],
)
def test_stop_reasons_are_written(reason: c.StopReason, wire: str) -> None:
    body = messages.encode_body(answer(reason=reason), golden.ANSWER)

    assert body["stop_reason"] == wire


def test_calls_under_an_ordinary_stop_still_say_tool_use() -> None:
    call = [c.BlockStart(0, c.ToolUse(id="t", name="n")), c.BlockStop(0)]

    assert messages.encode_body(answer(*call), golden.ANSWER)["stop_reason"] == "tool_use"


def test_the_free_text_of_a_custom_tool_becomes_json() -> None:
    events = answer(
        c.BlockStart(0, c.ToolUse(id="t", name="patch", custom=True)),
        c.ArgumentsDelta(0, "*** Begin"),
        c.ArgumentsDelta(0, ' "Patch"'),
        c.BlockStop(0),
    )

    call = messages.encode_body(events, golden.ANSWER)["content"][0]

    assert call["input"] == {"input": '*** Begin "Patch"'}


def test_annotations_and_blocks_of_other_families_are_left_out() -> None:
    events = answer(
        c.BlockStart(0, c.Foreign(family="openai", kind="web_search_call", value={"x": 1})),
        c.BlockStop(0),
        c.BlockStart(1, c.Text(text="")),
        c.TextDelta(1, "So."),
        c.AnnotationDelta(1, {"type": "url_citation", "url": "u"}),
        c.BlockStop(1),
    )

    written = golden.encode(events)

    assert b"url_citation" not in written
    assert messages.encode_body(events, golden.ANSWER)["content"] == [
        {"type": "text", "text": "So."}
    ]


def test_a_failure_closes_the_block_and_is_no_end() -> None:
    encoder = messages.encoder(golden.ANSWER)
    data = encoder.encode(
        [c.Start("u", "m"), c.BlockStart(0, c.Text(text="")), c.TextDelta(0, "half")]
    )

    data += encoder.fail(UpstreamFailed("The upstream left."))

    kinds = [kind for kind, _ in golden.parsed(data)]
    assert kinds[-2:] == ["content_block_stop", "error"]
    assert golden.parsed(data)[-1][1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "The upstream left."},
    }
    assert encoder.end() == b""
    assert encoder.fail(UpstreamFailed("again")) == b""
    assert encoder.encode([c.TextDelta(0, "late")]) == b""


def test_a_failure_event_is_written_as_an_error() -> None:
    encoder = messages.encoder(golden.ANSWER)

    data = encoder.encode([c.Start("u", "m"), c.Failure(529, "overloaded_error", "Busy")])

    assert golden.parsed(data)[-1][1]["error"] == {"type": "overloaded_error", "message": "Busy"}
    assert encoder.end() == b""


def test_the_end_is_written_once() -> None:
    encoder = messages.encoder(golden.ANSWER)
    encoder.encode(answer())

    assert [kind for kind, _ in golden.parsed(encoder.end())] == ["message_delta", "message_stop"]
    assert encoder.end() == b""


def test_an_overflow_inside_the_stream_lets_claude_code_compact() -> None:
    encoder = messages.encoder(golden.ANSWER)

    data = encoder.fail(ContextOverflow("Too much.", tokens=9, limit=8))

    assert golden.parsed(data)[0][1]["error"]["message"] == (
        "prompt is too long: 9 tokens > 8 maximum"
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("way", ["translated", "passed"])
def test_anthropics_own_sdk_reads_what_we_write(name: str, way: str) -> None:
    if way == "translated":
        data = golden.encode(golden.decode(golden.stream(name)))
    else:
        tap = messages.tap(golden.ANSWER)
        data = b"".join(tap.feed(frame) for frame in golden.stream(name)) + tap.end()
    expected = messages.encode_body(golden.decode(golden.stream(name)), golden.ANSWER)

    def reply(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    with (
        httpx2.Client(transport=httpx2.MockTransport(reply)) as http,
        anthropic.Anthropic(api_key="k", base_url="http://gateway", http_client=http) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]
        ) as stream,
    ):
        message = stream.get_final_message()

    assert [b.type for b in message.content] == [b["type"] for b in expected["content"]]
    for block, wanted in zip(message.content, expected["content"], strict=True):
        for field in ("text", "thinking", "signature", "data", "input", "id", "name"):
            if field in wanted:
                assert getattr(block, field) == wanted[field]
    assert message.stop_reason == expected["stop_reason"]
    assert message.usage.output_tokens == expected["usage"]["output_tokens"]


# Damage

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**63), st.text(max_size=3), st.just([]), st.just({})
)


@st.composite
def damaged(draw: Any) -> list[Frame]:
    payloads = [orjson.loads(f.data) for f in golden.stream(draw(st.sampled_from(ALL)))]
    for _ in range(draw(st.integers(1, 4))):
        payload = draw(st.sampled_from(payloads))
        holders = [payload, *(v for v in payload.values() if isinstance(v, dict))]
        holder = draw(st.sampled_from(holders))
        if holder:
            key = draw(st.sampled_from(sorted(holder)))
            if draw(st.booleans()):
                del holder[key]
            else:
                holder[key] = copy.deepcopy(draw(JUNK))
    if draw(st.booleans()):
        payloads = draw(st.permutations(payloads))
    return [golden.frame(payload) for payload in payloads]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(frames=damaged())
def test_a_damaged_stream_is_read_in_order_or_fails_but_never_breaks(frames: list[Frame]) -> None:
    decoder = messages.decoder()
    events: list[c.Event] = []
    with contextlib.suppress(UpstreamFailed):
        for frame in frames:
            events += decoder.feed(frame)
        events += decoder.close()

    assert_in_order(events)
    written = golden.encode([e for e in events if not isinstance(e, c.Failure)])
    assert golden.parsed(written)[-1][0] == "message_stop"


@settings(max_examples=400, deadline=None, derandomize=True)
@given(frames=damaged())
def test_a_damaged_stream_passes_repaired_or_fails_but_never_breaks(frames: list[Frame]) -> None:
    tap = messages.tap(golden.ANSWER)
    data = b""
    try:
        for frame in frames:
            data += tap.feed(frame)
        data += tap.end()
    except UpstreamFailed as error:
        data += tap.fail(error)

    opened: set[Any] = set()
    kinds = []
    for kind, payload in golden.parsed(data):
        assert kind == payload["type"]
        kinds.append(kind)
        if kind == "content_block_start":
            opened.add(payload["index"])
        elif kind == "content_block_stop":
            opened.remove(payload["index"])
        elif kind == "content_block_delta":
            assert payload["index"] in opened
    assert not opened
    assert sum(kind in ("message_stop", "error") for kind in kinds) == 1
    assert kinds[-1] in ("message_stop", "error")
    # Only pings may come before the start.
    told = [kind for kind in kinds if kind != "ping"]
    assert "message_start" not in told[1:]


def test_the_model_named_is_the_one_the_client_is_to_see() -> None:
    other = Answer(id="a", created=1, model="")

    assert messages.encode_body(answer(), golden.ANSWER)["model"] == "claude-opus-5"
    assert messages.encode_body(answer(), other)["model"] == "gpt-5.5"
