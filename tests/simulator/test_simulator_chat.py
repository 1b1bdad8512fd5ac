"""The chat leg: three dialects, tools, refusals."""

from __future__ import annotations

import json

import pytest

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = 'please call weather {"city": "Paris"}'


def text_of(events):
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if event.data
        for choice in event.data["choices"]
    )


@pytest.mark.parametrize("model", ["gpt-5-mini", "claude-sonnet-4.6", "gemini-3.5-flash"])
def test_the_last_user_text_is_echoed_whole_and_streamed(copilot, events, model):
    whole = copilot.chat("hello there", model).json()
    assert whole["choices"][0]["message"]["content"] == "You said: hello there"
    streamed = events(copilot.chat("hello there", model, stream=True))
    assert text_of(streamed) == "You said: hello there"
    assert streamed[-1].data is None


def test_azure_begins_with_a_chunk_without_choices_and_counts_only_when_asked(copilot, events):
    plain = events(copilot.chat(stream=True))
    assert plain[0].data["choices"] == []
    assert "prompt_filter_results" in plain[0].data
    assert "object" not in plain[2].data
    assert not any((event.data or {}).get("usage") for event in plain)
    counted = events(copilot.chat(stream=True, stream_options={"include_usage": True}))
    assert counted[-2].data["usage"]["total_tokens"] > 0
    assert counted[-2].data["choices"] == []
    assert "copilot_usage" in counted[-2].data


def test_claude_repeats_the_role_and_splits_its_choices(copilot, events):
    whole = copilot.chat(CALL, "claude-sonnet-4.6", tools=[WEATHER]).json()
    text, tools = whole["choices"]
    assert text["message"]["content"]
    assert "tool_calls" not in text["message"]
    assert tools["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert "index" not in tools
    streamed = events(copilot.chat(CALL, "claude-sonnet-4.6", tools=[WEATHER], stream=True))
    deltas = [event.data["choices"][0]["delta"] for event in streamed[:-2]]
    assert all(delta["role"] == "assistant" for delta in deltas)
    calls = [delta["tool_calls"][0] for delta in deltas if delta.get("tool_calls")]
    assert calls[0]["id"].startswith("tooluse_")
    assert "arguments" not in calls[0]["function"]
    assert calls[1]["function"]["arguments"] == ""
    assert all("id" not in call for call in calls[1:])
    arguments = "".join(call["function"].get("arguments", "") for call in calls)
    assert json.loads(arguments) == {"city": "Paris"}
    finish = streamed[-2].data
    assert finish["choices"][0]["finish_reason"] == "tool_calls"
    assert "usage" in finish
    assert "object" not in finish


def test_a_claude_model_may_answer_under_another_name(copilot):
    assert copilot.chat("hi", "claude-sonnet-4.5").json()["model"] == "claude-sonnet-4-5-20250929"


def test_gemini_counts_in_every_chunk_and_wants_its_signature_back(copilot, events):
    streamed = events(copilot.chat(CALL, "gemini-3.5-flash", tools=[WEATHER], stream=True))
    assert all("usage" in event.data for event in streamed[:-1])
    last = streamed[-2].data["choices"][0]
    assert last["finish_reason"] == "tool_calls"
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {key: value for key, value in call.items() if key != "index"}
            for call in last["delta"]["tool_calls"]
        ],
    }
    result = {
        "role": "tool",
        "tool_call_id": message["tool_calls"][0]["id"],
        "content": "sunny",
    }
    user = {"role": "user", "content": CALL}

    def follow_up(assistant):
        body = {
            "model": "gemini-3.5-flash",
            "tools": [WEATHER],
            "messages": [user, assistant, result],
        }
        return copilot.post("/chat/completions", body)

    assert "thought_signature" in follow_up(message).json()["error"]["message"]
    good = follow_up(message | {"reasoning_opaque": last["delta"]["reasoning_opaque"]})
    assert good.json()["choices"][0]["message"]["content"] == "Tool said: sunny"


