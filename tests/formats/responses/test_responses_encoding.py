"""Answers as Responses clients read them, judged by the official SDK's own models."""

import openai
import pytest
from openai.types.responses import Response

from proxy.errors import (
    ContextOverflow,
    Forbidden,
    GatewayError,
    NotFound,
    PaymentRequired,
    RateLimited,
    Unauthorized,
    UpstreamFailed,
)
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
from tests.formats.responses.responses_golden import (
    EVENTS,
    answer,
    decode,
    encode,
    final_response,
    frames,
    opened_and_closed,
    payloads,
    sdk,
    streams,
)

START = Start("upstream", "claude-sonnet-4.6")
CALL = ToolUse(id="toolu_1", name="lookup")


def text(index: int, *pieces: str) -> list[Event]:
    deltas = [TextDelta(index, piece) for piece in pieces]
    return [BlockStart(index, Text(text="")), *deltas, BlockStop(index)]


def call(index: int, name: str, arguments: str, *, custom: bool = False) -> list[Event]:
    return [
        BlockStart(index, ToolUse(id=f"toolu_{index}", name=name, custom=custom)),
        ArgumentsDelta(index, arguments),
        BlockStop(index),
    ]


def failed_stream(*events: Event, error: GatewayError) -> bytes:
    encoder = responses.encoder(answer())
    return encoder.encode([START, *events]) + encoder.fail(error)


def types(data: bytes) -> list[str]:
    return [payload["type"] for payload in payloads(data)]


# The laws.


@pytest.mark.parametrize("name", streams())
def test_a_stream_is_written_again_as_it_came(name: str) -> None:
    data = streams()[name]

    assert payloads(encode(decode(data))) == payloads(data)


@pytest.mark.parametrize("name", streams())
def test_every_event_is_one_of_the_sdk(name: str) -> None:
    for number, frame in enumerate(frames(streams()[name])):
        event = EVENTS.validate_json(frame.data, strict=True)
        assert event.type.encode() == frame.event
        assert event.sequence_number == number


@pytest.mark.parametrize("name", streams())
def test_the_sdk_collects_the_stream(name: str) -> None:
    data = streams()[name]

    with sdk(data).responses.stream(model="m", input="hi") as stream:
        last = list(stream)[-1]

    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.id == "resp_0a1b2c"
    assert last.response.usage is not None
    assert last.response.usage.input_tokens == 1120
    assert last.response.usage.input_tokens_details.cached_tokens == 1000
    assert last.response.usage.output_tokens_details.reasoning_tokens == 16
    Response.model_validate(final_response(data), strict=True)


def test_the_sdk_reads_text_and_calls() -> None:
    data = streams()["stream_reasoning_and_calls"]

    with sdk(data).responses.stream(model="m", input="hi") as stream:
        final = stream.get_final_response()

    assert final.output_text == "Looking."
    assert [item.type for item in final.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]


def test_a_body_is_a_response_of_the_sdk() -> None:
    body = responses.encode_body(
        [START, *text(0, "Hi"), *call(1, "lookup", "{}"), Stop("tool_use")], answer()
    )

    read = Response.model_validate(body, strict=True)

    assert read.output_text == "Hi"
    assert read.status == "completed"
    assert (read.model, read.created_at) == ("gpt-5.5", 1795000000)
    assert read.instructions == "Be brief."
    assert [tool.type for tool in read.tools] == ["function", "custom"]


def test_the_events_of_an_answer_stand_in_order() -> None:
    data = encode([START, *text(0, "H", "i"), Stop("end_turn")])

    assert types(data) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert b"[DONE]" not in data


# What other families say.


@pytest.mark.parametrize(
    ("opaque", "redacted", "written"),
    [
        (Opaque("openai", "gAA"), False, "gAA"),
        (Opaque("anthropic", "EqQB"), False, "cgw1.anthropic.EqQB"),
        (Opaque("anthropic", "EqQB"), True, "cgw1.anthropic.redacted:EqQB"),
        (Opaque("copilot_chat", "x.y"), False, "cgw1.copilot_chat.x.y"),
    ],
)
def test_signatures_come_back_to_their_family(opaque: Opaque, redacted: bool, written: str) -> None:
    events: list[Event] = [
        START,
        BlockStart(0, Thinking(redacted=redacted)),
        *([] if redacted else [ThinkingDelta(0, "Hm.")]),
        OpaqueDelta(0, opaque),
        BlockStop(0),
        Stop("end_turn"),
    ]

    item = final_response(encode(events))["output"][0]

    assert item["encrypted_content"] == written
    replayed = responses.parse_request({"model": "m", "input": [item]}).messages[0].blocks[0]
    assert isinstance(replayed, Thinking)
    assert (replayed.opaque, replayed.redacted) == (opaque, redacted)
    assert replayed.text == ("" if redacted else "Hm.")


