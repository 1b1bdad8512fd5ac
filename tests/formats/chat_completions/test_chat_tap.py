"""Passthrough: the upstream's chunks and bodies, repaired where a client would stumble."""

import orjson
import pytest

from proxy.errors import ContextOverflow, GatewayError, RateLimited, UpstreamFailed
from proxy.formats import chat_completions as chat
from proxy.formats.canonical import Usage
from proxy.formats.contract import Answer
from proxy.formats.sse import Frame, Parser
from tests.formats.chat_completions.chat_golden import (
    ANSWER,
    ASKING,
    delta,
    frame,
    load,
    names,
    parsed,
    read_by_sdk,
    said,
    sdk,
    stream,
    tapped,
)

DONE = Frame(None, b"[DONE]")
GOOD = [
    "azure-text.sse",
    "claude-tools.sse",
    "claude-split-choices.sse",
    "gemini-tool.sse",
    "gemini-parallel-same-index.sse",
    "interleaved-tools.sse",
    "late-text.sse",
    "odd-nulls.sse",
]


@pytest.mark.parametrize("name", names("clean-*.sse"))
def test_a_clean_stream_passes_unchanged(name):
    data, tap = tapped(stream(name))
    assert parsed(data) == [
        f.data.decode() if f.data == b"[DONE]" else orjson.loads(f.data) for f in stream(name)
    ]
    assert tap.finished
    assert tap.failure is None


def test_ordinary_chunks_pass_as_the_bytes_they_are():
    tap = chat.tap(ASKING)
    frames = stream("clean-text.sse")
    tap.feed(frames[0])
    spaced = frames[1].data.replace(b'","object', b'" , "object')
    assert tap.feed(Frame(None, spaced)) == b"data: " + spaced + b"\n\n"


@pytest.mark.parametrize("name", GOOD)
def test_every_dialect_becomes_one_clean_answer(name):
    data, tap = tapped(stream(name))
    chunks = parsed(data)
    assert chunks[-1] == "[DONE]"
    assert chunks.count("[DONE]") == 1
    bodies = chunks[:-1]
    assert len({(b["id"], b["created"], b["model"]) for b in bodies}) == 1
    assert all(b["object"] == "chat.completion.chunk" and b["id"] and b["created"] for b in bodies)
    choices = [choice for b in bodies for choice in b["choices"]]
    assert all(choice["index"] == 0 for choice in choices)
    assert sum(choice["finish_reason"] is not None for choice in choices) == 1
    assert [c["delta"].get("role") for c in choices if "role" in c["delta"]] == ["assistant"]
    assert [b for b in bodies if not b["choices"]] == [b for b in bodies if b.get("usage")]
    assert tap.failure is None


@pytest.mark.parametrize("name", GOOD)
def test_the_official_client_adds_up_what_the_decoder_reads(name):
    data, _ = tapped(stream(name))
    choice = read_by_sdk(data).choices[0]
    blocks = said([e for f in [stream(name)] for e in _decode(f)])
    calls = [block for block in blocks if isinstance(block, list)]
    text = "".join(block for block in blocks[:-1] if isinstance(block, str))
    assert (choice.message.content or "") == text
    assert [
        [call.id, call.function.name, call.function.arguments]
        for call in choice.message.tool_calls or []
    ] == calls
    assert choice.finish_reason == ("tool_calls" if calls else "stop")


def _decode(frames):
    decoder = chat.decoder()
    return [event for one in frames for event in decoder.feed(one)] + decoder.close()


def test_azure_says_its_usage_and_model():
    data, tap = tapped(stream("azure-text.sse"))
    assert tap.model == "gpt-5-mini"
    assert tap.stop_reason == "stop"
    assert tap.usage == Usage(input_tokens=20, output_tokens=3, nano_aiu=321500)
    assert parsed(data)[-2]["usage"]["completion_tokens_details"]["audio_tokens"] == 0
    assert b"prompt_filter_results" not in data
    assert b"content_filter_offsets" in data


@pytest.mark.parametrize("name", ["azure-text.sse", "claude-tools.sse", "gemini-tool.sse"])
def test_usage_is_read_but_not_told_to_those_who_did_not_ask(name):
    data, tap = tapped(stream(name), ANSWER)
    assert b'"usage":{' not in data
    assert tap.usage is not None
    assert parsed(data)[-1] == "[DONE]"


