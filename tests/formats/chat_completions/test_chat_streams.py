"""Answers in this format: decoded from every dialect, encoded in the clean one."""

import orjson
import pytest

from proxy.errors import UpstreamFailed
from proxy.formats import chat_completions as chat
from proxy.formats.canonical import (
    AnnotationDelta,
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Failure,
    Foreign,
    Opaque,
    OpaqueDelta,
    Start,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ToolUse,
    Usage,
    UsageReport,
)
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame
from tests.formats.chat_completions.chat_golden import (
    ANSWER,
    ASKING,
    check_order,
    decode,
    delta,
    encode,
    frame,
    frames,
    joined,
    load,
    names,
    parsed,
    read_by_sdk,
    said,
    sdk,
    stream,
)

SEALED = Opaque("copilot_chat", "Z2VtaW5p")


@pytest.mark.parametrize("name", names("clean-*.sse"))
def test_a_clean_stream_is_encoded_as_it_was_decoded(name):
    assert parsed(encode(decode(stream(name)))) == [
        f.data.decode() if f.data == b"[DONE]" else orjson.loads(f.data) for f in stream(name)
    ]


@pytest.mark.parametrize("name", names("*.sse"))
def test_events_come_in_order(name):
    check_order(decode(stream(name)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("azure-text.sse", ["Hi there", "end_turn"]),
        (
            "claude-tools.sse",
            [
                ("thinking", "I should look."),
                Opaque("copilot_chat", "RXJvQ"),
                "Looking it up.",
                ["tooluse_A", "look", '{"key": "a"}'],
                ["tooluse_B", "noop", "{}"],
                "tool_use",
            ],
        ),
        (
            "claude-split-choices.sse",
            ["Looking.", ["tooluse_A", "look", '{"key":"a"}'], "tool_use"],
        ),
        (
            "gemini-tool.sse",
            [
                ("thinking", "Thinking about it."),
                SEALED,
                ["call_G1", "look", '{"key":"a"}'],
                "tool_use",
            ],
        ),
        (
            "gemini-parallel-same-index.sse",
            [
                SEALED,
                ["call_G1", "look", '{"key":"a"}'],
                ["call_G2", "look", '{"key":"b"}'],
                "tool_use",
            ],
        ),
        (
            "interleaved-tools.sse",
            [["call_a", "look", '{"k":1}'], ["call_b", "look", '{"k":2}'], "tool_use"],
        ),
        ("late-text.sse", ["Hello", "end_turn"]),
        ("odd-nulls.sse", ["Hi", "end_turn"]),
        ("no-choices.sse", [(502, "upstream_error")]),
        ("prompt-blocked.sse", [(422, "content_filter")]),
        ("finish-error.sse", ["Hel", (502, "upstream_error")]),
        ("error-chunk.sse", ["Hel", (429, "rate_limited")]),
        ("copilot-errors.sse", [(502, "agent_failed")]),
    ],
)
def test_dialects(name, expected):
    assert said(decode(stream(name))) == expected


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("azure-text.sse", Usage(input_tokens=20, output_tokens=3, nano_aiu=321500)),
        (
            "claude-tools.sse",
            Usage(input_tokens=900, output_tokens=60, cache_read_tokens=700, nano_aiu=1500000),
        ),
        (
            "gemini-tool.sse",
            # Its thoughts are counted beside the completion.
            Usage(input_tokens=300, output_tokens=52, cache_read_tokens=50, reasoning_tokens=40),
        ),
        ("odd-nulls.sse", Usage(input_tokens=0, output_tokens=2**31 - 1)),
        ("interleaved-tools.sse", None),
        ("gemini-parallel-same-index.sse", None),
    ],
)
def test_usage_is_read_wherever_it_stands(name, usage):
    decoder = chat.decoder()
    events = [event for one in stream(name) for event in decoder.feed(one)] + decoder.close()
    assert decoder.usage == usage
    reports = [event.usage for event in events if isinstance(event, UsageReport)]
    assert reports == ([usage] if usage else [])


def test_text_is_not_held_back():
    decoder = chat.decoder()
    assert decoder.feed(delta({"content": "Hi"})) == [
        Start("x", ""),
        BlockStart(0, Text(text="")),
        TextDelta(0, "Hi"),
    ]
    assert decoder.feed(delta({"content": " you"})) == [TextDelta(0, " you")]
    assert not decoder.finished


