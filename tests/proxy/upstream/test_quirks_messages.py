"""Quirks of /v1/messages."""

from typing import Any

import pytest

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks import QuirkContext, apply, needed_betas

ADAPTIVE = ModelFacts(
    id="claude-new",
    vendor="Anthropic",
    max_output_tokens=64000,
    efforts=("low", "medium", "high", "max"),
    adaptive_thinking=True,
    min_thinking_budget=1024,
    max_thinking_budget=32000,
)
BUDGETED = ModelFacts(
    id="claude-old",
    vendor="Anthropic",
    max_output_tokens=64000,
    min_thinking_budget=1024,
    max_thinking_budget=32000,
)
BETAS = frozenset(
    {
        "advanced-tool-use-2025-11-20",
        "context-management-2025-06-27",
        "mid-conversation-system-2026-04-07",
    }
)
HELLO = {"role": "user", "content": "hello"}
MARKER = {"type": "ephemeral"}


def text(words: str, **more: object) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def send(
    model: ModelFacts = ADAPTIVE,
    *,
    betas: frozenset[str] = BETAS,
    endpoint: str = "messages",
    **fields: Any,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The body after the quirks, those that acted, and what was dropped of the client's wishes."""
    body: dict[str, Any] = {"model": model.id, "messages": [HELLO], "max_tokens": 1000, **fields}
    context = QuirkContext(betas=betas, stream=True)
    fired = apply(endpoint, body, model, context)
    return body, fired, context.dropped


def test_an_answer_replayed_with_all_fields_of_a_newer_sdk_is_taken() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
    said = [{**text("I look."), "citations": None}, {**call, "caller": None, "toolset_name": None}]
    result = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{**text("x"), "citations": None}],
        "toolset_name": "files",
    }
    history = [HELLO, {"role": "assistant", "content": said}, {"role": "user", "content": [result]}]

    body, fired, dropped = send(messages=history)

    assert fired == ["block_fields"]
    # A null said nothing; a value did.
    assert dropped == ["messages.tool_result.toolset_name"]
    assert body["messages"][1]["content"] == [text("I look."), call]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t1", "content": [text("x")]}
    ]


def test_blocks_of_unknown_kinds_keep_their_fields() -> None:
    block = {"type": "container_upload", "file_id": "f", "anything": None}

    body, fired, _ = send(messages=[{"role": "user", "content": [text("see"), block]}])

    assert fired == []
    assert body["messages"][0]["content"][1] == block


def test_a_clean_request_is_left_alone() -> None:
    clean = {
        "model": ADAPTIVE.id,
        "messages": [
            HELLO,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": "c2lnbmF0dXJl"},
                    {"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_01", "content": "x"},
                    {"type": "search_result", "source": "s", "citations": {"enabled": True}},
                    {"type": "document", "source": {}, "citations": {"enabled": True}},
                ],
            },
        ],
        "max_tokens": 64000,
        "system": [text("be brief", cache_control={"type": "ephemeral", "ttl": "1h"})],
        "tools": [{"name": "Read", "input_schema": {"type": "object"}}],
        "thinking": {"type": "adaptive", "display": "omitted"},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {}}},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "u"},
        "stream": True,
    }
    body, fired, dropped = send(**{k: v for k, v in clean.items() if k != "model"})
    assert body == clean
    assert (fired, dropped) == ([], [])


@pytest.mark.parametrize(
    ("system", "left"),
    [
        ([text("x-anthropic-billing-header: cc_version=2.1;"), text("rules")], [text("rules")]),
        ("x-anthropic-billing-header: cc_version=2.1;\nrules", "rules"),
        ([text("x-anthropic-billing-header: a")], None),
        ("x-anthropic-billing-header: a", None),
    ],
)
def test_the_changing_billing_line_goes(system: object, left: object) -> None:
    body, fired, dropped = send(system=system)
    assert body.get("system") == left
    assert fired == ["billing_line"]
    assert dropped == []


