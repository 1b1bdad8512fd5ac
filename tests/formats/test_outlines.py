"""Large bodies in outline: whatever is asked of them, the answer is that of the decoded body."""

import copy
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import GatewayError
from proxy.formats import FORMATS
from proxy.formats.canonical import ModelFacts
from proxy.formats.outlines import decode_runs, is_run, write_runs
from proxy.upstream import quirks

GOLDEN = Path(__file__).parent / "golden"
RECORDED = Path(__file__).parents[1] / "clients" / "recorded"
CHAT, MESSAGES, RESPONSES = "chat_completions", "messages", "responses"
CONVERSATION = {CHAT: "messages", MESSAGES: "messages", RESPONSES: "input"}
GPT = ModelFacts(id="gpt", vendor="Azure OpenAI", max_output_tokens=1000, efforts=("low", "high"))
CLAUDE = ModelFacts(id="claude", vendor="Anthropic", max_output_tokens=1000, adaptive_thinking=True)
MODELS = {CHAT: (GPT, CLAUDE), MESSAGES: (CLAUDE,), RESPONSES: (GPT,)}
Json = dict[str, Any]

texts = st.just("well") | st.sampled_from(
    ["hi", "two\nlines", 'a "quote"', "", " ", "\n", "é", "日本", "🙂", "\u00a0", "<x>\t\\"]
    + ["<system-reminder>note</system-reminder>", "\u2028"]
)
ids = st.sampled_from(["call_1", "toolu_2", "call_3", "toolu_4", "a.b:c", "x" * 60, "", "fc_3"])
values = st.recursive(
    texts | st.integers(-(2**53), 2**53) | st.booleans() | st.none() | st.floats(-9, 9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
objects = st.dictionaries(texts, values, max_size=3)
markers = st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "scope": "x"}, None])
schemas = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"$schema": "http://x", "type": "object", "properties": {}, "additionalProperties": False},
        {"properties": {}},
        {"type": "object", "oneOf": []},
    ]
)


def entry(required: dict[str, Any], optional: dict[str, Any], odd: bool = True) -> Any:
    """An object of the fields, seldom with one that nobody knows."""
    if odd:
        optional = {**optional, "odd": st.sampled_from([1, None])}
    absent = [st.just(...)] * 8
    seldom = {name: st.one_of(*absent, value) for name, value in optional.items()}
    return st.fixed_dictionaries({**required, **seldom}).map(
        lambda fields: {name: value for name, value in fields.items() if value is not ...}
    )


def text_block(**more: Any) -> Any:
    return entry({"type": st.just("text"), "text": texts}, {"cache_control": markers, **more})


image = st.just(
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
)
result = entry(
    {"type": st.just("tool_result"), "tool_use_id": ids},
    {
        "content": texts | st.lists(text_block() | image, max_size=2),
        "is_error": st.sampled_from([True, False, None]),
        "cache_control": markers,
    },
)
thinking = entry(
    {"type": st.just("thinking"), "thinking": texts},
    {"signature": st.sampled_from(["sig", "", "cgw1.openai.x", None])},
)
redacted = entry(
    {"type": st.just("redacted_thinking"), "data": st.sampled_from(["x", "cgw1.a"])}, {}
)
use = entry(
    {"type": st.just("tool_use"), "id": ids, "name": texts, "input": objects},
    {"caller": st.none(), "cache_control": markers},
)
messages_turn = st.one_of(
    entry(
        {
            "role": st.just("user"),
            "content": texts | st.lists(st.one_of(result, result, text_block(), image), max_size=3),
        },
        {"output_config": objects},
        odd=False,
    ),
    entry(
        {
            "role": st.just("assistant"),
            "content": texts
            | st.lists(
                st.one_of(text_block(citations=st.none()), use, use, thinking, redacted), max_size=3
            ),
        },
        {},
        odd=False,
    ),
    st.just({"role": "system", "content": "a note"}),
    st.just({"role": "user", "content": [7]}),
)
call = entry(
    {
        "id": ids,
        "function": entry({"name": texts, "arguments": texts}, {}),
    },
    {"type": st.just("function"), "index": st.just(0)},
)
part = entry({"type": st.just("text"), "text": texts}, {"cache_control": markers})
chat_turn = st.one_of(
    entry(
        {
            "role": st.sampled_from(["user", "system", "developer"]),
            "content": texts | st.lists(part, max_size=2),
        },
        {"name": texts, "cache_control": markers},
    ),
    entry(
        {"role": st.just("assistant")},
        {
            "content": texts | st.none() | st.lists(part, max_size=2),
            "tool_calls": st.lists(call, max_size=2) | st.none(),
            "refusal": texts | st.none(),
            "annotations": st.just([]),
            "reasoning_content": texts,
            "reasoning_text": texts,
            "reasoning_opaque": st.sampled_from(["s", "cgw1.anthropic.x"]),
        },
    ),
    entry({"role": st.just("tool"), "content": texts}, {"tool_call_id": ids}),
    st.just({"role": "robot", "content": "x"}),
)
said = entry(
    {"type": st.sampled_from(["input_text", "output_text", "refusal"]), "text": texts},
    {"annotations": st.just([])},
)
item = st.one_of(
    entry(
        {
            "role": st.sampled_from(["user", "assistant", "developer"]),
            "content": texts | st.lists(said, max_size=2),
        },
        {"type": st.just("message"), "id": ids, "status": st.just("completed"), "phase": st.none()},
    ),
    entry(
        {"type": st.just("function_call"), "call_id": ids, "name": texts, "arguments": texts},
        {"id": ids},
    ),
    entry(
        {"type": st.just("function_call_output"), "call_id": ids},
        {
            "output": texts | st.lists(said, max_size=2),
            "id": ids,
            "internal_chat_message_metadata_passthrough": objects,
        },
    ),
    entry(
        {
            "type": st.just("reasoning"),
            "summary": st.lists(
                entry({"type": st.just("summary_text"), "text": texts}, {}), max_size=1
            ),
        },
        {"encrypted_content": st.sampled_from(["sealed", "", "cgw1.anthropic.y", None]), "id": ids},
    ),
    st.just({"type": "item_reference", "id": "rs_1"}),
    st.just(
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [{"type": "function", "name": "f"}],
        }
    ),
)
chat_tool = entry(
    {
        "type": st.just("function"),
        "function": entry({"name": texts, "parameters": schemas}, {"description": texts}),
    },
    {"cache_control": markers},
)
messages_tool = entry(
    {"name": texts, "input_schema": schemas},
    {
        "description": texts,
        "defer_loading": st.booleans(),
        "cache_control": markers,
        "type": st.sampled_from(["custom", "bash_20250124"]),
    },
)
response_tool = entry(
    {
        "type": st.sampled_from(["function", "image_generation"]),
        "name": texts,
        "parameters": schemas,
    },
    {"description": texts, "strict": st.sampled_from([True, None])},
)
knobs = {
    "stream": st.booleans(),
    "temperature": st.just(0.5),
    "new_field": objects,
    "service_tier": st.just("auto"),
}


