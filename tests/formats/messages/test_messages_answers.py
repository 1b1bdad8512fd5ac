"""Whole Messages answers, and errors in Anthropic's words."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import errors
from proxy.formats import FORMATS, messages
from proxy.formats import canonical as c
from tests.formats.messages import messages_golden as golden

BODY = "body-thinking-and-tools.json"


def test_a_whole_answer_has_the_events_of_its_stream() -> None:
    streamed = golden.joined(golden.decode(golden.stream("clean-thinking-and-tools.sse")))

    whole = golden.joined(messages.decode_body(golden.load(BODY)))

    # The stream gives the arguments as the model wrote them, the body as JSON.
    for events in (streamed, whole):
        for i, event in enumerate(events):
            if isinstance(event, c.ArgumentsDelta):
                events[i] = c.ArgumentsDelta(event.index, event.json.replace(" ", ""))
    assert whole == streamed


def test_a_collected_stream_is_the_whole_answer() -> None:
    events = golden.decode(golden.stream("clean-thinking-and-tools.sse"))

    assert messages.encode_body(events, golden.ANSWER) == golden.load(BODY)


def test_a_whole_answer_is_written_as_it_was_read() -> None:
    body = golden.load(BODY)

    assert messages.encode_body(messages.decode_body(body), golden.ANSWER) == body


def test_the_server_tools_input_is_collected_too() -> None:
    events = golden.decode(golden.stream("clean-server-tool-and-citations.sse"))

    content = messages.encode_body(events, golden.ANSWER)["content"]

    assert content[0]["input"] == {"query": "x"}
    assert content[2]["citations"][0]["encrypted_index"] == "i"


def test_broken_arguments_still_make_an_object() -> None:
    events: list[c.Event] = [
        c.BlockStart(0, c.ToolUse(id="t", name="n")),
        c.ArgumentsDelta(0, '{"a": '),
        c.BlockStop(0),
    ]

    assert messages.encode_body(events, golden.ANSWER)["content"][0]["input"] == {
        "arguments": '{"a": '
    }


def test_the_price_of_a_whole_answer_is_read() -> None:
    body = {**golden.load(BODY), "copilot_usage": {"total_nano_aiu": 77}}

    reports = [e for e in messages.decode_body(body) if isinstance(e, c.UsageReport)]

    assert reports[-1].usage.nano_aiu == 77
    assert reports[-1].usage.input_tokens == 94 + 62104 + 1366


def test_an_error_in_a_200_body_is_a_failure() -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}

    assert messages.decode_body(body) == [c.Failure(529, "overloaded_error", "Busy")]
    assert messages.decode_body({"error": {"message": "x"}}) == [c.Failure(502, "api_error", "x")]
    with pytest.raises(errors.UpstreamFailed) as caught:
        messages.encode_body([c.Failure(529, "overloaded_error", "Busy")], golden.ANSWER)
    assert caught.value.status == 529


@pytest.mark.parametrize("body", [{}, {"content": "hi"}, {"choices": []}, {"content": [1]}])
def test_what_is_no_message_fails(body: dict[str, Any]) -> None:
    with pytest.raises(errors.UpstreamFailed):
        messages.decode_body(body)


def test_null_content_is_an_empty_answer() -> None:
    events = messages.decode_body({"type": "message", "content": None})

    assert events == [c.Start("", ""), c.Stop("end_turn")]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_answer_is_read_or_fails_but_never_breaks(data: Any) -> None:
    body = golden.load(BODY)
    junk = st.sampled_from([None, True, -1, 2**63, "x", [], {}, [None], [{"type": "text"}]])
    for _ in range(data.draw(st.integers(1, 3))):
        holders = [body, *(b for b in body.get("content") or [] if isinstance(b, dict))]
        holder = data.draw(st.sampled_from([h for h in holders if h] or [{"x": 1}]))
        key = data.draw(st.sampled_from(sorted(holder)))
        holder[key] = copy.deepcopy(data.draw(junk))
        if not isinstance(body.get("content"), list):
            break
    with contextlib.suppress(errors.UpstreamFailed):
        events = messages.decode_body(body)
        if not isinstance(events[0], c.Failure):
            assert messages.encode_body(events, golden.ANSWER)["type"] == "message"
    messages.repair_body(body, golden.ANSWER)


def test_a_good_body_is_left_alone() -> None:
    body = golden.load(BODY)

    assert messages.repair_body(body, golden.ANSWER) == golden.load(BODY)


def test_a_bare_body_gets_what_the_sdks_demand() -> None:
    bare = {"content": [{"type": "text", "text": "Hi"}], "extra": 1}

    repaired = messages.repair_body(bare, golden.ANSWER)

    assert repaired == {
        "id": "msg_01Ab",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
        },
        "extra": 1,
    }
    assert bare == {"content": [{"type": "text", "text": "Hi"}], "extra": 1}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_body_has_the_type_of_its_status(status: int, kind: str) -> None:
    error = errors.GatewayError("No.", status=status)

    assert messages.error_body(error, "req_1") == {
        "type": "error",
        "error": {"type": kind, "message": "No."},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.ContextOverflow("Too much.", tokens=1051542, limit=1000000),
            "prompt is too long: 1051542 tokens > 1000000 maximum",
        ),
        (
            errors.ContextOverflow("Your input exceeds the context window of this model."),
            "prompt is too long: Your input exceeds the context window of this model.",
        ),
        (
            errors.ContextOverflow("prompt is too long: 9 tokens > 8 maximum"),
            "prompt is too long: 9 tokens > 8 maximum",
        ),
    ],
)
def test_an_overflow_begins_as_claude_code_expects(
    error: errors.ContextOverflow, message: str
) -> None:
    body = messages.error_body(error, "r")

    assert body["error"] == {"type": "invalid_request_error", "message": message}


def test_the_format_is_registered() -> None:
    assert FORMATS["messages"] is messages
    assert messages.FAMILY == "anthropic"
    assert {loss.kind for loss in messages.LOSSES} == {"knob", "content", "shape"}