@pytest.mark.parametrize("late", [True, False])
def test_the_signature_of_a_call_travels_as_a_thought(late: bool) -> None:
    opaque = Opaque("copilot_chat", "sig")
    block = ToolUse(id="c", name="lookup", opaque=None if late else opaque)
    events: list[Event] = [
        START,
        BlockStart(0, block),
        ArgumentsDelta(0, "{}"),
        *([OpaqueDelta(0, opaque)] if late else []),
        BlockStop(0),
        Stop("tool_use"),
    ]

    output = final_response(encode(events))["output"]

    kinds = ["function_call", "reasoning"] if late else ["reasoning", "function_call"]
    assert [item["type"] for item in output] == kinds
    thought = next(item for item in output if item["type"] == "reasoning")
    assert thought["encrypted_content"] == "cgw1.copilot_chat.sig"


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ('{"input": "*** Begin\\n"}', "*** Begin\n"),
        ('{"patch": "x"}', "x"),
        ('"just text"', "just text"),
        ("*** raw", "*** raw"),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        ("", ""),
    ],
)
def test_a_custom_tool_called_as_a_function_gets_free_text(arguments: str, given: str) -> None:
    half = len(arguments) // 2
    events: list[Event] = [
        START,
        BlockStart(0, ToolUse(id="c", name="apply_patch")),
        ArgumentsDelta(0, arguments[:half]),
        ArgumentsDelta(0, arguments[half:]),
        BlockStop(0),
        Stop("tool_use"),
    ]

    data = encode(events)

    item = final_response(data)["output"][0]
    assert (item["type"], item["input"]) == ("custom_tool_call", given)
    deltas = [
        p["delta"] for p in payloads(data) if p["type"] == "response.custom_tool_call_input.delta"
    ]
    assert "".join(deltas) == given


def test_tools_of_a_namespace_are_called_as_the_client_knows_them() -> None:
    inner = {"type": "function", "name": "spawn", "parameters": {}}
    request = {
        "input": [{"type": "additional_tools", "tools": [{"type": "custom", "name": "exec"}]}],
        "tools": [{"type": "namespace", "name": "agents", "description": "d", "tools": [inner]}],
    }
    events = [
        START,
        *call(0, "agents__spawn", "{}"),
        *call(1, "exec", '{"input":"1"}'),
        Stop("tool_use"),
    ]

    output = final_response(encode(events, answer(request)))["output"]

    assert (output[0]["name"], output[0]["namespace"]) == ("spawn", "agents")
    assert (output[1]["type"], output[1]["input"]) == ("custom_tool_call", "1")


def test_citations_of_others_become_links_or_nothing() -> None:
    events: list[Event] = [
        START,
        BlockStart(0, Text(text="")),
        TextDelta(0, "See"),
        AnnotationDelta(0, {"type": "web_search_result_location", "url": "https://example.test"}),
        AnnotationDelta(0, {"type": "char_location", "document_index": 0}),
        BlockStop(0),
        Stop("end_turn"),
    ]

    data = encode(events)

    part = final_response(data)["output"][0]["content"][0]
    assert [note["url"] for note in part["annotations"]] == ["https://example.test"]
    for frame in frames(data):
        EVENTS.validate_json(frame.data, strict=True)


def test_a_block_of_another_family_leaves_no_gap() -> None:
    foreign = Foreign(family="anthropic", kind="server_tool_use", value={"id": "x"})
    events = [
        START,
        BlockStart(0, foreign),
        BlockStop(0),
        *text(1, "Hi"),
        *text(2),
        Stop("end_turn"),
    ]

    output = final_response(encode(events))["output"]

    assert [(item["type"], item["id"]) for item in output] == [("message", "msg_0a1b2c_0")]


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        (Stop("end_turn"), "completed", None),
        (Stop("stop_sequence", sequence="x"), "completed", None),
        (Stop("pause_turn"), "completed", None),
        (Stop("max_tokens"), "incomplete", "max_output_tokens"),
        (Stop("context_overflow"), "incomplete", "max_output_tokens"),
        (Stop("content_filter"), "incomplete", "content_filter"),
        (Stop("refusal"), "incomplete", "content_filter"),
        (Stop("max_tokens", details={"reason": "max_messages"}), "incomplete", "max_messages"),
    ],
)
def test_stop_reasons_have_their_status(stop: Stop, status: str, reason: str | None) -> None:
    data = encode([START, *text(0, "One"), *text(1, "Two"), stop])

    response = final_response(data)
    assert types(data)[-1] == f"response.{status}"
    assert response["status"] == status
    assert (response["incomplete_details"] or {}).get("reason") == reason
    assert [item["status"] for item in response["output"]] == ["completed", status]
    assert responses.encode_body(decode(data), answer())["status"] == status


def test_usage_is_there_even_when_nobody_said_it() -> None:
    response = final_response(encode([START, *text(0, "Hi"), Stop("end_turn")]))

    assert response["usage"]["total_tokens"] == 0
    said = encode([START, UsageReport(Usage(input_tokens=2, output_tokens=3)), Stop("end_turn")])
    assert final_response(said)["usage"]["total_tokens"] == 5


def test_the_end_is_written_once() -> None:
    encoder = responses.encoder(answer())
    encoder.encode([START, *text(0, "Hi"), Stop("end_turn")])

    assert encoder.end()
    assert encoder.end() == b""
    assert encoder.fail(UpstreamFailed("late")) == b""
    assert encoder.encode([*text(1, "late")]) == b""


