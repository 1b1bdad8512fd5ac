"""Requests of other formats, as Copilot's /responses takes them."""

from typing import Any

import pytest

from proxy.errors import UnsupportedContent
from proxy.formats import responses
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

GPT = ModelFacts(
    id="gpt-5.5",
    max_output_tokens=128_000,
    efforts=("none", "low", "medium", "high", "xhigh"),
)


def request(*messages: Message, source: str = "messages", **fields: Any) -> Request:
    said = messages or (Message(role="user", blocks=[Text(text="hi")]),)
    return Request(source=source, model="gpt-5.5", messages=list(said), **fields)


def body(*messages: Message, model: ModelFacts = GPT, **fields: Any) -> dict[str, Any]:
    return responses.build_request(request(*messages, **fields), model).body


def user(*blocks: Block) -> Message:
    return Message(role="user", blocks=list(blocks))


def assistant(*blocks: Block) -> Message:
    return Message(role="assistant", blocks=list(blocks))


def test_a_tool_loop_becomes_items() -> None:
    built = body(
        user(Text(text="look")),
        assistant(
            Thinking(text="hm", opaque=Opaque("openai", "gAA")),
            Text(text="Looking."),
            ToolUse(id="toolu_1", name="lookup", arguments='{"k":1}'),
            ToolUse(id="toolu_2", name="now"),
        ),
        user(
            ToolResult(tool_use_id="toolu_1", content=[Text(text="a"), Text(text="b")]),
            ToolResult(
                tool_use_id="toolu_2",
                content=[Text(text="see"), Image(media_type="image/png", data="iVBO")],
            ),
            Text(text="go on"),
        ),
        system=[Text(text="One."), Text(text="Two.")],
    )

    assert built["instructions"] == "One.\n\nTwo."
    assert built["store"] is False
    assert built["input"] == [
        {"role": "user", "content": [{"type": "input_text", "text": "look"}], "type": "message"},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "gAA",
        },
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Looking."}],
            "type": "message",
        },
        {
            "type": "function_call",
            "name": "lookup",
            "call_id": "toolu_1",
            "arguments": '{"k":1}',
        },
        {"type": "function_call", "name": "now", "call_id": "toolu_2", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "toolu_1", "output": "a\n\nb"},
        {
            "type": "function_call_output",
            "call_id": "toolu_2",
            "output": [
                {"type": "input_text", "text": "see"},
                {
                    "type": "input_image",
                    "image_url": "data:image/png;base64,iVBO",
                    "detail": "high",
                },
            ],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "go on"}], "type": "message"},
    ]


def test_a_system_message_inside_the_conversation_keeps_its_place() -> None:
    built = body(
        user(Text(text="hi")), Message(role="system", blocks=[Text(text="Now.")], plain=True)
    )

    assert [item["role"] for item in built["input"]] == ["user", "developer"]
    assert built["input"][1]["content"] == [{"type": "input_text", "text": "Now."}]


def test_files_and_images_are_carried() -> None:
    built = body(
        user(
            Document(media_type="application/pdf", data="JVBE"),
            Document(url="https://example.test/a.pdf", name="a.pdf"),
            Document(text="plain words", media_type="text/plain"),
            Image(url="https://example.test/a.png", detail="low"),
        )
    )

    assert built["input"][0]["content"] == [
        {
            "type": "input_file",
            "file_data": "data:application/pdf;base64,JVBE",
            "filename": "document.pdf",
        },
        {"type": "input_file", "filename": "a.pdf", "file_url": "https://example.test/a.pdf"},
        {"type": "input_text", "text": "plain words"},
        {"type": "input_image", "image_url": "https://example.test/a.png", "detail": "low"},
    ]


