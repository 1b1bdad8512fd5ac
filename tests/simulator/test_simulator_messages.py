"""The messages leg: dialect, thinking with signatures, and the long list of refusals."""

from __future__ import annotations

import pytest

WEATHER = {"name": "weather", "input_schema": {"type": "object"}}
CONTEXT = "context-management-2025-06-27"
ADVANCED = "advanced-tool-use-2025-11-20"
ADAPTIVE = {"type": "adaptive"}
MARK = {"type": "ephemeral"}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def text(words="hi", **more):
    return {"type": "text", "text": words} | more


def test_a_stream_has_sorted_keys_no_ping_and_no_done(copilot, events):
    answer = copilot.messages("hello", stream=True, betas=CONTEXT)
    seen = events(answer)
    assert [event.name for event in seen] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "[DONE]" not in answer.text
    assert all(list(event.data) == sorted(event.data) for event in seen)
    assert seen[-2].data["context_management"] == {"applied_edits": []}
    assert seen[-2].data["delta"]["stop_details"] is None
    assert "copilot_usage" in seen[-2].data
    words = "".join(
        event.data["delta"]["text"] for event in seen if event.name == "content_block_delta"
    )
    assert words == "You said: hello"


def test_message_ids_come_from_three_backends(simulator, copilot):
    ids = [copilot.messages().json()["id"] for _ in range(3)]
    assert [id_.rpartition("_")[0] for id_ in ids] == ["msg", "msg_bdrk", "msg_vrtx"]
    simulator.config(messages_backend="bedrock")
    assert copilot.messages().json()["id"].startswith("msg_bdrk_")


def test_thinking_is_omitted_by_default_and_its_signature_accepted_back(copilot):
    first = copilot.messages("hi", thinking=ADAPTIVE).json()
    thought = first["content"][0]
    assert thought["type"] == "thinking"
    assert thought["thinking"] == ""
    shown = copilot.messages("hi", thinking=ADAPTIVE | {"display": "summarized"}).json()
    full = shown["content"][0]
    assert full["thinking"]

    def replay(block, model="claude-opus-5"):
        history = [
            user(text("hi")),
            {"role": "assistant", "content": [block, text("You said: hi")]},
            user(text("again")),
        ]
        return copilot.messages(model=model, messages=history, thinking=ADAPTIVE)

    assert replay(thought).status_code == 200
    assert replay(full).status_code == 200
    assert replay(full | {"thinking": ""}).status_code == 200
    assert replay(thought, "claude-sonnet-5").status_code == 200
    changed = replay(full | {"thinking": "something else"})
    assert "thinking blocks cannot be modified" in changed.json()["error"]["message"]
    forged = replay(full | {"signature": "Zm9yZ2Vk"})
    assert "Invalid signature in thinking block" in forged.json()["error"]["message"]
    copilot.bearer = "gho_opencode"
    assert replay(thought).status_code == 400


def test_a_tool_is_called_and_its_result_told(copilot, events):
    ask = 'call weather {"city": "Lima"}'
    seen = events(copilot.messages(ask, tools=[WEATHER], stream=True))
    opened = [event.data["content_block"] for event in seen if event.name == "content_block_start"]
    assert opened[-1]["name"] == "weather"
    assert opened[-1]["input"] == {}
    pieces = [
        event.data["delta"]["partial_json"]
        for event in seen
        if event.name == "content_block_delta" and "partial_json" in event.data["delta"]
    ]
    assert pieces[0] == ""
    assert "".join(pieces) == '{"city":"Lima"}'
    assert seen[-2].data["delta"]["stop_reason"] == "tool_use"
    use = copilot.messages(ask, tools=[WEATHER]).json()["content"][-1]
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "rain"}
    history = [user(text(ask)), {"role": "assistant", "content": [use]}, user(result)]
    answer = copilot.messages(tools=[WEATHER], messages=history).json()
    assert answer["content"][0]["text"] == "Tool said: rain"


