"""Quirks of replayed reasoning, prompt caches, and the retry without reasoning."""

from typing import Any

import pytest

from proxy.formats.canonical import ModelFacts
from proxy.upstream.failures import read_failure
from proxy.upstream.quirks import QuirkContext, apply
from proxy.upstream.recovery import recover

CLAUDE = ModelFacts(
    id="claude", vendor="Anthropic", min_thinking_budget=1024, max_thinking_budget=32000
)
GPT = ModelFacts(id="gpt", vendor="OpenAI", max_output_tokens=1000)
HELLO = {"role": "user", "content": "hello"}
OWN = {"type": "thinking", "thinking": "", "signature": "c2ln"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
MARKER = {"type": "ephemeral"}


def send(
    endpoint: str, model: ModelFacts = CLAUDE, *, translated: bool = False, **body: Any
) -> tuple[dict[str, Any], list[str], list[str]]:
    context = QuirkContext(stream=True, translated=translated)
    fired = apply(endpoint, body, model, context)
    return body, fired, context.dropped


@pytest.mark.parametrize(
    "foreign",
    [
        {"type": "thinking", "thinking": "a", "signature": "cgw1.openai.xyz"},
        {"type": "thinking", "thinking": "a", "signature": "cgw1.none."},
        {"type": "thinking", "thinking": "a", "signature": ""},
        {"type": "thinking", "thinking": "a"},
        {"type": "redacted_thinking", "data": "cgw1.gemini.xyz"},
    ],
)
def test_thinking_that_anthropic_has_not_signed_is_left_out(foreign: dict[str, Any]) -> None:
    said = {"type": "text", "text": "hi"}
    history = [
        HELLO,
        {"role": "assistant", "content": [dict(foreign)]},
        {"role": "assistant", "content": [dict(foreign), OWN, said]},
        HELLO,
    ]

    body, fired, dropped = send("messages", messages=history, max_tokens=10)

    assert "foreign_thinking" in fired
    assert dropped == ["thinking"]
    assert body["messages"] == [HELLO, {"role": "assistant", "content": [OWN, said]}, HELLO]


def test_claudes_own_thinking_stays_as_it_is() -> None:
    redacted = {"type": "redacted_thinking", "data": "c2Vjcmv0"}
    history = [HELLO, {"role": "assistant", "content": [OWN, redacted, CALL]}]

    body, fired, dropped = send("messages", messages=history, max_tokens=10)

    assert "foreign_thinking" not in fired
    assert dropped == []
    assert body["messages"][1]["content"] == [OWN, redacted, CALL]


def test_a_tool_loop_without_thinking_goes_on_without_a_budget() -> None:
    foreign = {"type": "thinking", "thinking": "a", "signature": "cgw1.openai.x"}
    history = [
        HELLO,
        {"role": "assistant", "content": [foreign, CALL]},
        {"role": "user", "content": [RESULT]},
    ]
    thinking = {"type": "enabled", "budget_tokens": 2000}

    body, fired, dropped = send(
        "messages", messages=history, thinking=dict(thinking), max_tokens=9000
    )

    assert "thoughtless_loop" in fired
    assert "thinking" not in body
    assert dropped == ["thinking"]

    history[1] = {"role": "assistant", "content": [OWN, CALL]}
    body, fired, _ = send("messages", messages=history, thinking=dict(thinking), max_tokens=9000)
    assert "thoughtless_loop" not in fired
    assert body["thinking"] == thinking


def test_reasoning_items_of_other_makers_are_left_out() -> None:
    own = {"type": "reasoning", "summary": [], "encrypted_content": "c2Vj"}
    items = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "summary": [], "encrypted_content": "cgw1.anthropic.xyz"},
        own,
    ]

    body, fired, dropped = send("responses", GPT, input=items)

    assert "foreign_items" in fired
    assert dropped == ["thinking"]
    assert body["input"] == [items[0], own]


def test_an_opaque_of_another_endpoint_goes_with_its_text() -> None:
    history = [
        HELLO,
        {
            "role": "assistant",
            "content": "a",
            "reasoning_opaque": "cgw1.openai.x",
            "reasoning_content": "thought",
        },
        {"role": "assistant", "content": "b", "reasoning_opaque": "b3du", "reasoning_text": "t"},
    ]

    body, fired, dropped = send("chat_completions", GPT, messages=history)

    assert "foreign_opaque" in fired
    assert dropped == ["thinking"]
    assert body["messages"][1] == {"role": "assistant", "content": "a"}
    assert body["messages"][2]["reasoning_opaque"] == "b3du"


