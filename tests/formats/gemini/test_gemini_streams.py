"""Gemini streams and answers: decoded, encoded, ended, failed, passed on."""

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ContextOverflow, GatewayError, RateLimited, UpstreamFailed
from proxy.formats import FORMATS, gemini
from proxy.formats import canonical as c
from proxy.formats.contract import Answer, Format
from proxy.formats.sse import Frame
from tests.formats.gemini import gemini_golden as golden

CLEAN = golden.names("clean-*.sse")
ALL = golden.names("*.sse")
HIDDEN = Answer(id="01Ab", created=1, model=golden.MODEL)
ARRAY = Answer(id="01Ab", created=1, model=golden.MODEL, request={"alt": "json"})
TEXT = [
    c.Start("x", "m"),
    c.BlockStart(0, c.Text(text="")),
    c.TextDelta(0, "Hi"),
    c.BlockStop(0),
]


def payloads(events: list[c.Event], answer: Answer = golden.ANSWER) -> list[Any]:
    return golden.parsed(golden.encode(events, answer))


def test_the_package_is_a_format() -> None:
    format_: Format = gemini
    assert FORMATS[format_.NAME] is format_
    assert format_.KEEPALIVE == b""


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_stream_survives_decoding_and_encoding(name: str) -> None:
    frames = golden.stream(name)
    decoder, encoder = gemini.decoder(), gemini.encoder(golden.ANSWER)
    out = b"".join(encoder.encode(decoder.feed(frame)) for frame in frames)

    assert decoder.finished
    assert golden.parsed(out + encoder.end()) == [orjson.loads(frame.data) for frame in frames]


def test_stream_and_body_say_the_same() -> None:
    events = golden.decode(golden.stream("clean-thinking-and-tools.sse"))
    body = golden.load("body-thinking-and-tools.json")

    assert golden.joined(gemini.decode_body(body)) == golden.joined(events)
    assert gemini.encode_body(events, golden.ANSWER) == body


@pytest.mark.parametrize("name", ALL)
def test_blocks_open_and_close_one_after_the_other(name: str) -> None:
    open_, expected = None, 0
    for event in golden.decode(golden.stream(name)):
        match event:
            case c.BlockStart():
                assert open_ is None
                assert event.index == expected
                open_, expected = event.index, expected + 1
            case c.BlockStop():
                assert event.index == open_
                open_ = None
            case c.TextDelta() | c.ThinkingDelta() | c.ArgumentsDelta() | c.OpaqueDelta():
                assert event.index == open_
    assert open_ is None


def test_googles_dialect_is_read() -> None:
    text = golden.joined(golden.decode(golden.stream("google-text.sse")))
    tool = golden.decode(golden.stream("google-tool.sse"))
    blocked = golden.decode(golden.stream("google-blocked.sse"))

    assert c.TextDelta(0, "One two") in text
    assert text[-1] == c.Stop("end_turn")
    calls = [e.block for e in tool if isinstance(e, c.BlockStart)]
    assert [call.id for call in calls if isinstance(call, c.ToolUse)] == ["call_g1_0", "call_g1_1"]
    assert c.OpaqueDelta(0, c.Opaque("gemini", "R29vZ2xl")) in tool
    assert tool[-1] == c.Stop("tool_use")
    assert isinstance(blocked[-1], c.Stop)
    assert blocked[-1].reason == "content_filter"


# Encoding.


def test_a_call_comes_whole_when_its_block_closes() -> None:
    encoder = gemini.encoder(golden.ANSWER)

    first = encoder.encode([c.BlockStart(0, c.ToolUse(id="t", name="f"))])
    first += encoder.encode([c.ArgumentsDelta(0, '{"a":'), c.ArgumentsDelta(0, "1}")])
    second = encoder.encode([c.BlockStop(0)])

    assert first == b""
    assert golden.parts_of(golden.parsed(second)) == [
        {"functionCall": {"id": "t", "name": "f", "args": {"a": 1}}}
    ]


@pytest.mark.parametrize(
    ("arguments", "custom", "args"),
    [("", False, {}), ("[1]", False, {"arguments": [1]}), ("{", False, {"arguments": "{"})]
    + [("*** patch", True, {"input": "*** patch"})],
)
def test_arguments_are_always_an_object(arguments: str, custom: bool, args: Any) -> None:
    events: list[c.Event] = [
        c.BlockStart(0, c.ToolUse(id="t", name="f", custom=custom)),
        c.ArgumentsDelta(0, arguments),
        c.BlockStop(0),
    ]

    assert golden.parts_of(payloads(events))[0]["functionCall"]["args"] == args


