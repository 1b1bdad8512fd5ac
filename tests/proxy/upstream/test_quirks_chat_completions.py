"""Quirks of /chat/completions."""

from typing import Any

import pytest

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks import QuirkContext, apply

CLAUDE = ModelFacts(
    id="claude", vendor="Anthropic", max_output_tokens=64000, efforts=("low", "high")
)
REASONING_GPT = ModelFacts(
    id="gpt-5", vendor="Azure OpenAI", max_output_tokens=64000, efforts=("low", "medium", "high")
)
OLD_GPT = ModelFacts(id="gpt-4", vendor="Azure OpenAI", max_output_tokens=16000)
HELLO = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def send(
    model: ModelFacts = OLD_GPT, *, stream: bool = False, **fields: Any
) -> tuple[dict[str, Any], list[str], list[str]]:
    body: dict[str, Any] = {"model": model.id, "messages": [HELLO], "max_tokens": 100, **fields}
    context = QuirkContext(stream=stream)
    return body, apply("chat_completions", body, model, context), context.dropped


def test_a_clean_request_is_left_alone() -> None:
    clean = {
        "messages": [{"role": "user", "name": "ada", "content": [{"type": "text", "text": "hi"}]}],
        "max_tokens": 16000,
        "n": 2,
        "user": "u",
        "temperature": 0.1,
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "stream_options": {"include_usage": True},
    }
    body, fired, dropped = send(stream=True, **clean)
    assert body == {"model": "gpt-4", **clean}
    assert (fired, dropped) == ([], [])


def test_refused_foreign_and_unknown_fields_go_and_are_named() -> None:
    body, fired, dropped = send(
        service_tier="auto",
        store=True,
        thinking={"type": "enabled"},
        top_k=5,
        metadata={"a": "b"},
        api_key="sk-secret",
        extra_headers={},
    )
    assert set(body) == {"model", "messages", "max_tokens"}
    assert fired == ["refused_fields", "anthropic_fields", "unknown_fields"]
    assert dropped == ["service_tier", "store", "thinking", "top_k", "api_key", "extra_headers"]


def test_cache_markers_take_copilots_name_for_claude_models() -> None:
    marked = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    part = {"type": "text", "text": "hi"}
    body, fired, _ = send(
        CLAUDE,
        tools=[{**TOOL, **marked}],
        messages=[{**HELLO, **marked}, {"role": "user", "content": [{**part, **marked}]}],
    )
    ours = {"copilot_cache_control": {"type": "ephemeral"}}
    assert body["tools"] == [{**TOOL, **ours}]
    assert body["messages"] == [{**HELLO, **ours}, {"role": "user", "content": [part], **ours}]
    assert fired == ["cache_markers"]


def test_the_last_four_cache_markers_stay_and_other_vendors_get_none() -> None:
    marked = {**HELLO, "cache_control": {"type": "ephemeral"}}
    body, _, _ = send(CLAUDE, messages=[dict(marked) for _ in range(6)])
    assert ["copilot_cache_control" in message for message in body["messages"]] == [
        *[False] * 2,
        *[True] * 4,
    ]
    other, fired, _ = send(OLD_GPT, messages=[dict(marked)])
    assert (other["messages"], fired) == ([HELLO], ["cache_markers"])


def test_replayed_reasoning_goes_back_only_with_its_proof() -> None:
    body, fired, _ = send(
        messages=[
            {"role": "assistant", "content": "a", "reasoning_content": "why"},
            {
                "role": "assistant",
                "content": "b",
                "reasoning_content": "why",
                "reasoning_opaque": "o",
            },
            {"role": "assistant", "content": "c", "reasoning": "r", "reasoning_details": []},
        ]
    )
    assert body["messages"] == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_opaque": "o", "reasoning_text": "why"},
        {"role": "assistant", "content": "c"},
    ]
    assert fired == ["reasoning_history"]


def test_nothing_speaks_of_tools_without_tools() -> None:
    body, fired, _ = send(tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert set(body) == {"model", "messages", "max_tokens"}
    assert fired == ["idle_tool_fields"]


@pytest.mark.parametrize(("asked", "given"), [(None, 16000), (99999, 16000), (5, 5)])
def test_the_output_limit_comes_from_the_catalog(asked: int | None, given: int) -> None:
    body, fired, _ = send(max_tokens=asked)
    assert body["max_tokens"] == given
    assert fired == ([] if asked == given else ["output_limit"])


def test_a_model_of_unknown_limits_gets_no_invented_one() -> None:
    body, fired, _ = send(ModelFacts(id="new"), max_tokens=None)
    assert body["max_tokens"] is None
    assert fired == []


@pytest.mark.parametrize(
    ("model", "field", "sent"),
    [
        (REASONING_GPT, "max_tokens", "max_completion_tokens"),
        (CLAUDE, "max_completion_tokens", "max_tokens"),
        (OLD_GPT, "max_completion_tokens", "max_tokens"),
    ],
)
def test_the_output_limit_has_the_name_that_the_model_knows(
    model: ModelFacts, field: str, sent: str
) -> None:
    body = {"model": model.id, "messages": [HELLO], field: 50}
    assert "output_limit_name" in apply("chat_completions", body, model, QuirkContext())
    assert body == {"model": model.id, "messages": [HELLO], sent: 50}


def test_efforts_are_those_that_the_model_lists() -> None:
    body, fired, dropped = send(CLAUDE, reasoning_effort="medium")
    assert body["reasoning_effort"] == "low"
    assert (fired, dropped) == (["effort"], ["reasoning_effort"])
    assert "reasoning_effort" not in send(OLD_GPT, reasoning_effort="high")[0]


@pytest.mark.parametrize("asked", [None, {}, {"include_usage": False}, "odd"])
def test_streams_always_report_usage(asked: object) -> None:
    body, fired, _ = send(stream=True, stream_options=asked)
    assert body["stream_options"] == {"include_usage": True}
    assert fired == ["stream_usage"]


def test_stream_options_go_when_nothing_streams() -> None:
    body, fired, _ = send(stream=False, stream_options={"include_usage": True})
    assert "stream_options" not in body
    assert fired == ["stream_usage"]