def test_reasoning_is_shown_under_the_name_that_clients_know():
    message = read_by_sdk(tapped(stream("claude-tools.sse"))[0]).choices[0].message
    assert message.reasoning_content == message.reasoning_text == "I should look."
    assert message.reasoning_opaque == "RXJvQ"


def test_text_reaches_the_client_before_the_end():
    tap = chat.tap(ANSWER)
    assert b'"content":"Hi"' in tap.feed(delta({"content": "Hi"}))
    assert not tap.finished


def test_text_in_the_finish_chunk_is_kept():
    data, tap = tapped([delta({"role": "assistant", "content": "Hi"}, "stop")])
    assert tap.finished
    assert read_by_sdk(data).choices[0].message.content == "Hi"
    assert parsed(data)[-2]["choices"][0]["finish_reason"] == "stop"


def test_an_answer_without_words_still_says_its_role():
    data, _ = tapped([delta({"role": "assistant"}, "stop"), DONE])
    assert parsed(data)[0]["choices"][0]["delta"]["role"] == "assistant"


def test_several_choices_that_were_asked_for_stay_apart():
    frames = [
        frame({"id": "x", "choices": [{"index": i, "delta": {"content": str(i)}}]}) for i in (0, 1)
    ]
    ends = [
        frame({"id": "x", "choices": [{"index": i, "delta": {}, "finish_reason": "stop"}]})
        for i in (0, 1)
    ]
    tap = chat.tap(Answer(id="a", created=1, model="m", request={"n": 2}))
    data = b"".join([tap.feed(one) for one in [*frames, ends[0]]])
    assert not tap.finished
    data += tap.feed(ends[1])
    assert tap.finished
    data += tap.end()
    choices = [choice for chunk in parsed(data)[:-1] for choice in chunk["choices"]]
    assert [(c["index"], c["finish_reason"]) for c in choices] == [
        (0, None),
        (1, None),
        (0, "stop"),
        (1, "stop"),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("no-choices.sse", "server_error", "upstream_error"),
        ("prompt-blocked.sse", "invalid_request_error", "content_filter"),
        ("finish-error.sse", "server_error", "upstream_error"),
        ("error-chunk.sse", "rate_limit_error", "rate_limited"),
        ("copilot-errors.sse", "server_error", "agent_failed"),
    ],
)
def test_a_failure_in_the_stream_is_an_error_frame_and_no_end(name, kind, code):
    data, tap = tapped(stream(name))
    error = parsed(data)[-1]["error"]
    assert (error["type"], error["code"]) == (kind, code)
    assert isinstance(tap.failure, GatewayError)
    assert b"[DONE]" not in data
    assert b"ghu_" not in data
    assert b'"finish_reason":"' not in data
    assert tap.end() == b""


def test_failing_ends_a_cut_stream():
    tap = chat.tap(ASKING)
    tap.feed(delta({"content": "Hi"}))
    assert not tap.finished
    assert b'"error"' in tap.fail(UpstreamFailed("The upstream went away."))
    assert tap.fail(UpstreamFailed("again")) == tap.end() == tap.feed(DONE) == b""


def test_broken_json_is_not_passed_on():
    with pytest.raises(UpstreamFailed):
        chat.tap(ANSWER).feed(Frame(None, b'{"choices": [{"delta": {"content": "Hi'))


# Whole bodies


@pytest.mark.parametrize("name", names("answer-*.json"))
def test_a_repaired_body_is_what_the_official_client_asks_for(name):
    given = load(name)
    body = chat.repair_body(given, ANSWER)
    assert given == load(name)
    assert [choice["index"] for choice in body["choices"]] == [0]
    assert body["object"] == "chat.completion"
    assert " " not in body["model"]
    assert body["choices"][0]["message"]["role"] == "assistant"
    client = sdk(orjson.dumps(body), "application/json")
    completion = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}]
    )
    assert said(chat.decode_body(body)) == said(chat.decode_body(given))
    assert completion.usage.total_tokens > 0