def test_a_translated_prompt_for_claude_is_marked_for_the_cache() -> None:
    def conversation(*texts: str) -> list[dict[str, Any]]:
        turns = []
        for text in texts:
            turns.append({"role": "user", "content": [{"type": "text", "text": text}]})
            turns.append({"role": "assistant", "content": [{"type": "text", "text": "ok"}]})
        return turns[:-1]

    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("a", "b")]
    system = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    fields: dict[str, Any] = {"tools": tools, "system": system, "max_tokens": 10}

    body, fired, _ = send(
        "messages", translated=True, messages=conversation("a", "b", "c"), **fields
    )

    assert "prompt_cache" in fired
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, MARKER]
    assert [block.get("cache_control") for block in body["system"]] == [None, MARKER]
    marked = [m["content"][-1].get("cache_control") for m in body["messages"]]
    assert marked == [None, None, MARKER, None, MARKER]

    _, fired, _ = send("messages", messages=conversation("a"), max_tokens=10)
    assert "prompt_cache" not in fired

    own = conversation("a", "b")
    own[0]["content"][0]["cache_control"] = MARKER
    _, fired, _ = send("messages", translated=True, messages=own, max_tokens=10)
    assert "prompt_cache" not in fired


def test_claude_on_the_chat_endpoint_is_marked_as_well_and_others_are_not() -> None:
    def body() -> dict[str, Any]:
        call = {"id": "c", "type": "function", "function": {"name": "a", "arguments": "{}"}}
        tool = {"type": "function", "function": {"name": "a"}}
        return {
            "tools": [tool],
            "messages": [
                {"role": "system", "content": "s"},
                dict(HELLO),
                {"role": "assistant", "content": "x"},
                dict(HELLO),
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                {"role": "tool", "tool_call_id": "d", "content": "2"},
            ],
        }

    sent, fired, _ = send("chat_completions", CLAUDE, **body())
    assert "prompt_cache" in fired
    marked = ["copilot_cache_control" in message for message in sent["messages"]]
    assert marked == [True, False, False, True, False, False, True]
    assert "copilot_cache_control" in sent["tools"][0]

    _, fired, _ = send("chat_completions", GPT, **body())
    assert "prompt_cache" not in fired


def fault(message: str) -> Any:
    return read_failure(400, b'{"error":{"message":"%s"}}' % message.encode(), {})


@pytest.mark.parametrize(
    "message",
    [
        "messages.1.content.0: Invalid signature in thinking block",
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified",
        "thinking blocks cannot be modified",
        "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
    ],
)
def test_a_refused_signature_is_answered_by_a_history_without_thinking(message: str) -> None:
    body: dict[str, Any] = {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [
            dict(HELLO),
            {"role": "assistant", "content": [OWN, CALL]},
            {"role": "user", "content": [RESULT]},
        ],
    }
    assert recover(fault(message), "messages", body)
    assert body["messages"][1]["content"] == [CALL]
    assert "thinking" not in body
    assert not recover(fault(message), "messages", body)


def test_ids_and_sealed_reasoning_of_another_connection_are_left_out() -> None:
    body: dict[str, Any] = {
        "input": [
            {"type": "reasoning", "encrypted_content": "x", "summary": []},
            {"type": "message", "id": "msg_1", "role": "user", "content": "hi"},
        ]
    }
    assert recover(fault("input item ID does not belong to this connection"), "responses", body)
    assert body["input"] == [{"type": "message", "role": "user", "content": "hi"}]


def test_geminis_refusal_begins_a_new_turn_without_reasoning() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "a", "arguments": "{}"}}
    body: dict[str, Any] = {
        "messages": [
            dict(HELLO),
            {"role": "assistant", "tool_calls": [call], "reasoning_opaque": "old"},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ]
    }
    refused = fault("Function call `a` is missing a thought_signature in functionCall parts.")
    assert recover(refused, "chat_completions", body)
    assert "reasoning_opaque" not in body["messages"][1]
    assert [message["role"] for message in body["messages"]] == [
        "user",
        "assistant",
        "tool",
        "user",
    ]


def test_other_refusals_and_clean_histories_are_left_alone() -> None:
    body = {"messages": [dict(HELLO), {"role": "assistant", "content": [OWN]}]}
    assert not recover(fault("max_tokens: too large"), "messages", body)
    assert body["messages"][1]["content"] == [OWN]
    assert not recover(
        fault("Invalid signature in thinking block"), "messages", {"messages": [HELLO]}
    )