def test_thoughts_of_another_model_are_left_out_by_name() -> None:
    built = responses.build_request(
        request(
            user(Text(text="hi")),
            assistant(
                Thinking(text="hm", opaque=Opaque("anthropic", "EqQB")),
                Thinking(redacted=True, opaque=Opaque("anthropic", "EqQB")),
                Thinking(text="unsigned"),
                Text(text="Hi."),
            ),
        ),
        GPT,
    )

    assert [item["role"] for item in built.body["input"]] == ["user", "assistant"]
    assert built.dropped == ["thinking"]


@pytest.mark.parametrize(
    "block",
    [
        Foreign(family="anthropic", kind="server_tool_use", value={}),
        Image(media_type="image/png", data="x"),
        ToolResult(tool_use_id="x", content=[]),
    ],
)
def test_what_an_assistant_cannot_say_here_is_refused(block: Block) -> None:
    with pytest.raises(UnsupportedContent):
        body(user(Text(text="hi")), assistant(block))


def test_a_foreign_block_of_the_user_is_refused_by_its_name() -> None:
    with pytest.raises(UnsupportedContent, match="container_upload"):
        body(user(Foreign(family="anthropic", kind="container_upload", value={})))


def test_a_found_tool_becomes_words() -> None:
    reference = Foreign(family="anthropic", kind="tool_reference", value={"tool_name": "grep"})

    built = body(user(ToolResult(tool_use_id="c", content=[reference])))

    assert built["input"][0]["output"] == "Tool grep is available."


def test_ids_of_other_wires_are_made_to_fit_both_in_call_and_result() -> None:
    strange = "functions.lookup:0"
    built = body(
        assistant(ToolUse(id=strange, name="x"), ToolUse(id="y" * 99, name="x")),
        user(
            ToolResult(tool_use_id=strange, content=[]),
            ToolResult(tool_use_id="y" * 99, content=[]),
        ),
    )

    ids = [item["call_id"] for item in built["input"]]
    assert ids[0] == ids[2]
    assert ids[1] == ids[3]
    assert ids[0] != ids[1]
    assert all(len(one) <= 64 and one.replace("_", "").isalnum() for one in ids)


@pytest.mark.parametrize(
    ("reasoning", "efforts", "expected"),
    [
        (Reasoning(effort="max"), GPT.efforts, {"effort": "xhigh"}),
        (Reasoning(effort="xhigh"), ("low", "medium", "high"), {"effort": "high"}),
        (Reasoning(effort="low"), ("medium", "high"), {"effort": "medium"}),
        (Reasoning(effort="minimal"), GPT.efforts, {"effort": "low"}),
        (Reasoning(effort="none"), GPT.efforts, {"effort": "none"}),
        (Reasoning(effort="none"), ("low", "high"), {"effort": "low"}),
        (Reasoning(effort="max"), (), {"effort": "max"}),
        (Reasoning(mode="disabled"), GPT.efforts, {"effort": "none"}),
        (Reasoning(mode="disabled"), ("low", "high"), {"effort": "low"}),
        (Reasoning(mode="disabled"), (), None),
        (
            Reasoning(mode="enabled", budget_tokens=2000, display="omitted"),
            GPT.efforts,
            {"effort": "low"},
        ),
        (
            Reasoning(mode="enabled", budget_tokens=8000, display="omitted"),
            GPT.efforts,
            {"effort": "medium"},
        ),
        (
            Reasoning(mode="enabled", budget_tokens=31999),
            GPT.efforts,
            {"effort": "high", "summary": "auto"},
        ),
        (
            Reasoning(mode="adaptive", effort="medium", display="summarized"),
            GPT.efforts,
            {"effort": "medium", "summary": "auto"},
        ),
        (Reasoning(mode="adaptive", display="omitted"), GPT.efforts, None),
        (Reasoning(summary="detailed"), GPT.efforts, {"summary": "detailed"}),
    ],
)
def test_effort_is_what_the_model_lists(
    reasoning: Reasoning, efforts: tuple[str, ...], expected: dict[str, str] | None
) -> None:
    built = body(model=ModelFacts(id="m", efforts=efforts), reasoning=reasoning)

    assert built.get("reasoning") == expected
    wants = reasoning.mode != "disabled"
    assert (built.get("include") == ["reasoning.encrypted_content"]) is wants