# Failures.

OPEN: dict[str, list[Event]] = {
    "nothing": [],
    "text": [BlockStart(0, Text(text="")), TextDelta(0, "Hel")],
    "refusal": [BlockStart(0, Text(text="", refusal=True)), TextDelta(0, "No")],
    "thinking": [BlockStart(0, Thinking()), ThinkingDelta(0, "Hm")],
    "call": [BlockStart(0, CALL), ArgumentsDelta(0, '{"k')],
    "custom": [BlockStart(0, ToolUse(id="c", name="apply_patch")), ArgumentsDelta(0, '{"inp')],
    "second": [*text(0, "Done."), BlockStart(1, CALL), ArgumentsDelta(1, "{")],
}


@pytest.mark.parametrize("name", OPEN)
def test_a_failure_closes_what_is_open_and_never_looks_like_success(name: str) -> None:
    data = failed_stream(*OPEN[name], error=UpstreamFailed("The upstream broke off."))

    for opened, closed in opened_and_closed(data):
        assert opened == closed
    assert types(data)[-2:] == ["error", "response.failed"]
    assert "response.completed" not in types(data)
    for number, frame in enumerate(frames(data)):
        assert EVENTS.validate_json(frame.data, strict=True).sequence_number == number
    error, failed = payloads(data)[-2:]
    assert (error["code"], error["message"]) == ("upstream_error", "The upstream broke off.")
    assert failed["response"]["id"] == "resp_0a1b2c"
    assert failed["response"]["status"] == "failed"
    statuses = [item.get("status") for item in failed["response"]["output"]]
    if name == "second":
        assert statuses == ["completed", "incomplete"]


@pytest.mark.parametrize("name", OPEN)
def test_the_sdk_raises_the_failure_with_its_text(name: str) -> None:
    data = failed_stream(*OPEN[name], error=UpstreamFailed("The upstream broke off."))

    with (
        pytest.raises(openai.APIError, match="The upstream broke off"),
        sdk(data).responses.stream(model="m", input="hi") as stream,
    ):
        stream.until_done()
    with pytest.raises(openai.APIError, match="The upstream broke off"):
        list(sdk(data).responses.create(model="m", input="hi", stream=True))


def test_the_sdk_would_also_take_the_failed_event_alone() -> None:
    """Older clients skip events they do not know; what follows the error must not disturb."""
    data = failed_stream(*OPEN["text"], error=UpstreamFailed("Broke."))
    kept = [b for b in data.split(b"\n\n") if b and not b.startswith(b"event: error")]

    with sdk(b"\n\n".join(kept) + b"\n\n").responses.stream(model="m", input="hi") as stream:
        last = list(stream)[-1]

    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "Broke."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContextOverflow("prompt is too long"), "context_length_exceeded"),
        (RateLimited("Slow."), "rate_limit_exceeded"),
        (PaymentRequired("None left."), "insufficient_quota"),
        (NotFound("Gone."), "invalid_prompt"),
        (UpstreamFailed("Broke."), "server_error"),
    ],
)
def test_codex_reads_the_code_of_the_failed_response(error: GatewayError, code: str) -> None:
    assert final_response(failed_stream(error=error))["error"]["code"] == code


def test_a_failure_of_the_upstream_fails_the_stream() -> None:
    encoder = responses.encoder(answer())

    data = encoder.encode(
        [START, *text(0, "Hi"), Failure(429, "rate_limited", "Slow."), Stop("end_turn")]
    )

    assert types(data + encoder.end())[-2:] == ["error", "response.failed"]
    assert final_response(data)["error"]["code"] == "rate_limit_exceeded"


def test_a_failure_of_the_upstream_is_raised_for_a_body() -> None:
    with pytest.raises(RateLimited) as caught:
        responses.encode_body([START, Failure(429, "rate_limited", "Slow.")], answer())

    assert (caught.value.code, caught.value.message) == ("rate_limited", "Slow.")


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (GatewayError("x", status=400, code="bad"), "invalid_request_error", "bad"),
        (NotFound("x"), "invalid_request_error", "not_found"),
        (Unauthorized("x"), "authentication_error", "invalid_api_key"),
        (PaymentRequired("x"), "insufficient_quota", "insufficient_quota"),
        (Forbidden("x"), "permission_error", "forbidden"),
        (RateLimited("x"), "rate_limit_error", "rate_limited"),
        (UpstreamFailed("x"), "server_error", "upstream_error"),
    ],
)
def test_an_error_body_is_openais(error: GatewayError, kind: str, code: str) -> None:
    assert responses.error_body(error, "req_1") == {
        "error": {"message": "x", "type": kind, "code": code, "param": None}
    }


def test_an_overflow_says_what_clients_look_for() -> None:
    body = responses.error_body(ContextOverflow("prompt is too long: 5 > 4"), "req_1")["error"]

    assert body["code"] == "context_length_exceeded"
    assert body["type"] == "invalid_request_error"
    assert body["message"] == (
        "Your input exceeds the context window of this model. "
        "Please adjust your input and try again."
    )