def test_thoughts_are_shown_only_where_they_are_asked_for() -> None:
    events: list[c.Event] = [
        c.BlockStart(0, c.Thinking()),
        c.ThinkingDelta(0, "hm"),
        c.OpaqueDelta(0, c.Opaque("anthropic", "sig")),
        c.BlockStop(0),
        c.BlockStart(1, c.Text(text="")),
        c.TextDelta(1, "Hi"),
        c.TextDelta(1, " you"),
        c.BlockStop(1),
    ]
    said = [{"text": "Hi", "thoughtSignature": "cgw1.anthropic.sig"}, {"text": " you"}]

    assert golden.parts_of(payloads(events)) == [{"text": "hm", "thought": True}, *said]
    assert golden.parts_of(payloads(events, HIDDEN)) == said


def test_thoughts_and_answer_stand_in_frames_of_their_own() -> None:
    events: list[c.Event] = [
        c.BlockStart(0, c.Thinking()),
        c.ThinkingDelta(0, "hm"),
        c.BlockStop(0),
        c.BlockStart(1, c.Text(text="")),
        c.TextDelta(1, "Hi"),
        c.TextDelta(1, " you"),
    ]

    frames = golden.parsed(gemini.encoder(golden.ANSWER).encode(events))

    assert [golden.parts_of([one]) for one in frames] == [
        [{"text": "hm", "thought": True}],
        [{"text": "Hi you"}],
    ]


def test_two_signatures_for_one_part_are_both_kept() -> None:
    def thinking(index: int, opaque: str, *, redacted: bool) -> list[c.Event]:
        return [
            c.BlockStart(index, c.Thinking(redacted=redacted)),
            c.OpaqueDelta(index, c.Opaque("anthropic", opaque)),
            c.BlockStop(index),
        ]

    events: list[c.Event] = [
        *thinking(0, "DATA", redacted=True),
        *thinking(1, "SIG", redacted=False),
        c.BlockStart(2, c.ToolUse(id="t", name="f")),
        c.BlockStop(2),
    ]
    parts = golden.parts_of(payloads(events, HIDDEN))
    asked = {"role": "model", "parts": parts}
    body = {"model": "m", "contents": [{"role": "user", "parts": [{"text": "x"}]}, asked]}

    blocks = gemini.parse_request(body).messages[1].blocks

    found = [(b.redacted, b.opaque) for b in blocks if isinstance(b, c.Thinking)]
    assert found == [
        (True, c.Opaque("anthropic", "DATA")),
        (False, c.Opaque("anthropic", "SIG")),
    ]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end_turn", "STOP"),
        ("tool_use", "STOP"),
        ("stop_sequence", "STOP"),
        ("max_tokens", "MAX_TOKENS"),
        ("context_overflow", "MAX_TOKENS"),
        ("refusal", "SAFETY"),
        ("content_filter", "SAFETY"),
        ("pause_turn", "OTHER"),
    ],
)
def test_the_last_frame_says_why(reason: c.StopReason, word: str) -> None:
    *before, last = payloads([*TEXT, c.Stop(reason)])

    assert last["candidates"][0]["finishReason"] == word
    assert all("finishReason" not in one["candidates"][0] for one in before)


def test_usage_tells_thoughts_apart() -> None:
    usage = c.Usage(
        input_tokens=100,
        output_tokens=50,
        cache_read_tokens=60,
        cache_write_tokens=5,
        reasoning_tokens=30,
    )

    last = payloads([*TEXT, c.UsageReport(usage), c.Stop("end_turn")])[-1]

    assert last["usageMetadata"] == {
        "promptTokenCount": 100,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "cachedContentTokenCount": 60,
        "totalTokenCount": 150,
    }
    decoder = gemini.decoder()
    decoder.feed(golden.frame(last))
    assert decoder.usage is not None
    assert (decoder.usage.output_tokens, decoder.usage.reasoning_tokens) == (50, 30)


def test_blocks_of_other_vendors_servers_are_left_out() -> None:
    block = c.Foreign(family="anthropic", kind="server_tool_use", value={"type": "x"})

    parts = golden.parts_of(payloads([c.BlockStart(0, block), c.BlockStop(0)]))

    assert parts == []


def test_an_answer_ends_once() -> None:
    encoder = gemini.encoder(golden.ANSWER)
    encoder.encode(TEXT)

    assert encoder.end()
    assert encoder.end() == b""
    assert encoder.fail(UpstreamFailed("late")) == b""
    assert encoder.encode(TEXT) == b""


