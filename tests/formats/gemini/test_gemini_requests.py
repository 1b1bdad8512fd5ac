"""Gemini requests: read, written again, summed up, refused by name."""

import contextlib
import copy
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, UnsupportedContent
from proxy.formats import FORMATS, gemini
from proxy.formats.canonical import (
    Document,
    Image,
    ModelFacts,
    Opaque,
    Request,
    Text,
    Thinking,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.formats.gemini.schemas import json_schema
from tests.formats.gemini import gemini_golden as golden

REQUESTS = golden.names("request-*.json")
# A folder of further captured requests, one JSON file each: {"request": {"path", "body"}}.
CAPTURED = os.environ.get("CAPTURED_REQUESTS")
CLAUDE = ModelFacts(id="claude-sonnet-4.6", vendor="Anthropic", max_output_tokens=32000)
GEMINI = ModelFacts(id="gemini-3.1-pro-preview", vendor="Google")


def rebuilt(body: dict[str, Any]) -> Any:
    return gemini.build_request(gemini.parse_request(body), ModelFacts(id=body["model"]))


def asking(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "contents": [{"role": "user", "parts": list(parts)}], **fields}


def conversation(*turns: tuple[str, list[Any]], **fields: Any) -> dict[str, Any]:
    contents = [{"role": role, "parts": parts} for role, parts in turns]
    return {"model": "m", "contents": contents, **fields}


def blocks(body: dict[str, Any]) -> list[Any]:
    return [block for m in gemini.parse_request(body).messages for block in m.blocks]


def configured(**config: Any) -> Request:
    return gemini.parse_request(asking({"text": "hi"}, generationConfig=config))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_written_as_it_was_read(name: str) -> None:
    body = golden.load(name)
    before = copy.deepcopy(body)

    built = rebuilt(body)

    assert built.body == before
    assert built.dropped == []
    assert body == before, "the client's body must not be changed"


@pytest.mark.skipif(CAPTURED is None, reason="CAPTURED_REQUESTS names no folder")
def test_every_captured_request_survives() -> None:
    paths = sorted(Path(CAPTURED or "").glob("gemini-cli/*.json"))
    assert paths
    for path in paths:
        body = {"model": "m", "stream": True, **orjson.loads(path.read_bytes())["request"]["body"]}
        assert rebuilt(body).body == body, path.name


def test_snake_case_is_read_as_camel_case() -> None:
    body = {
        "model": "m",
        "contents": {
            "role": "user",
            "parts": {"inline_data": {"mime_type": "image/png", "data": "A"}},
        },
        "system_instruction": {"parts": {"text": "Be brief."}},
        "generation_config": {
            "max_output_tokens": 9,
            "stop_sequences": ["x"],
            "thinking_config": {"include_thoughts": True, "thinking_budget": 5000},
        },
        "tools": [{"function_declarations": [{"name": "f_g", "parameters": {"type": "OBJECT"}}]}],
        "tool_config": {"function_calling_config": {"mode": "any"}},
    }

    request = gemini.parse_request(body)

    assert request.messages[0].blocks == [Image(media_type="image/png", data="A")]
    assert [text.text for text in request.system or []] == ["Be brief."]
    assert (request.max_output_tokens, request.stop) == (9, ["x"])
    assert request.reasoning is not None
    assert request.reasoning.budget_tokens == 5000
    assert [tool.name for tool in request.tools or []] == ["f_g"]
    assert request.tool_choice == ToolChoice(mode="any")
    assert gemini.gist(body).max_output_tokens == 9
    assert gemini.gist(body).has_images


def test_names_of_the_clients_choice_keep_their_spelling() -> None:
    call = {"functionCall": {"name": "f", "args": {"file_path": {"x_y": 1}}}}

    found = blocks(conversation(("user", [{"text": "go"}]), ("model", [call])))

    assert found[-1].arguments == '{"file_path":{"x_y":1}}'


def test_calls_without_ids_get_the_same_ids_in_each_request() -> None:
    turns = [
        ("user", [{"text": "go"}]),
        ("model", [{"functionCall": {"name": "a"}}, {"functionCall": {"name": "b"}}]),
        (
            "user",
            [
                {"functionResponse": {"name": "b", "response": {"output": "B"}}},
                {"functionResponse": {"name": "a", "response": {"output": "A"}}},
            ],
        ),
        ("model", [{"functionCall": {"name": "a"}}]),
        ("user", [{"functionResponse": {"name": "a", "response": {"output": "A2"}}}]),
    ]
    found = blocks(conversation(*turns))

    calls = [(b.id, b.name) for b in found if isinstance(b, ToolUse)]
    results = [(b.tool_use_id, b.content[0].text) for b in found if isinstance(b, ToolResult)]

    assert calls == [("call_1_0", "a"), ("call_1_1", "b"), ("call_3_0", "a")]
    assert results == [("call_1_1", "B"), ("call_1_0", "A"), ("call_3_0", "A2")]
    assert calls[:2] == [
        (b.id, b.name) for b in blocks(conversation(*turns[:3])) if isinstance(b, ToolUse)
    ]


def test_two_calls_of_one_name_are_answered_in_order() -> None:
    calls = [{"functionCall": {"name": "a", "args": {"n": n}}} for n in (1, 2)]
    results = [{"functionResponse": {"name": "a", "response": {"output": n}}} for n in "12"]

    found = blocks(conversation(("user", [{"text": "x"}]), ("model", calls), ("user", results)))

    answers = [(b.tool_use_id, b.content[0].text) for b in found if isinstance(b, ToolResult)]
    assert answers == [("call_1_0", "1"), ("call_1_1", "2")]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "plain"}, "plain", None),
        ({"result": "plain"}, "plain", None),
        ({"error": "broken"}, "broken", True),
        ({"a": 1, "b": [2]}, '{"a":1,"b":[2]}', None),
        ({"output": {"x": 1}}, '{"output":{"x":1}}', None),
    ],
)
def test_a_response_becomes_the_text_that_a_model_reads(
    response: Any, text: str, is_error: bool | None
) -> None:
    call = ("model", [{"functionCall": {"id": "c", "name": "f"}}])
    answer = ("user", [{"functionResponse": {"id": "c", "name": "f", "response": response}}])

    result = blocks(conversation(("user", [{"text": "x"}]), call, answer))[-1]

    assert result.content == [Text(text=text)]
    assert result.is_error is is_error