def test_refused_and_unknown_fields_go_and_are_named() -> None:
    body, fired, dropped = send(
        service_tier="auto", inference_geo="us", api_key="k", mcp_servers=[], output_format=None
    )
    assert set(body) == {"model", "messages", "max_tokens"} | (
        {"output_config"} if "output_config" in body else set()
    )
    assert {"refused_fields", "unknown_fields"} <= set(fired)
    assert dropped == ["service_tier", "inference_geo", "api_key", "mcp_servers"]


def test_the_older_output_format_moves_to_its_new_place() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    body, fired, dropped = send(output_format=wanted)
    assert body["output_config"] == {"format": wanted}
    assert (fired, dropped) == (["output_format"], [])


def test_fields_of_messages_beyond_role_and_content_go() -> None:
    body, fired, dropped = send(messages=[{**HELLO, "output_config": {"effort": "low"}}])
    assert body["messages"] == [HELLO]
    assert fired == ["message_fields"]
    assert dropped == ["messages.output_config"]


def test_the_server_web_search_goes_and_is_disclosed() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    other = {"name": "Read", "input_schema": {"type": "object"}}

    body, fired, dropped = send(
        tools=[search, other], tool_choice={"type": "tool", "name": "web_search"}
    )
    assert body["tools"] == [other]
    assert "tool_choice" not in body
    assert (fired, dropped) == (["web_search"], ["web_search"])

    alone, _, _ = send(tools=[search], tool_choice={"type": "auto"})
    assert "tools" not in alone
    assert "tool_choice" not in alone


def test_tool_fields_that_a_backend_lacks_go() -> None:
    tool = {
        "name": "t",
        "eager_input_streaming": True,
        "strict": True,
        "input_schema": {"$schema": "http://json-schema.org/draft-07/schema#"},
    }
    body, fired, dropped = send(tools=[tool])
    assert body["tools"] == [{"name": "t", "input_schema": {"type": "object"}}]
    assert fired == ["eager_input_streaming", "strict_tools", "tool_schemas"]
    assert dropped == ["eager_input_streaming", "tools.strict"]


def test_deferral_stays_with_its_beta_and_goes_without() -> None:
    tools = [{"name": "a", "defer_loading": True}, {"name": "b"}]
    with_beta, fired, _ = send(tools=[dict(tool) for tool in tools])
    assert (with_beta["tools"], fired) == (tools, [])

    without, fired, dropped = send(tools=tools, betas=frozenset())
    assert without["tools"] == [{"name": "a"}, {"name": "b"}]
    assert (fired, dropped) == (["deferral_beta"], ["defer_loading"])


def test_one_tool_at_least_is_sent_in_full() -> None:
    body, fired, _ = send(tools=[{"name": n, "defer_loading": True} for n in "ab"])
    assert body["tools"] == [{"name": "a"}, {"name": "b", "defer_loading": True}]
    assert fired == ["all_deferred"]


def test_a_deferred_tools_cache_marker_moves_to_the_last_full_tool() -> None:
    body, fired, _ = send(
        tools=[{"name": "a"}, {"name": "b", "defer_loading": True, "cache_control": MARKER}]
    )
    assert body["tools"] == [
        {"name": "a", "cache_control": MARKER},
        {"name": "b", "defer_loading": True},
    ]
    assert fired == ["deferred_cache_marker"]


def test_the_scope_of_cache_markers_goes_everywhere() -> None:
    scoped = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [text("in", cache_control=dict(scoped))],
    }
    body, fired, _ = send(
        system=[text("s", cache_control=dict(scoped))],
        tools=[{"name": "a", "cache_control": dict(scoped)}],
        messages=[{"role": "user", "content": [result]}],
    )
    assert fired == ["cache_scope"]
    assert "scope" not in str(body)
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_blank_text_goes_and_its_cache_marker_moves_back() -> None:
    body, fired, _ = send(
        system=[text("  ")],
        messages=[
            {"role": "user", "content": [text("hi"), text("\n", cache_control=MARKER)]},
            {"role": "assistant", "content": [text("")]},
            {"role": "user", "content": "   "},
            HELLO,
        ],
    )
    assert "system" not in body
    assert body["messages"] == [
        {"role": "user", "content": [text("hi", cache_control=MARKER)]},
        HELLO,
    ]
    assert fired == ["blank_text"]