def test_a_call_is_passed_on_as_it_grows_and_the_next_when_it_is_whole():
    decoder = chat.decoder()
    head = {"index": 0, "id": "a", "function": {"name": "x", "arguments": ""}}
    decoder.feed(delta({"tool_calls": [head]}))
    piece = {"index": 0, "function": {"arguments": '{"k":'}}
    assert decoder.feed(delta({"tool_calls": [piece]})) == [ArgumentsDelta(0, '{"k":')]
    other = {"index": 1, "id": "b", "function": {"name": "y", "arguments": "{"}}
    assert decoder.feed(delta({"tool_calls": [other]})) == []
    rest = {"index": 0, "function": {"arguments": "1}"}}
    assert decoder.feed(delta({"tool_calls": [rest]})) == [
        ArgumentsDelta(0, "1}"),
        BlockStop(0),
        BlockStart(1, ToolUse(id="b", name="y")),
        ArgumentsDelta(1, "{"),
    ]


def test_text_between_unfinished_arguments_waits():
    events = decode(
        [
            delta({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x"}}]}),
            delta({"content": "by the way", "tool_calls": None}),
            delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"k":1}'}}]}),
            delta({}, "tool_calls"),
        ]
    )
    check_order(events)
    assert said(events) == [["a", "x", '{"k":1}'], "by the way", "tool_use"]


def test_a_call_without_id_gets_one():
    events = decode([delta({"tool_calls": [{"index": 0, "function": {"name": "x"}}]}, "stop")])
    assert said(events) == [["call_x_0", "x", "{}"], "tool_use"]


def test_reasoning_said_under_two_names_is_not_doubled():
    both = {"reasoning_text": "hm", "reasoning_content": "hm"}
    assert said(decode([delta(both), delta({"content": "a"}, "stop")]))[0] == ("thinking", "hm")


def test_a_seal_in_the_midst_of_text_does_not_split_it():
    events = decode(
        [
            delta({"content": "Hel"}),
            delta({"reasoning_opaque": "s"}),
            delta({"content": "lo", "reasoning_opaque": "s"}),
            delta({}, "stop"),
        ]
    )
    assert said(events) == ["Hello", Opaque("copilot_chat", "s"), "end_turn"]


def test_a_refusal_is_its_own_kind_of_text():
    events = decode(stream("clean-refusal.sse"))
    assert BlockStart(0, Text(text="", refusal=True)) in events
    assert events[-1] == Stop("refusal")


def test_legacy_function_calls_are_calls():
    events = decode(
        [
            delta({"function_call": {"name": "x", "arguments": ""}}),
            delta({"function_call": {"arguments": "{}"}}),
            delta({}, "function_call"),
        ]
    )
    assert said(events) == [["call_x_0", "x", "{}"], "tool_use"]


def test_a_finish_reason_ends_a_stream_without_done():
    decoder = chat.decoder()
    decoder.feed(delta({"content": "Hi"}))
    decoder.feed(delta({}, "stop"))
    assert decoder.finished
    assert decoder.close()[-1] == Stop("end_turn")
    assert decoder.close() == []


def test_a_cut_stream_has_no_ending():
    decoder = chat.decoder()
    decoder.feed(delta({"content": "Hi"}))
    assert decoder.close() == []
    assert not decoder.finished


def test_done_ends_an_answer_without_finish_reason_but_not_no_answer():
    assert said(decode([delta({"content": "Hi"}), Frame(None, b"[DONE]")])) == ["Hi", "end_turn"]
    assert said(decode([Frame(None, b"[DONE]")])) == [(502, "upstream_error")]


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"<html>",
        b"[1]",
        b"3",
        b'{"choices": 3}',
        b'{"choices": ["x"]}',
        b'{"choices": [{"delta": "x"}]}',
        b'{"choices": [{"delta": {"content": 3}}]}',
        b'{"choices": [{"delta": {"tool_calls": {"a": 1}}}]}',
        b'{"choices": [{"delta": {"tool_calls": ["x"]}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}',
        b'{"choices": [{"finish_reason": {"a": 1}}]}',
    ],
)
def test_nonsense_is_the_upstreams_failure(data):
    with pytest.raises(UpstreamFailed):
        chat.decoder().feed(Frame(None, data))
    if data[:1] == b"{":
        with pytest.raises(UpstreamFailed):
            chat.tap(ANSWER).feed(Frame(None, data))


