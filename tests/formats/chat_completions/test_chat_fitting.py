"""Requests of other formats, fitted to Copilot's chat endpoint."""

import base64

import pytest

from proxy.errors import UnsupportedContent
from proxy.formats import chat_completions as chat
from proxy.formats.canonical import (
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

CLAUDE = ModelFacts(
    id="claude-sonnet-4.6",
    vendor="Anthropic",
    max_output_tokens=32000,
    max_non_streaming_output_tokens=16000,
    min_thinking_budget=1024,
    max_thinking_budget=8000,
)
GPT = ModelFacts(id="gpt-5-mini", vendor="Azure OpenAI", efforts=("low", "medium", "high"))
GEMINI = ModelFacts(id="gemini-3.1-pro-preview", vendor="Google")
MARK = {"type": "ephemeral"}


def text(words, **rest):
    return Text(text=words, **rest)


def user(*blocks):
    return Message(role="user", blocks=list(blocks))


def assistant(*blocks):
    return Message(role="assistant", blocks=list(blocks))


def build(*messages, model=CLAUDE, **rest):
    rest.setdefault("source", "messages")
    request = Request(model="alias", messages=list(messages) or [user(text("hi"))], **rest)
    return chat.build_request(request, model)


def test_system_blocks_become_one_leading_message():
    body = build(system=[text("Be brief."), text(""), text("Be kind.")]).body
    assert body["model"] == "claude-sonnet-4.6"
    assert body["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "hi"},
    ]


def test_cache_markers_count_for_their_message():
    system = [text("Be brief.", cache=MARK), text("Be kind.")]
    tool = Tool(name="look", cache={**MARK, "ttl": "1h"})
    body = build(user(text("a"), text("b", cache=MARK)), system=system, tools=[tool]).body
    assert body["messages"][0] == {
        "role": "system",
        "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "copilot_cache_control": MARK,
    }
    assert body["messages"][1]["copilot_cache_control"] == MARK
    assert body["tools"][0]["copilot_cache_control"] == MARK


def test_models_that_cache_by_themselves_get_no_markers():
    body = build(user(text("b", cache=MARK)), system=[text("s", cache=MARK)], model=GPT).body
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "b"},
    ]


def test_a_system_message_in_the_midst_stays_there():
    late = Message(role="developer", blocks=[text("Now in French.")])
    body = build(user(text("a")), assistant(text("b")), late, user(text("c"))).body
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "system", "user"]


def test_results_come_first_then_their_images_then_words():
    shot = Image(media_type="image/png", data="AAAA")
    calls = assistant(ToolUse(id="a", name="x", arguments="{}"), ToolUse(id="b", name="y"))
    first = user(text("hurry"), ToolResult(tool_use_id="a", content=[text("one"), text("two")]))
    second = user(ToolResult(tool_use_id="b", content=[shot], is_error=False))
    body = build(calls, first, second).body
    assert body["messages"][0]["tool_calls"][1]["function"] == {"name": "y", "arguments": "{}"}
    assert body["messages"][1:] == [
        {"role": "tool", "tool_call_id": "a", "content": "one\ntwo"},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": "The result is in the images that follow.",
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Images in the result of b:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {"role": "user", "content": "hurry"},
    ]


def test_an_error_without_words_says_error():
    empty = ToolResult(tool_use_id="a", content=[], is_error=True)
    told = ToolResult(tool_use_id="b", content=[text("no such file")], is_error=True)
    assert [m["content"] for m in build(user(empty, told)).body["messages"]] == [
        "Error",
        "no such file",
    ]


def test_consecutive_assistant_messages_are_one():
    body = build(
        assistant(text("Let me "), text("look.")),
        assistant(ToolUse(id="a", name="x")),
        assistant(ToolUse(id="b", name="x")),
        user(ToolResult(tool_use_id="a", content=[]), ToolResult(tool_use_id="b", content=[])),
    ).body
    assert [m["role"] for m in body["messages"]] == ["assistant", "tool", "tool"]
    assert body["messages"][0]["content"] == "Let me look."
    assert len(body["messages"][0]["tool_calls"]) == 2