def test_a_deferred_tool_is_searched_for_first(copilot):
    search = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    answer = copilot.messages(
        "call weather {}", betas=ADVANCED, tools=[search, WEATHER | {"defer_loading": True}]
    ).json()
    kinds = [block["type"] for block in answer["content"]]
    assert kinds == ["text", "server_tool_use", "tool_search_tool_result", "tool_use"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"messages": []}, "messages: at least one message is required"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 128_000}, "max_tokens: 128000 > 64000"),
        ({"service_tier": "auto"}, "service_tier: Extra inputs are not permitted"),
        ({"inference_geo": "us"}, "inference_geo: Extra inputs are not permitted"),
        ({"context_management": {}}, "context_management: Extra inputs are not permitted"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
            '"thinking.type.enabled" is not supported for this model',
        ),
        (
            {"model": "claude-haiku-4.5", "thinking": ADAPTIVE},
            "thinking: Input tag 'adaptive' found",
        ),
        (
            {"model": "claude-haiku-4.5", "thinking": {"type": "enabled", "budget_tokens": 100}},
            "greater than or equal to 1024",
        ),
        (
            {"model": "claude-haiku-4.5", "thinking": {"type": "enabled", "budget_tokens": 1024}},
            "`max_tokens` must be greater than",
        ),
        (
            {"model": "claude-haiku-4.5", "output_config": {"effort": "low"}},
            "output_config.effort: Extra inputs",
        ),
        (
            {"system": [text(), text(cache_control=MARK | {"scope": "global"})]},
            "system.1.cache_control.ephemeral.scope: Extra inputs are not permitted",
        ),
        (
            {"tools": [WEATHER | {"eager_input_streaming": True}]},
            "tools.0.custom.eager_input_streaming: Extra inputs are not permitted",
        ),
        ({"tools": [WEATHER | {"strict": True}]}, "tools.0.custom.strict: Extra inputs"),
        (
            {"tools": [{"name": "x", "input_schema": {}}]},
            "tools.0.custom.input_schema.type: Input should be 'object'",
        ),
        (
            {"tools": [WEATHER | {"defer_loading": True}]},
            "tools.0.custom.defer_loading: Extra inputs",
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "The use of the web search tool is not supported.",
        ),
        (
            {"messages": [user(text()), {"role": "assistant", "content": "so"}]},
            "does not support assistant message prefill",
        ),
        ({"messages": [user(text("  "))]}, "text content blocks must be non-empty"),
        (
            {"messages": [user(text()), {"role": "system", "content": "x"}]},
            'Unexpected role "system"',
        ),
        (
            {"messages": [{"role": "user", "content": "x", "output_config": {}}]},
            "messages.0.output_config: Extra inputs are not permitted",
        ),
        (
            {"messages": [user({"type": "tool_result", "tool_use_id": "no!", "content": "x"})]},
            "String should match pattern",
        ),
        (
            {"messages": [user({"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"})]},
            "unexpected `tool_use_id`",
        ),
        (
            {
                "messages": [
                    user(text()),
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t1", "name": "x", "input": {}}],
                    },
                    user(text("no result")),
                ]
            },
            "`tool_use` ids were found without `tool_result` blocks",
        ),
        (
            {"messages": [user(*[text(cache_control=MARK) for _ in range(5)])]},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
    ],
)
def test_what_the_provider_refuses(copilot, extra, words):
    answer = copilot.messages(**extra)
    assert answer.status_code == 400
    document = answer.json()
    assert document["type"] == "error"
    assert document["request_id"]
    assert words in document["error"]["message"]
    assert answer.headers["content-type"] == "application/json"
    assert not answer.text.endswith("\n")


def test_deferred_tools_have_rules_of_their_own(copilot):
    deferred = WEATHER | {"defer_loading": True}

    def refused(*tools, **more):
        answer = copilot.messages(tools=list(tools), betas=ADVANCED, **more)
        return answer.json()["error"]["message"]

    assert refused(deferred).startswith("At least one tool must have defer_loading=false")
    both = refused(
        {"name": "a", "input_schema": {"type": "object"}}, deferred | {"cache_control": MARK}
    )
    assert "cannot have both defer_loading=true and cache_control" in both


@pytest.mark.parametrize(
    "beta",
    [
        "context-1m-2025-08-07",
        "output-128k-2025-02-19",
        "tool-search-tool-2025-10-19",
        "per-turn-control-2026-07-01",
        "mid-conversation-tool-changes-2026-07-01",
        "thinking-token-count-2026-05-13",
        "structured-outputs-2025-11-13",
        "redact-thinking-2026-02-12",
    ],
)
def test_betas_outside_the_list_are_refused_by_copilot_itself(copilot, beta):
    answer = copilot.messages(betas=f"{CONTEXT}, {beta}")
    assert answer.json() == {
        "error": {
            "message": f"unsupported beta header(s): {beta}",
            "code": "invalid_request_body",
        }
    }
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_system_message_in_the_middle_needs_its_beta(copilot):
    history = [user(text("hello")), {"role": "system", "content": "Be brief."}]
    beta = "mid-conversation-system-2026-04-07"
    answer = copilot.messages(messages=history, betas=beta)
    assert answer.json()["content"][0]["text"] == "You said: hello"


def test_overflow_keeps_the_text_that_clients_look_for(copilot):
    answer = copilot.messages("x" * 900_000, "claude-haiku-4.5")
    assert r"tokens \u003e 200000 maximum" in answer.text
    error = answer.json()["error"]
    assert error["code"] == "model_max_prompt_tokens_exceeded"
    assert error["message"].startswith("prompt is too long: ")


def test_whole_answers_are_capped_and_streams_are_not(copilot):
    ask = "x" * 100_000
    whole = copilot.messages(ask, max_tokens=64_000).json()
    assert whole["stop_reason"] == "max_tokens"
    assert whole["usage"]["output_tokens"] == 16_000
    streamed = copilot.messages(ask, max_tokens=64_000, stream=True).text
    assert '"stop_reason":"end_turn"' in streamed


def test_count_tokens_grows_with_the_text_and_costs_nothing(simulator, copilot):
    def count(words):
        body = {"model": "claude-opus-5", "messages": [{"role": "user", "content": words}]}
        return copilot.post("/v1/messages/count_tokens", body).json()["input_tokens"]

    assert count("x" * 400) == count("x" * 40) + 90
    assert simulator.ledger()["requests"] == []