def test_invalid_utf_8_becomes_a_replacement_character():
    data = b'{"choices": [{"delta": {"content": "a\xffb"}}]}'
    assert TextDelta(0, "a\ufffdb") in chat.decoder().feed(Frame(None, data))


def test_a_token_in_an_upstream_error_is_not_passed_on():
    failure = decode(stream("error-chunk.sse"))[-1]
    assert isinstance(failure, Failure)
    assert "ghu_abc123" not in failure.message


# Encoding


def test_the_role_comes_first_and_the_ending_once():
    encoder = chat.encoder(ANSWER)
    assert parsed(encoder.encode([Start("up", "up-model")])) == [
        {
            "id": "chatcmpl-ab12",
            "object": "chat.completion.chunk",
            "created": 1795000000,
            "model": "gpt-4.1",
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": ""},
                    "finish_reason": None,
                }
            ],
        }
    ]
    ending = encoder.end()
    assert ending.count(b"[DONE]") == 1
    assert encoder.end() == b""
    assert encoder.encode([TextDelta(0, "late")]) == b""


def test_usage_is_for_those_who_asked():
    events = [Start("x", ""), UsageReport(Usage(input_tokens=3)), Stop("end_turn")]
    assert b'"usage"' not in encode(events, ANSWER)
    last = parsed(encode(events, ASKING))[-2]
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 3


def test_failing_says_so_and_never_done():
    encoder = chat.encoder(ASKING)
    encoder.encode([Start("x", ""), BlockStart(0, Text(text="")), TextDelta(0, "Hi")])
    data = encoder.fail(UpstreamFailed("The upstream went away."))
    assert parsed(data) == [
        {
            "error": {
                "message": "The upstream went away.",
                "type": "server_error",
                "param": None,
                "code": "upstream_error",
            }
        }
    ]
    assert encoder.end() == b""
    assert encoder.fail(UpstreamFailed("again")) == b""


def test_a_failure_event_is_the_error_frame():
    encoder = chat.encoder(ASKING)
    data = encoder.encode([Failure(429, "rate_limited", "Slow down.")])
    assert parsed(data)[0]["error"]["type"] == "rate_limit_error"
    assert encoder.fail(UpstreamFailed("again")) == b""


def test_a_call_without_arguments_gets_an_empty_object():
    call = BlockStart(0, ToolUse(id="a", name="x"))
    events = [Start("x", ""), call, BlockStop(0), Stop("tool_use")]
    assert read_by_sdk(encode(events)).choices[0].message.tool_calls[0].function.arguments == "{}"
    whole = chat.encode_body(events, ANSWER)["choices"][0]
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert whole["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("context_overflow", "length"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),
    ],
)
def test_stop_reasons(reason, word):
    events = [Start("x", ""), Stop(reason)]
    assert parsed(encode(events))[-2]["choices"][0]["finish_reason"] == word
    assert chat.encode_body(events, ANSWER)["choices"][0]["finish_reason"] == word


def _reasoned(*opaques):
    events = [Start("x", "")]
    for i, opaque in enumerate(opaques):
        events += [BlockStart(i, Thinking()), OpaqueDelta(i, opaque), BlockStop(i)]
    return [*events, Stop("end_turn")]


def test_another_familys_seal_is_wrapped_and_comes_back():
    events = _reasoned(Opaque("anthropic", "sig"))
    chunks = parsed(encode(events))
    assert chunks[-3]["choices"][0]["delta"] == {"reasoning_opaque": "cgw1.anthropic.sig"}
    message = chat.encode_body(events, ANSWER)["choices"][0]["message"]
    body = {"model": "m", "messages": [message]}
    assert chat.parse_request(body).messages[0].blocks[0].opaque == Opaque("anthropic", "sig")


def test_several_seals_have_no_place():
    events = _reasoned(Opaque("anthropic", "a"), Opaque("anthropic", "b"))
    assert b"reasoning_opaque" not in encode(events)
    assert "reasoning_opaque" not in chat.encode_body(events, ANSWER)["choices"][0]["message"]


