"""Requests in this format: read, and written again as they came."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.errors import InvalidRequest
from proxy.formats import chat_completions as chat
from proxy.formats.canonical import (
    Document,
    Foreign,
    Image,
    ModelFacts,
    Opaque,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from tests.formats.chat_completions.chat_golden import load, names

# A folder of requests captured from clients, one JSON file each; they are not part of the project.
CAPTURED = os.environ.get("CLIENT_REQUESTS", "")


def again(body: dict[str, Any]) -> dict[str, Any]:
    built = chat.build_request(chat.parse_request(body), ModelFacts(id=body["model"]))
    assert built.dropped == []
    return built.body


def user(content: Any) -> dict[str, Any]:
    return {"model": "gpt-4.1", "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("name", names("request-*.json"))
def test_a_request_is_built_as_it_was_read(name):
    assert again(load(name)) == load(name)


@pytest.mark.skipif(not CAPTURED, reason="CLIENT_REQUESTS names no folder")
def test_every_captured_request_is_built_as_it_was_read():
    found = sorted(Path(CAPTURED).glob("*/*-chat-*.json"))
    assert found
    for path in found:
        body = orjson.loads(path.read_bytes())["request"]["body"]
        assert again(body) == body, path.name


def test_reading_does_not_change_the_body():
    body = load("request-copilot-extensions.json")
    chat.parse_request(body)
    assert body == load("request-copilot-extensions.json")


def test_tool_results_of_a_turn_are_one_message():
    messages = chat.parse_request(load("request-pydantic-ai-strict-tools.json")).messages
    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert [block.tool_use_id for block in messages[3].blocks] == [
        "call_48364b458c7f5cd3f82735e5",
        "call_34bfdb0a677a36ae631a8f8c",
    ]
    assert messages[3].blocks[0].content == [Text(text="R-77 for a")]
    call = messages[2].blocks[1]
    assert (call.name, call.arguments) == ("lookup", '{"key":"a"}')


def test_parts_become_blocks():
    request = chat.parse_request(load("request-copilot-extensions.json"))
    text, image, plain, file, uploaded, audio = request.messages[1].blocks
    assert text.cache == {"type": "ephemeral", "ttl": "1h"}
    assert isinstance(image, Image)
    assert (image.url, image.detail) == ("https://example.org/a.png", "low")
    assert plain.url == "https://example.org/b.png"
    assert isinstance(file, Document)
    assert (file.media_type, file.data, file.name) == ("application/pdf", "JVBERi0=", "a.pdf")
    assert isinstance(uploaded, Foreign)
    assert isinstance(audio, Foreign)
    assert (audio.family, audio.kind) == ("copilot_chat", "input_audio")


def test_an_inline_image_is_taken_apart():
    body = load("request-openai-py-image.json")
    image = chat.parse_request(body).messages[1].blocks[1]
    assert image.media_type == "image/png"
    assert image.data.startswith("iVBORw0KGgo")
    assert image.url is None


def test_reasoning_comes_back_as_thinking():
    request = chat.parse_request(load("request-copilot-extensions.json"))
    thinking, *calls = request.messages[2].blocks
    assert isinstance(thinking, Thinking)
    assert thinking.text == "Let me see."
    assert thinking.opaque == Opaque("copilot_chat", "c2lnbmF0dXJl")
    assert [(type(b), b.custom) for b in calls] == [
        (ToolUse, False),
        (ToolUse, True),
        (ToolUse, False),
    ]


def test_a_wrapped_signature_finds_its_family():
    message = {"role": "assistant", "content": "x", "reasoning_opaque": "cgw1.anthropic.a.b"}
    body = {"model": "m", "messages": [message]}
    assert chat.parse_request(body).messages[0].blocks[0].opaque == Opaque("anthropic", "a.b")


def test_legacy_functions_pair_calls_and_results():
    request = chat.parse_request(load("request-legacy-functions.json"))
    call, result = request.messages[1].blocks[0], request.messages[2].blocks[0]
    assert isinstance(result, ToolResult)
    assert call.id == result.tool_use_id
    assert request.tools[0].name == "look"
    assert (request.tool_choice.mode, request.tool_choice.name) == ("tool", "look")


def test_knobs_have_their_canonical_names():
    request = chat.parse_request(load("request-every-knob.json"))
    assert request.max_output_tokens == 500
    assert request.stop == ["END"]
    assert request.reasoning.effort == "xhigh"
    assert request.output_format.kind == "json_object"
    assert request.parallel_tools is False
    assert request.include_usage is True
    assert (request.n, request.top_k, request.verbosity) == (2, 5, "low")
    assert set(request.extras) == {
        "store",
        "service_tier",
        "logit_bias",
        "prediction",
        "safety_identifier",
    }
    patch, search, noop = request.tools
    assert patch.kind == "custom"
    assert patch.extras["format"] == {
        "type": "grammar",
        "syntax": "lark",
        "definition": "start: WORD",
    }
    assert (search.kind, search.family) == ("server", "copilot_chat")
    assert noop == Tool(name="noop")


def test_null_at_the_top_is_absent():
    body = {**user("hi"), "temperature": None, "tools": None, "stop": None}
    assert again(body) == user("hi")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": [1]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"reasoning_effort": 3}, "reasoning_effort"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(InvalidRequest) as caught:
        chat.parse_request({**user("hi"), **change})
    assert caught.value.param == field
    assert field in caught.value.message


# Gist


def test_the_gist_says_who_speaks():
    assert chat.gist(load("request-openai-py-image.json")).last == "user"
    assert chat.gist(load("request-pydantic-ai-strict-tools.json")).last == "tool"
    # aider ends with a system message: the person's words before it count.
    assert chat.gist(load("request-aider-late-system.json")).last == "user"
    assert chat.gist(load("request-copilot-extensions.json")).last == "assistant"


def test_a_reminder_after_tool_results_is_no_person():
    results = [{"role": "tool", "tool_call_id": "a", "content": "x"}]
    reminder = {"role": "user", "content": " <system-reminder>be good</system-reminder>\n"}
    words = {
        "role": "user",
        "content": [{"type": "text", "text": reminder["content"]}, {"type": "text", "text": "go"}],
    }
    assert chat.gist({"messages": results + [reminder]}).last == "tool"
    assert chat.gist({"messages": results + [reminder, words]}).last == "user"


def test_the_gist_counts_and_names():
    gist = chat.gist(load("request-every-knob.json"))
    assert (gist.messages, gist.tools, gist.max_output_tokens) == (2, 3, 500)
    assert (gist.effort, gist.conversation, gist.opening) == ("xhigh", "k-1", "hi")
    assert not gist.has_images
    assert chat.gist(load("request-openai-py-image.json")).has_images


@pytest.mark.parametrize("body", [{}, {"messages": 3}, {"messages": [None, {"role": 3}]}])
def test_the_gist_of_nonsense_is_empty(body):
    gist = chat.gist(body)
    assert (gist.last, gist.opening, gist.tools) == ("user", "", 0)