def test_files_of_a_response_are_part_of_its_content() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": "A"}}
    response = {"id": "c", "name": "f", "response": {"output": "see"}, "parts": [part]}
    call = ("model", [{"functionCall": {"id": "c", "name": "f"}}])

    body = conversation(("user", [{"text": "x"}]), call, ("user", [{"functionResponse": response}]))

    assert blocks(body)[-1].content == [Text(text="see"), Image(media_type="image/png", data="A")]


# Signatures.


def signed(signature: str) -> dict[str, Any]:
    call = {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": signature}
    other = {"functionCall": {"id": "d", "name": "f", "args": {}}}
    answers = [
        {"functionResponse": {"id": i, "name": "f", "response": {"output": "x"}}} for i in "cd"
    ]
    return conversation(("user", [{"text": "go"}]), ("model", [call, other]), ("user", answers))


def test_the_chat_legs_reasoning_comes_back_to_it() -> None:
    request = gemini.parse_request(signed("cgw1.copilot_chat.b3BhcXVl"))

    built = FORMATS["chat_completions"].build_request(request, GEMINI)

    assistant = built.body["messages"][1]
    assert assistant["reasoning_opaque"] == "b3BhcXVl"
    assert [call["id"] for call in assistant["tool_calls"]] == ["c", "d"]
    assert built.dropped == []


def test_claudes_signature_comes_back_with_the_thoughts_that_the_client_kept() -> None:
    body = signed("cgw1.anthropic.c2ln")
    thoughts = [{"text": "I ", "thought": True}, {"text": "think.", "thought": True}]
    body["contents"][1]["parts"][:0] = thoughts

    built = FORMATS["messages"].build_request(gemini.parse_request(body), CLAUDE)

    first = built.body["messages"][1]["content"][0]
    assert first == {"type": "thinking", "thinking": "I think.", "signature": "c2ln"}


def test_claudes_signature_comes_back_without_thoughts_that_the_client_dropped() -> None:
    request = gemini.parse_request(signed("cgw1.anthropic.c2ln"))

    built = FORMATS["messages"].build_request(request, CLAUDE)

    first = built.body["messages"][1]["content"][0]
    assert first == {"type": "thinking", "thinking": "", "signature": "c2ln"}


def test_redacted_thinking_is_never_sent_as_a_signature() -> None:
    request = gemini.parse_request(signed("cgw1.anthropic.redacted:ZGF0YQ=="))

    built = FORMATS["messages"].build_request(request, CLAUDE)

    first = built.body["messages"][1]["content"][0]
    assert first == {"type": "redacted_thinking", "data": "ZGF0YQ=="}


def test_the_placeholder_is_no_signature() -> None:
    found = blocks(signed("skip_thought_signature_validator"))

    assert not any(isinstance(block, Thinking) for block in found)
    assert all(block.opaque is None for block in found if isinstance(block, ToolUse))


def test_googles_own_signature_stays_with_its_call() -> None:
    calls = [block for block in blocks(signed("R29vZ2xl")) if isinstance(block, ToolUse)]

    assert calls[0].opaque == Opaque("gemini", "R29vZ2xl")


# Knobs.


@pytest.mark.parametrize(
    ("config", "effort", "budget", "mode"),
    [
        ({"thinkingLevel": "HIGH", "includeThoughts": True}, "high", None, "enabled"),
        ({"thinkingLevel": "low"}, "low", None, None),
        ({"thinkingBudget": 4096}, None, 4096, None),
        ({"thinkingBudget": 0}, None, 0, "disabled"),
        ({"thinkingBudget": -1}, None, None, "adaptive"),
    ],
)
def test_thinking_is_read_as_effort_or_budget(
    config: Any, effort: str | None, budget: int | None, mode: str | None
) -> None:
    reasoning = configured(thinkingConfig=config).reasoning

    assert reasoning is not None
    assert (reasoning.effort, reasoning.budget_tokens, reasoning.mode) == (effort, budget, mode)


def test_gemini_cli_asks_claude_to_think_as_hard() -> None:
    request = gemini.parse_request(golden.load("request-gemini-cli-first-turn.json"))
    facts = ModelFacts(
        id="claude-opus-5",
        vendor="Anthropic",
        adaptive_thinking=True,
        efforts=("low", "medium", "high"),
    )

    body = FORMATS["messages"].build_request(request, facts).body

    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "high"}
    assert body["tools"][0]["name"] == "update_topic"