def test_an_only_message_stays_even_when_blank() -> None:
    body, _, _ = send(messages=[{"role": "user", "content": " "}])
    assert body["messages"] == [{"role": "user", "content": " "}]


CLAUDE_CODE = [
    HELLO,
    {"role": "system", "content": [text("note", cache_control=MARKER)]},
]


def test_a_system_message_within_the_conversation_stays_with_its_beta() -> None:
    body, fired, _ = send(messages=CLAUDE_CODE)
    assert (body["messages"], fired) == (CLAUDE_CODE, [])
    assert needed_betas(body) == {"mid-conversation-system-2026-04-07"}


def test_without_the_beta_it_becomes_a_reminder_of_the_user_message_before() -> None:
    body, fired, _ = send(messages=CLAUDE_CODE, betas=frozenset())
    assert fired == ["mid_conversation_system"]
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                text("hello"),
                text(
                    "<system-reminder>\nnote\n</system-reminder>",
                    cache_control=MARKER,
                ),
            ],
        }
    ]


def test_a_reminder_never_stands_between_a_call_and_its_result() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n"}]}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "ok"}
    body, _, _ = send(
        betas=frozenset(),
        messages=[
            {"role": "system", "content": "first"},
            HELLO,
            call,
            {"role": "system", "content": "<system-reminder>kept</system-reminder>"},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": "done"},
            {"role": "system", "content": "last"},
        ],
    )
    assert body["messages"] == [
        {
            "role": "user",
            "content": [text("hello"), text("<system-reminder>\nfirst\n</system-reminder>")],
        },
        call,
        {"role": "user", "content": [result, text("<system-reminder>kept</system-reminder>")]},
        {"role": "assistant", "content": "done"},
        {
            "role": "user",
            "content": [text("<system-reminder>\nlast\n</system-reminder>")],
        },
    ]


def test_tool_ids_get_the_pattern_on_both_sides_and_stay_apart() -> None:
    def turn(call: str) -> list[dict[str, Any]]:
        return [
            {"role": "assistant", "content": [{"type": "tool_use", "id": call}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call}]},
        ]

    body, fired, _ = send(messages=[HELLO, *turn("call.1"), *turn("call:1"), *turn("call_1")])
    ids = [
        block.get("id", block.get("tool_use_id"))
        for message in body["messages"][1:]
        for block in message["content"]
    ]
    assert fired == ["tool_ids"]
    assert ids[0::2] == ids[1::2]
    assert len(set(ids)) == 3
    assert ids[4] == "call_1"
    assert all(each.replace("_", "").isalnum() for each in ids)


def test_the_last_four_cache_markers_stay() -> None:
    body, fired, _ = send(
        system=[text("s1", cache_control=MARKER), text("s2", cache_control=MARKER)],
        tools=[{"name": "t", "cache_control": MARKER}],
        messages=[
            {"role": "user", "content": [text(n, cache_control=MARKER) for n in ("1", "2", "3")]}
        ],
    )
    assert fired == ["cache_markers"]
    assert body["tools"] == [{"name": "t"}]
    assert [("cache_control" in block) for block in body["system"]] == [False, True]
    assert all("cache_control" in block for block in body["messages"][0]["content"])


def test_context_management_goes_without_its_beta() -> None:
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    body, fired, dropped = send(context_management=edits, betas=frozenset())
    assert "context_management" not in body
    assert (fired, dropped) == (["context_management"], ["context_management"])
    assert needed_betas({"context_management": edits}) == {"context-management-2025-06-27"}
    assert needed_betas({"tools": [{"defer_loading": True}]}) == {"advanced-tool-use-2025-11-20"}
    assert needed_betas({"messages": "x", "tools": 3}) == set()


@pytest.mark.parametrize(("asked", "given"), [(128000, 64000), (None, 64000), (64000, 64000)])
def test_max_tokens_is_the_models_limit_at_most(asked: int | None, given: int) -> None:
    body, fired, _ = send(max_tokens=asked)
    assert body["max_tokens"] == given
    assert fired == ([] if asked == given else ["output_limit"])


