"""Messages requests: read, written again, summed up, refused by name."""

import contextlib
import copy
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest
from proxy.formats import messages
from proxy.formats.canonical import (
    Foreign,
    ModelFacts,
    Opaque,
    Thinking,
    ToolResult,
    ToolUse,
)
from tests.formats.messages import messages_golden as golden

REQUESTS = golden.names("request-*.json")
# A folder of further captured requests, one JSON file each: {"request": {"path", "body"}}.
CAPTURED = os.environ.get("CAPTURED_REQUESTS")


def rebuilt(body: dict[str, Any]) -> Any:
    return messages.build_request(messages.parse_request(body), ModelFacts(id=body["model"]))


def minimal(*contents: Any, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": one} for one in contents]
    return {"model": "claude-opus-5", "max_tokens": 100, "messages": turns, **fields}


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
    paths = sorted(Path(CAPTURED or "").glob("*/*.json"))
    assert paths
    for path in paths:
        request = orjson.loads(path.read_bytes())["request"]
        body = request.get("body")
        if request["path"] == "/v1/messages" and isinstance(body, dict):
            assert rebuilt(body).body == body, path.name


def test_the_arguments_keep_the_order_of_their_keys() -> None:
    request = messages.parse_request(golden.load("request-every-block.json"))

    call = next(b for m in request.messages for b in m.blocks if isinstance(b, ToolUse))

    assert call.arguments == '{"z":"1","a":{"n":1.5,"u":"\u2028 é"}}'


def test_a_body_for_count_tokens_needs_no_max_tokens() -> None:
    body = minimal("foo")
    del body["max_tokens"]

    request = messages.parse_request(body)

    assert request.max_output_tokens is None
    limits = ModelFacts(id="claude-opus-5", max_output_tokens=64000)
    assert messages.build_request(request, limits).body["max_tokens"] == 64000
    assert messages.build_request(request, ModelFacts(id="x")).body["max_tokens"] == 4096


def test_max_tokens_is_limited_to_what_the_model_gives() -> None:
    request = messages.parse_request(minimal("hi", max_tokens=128000))

    built = messages.build_request(request, ModelFacts(id="m", max_output_tokens=64000))

    assert built.body["max_tokens"] == 64000


def test_the_older_output_format_is_read_as_the_newer() -> None:
    schema = {"type": "object"}

    built = rebuilt(minimal("hi", output_format={"type": "json_schema", "schema": schema}))

    assert built.body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert "output_format" not in built.body


@pytest.mark.parametrize("kind", ["image", "document"])
def test_unknown_fields_of_a_source_survive(kind: str) -> None:
    source = {"type": "url", "url": "https://example.invalid/a", "newer": True}
    body = minimal([{"type": kind, "source": source}])

    assert rebuilt(body).body == body


def test_the_blocks_that_only_anthropic_knows_are_foreign() -> None:
    request = messages.parse_request(golden.load("request-every-block.json"))

    kinds = [b.kind for m in request.messages for b in m.blocks if isinstance(b, Foreign)]
    result = next(b for m in request.messages for b in m.blocks if isinstance(b, ToolResult))

    assert kinds == [
        "document",
        "image",
        "search_result",
        "container_upload",
        "server_tool_use",
        "web_search_tool_result",
        "compaction",
    ]
    assert isinstance(result.content[1], Foreign)
    assert result.content[1].kind == "tool_reference"
    assert request.user == "u-1"
    assert request.metadata == {"team": "x"}
    assert request.parallel_tools is False
    assert set(request.extras) == {"service_tier", "container", "mcp_servers", "output_config"}


@pytest.mark.parametrize(
    ("signature", "opaque"),
    [
        ("EqQB+/==", Opaque("anthropic", "EqQB+/==")),
        ("cgw1.openai.gAAA.b=", Opaque("openai", "gAAA.b=")),
        ("cgw1.copilot_chat.x", Opaque("copilot_chat", "x")),
        ("cgw1.none.", None),
        ("cgw1.martian.x", None),
    ],
)
def test_a_wrapped_signature_goes_back_to_its_family(signature: str, opaque: Opaque | None) -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": signature}
    body = minimal("hi")
    body["messages"] += [{"role": "assistant", "content": [block]}, *minimal("go")["messages"]]

    request = messages.parse_request(body)
    built = messages.build_request(request, ModelFacts(id="m"))

    assert request.messages[1].blocks == [Thinking(text="hm", opaque=opaque)]
    if opaque is not None and opaque.family == "anthropic":
        assert built.body["messages"] == body["messages"]
    else:
        assert [m["role"] for m in built.body["messages"]] == ["user", "user"]
        assert built.dropped == ["thinking"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0.source.type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "{}"}],
                    }
                ]
            },
            "messages.0.content.0.input",
        ),
        ({"system": 1}, "system"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**12}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"thinking": True}, "thinking"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
    ],
)
def test_a_broken_request_is_refused_naming_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages.parse_request({**minimal("hi"), **change})

    assert caught.value.message.startswith(f"{field}:")
    assert caught.value.param == field