def test_gemini_cli_asks_gpt_for_a_summary_of_its_thoughts() -> None:
    request = gemini.parse_request(golden.load("request-gemini-cli-first-turn.json"))
    facts = ModelFacts(id="gpt-5.5", vendor="OpenAI", efforts=("low", "medium", "high"))

    body = FORMATS["responses"].build_request(request, facts).body

    assert body["reasoning"] == {"effort": "high", "summary": "auto"}


def test_gemini_cli_loses_nothing_on_the_chat_leg_but_top_k() -> None:
    request = gemini.parse_request(golden.load("request-gemini-cli-first-turn.json"))
    facts = ModelFacts(id="gemini-3.1-pro-preview", vendor="Google", efforts=("low", "high"))

    built = FORMATS["chat_completions"].build_request(request, facts)

    assert built.body["reasoning_effort"] == "high"
    assert built.dropped == ["top_k"]


def test_schemas_become_json_schemas() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "any_of": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER", "format": "int64"}]},
            "list": {"type": "ARRAY", "items": {"type": "NUMBER"}, "minItems": "1"},
            "word": {"type": "STRING", "enum": ["a", "b"], "format": "enum", "nullable": True},
            "when": {"type": "STRING", "format": "date-time"},
        },
        "required": ["list"],
        "property_ordering": ["list", "word"],
    }

    assert json_schema(schema, "s") == {
        "type": "object",
        "properties": {
            "any_of": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "list": {"type": "array", "items": {"type": "number"}, "minItems": 1},
            "word": {"type": ["string", "null"], "enum": ["a", "b", None]},
            "when": {"type": "string", "format": "date-time"},
        },
        "required": ["list"],
    }


def test_a_schema_without_bottom_is_refused() -> None:
    schema: dict[str, Any] = {"type": "OBJECT"}
    for _ in range(900):
        schema = {"type": "ARRAY", "items": schema}

    with pytest.raises(InvalidRequest, match="levels"):
        configured(responseSchema=schema)