def a_body(turn: Any, tool: Any, *, name: str, more: dict[str, Any]) -> Any:
    return entry(
        {
            "model": st.just("m"),
            name: st.lists(turn, max_size=3) | st.lists(turn, min_size=5, max_size=12),
            **more,
        },
        {"tools": st.lists(tool, max_size=3), **knobs},
        odd=False,
    )


BODIES = {
    CHAT: a_body(chat_turn, chat_tool, name="messages", more={}),
    MESSAGES: a_body(
        messages_turn,
        messages_tool,
        name="messages",
        more={
            "max_tokens": st.just(100),
            "thinking": st.sampled_from(
                [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 50}]
            ),
            "system": texts | st.lists(text_block(), max_size=2),
        },
    ),
    RESPONSES: a_body(item, response_tool, name="input", more={}),
}


def real_bodies(name: str) -> list[Json]:
    """Bodies of real clients, and those that the other tests of the formats go by."""
    found = [json.loads(path.read_bytes()) for path in sorted((GOLDEN / name).rglob("*.json"))]
    for path in sorted(RECORDED.rglob("*.json")):
        body = json.loads(path.read_bytes()).get("request", {}).get("body")
        found.append(json.loads(body) if isinstance(body, str) else body)
    return [
        body
        for body in found
        if isinstance(body, dict)
        and CONVERSATION[name] in body
        and (name == MESSAGES) == ("max_tokens" in body and "reasoning_effort" not in body)
    ]


def outcome(name: str, body: Json, model: ModelFacts, betas: frozenset[str] = frozenset()) -> Any:
    """What passes through of a body: gist, payload, quirks, disclosures, or the error."""
    source = FORMATS[name]
    try:
        source.check(body)
    except GatewayError as error:
        if decode_runs(body):
            return outcome(name, body, model, betas)
        return error.message
    gist = source.gist(body)
    gist.messages = gist.tools = 0
    needed = quirks.needed_betas(body) if name == MESSAGES else set()
    context = quirks.QuirkContext(stream=True, betas=betas)
    body = dict(body)
    if quirks.look_at_all(name, body, model, context):
        decode_runs(body)
    acted = [*quirks.apply(name, body, model, context), *write_runs(body)]
    return gist, orjson.loads(orjson.dumps(body)), set(acted), set(context.dropped), needed


def assert_same(name: str, body: Json) -> None:
    raw = json.dumps(body).encode()
    for model in MODELS[name]:
        outline = FORMATS[name].outline(raw)
        if outline is None:
            return
        conversation = body[CONVERSATION[name]]
        assert outline.items == len(conversation)
        assert outline.tools == len(body.get("tools") or [])
        whole = dict(outline.body)
        decode_runs(whole)
        assert whole == orjson.loads(raw)
        for betas in (frozenset[str](), frozenset({"mid-conversation-system-2026-04-07"})):
            read = FORMATS[name].outline(raw)
            assert read is not None
            expected = outcome(name, orjson.loads(raw), model, betas)
            assert outcome(name, read.body, model, betas) == expected


common = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@common
@given(BODIES[CHAT])
def test_a_chat_body_in_outline_passes_as_the_decoded_one(body: Json) -> None:
    assert_same(CHAT, body)


@common
@given(BODIES[MESSAGES])
def test_a_messages_body_in_outline_passes_as_the_decoded_one(body: Json) -> None:
    assert_same(MESSAGES, body)


@common
@given(BODIES[RESPONSES])
def test_a_responses_body_in_outline_passes_as_the_decoded_one(body: Json) -> None:
    assert_same(RESPONSES, body)


@pytest.mark.parametrize("name", [CHAT, MESSAGES, RESPONSES])
def test_bodies_of_real_clients_pass_the_same_in_outline(name: str) -> None:
    bodies = real_bodies(name)
    assert bodies
    for body in bodies:
        assert_same(name, body)


def translation(body: Json, model: ModelFacts) -> Any:
    source, target = FORMATS[MESSAGES], FORMATS[CHAT]
    try:
        built = target.build_request(source.parse_request(body), model)
    except GatewayError as error:
        if decode_runs(body):
            return translation(body, model)
        return error.message
    write_runs(built.body)
    return orjson.loads(orjson.dumps(built.body)), set(built.dropped)


@common
@given(BODIES[MESSAGES])
def test_a_messages_body_in_outline_is_translated_as_the_decoded_one(body: Json) -> None:
    raw = json.dumps(body).encode()
    for model in (GPT, CLAUDE):
        outline = FORMATS[MESSAGES].outline(raw)
        if outline is not None:
            assert translation(outline.body, model) == translation(orjson.loads(raw), model)


def agent(turns: int, **more: Any) -> Json:
    """A history as an agent sends it, all of it plain."""
    history: list[Json] = []
    for turn in range(turns):
        use = {"type": "tool_use", "id": f"toolu_{turn}", "name": "read", "input": {"path": "a"}}
        history += [
            {"role": "user", "content": [{"type": "text", "text": f"Step {turn}."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "I look."}, use]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": f"toolu_{turn}", "content": "x\ny" * 99}
                ],
            },
        ]
    tool = {"name": "read", "description": "Reads.", "input_schema": {"type": "object"}}
    return {"model": "m", "max_tokens": 9, "messages": history, "tools": [tool], **more}


def test_the_long_part_of_a_plain_history_is_never_decoded() -> None:
    outline = FORMATS[MESSAGES].outline(json.dumps(agent(30)).encode())
    assert outline is not None
    assert [is_run(entry) for entry in outline.body["messages"]] == [False, True, False, False]
    assert outline.items == 90
    assert [is_run(entry) for entry in outline.body["tools"]] == [True]
    built = FORMATS[CHAT].build_request(FORMATS[MESSAGES].parse_request(outline.body), GPT)
    assert any(is_run(entry) for entry in built.body["messages"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": "a\nb"}]}',
        b'{"model": "m", "messages": [], "metadata": {"n": 1e999}}',
        b'{"model": "m", "messages": [], "temperature": NaN}',
        b'{"model": "m", "messages": []} x',
        b'{"model": "m", "messages": "hi"}',
        b'{"model": "m"}',
        b"[]",
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("name", [CHAT, MESSAGES])
def test_what_is_no_good_json_has_no_outline(name: str, body: bytes) -> None:
    assert FORMATS[name].outline(body) is None


def test_of_names_that_come_twice_the_last_one_counts_and_alone_goes_on() -> None:
    body = json.dumps(agent(3))
    body = body.replace('"role": "assistant"', '"role": "user", "role": "assistant"')
    body = body.replace('"path": "a"', '"path": "first", "path": "last"')
    body = body.replace('"model": "m"', '"model": "other", "model": "m"')
    outline = FORMATS[MESSAGES].outline(body.encode())
    assert outline is not None
    write_runs(outline.body)
    sent = orjson.dumps(outline.body)
    assert orjson.loads(sent) == orjson.loads(body)
    assert b"other" not in sent
    assert b"first" not in sent
    assert sent.count(b'"role"') == 9


def test_a_number_that_no_double_holds_is_never_passed_on_in_a_call() -> None:
    body = json.dumps(agent(3)).replace('"path": "a"', '"path": 1e999')
    assert FORMATS[MESSAGES].outline(body.encode()) is None


def test_an_outline_changes_nothing_that_it_was_given() -> None:
    body = agent(4)
    raw = orjson.dumps(body)
    before = copy.deepcopy(raw)
    outline = FORMATS[MESSAGES].outline(raw)
    assert outline is not None
    write_runs(outline.body)
    assert raw == before


def test_a_run_of_nothing_but_thinking_leaves_nothing_in_its_place() -> None:
    body = agent(2)
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sealed"}
    body["messages"].insert(1, {"role": "assistant", "content": [thought]})
    body["messages"].insert(2, {"role": "user", "content": "And?"})
    outline = FORMATS[MESSAGES].outline(orjson.dumps(body))
    assert outline is not None
    assert translation(outline.body, GPT) == translation(body, GPT)