def test_arguments_deeper_than_json_can_be_written_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"a": deep}
    block = {"type": "tool_use", "id": "a", "name": "b", "input": deep}
    body = {"model": "m", "messages": [{"role": "assistant", "content": [block]}]}

    with pytest.raises(InvalidRequest, match=r"messages\.0\.content\.0\.input"):
        messages.parse_request(body)


REMINDER = {"type": "text", "text": "<system-reminder>x</system-reminder>\n"}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "r"}
WORDS = {"type": "text", "text": "<system-reminder>x</system-reminder> and my own words"}
SYSTEM = {"role": "system", "content": "later words"}


@pytest.mark.parametrize(
    ("turns", "last"),
    [
        ([{"role": "user", "content": "hello"}], "user"),
        ([{"role": "user", "content": [REMINDER, {"type": "text", "text": "hi"}]}, SYSTEM], "user"),
        ([{"role": "user", "content": [RESULT]}, SYSTEM], "tool"),
        ([{"role": "user", "content": [RESULT, REMINDER]}], "tool"),
        ([{"role": "user", "content": [RESULT, WORDS]}], "user"),
        ([{"role": "user", "content": [RESULT]}, {"role": "user", "content": [REMINDER]}], "tool"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "assistant"),
        ([{"role": "user", "content": "<system-reminder>never closed"}], "user"),
        ([SYSTEM], "user"),
        ([], "user"),
    ],
)
def test_the_gist_tells_whose_words_come_last(turns: list[dict[str, Any]], last: str) -> None:
    assert messages.gist({"messages": turns}).last == last


def test_the_gist_of_claude_codes_follow_up() -> None:
    gist = messages.gist(golden.load("request-claude-code-opus-5-follow-up.json"))

    assert gist.last == "tool"
    assert gist.messages == 5
    assert gist.tools == 3
    assert gist.max_output_tokens == 64000
    assert gist.effort == "high"
    assert gist.conversation == "00000000-0000-4000-8000-000000000000"
    assert gist.opening.endswith("what is in note.txt?")
    assert not gist.has_images


@pytest.mark.parametrize(
    ("user", "conversation"),
    [
        ("user_abc_account__session_1234-5", "1234-5"),
        ('{"session_id":"s-1"}', "s-1"),
        ('{"session_id":7}', None),
        ("{broken", None),
        ("someone", None),
    ],
)
def test_the_conversation_is_read_from_both_forms_of_the_user_id(
    user: str, conversation: str | None
) -> None:
    assert messages.gist({"metadata": {"user_id": user}}).conversation == conversation


@pytest.mark.parametrize(
    "name", ["request-anthropic-py-image.json", "request-anthropic-py-image-in-tool-result.json"]
)
def test_images_are_seen_wherever_they_stand(name: str) -> None:
    assert messages.gist(golden.load(name)).has_images


def test_pathological_reminders_are_read_in_linear_time() -> None:
    text = "<system-reminder>" * 200_000

    assert messages.gist(minimal(text)).last == "user"


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just([None]),
    st.just({"type": "text"}),
)


def spots(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        found.append((value, key))
        if isinstance(one, dict | list):
            found += spots(one)
    return found


@settings(max_examples=400, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(REQUESTS))
def test_a_damaged_request_is_read_or_refused_but_never_breaks(data: Any, name: str) -> None:
    body = golden.load(name)
    for _ in range(data.draw(st.integers(1, 3))):
        places = spots(body)
        if not places:
            break
        holder, key = data.draw(st.sampled_from(places))
        if data.draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = copy.deepcopy(data.draw(JUNK))

    messages.gist(body)
    # Whatever else is raised fails the test.
    with contextlib.suppress(InvalidRequest):
        request = messages.parse_request(body)
        messages.build_request(request, ModelFacts(id="m"))
        request.source = "chat_completions"
        messages.build_request(request, ModelFacts(id="m", adaptive_thinking=True))