def test_a_json_schema_without_bottom_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(900):
        schema = {"type": "array", "items": schema}
    declared = {"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}

    with pytest.raises(InvalidRequest, match="parametersJsonSchema"):
        gemini.parse_request(asking({"text": "x"}, tools=[declared]))
    with pytest.raises(InvalidRequest, match="responseJsonSchema"):
        configured(responseJsonSchema=schema)


def test_the_output_format_is_read_from_type_and_schema() -> None:
    plain = configured(responseMimeType="application/json").output_format
    schema = configured(
        responseMimeType="application/json", responseSchema={"type": "STRING"}
    ).output_format

    assert plain is not None
    assert plain.kind == "json_object"
    assert schema is not None
    assert (schema.kind, schema.schema) == ("json_schema", {"type": "string"})


@pytest.mark.parametrize(
    ("calling", "choice", "offered"),
    [
        ({"mode": "AUTO"}, ToolChoice(mode="auto"), ["a", "b", "c"]),
        ({"mode": "NONE"}, ToolChoice(mode="none"), ["a", "b", "c"]),
        ({"mode": "ANY"}, ToolChoice(mode="any"), ["a", "b", "c"]),
        (
            {"mode": "ANY", "allowedFunctionNames": ["b"]},
            ToolChoice(mode="tool", name="b"),
            ["a", "b", "c"],
        ),
        ({"mode": "ANY", "allowedFunctionNames": ["c", "a"]}, ToolChoice(mode="any"), ["a", "c"]),
        (
            {"mode": "VALIDATED", "allowedFunctionNames": ["a"]},
            ToolChoice(mode="auto", extras={"mode": "VALIDATED"}),
            ["a"],
        ),
    ],
)
def test_the_tool_choice_limits_what_is_offered(
    calling: Any, choice: ToolChoice, offered: list[str]
) -> None:
    tools = [{"functionDeclarations": [{"name": name} for name in "abc"]}]
    body = asking({"text": "x"}, tools=tools, toolConfig={"functionCallingConfig": calling})

    request = gemini.parse_request(body)

    assert request.tool_choice == choice
    assert [tool.name for tool in request.tools or []] == offered


@pytest.mark.parametrize("target", ["chat_completions", "messages", "responses"])
def test_what_only_google_offers_is_left_out_and_named(target: str) -> None:
    body = asking(
        {"text": "x"},
        tools=[{"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}]}],
        safetySettings=[{"category": "c", "threshold": "t"}],
        generationConfig={"mediaResolution": "LOW"},
    )

    built = FORMATS[target].build_request(gemini.parse_request(body), CLAUDE)

    assert set(built.dropped) == {
        "tools.googleSearch",
        "safetySettings",
        "generationConfig.mediaResolution",
    }
    assert len(built.body["tools"]) == 1


@pytest.mark.parametrize("target", ["chat_completions", "messages", "responses"])
def test_googles_code_blocks_are_refused_by_name(target: str) -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    body = conversation(("user", [{"text": "x"}]), ("model", [code]), ("user", [{"text": "y"}]))

    with pytest.raises(UnsupportedContent, match="executableCode"):
        FORMATS[target].build_request(gemini.parse_request(body), CLAUDE)


# Refusals.


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m"}, "contents"),
        ({"model": "m", "contents": []}, "contents"),
        ({"contents": [{"parts": [{"text": "x"}]}]}, "model"),
        (asking({"text": 1}), "contents[0].parts[0].text"),
        (asking({}), "contents[0].parts[0]"),
        (asking({"text": "a", "inlineData": {}}), "contents[0].parts[0]"),
        (asking({"functionCall": {"name": "f"}}), "contents[0].parts[0].functionCall"),
        ({"model": "m", "contents": [{"role": "robot", "parts": []}]}, "contents[0].role"),
        (asking({"text": "x"}, cachedContent="cachedContents/1"), "cachedContent"),
        (asking({"fileData": {"fileUri": "gs://b/f"}}), "contents[0].parts[0].fileData.fileUri"),
        (
            asking({"text": "x"}, generationConfig={"candidateCount": 10**6}),
            "generationConfig.candidateCount",
        ),
        (
            asking({"text": "x"}, generationConfig={"responseModalities": ["IMAGE"]}),
            "generationConfig.responseModalities",
        ),
        (
            asking({"text": "x"}, generationConfig={"responseMimeType": "text/x.enum"}),
            "generationConfig.responseMimeType",
        ),
        (
            asking({"text": "x"}, toolConfig={"functionCallingConfig": {"mode": "SOME"}}),
            "toolConfig.functionCallingConfig.mode",
        ),
    ],
)
def test_a_refusal_names_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        gemini.parse_request(body)

    assert refused.value.param == param


@pytest.mark.parametrize("name", REQUESTS)
def test_the_shallow_look_lets_real_requests_pass(name: str) -> None:
    gemini.check(golden.load(name))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A golden body with some values dropped or of another type."""
    body = golden.load(draw(st.sampled_from(REQUESTS)))
    odd = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=5),
        st.just([]),
        st.just({}),
        st.just([None]),
        st.just({"role": []}),
    )
    for _ in range(draw(st.integers(1, 4))):
        node: Any = body
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and node[key] and draw(st.booleans()):
                node = node[key]
            elif isinstance(node, dict) and draw(st.booleans()):
                del node[key]
                break
            else:
                node[key] = draw(odd)
                break
    return body


@settings(max_examples=400, deadline=None)
@given(mutated())
def test_odd_bodies_are_read_or_refused(body: dict[str, Any]) -> None:
    gemini.gist(body)
    looked: InvalidRequest | None = None
    try:
        gemini.check(body)
    except InvalidRequest as refused:
        looked = refused
    if looked is not None:
        with pytest.raises(InvalidRequest):
            gemini.parse_request(body)
    with contextlib.suppress(InvalidRequest):
        request = gemini.parse_request(body)
        gemini.build_request(request, ModelFacts(id="m"))
        for target in ("chat_completions", "messages", "responses"):
            with contextlib.suppress(InvalidRequest):
                FORMATS[target].build_request(request, CLAUDE)


# The gist.


def test_a_persons_words_are_told_from_tool_results() -> None:
    response = {"functionResponse": {"name": "f", "response": {}}}
    image = {"inlineData": {"mimeType": "image/png", "data": "A"}}
    reminder = {"text": "<system-reminder>note</system-reminder>"}

    def last(*parts: Any) -> str:
        return gemini.gist(conversation(("user", [{"text": "a"}]), ("user", list(parts)))).last

    assert last({"text": "hello"}) == "user"
    assert last(response) == "tool"
    assert last(response, image) == "tool"
    assert last(response, reminder) == "tool"
    assert last(response, {"text": "and more"}) == "user"
    assert last(image) == "user"
    assert gemini.gist(
        conversation(("user", [{"text": "a"}]), ("model", [{"text": "b"}]))
    ).last == ("assistant")


def test_the_gist_of_gemini_cli() -> None:
    first = gemini.gist(golden.load("request-gemini-cli-first-turn.json"))
    later = gemini.gist(golden.load("request-gemini-cli-follow-up.json"))

    assert (first.last, first.tools, first.messages, first.effort) == ("user", 3, 1, "high")
    assert (later.last, later.messages) == ("tool", 3)
    assert first.opening == "[text of 430 characters]\nhello"


# From other formats.


def test_a_claude_conversation_is_written_for_gemini() -> None:
    body = {
        "model": "claude-opus-5",
        "max_tokens": 100,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "go"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "text", "text": "Looking."},
                    {"type": "tool_use", "id": "t1", "name": "read", "input": {"p": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "is_error": True,
                        "content": [{"type": "text", "text": "no"}],
                    }
                ],
            },
        ],
        "tools": [{"name": "read", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "read"},
    }

    built = gemini.build_request(FORMATS["messages"].parse_request(body), GEMINI)

    assert built.dropped == ["thinking"]
    assert built.body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert built.body["contents"] == [
        {"role": "user", "parts": [{"text": "go"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Looking."},
                {"functionCall": {"id": "t1", "name": "read", "args": {"p": 1}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "t1", "name": "read", "response": {"error": "no"}}}
            ],
        },
    ]
    assert built.body["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["read"]}
    }
    assert gemini.parse_request(built.body).messages[1].blocks[1].name == "read"  # type: ignore[union-attr]


def test_files_are_kept_with_their_type() -> None:
    found = blocks(
        asking(
            {"inlineData": {"mimeType": "application/pdf", "data": "A", "displayName": "a.pdf"}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a"}},
        )
    )

    assert found[0] == Document(media_type="application/pdf", data="A", name="a.pdf")
    assert found[1] == Image(media_type="image/png", url="https://example.com/a")