@pytest.mark.parametrize(
    ("budget", "effort"), [(2000, "low"), (4000, "low"), (10000, "medium"), (31999, "high")]
)
def test_a_budget_becomes_an_effort_on_adaptive_models(budget: int, effort: str) -> None:
    body, fired, _ = send(thinking={"type": "enabled", "budget_tokens": budget}, max_tokens=50000)
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": effort}
    assert fired == ["adaptive_only"]


def test_an_effort_that_was_said_stays_when_the_budget_goes() -> None:
    body, _, _ = send(
        thinking={"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
        output_config={"effort": "max"},
    )
    assert body["thinking"] == {"type": "adaptive", "display": "omitted"}
    assert body["output_config"] == {"effort": "max"}


@pytest.mark.parametrize(
    ("effort", "max_tokens", "budget"),
    [
        ("low", 64000, 4000),
        ("medium", 64000, 16000),
        ("high", 64000, 32000),
        ("max", 20000, 19999),
        (None, 64000, 16000),
        ("minimal", 64000, 1024),
    ],
)
def test_adaptive_becomes_a_budget_on_other_models(
    effort: str | None, max_tokens: int, budget: int
) -> None:
    body, fired, _ = send(
        BUDGETED,
        thinking={"type": "adaptive", "display": "omitted"},
        output_config={"effort": effort} if effort else {},
        max_tokens=max_tokens,
    )
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget, "display": "omitted"}
    assert "no_adaptive" in fired
    assert "effort" not in body.get("output_config", {})


def test_a_model_without_budgets_answers_without_thinking() -> None:
    plain = ModelFacts(id="plain", vendor="Anthropic", max_output_tokens=64000)
    body, fired, dropped = send(
        plain,
        thinking={"type": "adaptive"},
        context_management={
            "edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
        },
    )
    assert "thinking" not in body
    assert body["context_management"] == {"edits": [{"type": "clear_tool_uses_20250919"}]}
    assert (fired, dropped) == (["no_adaptive"], ["thinking"])


@pytest.mark.parametrize(
    ("budget", "max_tokens", "given"),
    [(100, 64000, 1024), (50000, 64000, 32000), (8000, 4000, 3999), (None, 64000, 32000)],
)
def test_a_budget_keeps_within_the_models_and_below_max_tokens(
    budget: int | None, max_tokens: int, given: int
) -> None:
    body, fired, _ = send(
        BUDGETED, thinking={"type": "enabled", "budget_tokens": budget}, max_tokens=max_tokens
    )
    assert body["thinking"]["budget_tokens"] == given
    assert fired == ["thinking_budget"]


def test_thinking_goes_where_max_tokens_leaves_no_room() -> None:
    body, fired, dropped = send(
        BUDGETED,
        thinking={"type": "enabled", "budget_tokens": 2000},
        max_tokens=1024,
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    )
    assert "thinking" not in body
    assert "context_management" not in body
    assert (fired, dropped) == (["thinking_budget"], ["thinking"])


@pytest.mark.parametrize(
    ("asked", "given"), [("xhigh", "high"), ("minimal", "low"), ("max", "max"), ("turbo", None)]
)
def test_an_effort_that_is_not_listed_becomes_the_next_lower(asked: str, given: str | None) -> None:
    body, fired, dropped = send(output_config={"effort": asked})
    assert body.get("output_config", {}).get("effort") == given
    assert fired == ([] if asked == given else ["effort"])
    assert dropped == ([] if asked == given else ["output_config.effort"])


def test_a_model_without_efforts_keeps_the_output_format() -> None:
    wanted = {"type": "json_schema"}
    body, _, _ = send(BUDGETED, output_config={"effort": "high", "format": wanted})
    assert body["output_config"] == {"format": wanted}


def test_disabled_thinking_stays() -> None:
    body, fired, _ = send(BUDGETED, thinking={"type": "disabled"})
    assert (body["thinking"], fired) == ({"type": "disabled"}, [])


def test_counting_takes_the_prompt_alone() -> None:
    body, fired, _ = send(endpoint="count_tokens", stream=True, temperature=1)
    assert body == {"model": ADAPTIVE.id, "messages": [HELLO]}
    assert fired == ["count_fields"]