def test_a_call_without_words_has_null_content():
    body = build(assistant(ToolUse(id="a", name="x"))).body
    assert body["messages"][0]["content"] is None


def test_own_reasoning_goes_back_and_other_reasoning_is_dropped():
    own = Thinking(text="hm", opaque=Opaque("copilot_chat", "sealed"))
    other = Thinking(text="ah", opaque=Opaque("anthropic", "sig"))
    built = build(assistant(own, text("a")), user(text("b")), assistant(other, text("c")))
    assert built.body["messages"][0]["reasoning_text"] == "hm"
    assert built.body["messages"][0]["reasoning_opaque"] == "sealed"
    assert built.body["messages"][2] == {"role": "assistant", "content": "c"}
    assert built.dropped == ["thinking"]


def test_a_message_of_foreign_reasoning_alone_vanishes():
    built = build(user(text("a")), assistant(Thinking(text="ah")), user(text("b")))
    assert [m["role"] for m in built.body["messages"]] == ["user", "user"]


def test_tool_ids_are_made_acceptable_and_keep_pairing():
    odd = "fc_" + "x" * 60
    body = build(
        assistant(ToolUse(id=odd, name="x"), ToolUse(id="call/1", name="x")),
        user(ToolResult(tool_use_id=odd, content=[]), ToolResult(tool_use_id="call/1", content=[])),
    ).body
    ids = [call["id"] for call in body["messages"][0]["tool_calls"]]
    assert ids == [m["tool_call_id"] for m in body["messages"][1:]]
    assert all(len(i) <= 40 and i.replace("_", "").isalnum() for i in ids)
    assert len(set(ids)) == 2


def test_custom_tools_become_functions_with_one_string():
    grammar = {"format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}}
    tool = Tool(name="patch", kind="custom", description="Edits.", extras=grammar)
    call = ToolUse(id="a", name="patch", arguments='*** "Begin"', custom=True)
    body = build(assistant(call), tools=[tool], source="responses").body
    function = body["tools"][0]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert function["description"].endswith("start: WORD")
    sent = body["messages"][0]["tool_calls"][0]
    assert sent["type"] == "function"
    assert sent["function"]["arguments"] == '{"input":"*** \\"Begin\\""}'


def test_server_tools_are_dropped_by_name():
    search = Tool(name="web_search", kind="server", family="anthropic", extras={})
    choice = ToolChoice(mode="tool", name="web_search")
    built = build(tools=[search, Tool(name="look")], tool_choice=choice)
    assert [t["function"]["name"] for t in built.body["tools"]] == ["look"]
    assert "tool_choice" not in built.body
    assert built.dropped == ["tools.web_search", "tool_choice"]


def test_no_choice_among_no_tools():
    body = build(tools=[], tool_choice=ToolChoice(mode="auto"), parallel_tools=True).body
    assert {"tools", "tool_choice", "parallel_tool_calls"}.isdisjoint(body)


@pytest.mark.parametrize(
    ("mode", "sent"),
    [
        ("auto", "auto"),
        ("any", "required"),
        ("none", "none"),
        ("tool", {"type": "function", "function": {"name": "look"}}),
    ],
)
def test_tool_choices(mode, sent):
    choice = ToolChoice(mode=mode, name="look" if mode == "tool" else None)
    assert build(tools=[Tool(name="look")], tool_choice=choice).body["tool_choice"] == sent


def test_text_documents_become_text_and_others_are_refused():
    encoded = base64.b64encode("Grüße".encode()).decode()
    body = build(user(Document(text="plain"), Document(media_type="text/plain", data=encoded))).body
    assert [part["text"] for part in body["messages"][0]["content"]] == ["plain", "Grüße"]
    for document in (
        Document(media_type="application/pdf", data="JVBERi0="),
        Document(media_type="text/plain", data="/w=="),
        Document(url="https://example.org/a.pdf"),
    ):
        with pytest.raises(UnsupportedContent):
            build(user(document))
        with pytest.raises(UnsupportedContent):
            build(user(ToolResult(tool_use_id="a", content=[document])))


def test_foreign_blocks_are_refused_by_name():
    block = Foreign(family="anthropic", kind="server_tool_use", value={})
    for message in (user(block), assistant(block)):
        with pytest.raises(UnsupportedContent, match="server_tool_use"):
            build(message)


def test_a_tool_reference_becomes_a_line():
    reference = Foreign(family="anthropic", kind="tool_reference", value={"tool_name": "look"})
    body = build(user(ToolResult(tool_use_id="a", content=[reference]))).body
    assert body["messages"][0]["content"] == "The tool look is available."


def test_images_need_eyes():
    image = Image(url="https://example.org/a.png", detail="low")
    body = build(user(text("look"), image)).body
    assert body["messages"][0]["content"][1]["image_url"] == {
        "url": "https://example.org/a.png",
        "detail": "low",
    }
    with pytest.raises(UnsupportedContent):
        build(user(image), model=ModelFacts(id="blind", vision=False))


# Knobs


def test_the_limit_has_the_vendors_name_and_the_models_ceiling():
    assert build(max_output_tokens=64000, stream=True).body["max_tokens"] == 32000
    assert build(max_output_tokens=64000).body["max_tokens"] == 16000
    assert build(max_output_tokens=64000, model=GPT).body["max_completion_tokens"] == 64000


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("high", "high"), ("xhigh", "high"), ("max", "high"), ("minimal", "low"), ("odd", "low")],
)
def test_efforts_are_lowered_to_what_the_model_lists(asked, sent):
    body = build(reasoning=Reasoning(effort=asked), model=GPT).body
    assert body["reasoning_effort"] == sent


