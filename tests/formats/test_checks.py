"""Shallow checks: what is refused is named, in the same words on every way, and fast."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.formats import FORMATS

GOLDEN = Path(__file__).parent / "golden"
CHAT, MESSAGES, RESPONSES = "chat_completions", "messages", "responses"
HI = {"role": "user", "content": "hi"}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [HI]},
    MESSAGES: {"model": "m", "messages": [HI], "max_tokens": 10},
    RESPONSES: {"model": "m", "input": [HI]},
    "gemini": {"model": "m", "contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}
IMAGE = {"type": "image_url", "image_url": 7}
CALL = {"id": "c", "type": "function", "function": {"name": 1}}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (CHAT, {"model": ""}, "model: a name"),
        (CHAT, {"messages": None}, "messages: a non-empty list is required"),
        (CHAT, {"messages": []}, "messages: a non-empty list is required"),
        (CHAT, {"messages": "hi"}, "messages: a non-empty list is required"),
        (CHAT, {"messages": [HI, 3]}, "messages[1]: an object"),
        (CHAT, {"messages": [{"role": "robot"}]}, "messages[0].role: one of"),
        (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content: a string or"),
        (CHAT, {"messages": [{"role": "user", "content": [1]}]}, "messages[0].content[0]: an"),
        (CHAT, {"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            "messages[0].content[0].image_url",
        ),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id: a"),
        (
            CHAT,
            {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
            "messages[0].tool_calls[0].function.name: a string",
        ),
        (CHAT, {"max_tokens": 0}, "max_tokens: a positive integer is required"),
        (CHAT, {"max_completion_tokens": -1}, "max_completion_tokens: a positive integer"),
        (CHAT, {"max_tokens": 10**12}, "max_tokens: an integer of at most 1000000000"),
        (CHAT, {"max_tokens": "many"}, "max_tokens: a positive integer is required"),
        (CHAT, {"temperature": "hot"}, "temperature: a number from 0 to 2 is required"),
        (CHAT, {"temperature": 3}, "temperature: a number from 0 to 2 is required"),
        (CHAT, {"top_p": True}, "top_p: a number from 0 to 1 is required"),
        (CHAT, {"n": 0}, "n: a whole number from 1 to 128 is required"),
        (CHAT, {"n": 129}, "n: a whole number from 1 to 128 is required"),
        (CHAT, {"stop": 7}, "stop: a string or a list of strings is required"),
        (CHAT, {"stop": ["a", 7]}, "stop: a string or a list of strings is required"),
        (CHAT, {"tools": {}}, "tools: a list is required"),
        (CHAT, {"tools": [7]}, "tools[0]: an object is required"),
        (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function: an object"),
        (CHAT, {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name: a name"),
        (CHAT, {"tool_choice": 7}, "tool_choice: a string or an object is required"),
        (CHAT, {"response_format": "json"}, "response_format: an object is required"),
        (MESSAGES, {"messages": []}, "messages: a non-empty list is required"),
        (MESSAGES, {"messages": [HI, HI, {**HI, "role": "tool"}]}, "messages.2.role: one of"),
        (MESSAGES, {"messages": [{"role": "user"}]}, "messages.0.content: a string or a list"),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text: a string is required",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "x"}]}]},
            "messages.0.content.0.name: a string is required",
        ),
        (MESSAGES, {"max_tokens": 0}, "max_tokens: a positive integer is required"),
        (MESSAGES, {"max_tokens": 10**10}, "max_tokens: an integer of at most 1000000000"),
        (MESSAGES, {"temperature": 1.5}, "temperature: a number from 0 to 1 is required"),
        (MESSAGES, {"stop_sequences": "x"}, "stop_sequences: a list is required"),
        (MESSAGES, {"stop_sequences": [1]}, "stop_sequences.0: a string is required"),
        (MESSAGES, {"system": 7}, "system: a string or a list of text blocks is required"),
        (MESSAGES, {"system": [{"type": "image"}]}, "system.0.type: 'text' is required"),
        (MESSAGES, {"tools": [{}]}, "tools.0.name: a name"),
        (MESSAGES, {"tools": [{"name": "x"}]}, "tools.0.input_schema: an object is required"),
        (MESSAGES, {"tool_choice": "auto"}, "tool_choice: an object is required"),
        (MESSAGES, {"tool_choice": {"type": "tool"}}, "tool_choice.name: a string is required"),
        (MESSAGES, {"thinking": {}}, "thinking.type: a string is required"),
        (RESPONSES, {"input": None}, "input: a string or a non-empty list is required"),
        (RESPONSES, {"input": []}, "input: a string or a non-empty list is required"),
        (RESPONSES, {"input": [7]}, "input[0]: an object is required"),
        (RESPONSES, {"input": [{"role": "tool", "content": "x"}]}, "input[0].role: one of"),
        (RESPONSES, {"input": [{"type": "function_call"}]}, "input[0].call_id: a string"),
        (RESPONSES, {"max_output_tokens": -5}, "max_output_tokens: a positive integer"),
        (RESPONSES, {"temperature": []}, "temperature: a number from 0 to 2 is required"),
        (RESPONSES, {"tools": [{"type": "function"}]}, "tools[0].name: a name"),
        (RESPONSES, {"instructions": 7}, "instructions: a string is required"),
        ("gemini", {"contents": []}, "contents: at least one entry is required"),
        ("gemini", {"contents": [7]}, "contents[0]: an object is required"),
        ("gemini", {"generationConfig": {"temperature": 9}}, "generationConfig.temperature: a"),
    ],
)
def test_what_is_wrong_is_named_in_the_same_words_on_both_ways(
    name: str, change: dict[str, Any], message: str
) -> None:
    body = {**BODIES[name], **change}
    with pytest.raises(InvalidRequest) as passing:
        FORMATS[name].check(body)
    with pytest.raises(InvalidRequest) as translated:
        FORMATS[name].parse_request(body)

    assert passing.value.message.startswith(message)
    assert translated.value.message == passing.value.message
    assert passing.value.param == message.partition(":")[0]


@pytest.mark.parametrize("name", BODIES)
def test_a_plain_body_passes(name: str) -> None:
    FORMATS[name].check(BODIES[name])


def test_a_body_to_be_counted_needs_no_limit() -> None:
    body = {"model": "m", "messages": [HI]}
    FORMATS[MESSAGES].check(body, counted=True)
    with pytest.raises(InvalidRequest, match="max_tokens: a positive integer is required"):
        FORMATS[MESSAGES].check(body)


def golden_requests() -> list[Any]:
    return [
        pytest.param(path.parent.name, path, id=f"{path.parent.name}-{path.stem}")
        for name in FORMATS
        for path in sorted((GOLDEN / name).glob("request*.json"))
    ]


def load(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text())
    return document.get("body", document) if isinstance(document, dict) else {}


@pytest.mark.parametrize(("name", "path"), golden_requests())
def test_real_requests_pass(name: str, path: Path) -> None:
    FORMATS[name].check(load(path), counted=True)


ODD = st.sampled_from([None, True, -1, 0, 2**40, 1.5, "", "x", [], {}, [None], [[]], {"type": 3}])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document, but for the inside of schemas."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            found += places(inner, (*path, key))
    return found


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(golden_requests()), st.data())
def test_what_the_check_refuses_the_parser_refuses_too(case: Any, data: st.DataObject) -> None:
    name, path = case.values
    body = copy.deepcopy(load(path))
    place = data.draw(st.sampled_from(places(body)))
    holder: Any = body
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = data.draw(ODD)
    refused = refusal_of(name, body)
    if refused is None:
        return
    with pytest.raises(InvalidRequest) as parsed:
        FORMATS[name].parse_request(body)
    assert parsed.value.message == refused.message


def refusal_of(name: str, body: dict[str, Any]) -> InvalidRequest | None:
    try:
        FORMATS[name].check(body, counted=True)
    except InvalidRequest as refused:
        return refused
    return None