def test_reasoning_is_shown_when_effort_is_asked_for(copilot, events):
    body = {"reasoning_effort": "high", "stream": True}
    deltas = [
        event.data["choices"][0]["delta"]
        for event in events(copilot.chat("hi", "claude-opus-5", **body))
        if event.data
    ]
    assert any(delta.get("reasoning_text") for delta in deltas)
    assert any(delta.get("reasoning_opaque") for delta in deltas)


def test_parallel_calls_and_structured_output(copilot):
    clock = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
    text = 'call weather {"city": "Oslo"} and call clock {}'
    answer = copilot.chat(text, tools=[WEATHER, clock]).json()
    calls = answer["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "clock"]
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "tags": {"type": "array", "items": {"enum": ["a"]}},
        },
        "required": ["n", "tags"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    content = copilot.chat("go", response_format=wanted).json()["choices"][0]["message"]["content"]
    assert json.loads(content) == {"n": 1, "tags": ["a"]}


def test_max_tokens_cuts_the_text(copilot):
    answer = copilot.chat("x" * 200, max_tokens=5).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    ("model", "extra", "code"),
    [
        ("nobody", {}, "model_not_supported"),
        ("gpt-5.5", {}, "unsupported_api_for_model"),
        ("text-embedding-3-small", {}, "unsupported_api_for_model"),
        ("gpt-41-copilot", {}, "unsupported_api_for_model"),
        ("gpt-5-mini", {"thinking": {"type": "adaptive"}}, "invalid_request_body"),
        ("gpt-5-mini", {"top_k": 3}, "invalid_request_body"),
        ("gpt-5-mini", {"metadata": {}}, "invalid_request_body"),
        ("gpt-5-mini", {"reasoning_effort": "max"}, "invalid_reasoning_effort"),
        ("gpt-4.1", {"reasoning_effort": "low"}, "invalid_reasoning_effort"),
        ("gpt-5-mini", {"max_tokens": 10**9}, "invalid_request_body"),
    ],
)
def test_what_the_leg_refuses(copilot, model, extra, code):
    answer = copilot.chat("hi", model, **extra)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.endswith("\n")


def test_more_than_128_tools_get_a_bare_400(copilot):
    tools = [{"type": "function", "function": {"name": f"tool{number}"}} for number in range(129)]
    assert copilot.chat(tools=tools[:128]).status_code == 200
    refused = copilot.chat(tools=tools)
    assert (refused.status_code, refused.text) == (400, "Bad Request\n")


def test_documents_and_stray_tool_results_are_refused(copilot):
    part = {"type": "file", "file": {"file_data": "x"}}
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": [part]}]}
    assert "image_url" in copilot.post("/chat/completions", body).json()["error"]["message"]
    stray = {"role": "tool", "tool_call_id": "call_x", "content": "y"}
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "x"}, stray]}
    assert copilot.post("/chat/completions", body).status_code == 400


def test_a_prompt_that_is_too_long_is_told_with_numbers(copilot):
    answer = copilot.chat("x" * 60_000, "gpt-4o-mini-2024-07-18")
    error = answer.json()["error"]
    assert error["code"] == "model_max_prompt_tokens_exceeded"
    assert error["message"].endswith("exceeds the limit of 12288")


def test_embeddings_take_arrays_of_strings_only(copilot):
    def embed(value, **more):
        return copilot.post(
            "/embeddings", {"model": "text-embedding-3-small", "input": value} | more
        )

    good = embed(["a", "b", "a"], dimensions=8).json()
    assert [len(item["embedding"]) for item in good["data"]] == [8, 8, 8]
    assert good["data"][0]["embedding"] == good["data"][2]["embedding"]
    assert "copilot_usage" not in good
    for wrong in ("a", [[1, 2]], [], ["x"] * 513):
        refused = embed(wrong)
        assert (refused.status_code, refused.text) == (400, "Bad Request\n")
