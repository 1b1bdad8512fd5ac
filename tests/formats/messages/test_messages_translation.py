"""Requests of other formats, written for Claude's endpoint."""

from typing import Any

import pytest

from proxy.errors import InvalidRequest, UnsupportedContent
from proxy.formats import messages
from proxy.formats.canonical import (
    Block,
    Document,
    Foreign,
    Image,
    Message,
    ModelFacts,
    Opaque,
    OutputFormat,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from tests.formats.messages import messages_golden as golden

OPUS = ModelFacts(
    id="claude-opus-5",
    max_output_tokens=64000,
    adaptive_thinking=True,
    efforts=("low", "medium", "high", "max"),
)
HAIKU = ModelFacts(
    id="claude-haiku-4.5",
    max_output_tokens=64000,
    min_thinking_budget=1024,
    max_thinking_budget=32000,
)
LOOKUP = Tool(name="lookup", schema={"type": "object", "properties": {}})


def user(*blocks: Block | str) -> Message:
    return Message(role="user", blocks=[Text(text=b) if isinstance(b, str) else b for b in blocks])


def assistant(*blocks: Block | str) -> Message:
    message = user(*blocks)
    message.role = "assistant"
    return message


def system(text: str, role: Any = "system") -> Message:
    return Message(role=role, blocks=[Text(text=text)], plain=True)


def ask(*turns: Message, **fields: Any) -> Request:
    fields = {"source": "chat_completions", "model": "claude", **fields}
    return Request(messages=list(turns) or [user("hi")], **fields)


def build(request: Request, model: ModelFacts = OPUS) -> dict[str, Any]:
    return messages.build_request(request, model).body


def dropped(request: Request, model: ModelFacts = OPUS) -> list[str]:
    return messages.build_request(request, model).dropped


def test_system_messages_at_the_head_become_the_system_prompt() -> None:
    body = build(
        ask(
            system("one"),
            system("two", "developer"),
            user("hi"),
            assistant("yes"),
            system("later"),
            user("go"),
            system=[Text(text="zero", cache={"type": "ephemeral"})],
        )
    )

    assert body["system"] == [
        {"type": "text", "text": "zero", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "one"},
        {"type": "text", "text": "two"},
    ]
    assert body["messages"][-1] == {
        "role": "user",
        "content": [
            {"type": "text", "text": "<system-reminder>\nlater\n</system-reminder>"},
            {"type": "text", "text": "go"},
        ],
    }


def test_turns_alternate_and_results_come_first() -> None:
    body = build(
        ask(
            user("go"),
            assistant("So."),
            assistant(ToolUse(id="a.1", name="x", arguments='{"k":1}')),
            assistant(ToolUse(id="b", name="x", arguments="")),
            system("careful"),
            user(ToolResult(tool_use_id="a.1", content=[Text(text="R1")], plain=True)),
            user(ToolResult(tool_use_id="b", content=[Text(text="R2")], is_error=True)),
            user("and?"),
        )
    )

    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    calls = body["messages"][1]["content"]
    assert [block.get("input") for block in calls] == [None, {"k": 1}, {}]
    last = body["messages"][2]["content"]
    assert [block["type"] for block in last] == ["tool_result", "tool_result", "text", "text"]
    assert last[0] == {
        "type": "tool_result",
        "tool_use_id": calls[1]["id"],
        "content": "R1",
    }
    assert last[1]["content"] == [{"type": "text", "text": "R2"}]
    assert last[1]["is_error"] is True
    assert calls[1]["id"].startswith("cgw1_")
    assert calls[2]["id"] == "b"


def test_blank_texts_and_empty_messages_are_left_out() -> None:
    body = build(ask(user("hi"), assistant("  \n"), user("", "there")))

    assert body["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}],
        }
    ]


def test_a_request_of_system_messages_only_asks_what_they_say() -> None:
    body = build(ask(system("Say hi.")))

    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hi."}]}]
    assert "system" not in body


def test_a_request_with_nothing_to_say_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="messages"):
        build(ask(user(" ")))


def test_a_trailing_assistant_message_is_passed_on() -> None:
    assert build(ask(user("hi"), assistant("I")))["messages"][-1]["role"] == "assistant"