def test_split_choices_become_one():
    body = chat.repair_body(load("answer-claude-split.json"), ANSWER)
    choice = body["choices"][0]
    assert choice["message"]["content"] == "Looking."
    assert choice["message"]["tool_calls"][0]["id"] == "tooluse_A"
    assert choice["finish_reason"] == "tool_calls"
    assert body["model"] == "gpt-4.1"
    assert body["copilot_usage"] == {"total_nano_aiu": 1500000}


def test_a_clean_body_stays_as_it_is():
    assert chat.repair_body(load("answer-clean.json"), ANSWER) == {
        **load("answer-clean.json"),
        "choices": [
            {
                "index": 0,
                "message": {
                    key: value
                    for key, value in load("answer-clean.json")["choices"][0]["message"].items()
                    if value is not None
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
    }


def test_choices_that_were_asked_for_are_not_merged():
    message = {"role": "assistant", "content": "a"}
    body = {"choices": [{"message": message}, {"message": message}]}
    answer = Answer(id="a", created=1, model="m", request={"n": 2})
    choices = chat.repair_body(body, answer)["choices"]
    assert [(c["index"], c["finish_reason"]) for c in choices] == [(0, "stop"), (1, "stop")]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"error": {"message": "x", "code": "user_model_rate_limited"}}, RateLimited, 429),
        (
            {
                "error": {
                    "message": "prompt token count of 13613 exceeds the limit of 12288",
                    "code": "model_max_prompt_tokens_exceeded",
                }
            },
            ContextOverflow,
            400,
        ),
        ({"choices": None}, UpstreamFailed, 502),
        ({"choices": []}, UpstreamFailed, 502),
        ({"choices": 3}, UpstreamFailed, 502),
        ({"choices": ["x"]}, UpstreamFailed, 502),
        ({"choices": [{"message": {"tool_calls": [{"id": "a"}]}}]}, UpstreamFailed, 502),
        ({"choices": [{"message": {}, "finish_reason": "error"}]}, UpstreamFailed, 502),
    ],
)
def test_a_body_that_is_no_answer_is_an_error(body, kind, status):
    with pytest.raises(kind) as caught:
        chat.repair_body(body, ANSWER)
    assert caught.value.status == status


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def test_pieces_of_text_pass_unread_as_they_would_read() -> None:
    """What `passes` lets through is what `feed` would give for each event of it."""
    frames = stream("clean-text.sse")
    text = orjson.loads(frames[1].data)["choices"][0]["delta"]["content"]
    before, _, after = frames[1].data.partition(orjson.dumps(text))
    plain = [before + orjson.dumps(each) + after for each in ("a", " b c", "名", "", "x" * 5000)]
    odd = [
        before + b'"\\n"' + after,
        before + b'"\xff"' + after,
        before + b'"a\nb"' + after,
        before + b'"a" ' + after,
        frames[-2].data,
        b"[DONE]",
    ]
    chunks = [
        *[event(each) for each in (*plain, *odd)],
        b"".join(map(event, plain)),
        b"".join(map(event, [*plain, odd[0]])),
        event(plain[0])[:-1],
        event(plain[0]) + event(plain[1])[:-9],
        b": comment\n\n" + event(plain[0]),
        b"event: x\n" + event(plain[0]),
        b"",
    ]
    passed = []
    for chunk in chunks:
        tap, reader = chat.tap(ASKING), chat.tap(ASKING)
        for each in (tap, reader):
            each.feed(frames[0])
            each.feed(frames[1])
        events, size, head = tap.passes(chunk)
        passed.append(events)
        assert head == chunk[:size]
        assert b"".join(map(reader.feed, Parser().feed(head))) == head
        assert events == head.count(b"\n\n")
    assert passed[: len(plain)] == [1] * len(plain)
    assert not any(passed[len(plain) : len(plain) + len(odd)])
    assert passed[len(plain) + len(odd) :] == [len(plain), 0, 0, 1, 0, 0, 0]


def test_nothing_passes_unread_before_a_piece_is_known_or_after_the_end() -> None:
    frames = stream("clean-text.sse")
    tap = chat.tap(ASKING)
    assert not tap.passes(event(frames[1].data)).events
    for each in frames:
        tap.feed(each)
    assert not tap.passes(event(frames[1].data)).events
