"""Requests of Responses clients: read, and written again as they were."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.formats import responses
from proxy.formats.canonical import (
    Foreign,
    Image,
    ModelFacts,
    Opaque,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
)
from tests.formats.responses.responses_golden import ANYTHING, SCRAPS, requests, spoil


@pytest.mark.parametrize("name", requests())
def test_a_request_is_written_again_as_it_came(name: str) -> None:
    body = requests()[name]

    built = responses.build_request(responses.parse_request(body), ANYTHING)

    assert built.body == body
    assert built.dropped == []


@pytest.mark.parametrize("name", requests())
def test_reading_a_request_does_not_change_it(name: str) -> None:
    body = requests()[name]
    before = json.dumps(body)

    responses.build_request(responses.parse_request(body), ANYTHING)
    responses.gist(body)

    assert json.dumps(body) == before


def test_items_of_one_side_become_one_message() -> None:
    body = requests()["request_openai_py_reasoning_follow_up"]

    request = responses.parse_request(body)

    assert [message.role for message in request.messages] == ["user", "assistant", "user"]
    thinking, call = request.messages[1].blocks
    assert isinstance(thinking, Thinking)
    assert thinking.text == "I should look it up."
    assert thinking.opaque is not None
    assert thinking.opaque.family == "openai"
    assert isinstance(call, ToolUse)
    assert call.arguments == '{"key": "a"}'
    result = request.messages[2].blocks[0]
    assert isinstance(result, ToolResult)
    assert (result.tool_use_id, result.plain) == (call.id, True)
    assert request.system == [Text(text="Be brief.")]


def test_parallel_results_stand_in_one_message() -> None:
    request = responses.parse_request(requests()["request_codex_parallel_calls"])

    assert [len(message.blocks) for message in request.messages[-2:]] == [2, 2]


def test_every_kind_of_item_has_a_canonical_form() -> None:
    request = responses.parse_request(requests()["request_every_item"])

    kinds = [b.kind for m in request.messages for b in m.blocks if isinstance(b, Foreign)]
    assert kinds == [
        "content:input_image",
        "content:input_file",
        "content:input_audio",
        "web_search_call",
        "tool_search_call",
        "tool_search_output",
        "local_shell_call",
        "local_shell_call_output",
        "computer_call",
        "computer_call_output",
        "mcp_call",
        "mcp_approval_response",
        "compaction",
        "item_reference",
        "compaction_trigger",
    ]
    images = [b for m in request.messages for b in m.blocks if isinstance(b, Image)]
    assert (images[0].media_type, images[0].data) == ("image/png", "iVBORw0KGgo=")
    assert images[1].url == "https://example.test/a.png"


def test_tools_of_namespaces_and_input_items_are_on_offer() -> None:
    request = responses.parse_request(requests()["request_every_item"])

    offered = {tool.name: tool.kind for tool in request.tools or []}
    assert offered == {
        "lookup": "function",
        "apply_patch": "custom",
        "agents__spawn": "function",
        "agents__run": "custom",
        "empty": "server",
        "tool_search": "server",
        "web_search": "server",
        "mcp": "server",
        "wait": "function",
    }
    calls = [b.name for m in request.messages for b in m.blocks if isinstance(b, ToolUse)]
    assert calls == ["lookup", "agents__spawn", "apply_patch"]


@pytest.mark.parametrize(
    ("value", "opaque", "redacted"),
    [
        ("gAAA", Opaque("openai", "gAAA"), False),
        ("cgw1.anthropic.EqQB.x", Opaque("anthropic", "EqQB.x"), False),
        ("cgw1.anthropic.redacted:EqQB", Opaque("anthropic", "EqQB"), True),
        ("cgw1.nobody.EqQB", Opaque("openai", "cgw1.nobody.EqQB"), False),
    ],
)
def test_a_thought_knows_whose_it_is(value: str, opaque: Opaque, redacted: bool) -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": value}

    request = responses.parse_request({"model": "m", "input": [item]})

    thinking = request.messages[0].blocks[0]
    assert isinstance(thinking, Thinking)
    assert (thinking.opaque, thinking.redacted) == (opaque, redacted)


def test_thoughts_of_another_model_are_not_sent_on() -> None:
    item = {"type": "reasoning", "summary": [], "encrypted_content": "cgw1.anthropic.EqQB"}
    body = {"model": "m", "input": [{"role": "user", "content": "hi"}, item]}

    built = responses.build_request(responses.parse_request(body), ANYTHING)

    assert built.body["input"] == [{"role": "user", "content": "hi"}]
    assert built.dropped == ["thinking"]


def test_limits_of_the_model_are_kept_also_for_this_format() -> None:
    body = {"model": "m", "input": "hi", "max_output_tokens": 999, "reasoning": {"effort": "max"}}
    facts = ModelFacts(id="m", max_output_tokens=500, efforts=("none", "low", "high"))

    built = responses.build_request(responses.parse_request(body), facts).body

    assert built["max_output_tokens"] == 500
    assert built["reasoning"] == {"effort": "high"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"input": None}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"content": "x"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": None}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
        ),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "reasoning", "summary": "x"}]}, "input[0].summary"),
        ({"input": [{"type": "additional_tools", "tools": [1]}]}, "input[0].tools[0]"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "x", "parameters": []}]}, "tools[0].parameters"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"temperature": "warm"}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_a_broken_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        responses.parse_request({"model": "m", "input": "hi", **change})

    assert caught.value.param == param
    assert caught.value.status == 400


REMINDER = {"role": "user", "content": "<system-reminder>x</system-reminder>"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}
SAID = {"role": "user", "content": [{"type": "input_text", "text": "do it"}]}


@pytest.mark.parametrize(
    ("items", "last"),
    [
        ([SAID], "user"),
        ([SAID, OUTPUT], "tool"),
        ([SAID, OUTPUT, REMINDER], "tool"),
        ([SAID, OUTPUT, {"role": "developer", "content": "x"}], "tool"),
        ([OUTPUT, SAID], "user"),
        ([SAID, REMINDER], "user"),
        ([SAID, {"role": "assistant", "content": "x"}], "assistant"),
        ([SAID, {"type": "compaction_trigger"}], "assistant"),
        ([SAID, {"type": "additional_tools", "tools": []}], "user"),
        ([OUTPUT, {"role": "user", "content": [{"type": "input_image"}]}], "user"),
        ([], "user"),
    ],
)
def test_the_last_conversational_item_decides(items: list[Any], last: str) -> None:
    assert responses.gist({"input": items}).last == last


def test_the_gist_of_codex() -> None:
    gist = responses.gist(requests()["request_codex_additional_tools"])

    assert gist.conversation == "00000000-0000-4000-8000-000000000000"
    assert (gist.last, gist.messages, gist.tools, gist.effort) == ("user", 7, 2, "low")
    assert gist.opening == "[text of 355 characters]"
    assert not gist.has_images


def test_the_gist_sees_images_and_a_plain_input() -> None:
    assert responses.gist(requests()["request_every_item"]).has_images
    assert responses.gist({"input": "hello"}).opening == "hello"
    session = {"input": "x", "client_metadata": {"session_id": "s", "thread_id": "t"}}
    assert responses.gist(session).conversation == "s"


@settings(max_examples=600, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(requests())),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([*SCRAPS, ...]),
)
def test_odd_requests_are_refused_and_never_break(name: str, path: list[int], scrap: Any) -> None:
    body = spoil(requests()[name], path, scrap)
    if not isinstance(body, dict):
        return

    responses.gist(body)
    try:
        request = responses.parse_request(body)
    except InvalidRequest:
        return
    assert isinstance(responses.build_request(request, ANYTHING).body, dict)