def test_only_anthropics_reasoning_stays_in_the_history() -> None:
    request = ask(
        user("go"),
        assistant(
            Thinking(text="", opaque=Opaque("anthropic", "Eq==")),
            Thinking(opaque=Opaque("anthropic", "Em=="), redacted=True),
            Thinking(text="hm", opaque=Opaque("openai", "gA")),
            Thinking(text="unsigned"),
            "yes",
        ),
        user("more"),
    )

    assert build(request)["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "", "signature": "Eq=="},
        {"type": "redacted_thinking", "data": "Em=="},
        {"type": "text", "text": "yes"},
    ]
    assert dropped(request) == ["thinking"]


def test_images_and_documents_are_mapped() -> None:
    body = build(
        ask(
            user(
                Image(media_type="image/png", data="AA=="),
                Image(url="https://example.invalid/a.png", detail="auto"),
                Document(media_type="application/pdf", data="JVBE", name="a.pdf"),
                Document(media_type="text/markdown", data="IyBI"),
                Document(url="https://example.invalid/a.pdf"),
                Document(text="plain"),
            )
        )
    )

    blocks = body["messages"][0]["content"]
    assert [block["source"] for block in blocks] == [
        {"type": "base64", "media_type": "image/png", "data": "AA=="},
        {"type": "url", "url": "https://example.invalid/a.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        {"type": "text", "media_type": "text/plain", "data": "# H"},
        {"type": "url", "url": "https://example.invalid/a.pdf"},
        {"type": "text", "media_type": "text/plain", "data": "plain"},
    ]
    assert blocks[2]["title"] == "a.pdf"


@pytest.mark.parametrize(
    ("blocks", "named"),
    [
        ([Foreign(family="openai", kind="compaction", value={})], "compaction"),
        ([Document(media_type="application/zip", data="AA==")], "application/zip"),
        ([Document()], "document"),
        ([Image()], "image"),
        ([Image(data="AA==")], "media type"),
    ],
)
def test_content_without_a_place_is_refused(blocks: list[Block], named: str) -> None:
    with pytest.raises(UnsupportedContent, match=named):
        build(ask(user(*blocks)))


def test_an_image_of_the_assistant_is_refused() -> None:
    with pytest.raises(UnsupportedContent, match="image"):
        build(ask(user("x"), assistant(Image(url="https://example.invalid/a.png"))))


def test_records_of_a_web_search_are_left_out() -> None:
    record = Foreign(family="openai", kind="web_search_call", value={})

    assert len(build(ask(user("x"), assistant(record, "yes"), user("go")))["messages"]) == 3


def test_several_answers_are_refused() -> None:
    with pytest.raises(UnsupportedContent, match="n must be 1"):
        build(ask(n=2))
    assert "n" not in build(ask(n=1))


def test_knobs_without_a_place_are_named() -> None:
    request = ask(
        seed=0,
        presence_penalty=0.5,
        frequency_penalty=0.0,
        logprobs=True,
        top_logprobs=2,
        verbosity="low",
        prompt_cache_key="k",
        metadata={"a": "b"},
        user="u",
        extras={"logit_bias": {}, "store": False},
        stop=["END", "\n"],
    )

    assert build(request)["metadata"] == {"user_id": "u"}
    assert build(request)["stop_sequences"] == ["END"]
    assert set(dropped(request)) == {
        "seed",
        "presence_penalty",
        "logprobs",
        "top_logprobs",
        "verbosity",
        "prompt_cache_key",
        "metadata",
        "logit_bias",
        "store",
        "stop",
    }


@pytest.mark.parametrize(
    ("given", "written", "named"),
    [
        ({"temperature": 1.7}, {"temperature": 1.0}, ["temperature"]),
        ({"temperature": 0.2}, {"temperature": 0.2}, []),
        ({"temperature": 0.2, "top_p": 1}, {"temperature": 0.2}, []),
        ({"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}, ["top_p"]),
        ({"temperature": 1, "top_p": 0.5}, {"top_p": 0.5}, []),
        ({"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}, []),
    ],
)
def test_sampling_stays_within_what_claude_takes(
    given: dict[str, Any], written: dict[str, Any], named: list[str]
) -> None:
    body = build(ask(**given))

    assert {k: body[k] for k in ("temperature", "top_p", "top_k") if k in body} == written
    assert dropped(ask(**given)) == named


@pytest.mark.parametrize(
    ("wanted", "limit", "written"),
    [(None, 64000, 64000), (None, None, 4096), (100, 64000, 100), (99999, 64000, 64000)],
)
def test_max_tokens_is_always_there(wanted: int | None, limit: int | None, written: int) -> None:
    facts = ModelFacts(id="m", max_output_tokens=limit)

    assert build(ask(max_output_tokens=wanted), facts)["max_tokens"] == written


@pytest.mark.parametrize(
    ("effort", "written"),
    [("low", "low"), ("xhigh", "high"), ("max", "max"), ("medium", "medium")],
)
def test_an_effort_is_set_to_one_that_the_model_lists(effort: str, written: str) -> None:
    body = build(ask(reasoning=Reasoning(effort=effort), temperature=0.3, top_k=5))

    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": written}
    assert "temperature" not in body
    assert "top_k" not in body


def test_an_effort_below_the_lowest_becomes_the_lowest() -> None:
    facts = ModelFacts(id="m", adaptive_thinking=True, efforts=("medium", "high"))

    assert build(ask(reasoning=Reasoning(effort="low")), facts)["output_config"] == {
        "effort": "medium"
    }


def test_a_model_without_efforts_thinks_without_one() -> None:
    facts = ModelFacts(id="m", adaptive_thinking=True)
    request = ask(reasoning=Reasoning(effort="low"))

    assert "output_config" not in build(request, facts)
    assert build(request, facts)["thinking"]["type"] == "adaptive"
    assert dropped(request, facts) == ["reasoning_effort"]


@pytest.mark.parametrize("effort", ["none", "minimal"])
def test_no_effort_is_no_thinking(effort: str) -> None:
    request = ask(reasoning=Reasoning(effort=effort))

    assert build(request)["thinking"] == {"type": "disabled"}
    assert "thinking" not in build(request, HAIKU)


@pytest.mark.parametrize(
    ("reasoning", "max_tokens", "budget"),
    [
        (Reasoning(effort="low"), 64000, 4096),
        (Reasoning(effort="medium"), 64000, 10240),
        (Reasoning(effort="high"), 64000, 24576),
        (Reasoning(effort="max"), 64000, 32000),
        (Reasoning(budget_tokens=500), 64000, 1024),
        (Reasoning(budget_tokens=2000), 64000, 2000),
        (Reasoning(effort="high"), 8000, 6000),
        (Reasoning(effort="high"), 1025, 1024),
        (Reasoning(effort="high"), 1024, None),
    ],
)
def test_other_models_get_a_budget_below_max_tokens(
    reasoning: Reasoning, max_tokens: int, budget: int | None
) -> None:
    request = ask(reasoning=reasoning, max_output_tokens=max_tokens)

    body = build(request, HAIKU)

    assert body["max_tokens"] == max_tokens
    if budget is None:
        assert "thinking" not in body
        assert dropped(request, HAIKU) == ["reasoning_effort"]
    else:
        assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    request = ask(reasoning=Reasoning(effort="high"))

    assert "thinking" not in build(request, ModelFacts(id="m"))
    assert dropped(request, ModelFacts(id="m")) == ["reasoning_effort"]


def test_a_wish_for_summaries_alone_changes_nothing() -> None:
    assert "thinking" not in build(ask(reasoning=Reasoning(summary="auto")))


@pytest.mark.parametrize("mode", ["any", "tool"])
def test_a_forced_tool_goes_before_thinking(mode: Any) -> None:
    request = ask(
        tools=[LOOKUP],
        tool_choice=ToolChoice(mode=mode, name="lookup"),
        reasoning=Reasoning(effort="high"),
    )

    assert "thinking" not in build(request)
    assert dropped(request) == ["reasoning_effort"]


def test_a_tool_loop_that_lost_its_thinking_goes_on_without_a_budget() -> None:
    loop = ask(
        user("go"),
        assistant(ToolUse(id="a", name="lookup", arguments="{}")),
        user(ToolResult(tool_use_id="a", content=[Text(text="R")])),
        reasoning=Reasoning(effort="high"),
    )

    assert "thinking" not in build(loop, HAIKU)
    assert build(loop)["thinking"]["type"] == "adaptive"


def test_tools_are_offered_as_claude_takes_them() -> None:
    request = ask(
        tools=[
            Tool(name="a", description="A.", schema={"$schema": "x", "properties": {}}),
            Tool(name="b", strict=True),
            Tool(
                name="patch",
                kind="custom",
                description="Patches.",
                extras={"format": {"type": "grammar", "definition": "start: x"}},
            ),
            Tool(name="web_search", kind="server", family="openai", extras={"type": "web_search"}),
        ],
        parallel_tools=False,
    )

    body = build(request)

    assert body["tools"][0] == {
        "name": "a",
        "description": "A.",
        "input_schema": {"type": "object", "properties": {}},
    }
    assert body["tools"][1]["input_schema"] == {"type": "object", "properties": {}}
    assert body["tools"][2]["input_schema"]["required"] == ["input"]
    assert body["tools"][2]["description"].endswith("start: x")
    assert len(body["tools"]) == 3
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert dropped(request) == ["tools.strict", "tools.web_search"]


def test_the_call_of_a_custom_tool_is_replayed_as_its_function() -> None:
    body = build(ask(user("x"), assistant(ToolUse(id="a", name="p", arguments="***", custom=True))))

    assert body["messages"][1]["content"][0]["input"] == {"input": "***"}


def test_a_choice_without_tools_is_left_out() -> None:
    forced = ask(tool_choice=ToolChoice(mode="any"), tools=[])

    assert "tool_choice" not in build(forced)
    assert dropped(forced) == ["tool_choice"]
    assert dropped(ask(tool_choice=ToolChoice(mode="auto"))) == []
    missing = ask(tools=[LOOKUP], tool_choice=ToolChoice(mode="tool", name="gone"))
    assert dropped(missing) == ["tool_choice"]


def test_a_forced_tool_is_found_beside_a_server_tool_without_a_name() -> None:
    toolset = {"type": "mcp_toolset", "mcp_server_name": "m"}
    server = Tool(name="mcp_toolset", kind="server", family="anthropic", extras=toolset)
    choice = ToolChoice(mode="tool", name="lookup")

    body = build(ask(tools=[server, LOOKUP], tool_choice=choice))

    assert body["tools"][0] == toolset
    assert body["tool_choice"] == {"type": "tool", "name": "lookup"}


def test_annotations_of_other_vendors_are_left_out() -> None:
    citation = {"type": "char_location", "cited_text": "c"}
    others = [{"type": "url_citation"}, {"type": []}, {}]

    body = build(ask(user("x"), assistant(Text(text="So.", annotations=[*others, citation]))))

    assert body["messages"][1]["content"][0]["citations"] == [citation]


def test_a_schema_is_asked_for_or_told() -> None:
    schema = {"type": "object", "properties": {}}
    request = ask(
        output_format=OutputFormat(kind="json_schema", name="x", schema=schema),
        reasoning=Reasoning(effort="low"),
    )

    body = build(request)
    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": schema},
        "effort": "low",
    }
    assert "system" not in body

    told = build(request, ModelFacts(id="m", structured_outputs=False))
    assert '{"type":"object","properties":{}}' in told["system"][-1]["text"]
    assert "output_config" not in told


def test_json_mode_becomes_an_instruction_behind_the_system_prompt() -> None:
    request = ask(system("Be brief."), user("x"), output_format=OutputFormat(kind="json_object"))

    prompt = build(request)["system"]

    assert prompt[0]["text"] == "Be brief."
    assert "JSON object" in prompt[1]["text"]


def test_fields_of_another_source_are_never_written() -> None:
    message = user(Text(text="x", extras={"odd": 1}))
    message.extras = {"odd": 1}

    assert "odd" not in str(build(ask(message, extras={"odd": 1})))


def test_a_claude_code_request_is_ready_for_other_formats() -> None:
    request = messages.parse_request(golden.load("request-claude-code-opus-5-5.json"))

    assert request.source == "messages"
    assert [message.role for message in request.messages] == ["user", "system"]
    assert request.messages[1].extras == {"output_config": {"effort": "medium"}}
    assert request.reasoning == Reasoning(effort="medium", mode="adaptive", display="omitted")
    assert request.tools is not None
    assert request.tools[2].defer_loading is True
    assert set(request.extras) == {"context_management"}