def test_a_cut_stream_ends_with_the_error_and_no_reason() -> None:
    encoder = gemini.encoder(golden.ANSWER)
    out = encoder.encode(TEXT)
    encoder.encode([c.BlockStart(1, c.ToolUse(id="t", name="f")), c.ArgumentsDelta(1, '{"a"')])

    frames = golden.parsed(out + encoder.fail(UpstreamFailed("It broke.")))

    assert frames[-1] == {"error": {"code": 502, "message": "It broke.", "status": "INTERNAL"}}
    assert b"finishReason" not in out
    assert golden.parts_of(frames) == [{"text": "Hi"}]
    assert encoder.end() == b""


def test_a_failure_among_the_events_ends_the_stream() -> None:
    encoder = gemini.encoder(golden.ANSWER)

    frames = golden.parsed(encoder.encode([*TEXT, c.Failure(429, "limit", "Slow down.")]))

    assert frames[-1]["error"]["status"] == "RESOURCE_EXHAUSTED"
    with pytest.raises(GatewayError, match="Slow down"):
        gemini.encode_body([c.Failure(429, "limit", "Slow down.")], golden.ANSWER)


def test_the_array_grows_and_is_json_at_its_end() -> None:
    encoder = gemini.encoder(ARRAY)

    first = encoder.encode(TEXT)
    second = encoder.encode([c.BlockStart(1, c.Text(text="!")), c.BlockStop(1)])
    whole = first + second + encoder.end()

    assert orjson.loads(first + b"]")
    assert second.startswith(b",\n{")
    assert golden.parts_of(orjson.loads(whole)) == [{"text": "Hi"}, {"text": "!"}]
    assert orjson.loads(whole)[-1]["candidates"][0]["finishReason"] == "STOP"


def test_a_cut_array_is_json_with_the_error_last() -> None:
    encoder = gemini.encoder(ARRAY)

    whole = encoder.encode(TEXT) + encoder.fail(UpstreamFailed("It broke."))

    assert orjson.loads(whole)[-1]["error"]["message"] == "It broke."
    assert orjson.loads(gemini.encoder(ARRAY).fail(UpstreamFailed("x")))[0]["error"]["code"] == 502


def test_no_reader_of_lines_finds_an_end_within_a_text() -> None:
    text = "a\u2028b\u2029c\u0085d\u2014e"
    events: list[c.Event] = [c.BlockStart(0, c.Text(text="")), c.TextDelta(0, text)]

    out = gemini.encoder(golden.ANSWER).encode(events)

    assert len(out.decode().splitlines()) == 2
    assert golden.parts_of(golden.parsed(out)) == [{"text": text}]


def test_logprobs_have_googles_names() -> None:
    tokens = [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -2}]}]
    events: list[c.Event] = [c.BlockStart(0, c.Text(text="")), c.TextDelta(0, "Hi", tokens)]

    candidate = payloads([*events, c.BlockStop(0)])[-1]["candidates"][0]

    assert candidate["avgLogprobs"] == -0.5
    assert candidate["logprobsResult"] == {
        "chosenCandidates": [{"token": "Hi", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "Ho", "logProbability": -2}]}],
    }


# Decoding what is odd.