def test_what_a_vendor_ran_is_left_out():
    events = [
        Start("x", ""),
        BlockStart(0, Foreign(family="anthropic", kind="server_tool_use", value={})),
        ArgumentsDelta(0, "{}"),
        BlockStop(0),
        BlockStart(1, Text(text="")),
        TextDelta(1, "found"),
        BlockStop(1),
        Stop("end_turn"),
    ]
    assert read_by_sdk(encode(events)).choices[0].message.content == "found"
    assert chat.encode_body(events, ANSWER)["choices"][0]["message"]["content"] == "found"


def test_url_citations_are_sent_once():
    flat = {"type": "url_citation", "url": "https://a.test", "start_index": 0, "end_index": 1}
    events = [
        Start("x", ""),
        BlockStart(0, Text(text="")),
        TextDelta(0, "a"),
        AnnotationDelta(0, flat),
        AnnotationDelta(0, {"type": "file_citation"}),
        AnnotationDelta(0, flat),
        BlockStop(0),
        Stop("end_turn"),
    ]
    annotations = read_by_sdk(encode(events)).choices[0].message.annotations
    assert [a.url_citation.url for a in annotations] == ["https://a.test", "https://a.test"]


@pytest.mark.parametrize("name", ["clean-text.sse", "clean-reasoning-and-tools.sse"])
def test_the_official_client_reads_the_stream(name):
    completion = read_by_sdk(encode(decode(stream(name))))
    whole = chat.encode_body(decode(stream(name)), ANSWER)
    message = whole["choices"][0]["message"]
    assert completion.choices[0].message.content == message["content"]
    assert completion.choices[0].finish_reason == whole["choices"][0]["finish_reason"]
    assert [
        (call.id, call.function.arguments)
        for call in completion.choices[0].message.tool_calls or []
    ] == [(c["id"], c["function"]["arguments"]) for c in message.get("tool_calls", [])]
    assert completion.usage.total_tokens == whole["usage"]["total_tokens"]


# Whole bodies


def test_a_whole_answer_is_encoded_as_it_was_decoded():
    body = load("answer-clean.json")
    assert chat.encode_body(chat.decode_body(body), ANSWER) == body
    assert (
        chat.encode_body(decode(stream("clean-reasoning-and-tools.sse")), ANSWER)["usage"]
        == (body["usage"])
    )


@pytest.mark.parametrize(
    ("body", "streamed"),
    [
        ("answer-claude-split.json", "claude-split-choices.sse"),
        ("answer-gemini.json", "gemini-tool.sse"),
    ],
)
def test_streaming_and_not_streaming_agree(body, streamed):
    assert said(chat.decode_body(load(body))) == said(decode(stream(streamed)))


@pytest.mark.parametrize("name", names("answer-*.json"))
def test_a_whole_answer_survives_being_streamed(name):
    events = chat.decode_body(load(name))
    check_order(events)
    again = decode(frames(encode(events)))
    assert chat.encode_body(again, ANSWER) == chat.encode_body(joined(events), ANSWER)


@pytest.mark.parametrize("name", names("answer-*.json"))
def test_the_official_client_reads_the_whole_answer(name):
    body = chat.encode_body(chat.decode_body(load(name)), ANSWER)
    client = sdk(orjson.dumps(body), "application/json")
    completion = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}]
    )
    assert completion.choices[0].finish_reason == body["choices"][0]["finish_reason"]


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({"error": {"message": "No.", "code": "quota_exceeded"}}, (402, "quota_exceeded")),
        ({"error": "No."}, (502, "upstream_error")),
        ({"error": {"message": "No.", "code": 503}}, (503, "upstream_error")),
        ({"choices": []}, (502, "upstream_error")),
        ({}, (502, "upstream_error")),
    ],
)
def test_an_error_in_a_good_answer_is_a_failure(body, failure):
    assert said(chat.decode_body(body)) == [failure]


def test_an_empty_answer_is_an_empty_string():
    body = {"choices": [{"message": {"role": "assistant", "content": None}}]}
    answer = chat.encode_body(chat.decode_body(body), Answer(id="a", created=1, model="m"))
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_frame_of_any_json_object_is_tolerated():
    assert chat.decoder().feed(frame({"something": "else"})) == []