@pytest.mark.parametrize(("asked", "sent"), [(8, 16), (100, 100), (200_000, 128_000), (None, None)])
def test_the_output_limit_is_one_the_upstream_takes(asked: int | None, sent: int | None) -> None:
    assert body(max_output_tokens=asked).get("max_output_tokens") == sent


def test_tools_are_offered_without_strictness() -> None:
    built = responses.build_request(
        request(
            tools=[
                Tool(name="lookup", description="d", schema={"type": "object"}, defer_loading=True),
                Tool(name="bare", strict=True, cache={"type": "ephemeral"}),
                Tool(name="web_search", kind="server", family="anthropic", extras={"x": 1}),
            ],
            tool_choice=ToolChoice(mode="any"),
            parallel_tools=False,
        ),
        GPT,
    )

    assert built.body["tools"] == [
        {
            "type": "function",
            "name": "lookup",
            "description": "d",
            "parameters": {"type": "object"},
            "strict": False,
        },
        {
            "type": "function",
            "name": "bare",
            "strict": False,
            "parameters": {"type": "object", "properties": {}},
        },
    ]
    assert built.body["tool_choice"] == "required"
    assert built.body["parallel_tool_calls"] is False
    assert built.dropped == ["tools.strict", "tools.web_search"]


def test_a_custom_tool_of_chat_keeps_its_grammar() -> None:
    form = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}
    tool = Tool(name="patch", kind="custom", extras={"format": form})

    built = body(
        source="chat_completions",
        tools=[tool],
        tool_choice=ToolChoice(mode="tool", name="patch", custom=True),
    )

    assert built["tools"] == [
        {
            "type": "custom",
            "name": "patch",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
        }
    ]
    assert built["tool_choice"] == {"type": "custom", "name": "patch"}


def test_a_tool_choice_without_tools_is_not_sent() -> None:
    built = body(tool_choice=ToolChoice(mode="auto"), parallel_tools=True)

    assert "tool_choice" not in built
    assert "parallel_tool_calls" not in built


def test_knobs_without_a_place_are_named_as_the_client_names_them() -> None:
    built = responses.build_request(
        request(
            stop=["x"],
            top_k=3,
            seed=1,
            presence_penalty=0.1,
            frequency_penalty=0.1,
            n=1,
            metadata={"user_id": "u"},
            user="u",
            temperature=0.5,
            top_p=0.1,
            extras={"context_management": {}, "betas": None},
        ),
        GPT,
    )

    assert built.dropped == [
        "top_k",
        "stop_sequences",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "metadata",
        "context_management",
    ]
    assert (built.body["temperature"], built.body["top_p"]) == (0.5, 0.1)
    assert not {"stop", "top_k", "seed", "metadata", "user", "n"} & built.body.keys()


def test_more_than_one_choice_is_refused() -> None:
    with pytest.raises(UnsupportedContent):
        body(n=2)


def test_an_output_format_gets_the_name_that_the_wire_demands() -> None:
    form = OutputFormat(kind="json_schema", schema={"type": "object"})

    assert body(output_format=form, verbosity="low")["text"] == {
        "format": {"type": "json_schema", "name": "response", "schema": {"type": "object"}},
        "verbosity": "low",
    }


def test_logprobs_of_chat_are_asked_for() -> None:
    built = body(source="chat_completions", logprobs=True, top_logprobs=3, user="u-1")

    assert built["include"] == ["message.output_text.logprobs"]
    assert (built["top_logprobs"], built["user"]) == (3, "u-1")


def test_every_declared_loss_has_a_known_kind() -> None:
    assert {loss.kind for loss in responses.LOSSES} == {"knob", "content", "shape"}
    assert len({loss.what for loss in responses.LOSSES}) == len(responses.LOSSES)