def test_odd_frames_are_tolerated() -> None:
    decoder = gemini.decoder()
    frames: list[Any] = [
        {"candidates": []},
        {"candidates": None, "usageMetadata": None},
        {"candidates": [{"index": 0}]},
        {"candidates": [{"index": 0, "content": {"role": "model"}}]},
        {"candidates": [{"content": {"parts": [None, {}, {"text": ""}, {"text": "a"}]}}]},
        {"candidates": [{"index": 1, "content": {"parts": [{"text": "other answer"}]}}]},
        {"candidates": [{"finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"text": "late"}]}, "finishReason": "STOP"}]},
        {"usageMetadata": {"promptTokenCount": -5, "candidatesTokenCount": 2**40}},
    ]
    events = [event for one in frames for event in decoder.feed(golden.frame(one))]
    events += decoder.feed(Frame(None, b"[DONE]")) + decoder.feed(Frame(None, b""))

    texts = [event.text for event in events if isinstance(event, c.TextDelta)]
    assert texts == ["a"]
    assert sum(isinstance(event, c.Stop) for event in events) == 1
    assert decoder.usage == c.Usage(input_tokens=0, output_tokens=2**31 - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"candidates": {}}',
        b'{"candidates": [{"content": {"parts": "x"}}]}',
        b'{"candidates": [{"content": {"parts": [{"text": 1}]}}]}',
        b'{"candidates": [{"content": {"parts": [{"functionCall": []}]}}]}',
        b'{"candidates": [{"finishReason": 3}]}',
    ],
)
def test_nonsense_is_the_upstreams_failure(data: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        gemini.decoder().feed(Frame(None, data))


def test_an_error_inside_a_stream_is_a_failure() -> None:
    error = {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}

    assert gemini.decoder().feed(golden.frame(error)) == [
        c.Failure(429, "RESOURCE_EXHAUSTED", "Slow down.")
    ]
    assert gemini.decode_body({"error": {"code": 401, "message": "no"}}) == [
        c.Failure(502, "upstream_error", "no")
    ]
    with pytest.raises(UpstreamFailed):
        gemini.decode_body({"hello": 1})


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    payload = orjson.loads(draw(st.sampled_from(golden.stream(draw(st.sampled_from(ALL))))).data)
    odd = st.sampled_from([None, True, -1, 2**63, 1.5, "x", [], {}, [None], [[]], {"text": []}])
    node: Any = payload
    while node:
        key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[key], dict | list) and draw(st.booleans()):
            node = node[key]
        else:
            node[key] = draw(odd)
            break
    return payload


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_odd_answers_are_read_or_the_upstreams_failure(payload: Any) -> None:
    decoder, encoder = gemini.decoder(), gemini.encoder(golden.ANSWER)
    with contextlib.suppress(UpstreamFailed):
        golden.parsed(encoder.encode(decoder.feed(golden.frame(payload))))
    with contextlib.suppress(UpstreamFailed):
        gemini.tap(golden.ANSWER).feed(golden.frame(payload))
    with contextlib.suppress(UpstreamFailed):
        gemini.decode_body(payload)
    gemini.repair_body(payload, golden.ANSWER)


# Errors.


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (402, "FAILED_PRECONDITION"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_an_error_has_googles_status(status: int, word: str) -> None:
    body = gemini.error_body(GatewayError("No.", status=status), "req_1")

    assert body == {"error": {"code": status, "message": "No.", "status": word}}


def test_a_limit_says_when_to_come_back() -> None:
    body = gemini.error_body(RateLimited("Slow down.", retry_after_s=2.2), "req_1")

    assert body["error"]["details"] == [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}
    ]


def test_an_overflow_is_told_in_googles_words() -> None:
    error = ContextOverflow("prompt is too long", tokens=300, limit=200)

    message = gemini.error_body(error, "req_1")["error"]["message"]

    assert message == (
        "The input token count (300) exceeds the maximum number of tokens allowed (200)."
    )


# Passthrough.


@pytest.mark.parametrize("name", ALL)
def test_a_tap_passes_frames_and_reads_them(name: str) -> None:
    tap = gemini.tap(golden.ANSWER)
    frames = golden.stream(name)

    out = b"".join(tap.feed(frame) for frame in [*frames, Frame(None, b"[DONE]")]) + tap.end()

    assert golden.parsed(out) == [orjson.loads(frame.data) for frame in frames]
    assert tap.finished
    assert tap.usage is not None
    assert tap.stop_reason is not None


def test_a_tap_tells_an_error_once() -> None:
    tap = gemini.tap(golden.ANSWER)
    frame = golden.frame({"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}})

    out = tap.feed(frame)

    assert golden.parsed(out)[0]["error"]["message"] == "Busy."
    assert tap.failure is not None
    assert tap.fail(UpstreamFailed("again")) == b""


# Translations.


@pytest.mark.parametrize("source", ["chat_completions", "messages", "responses"])
def test_an_answer_reaches_every_other_format(source: str) -> None:
    answer = Answer(id="01Ab", created=1, model="m")
    frames = golden.stream("clean-thinking-and-tools.sse")
    decoder, encoder = gemini.decoder(), FORMATS[source].encoder(answer)

    out = b"".join(encoder.encode(decoder.feed(frame)) for frame in frames) + encoder.end()

    assert b"Looking." in out
    assert b"toolu_2" in out


def test_the_chat_legs_gemini_call_carries_its_reasoning() -> None:
    chunk = {
        "id": "c1",
        "choices": [
            {
                "index": 0,
                "delta": {
                    "reasoning_opaque": "b3BhcXVl",
                    "tool_calls": [
                        {"index": 0, "id": i, "function": {"name": "f", "arguments": "{}"}}
                        for i in ("t1", "t2")
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
    }
    decoder, encoder = FORMATS["chat_completions"].decoder(), gemini.encoder(golden.ANSWER)
    out = encoder.encode(decoder.feed(golden.frame(chunk))) + encoder.encode(decoder.close())

    first, second = golden.parts_of(golden.parsed(out + encoder.end()))

    assert first["functionCall"]["id"] == "t1"
    assert first["thoughtSignature"] == "cgw1.copilot_chat.b3BhcXVl"
    assert second == {"functionCall": {"id": "t2", "name": "f", "args": {}}}