def test_effort_for_a_model_that_lists_none_is_dropped():
    built = build(reasoning=Reasoning(effort="high"), model=GEMINI)
    assert "reasoning_effort" not in built.body
    assert built.dropped == ["reasoning_effort"]


@pytest.mark.parametrize(
    ("budget", "limit", "sent"),
    [(4000, None, 4000), (31999, 32000, 8000), (10, None, 1024), (6000, 5000, 4999)],
)
def test_thinking_budgets_are_clamped(budget, limit, sent):
    reasoning = Reasoning(mode="enabled", budget_tokens=budget)
    built = build(reasoning=reasoning, max_output_tokens=limit, stream=True)
    assert built.body["thinking_budget"] == sent
    assert built.dropped == []


def test_thinking_without_a_place_is_named():
    room = build(reasoning=Reasoning(mode="enabled", budget_tokens=1024), max_output_tokens=500)
    assert "thinking_budget" not in room.body
    assert room.dropped == ["thinking"]
    gemini = build(reasoning=Reasoning(mode="enabled", budget_tokens=4000), model=GEMINI)
    assert gemini.dropped == ["thinking"]
    shown = build(reasoning=Reasoning(mode="adaptive", display="omitted"))
    assert shown.dropped == ["thinking", "thinking.display"]
    assert build(reasoning=Reasoning(mode="disabled")).dropped == []


def test_a_stream_is_asked_for_its_usage():
    assert build(stream=True).body["stream_options"] == {"include_usage": True}
    assert "stream_options" not in build(stream=False).body


def test_knobs_without_a_place_are_named():
    built = build(
        top_k=5,
        user="u",
        metadata={"user_id": "u"},
        prompt_cache_key="k",
        verbosity="low",
        extras={"context_management": {}, "nothing": None},
    )
    assert built.body.keys() == {"model", "messages"}
    assert built.dropped == [
        "verbosity",
        "prompt_cache_key",
        "top_k",
        "user",
        "metadata",
        "context_management",
    ]
    kept = build(prompt_cache_key="k", verbosity="low", temperature=0.0, stop=["x"], model=GPT)
    assert kept.body["prompt_cache_key"] == "k"
    assert kept.body["verbosity"] == "low"
    assert kept.body["temperature"] == 0.0
    assert kept.body["stop"] == ["x"]


def test_a_schema_gets_a_name():
    wanted = OutputFormat(kind="json_schema", schema={"type": "object"})
    assert build(output_format=wanted).body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "response", "schema": {"type": "object"}},
    }
    plain = ModelFacts(id="m", structured_outputs=False)
    assert build(output_format=wanted, model=plain).dropped == ["response_format"]
