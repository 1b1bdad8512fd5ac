"""Quirks of /responses."""

from typing import Any

import pytest

from proxy.formats.canonical import ModelFacts
from proxy.upstream.quirks import QuirkContext, apply

GPT = ModelFacts(
    id="gpt",
    vendor="OpenAI",
    max_output_tokens=128000,
    efforts=("none", "low", "medium", "high", "xhigh"),
)
PLAIN = ModelFacts(id="plain", vendor="Microsoft")


def send(model: ModelFacts = GPT, **fields: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    body: dict[str, Any] = {"model": model.id, "input": "hi", "store": False, **fields}
    context = QuirkContext(stream=True)
    return body, apply("responses", body, model, context), context.dropped


def test_a_clean_request_is_left_alone() -> None:
    clean = {
        "input": [
            {"type": "reasoning", "encrypted_content": "c2Vj", "summary": []},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "x"},
            {"type": "compaction", "encrypted_content": "c2Vj"},
        ],
        "include": ["reasoning.encrypted_content"],
        "truncation": "disabled",
        "prompt_cache_key": "k",
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "medium", "summary": "auto", "context": "all_turns"},
        "tools": [
            {"type": "web_search"},
            {"type": "custom", "name": "apply_patch"},
            {"type": "tool_search", "execution": "client"},
            {"type": "namespace", "name": "n", "tools": []},
        ],
        "context_management": [{"type": "compaction", "compact_threshold": 1000}],
        "temperature": 0.5,
        "max_output_tokens": 16,
    }
    body, fired, dropped = send(**clean)
    assert body == {"model": "gpt", "store": False, **clean}
    assert (fired, dropped) == ([], [])


def test_refused_and_unknown_fields_go_and_are_named() -> None:
    body, fired, dropped = send(
        service_tier="auto",
        safety_identifier="s",
        client_metadata={"x": 1},
        stream_options={"include_obfuscation": False},
        background=True,
        api_base="http://inside",
    )
    assert set(body) == {"model", "input", "store"}
    assert fired == ["refused_fields", "unknown_fields"]
    assert dropped == ["service_tier", "safety_identifier", "background", "api_base"]


def test_what_lives_at_the_upstream_is_never_lost_in_silence() -> None:
    body, fired, _ = send(previous_response_id="resp_1", prompt={"id": "p"})
    assert (body["previous_response_id"], body["prompt"]) == ("resp_1", {"id": "p"})
    assert fired == []


def test_fields_about_a_store_go_when_they_say_nothing() -> None:
    body, fired, dropped = send(
        previous_response_id=None, conversation=None, prompt=None, background=False
    )
    assert set(body) == {"model", "input", "store"}
    assert fired == ["unused_store"]
    assert dropped == []


@pytest.mark.parametrize(("asked", "dropped"), [(True, ["store"]), (None, [])])
def test_nothing_is_stored(asked: bool | None, dropped: list[str]) -> None:
    body, fired, gone = send(store=asked)
    assert body["store"] is False
    assert (fired, gone) == (["store"], dropped)


def test_image_generation_goes_and_is_disclosed() -> None:
    body, fired, dropped = send(
        tools=[{"type": "image_generation"}, {"type": "function", "name": "f"}],
        tool_choice={"type": "image_generation"},
    )
    assert body["tools"] == [{"type": "function", "name": "f"}]
    assert "tool_choice" not in body
    assert (fired, dropped) == (["image_generation"], ["image_generation"])


def test_ids_and_references_of_input_items_go() -> None:
    body, fired, dropped = send(
        input=[
            {"type": "message", "id": "msg_1", "role": "user", "content": "x"},
            {"type": "item_reference", "id": "rs_1"},
            {"type": "reasoning", "id": "rs_2", "encrypted_content": "c2Vj"},
            {"type": "function_call", "id": "call_x", "call_id": "call_1", "name": "f"},
        ]
    )
    assert body["input"] == [
        {"type": "message", "role": "user", "content": "x"},
        {"type": "reasoning", "encrypted_content": "c2Vj"},
        {"type": "function_call", "call_id": "call_1", "name": "f"},
    ]
    assert fired == ["item_references", "item_ids"]
    assert dropped == ["item_reference"]


def test_codexs_own_marks_on_items_go() -> None:
    name = "internal_chat_message_metadata_passthrough"
    body, fired, _ = send(input=[{"type": "message", "role": "user", name: {"turn_id": "1"}}])
    assert body["input"] == [{"type": "message", "role": "user"}]
    assert fired == ["item_metadata"]


def test_image_details_are_those_that_are_known() -> None:
    def image(detail: object) -> dict[str, Any]:
        return {"type": "input_image", "image_url": "data:", "detail": detail}

    body, fired, _ = send(
        input=[
            {"role": "user", "content": [image("original"), image("low"), image(None)]},
            {"type": "function_call_output", "output": [image("ultra")]},
        ]
    )
    assert [part["detail"] for part in body["input"][0]["content"]] == ["high", "low", None]
    assert body["input"][1]["output"][0]["detail"] == "high"
    assert fired == ["image_details"]


@pytest.mark.parametrize(("asked", "given"), [(8, 16), (16, 16), (500000, 128000)])
def test_the_output_limit_keeps_its_bounds(asked: int, given: int) -> None:
    body, fired, _ = send(max_output_tokens=asked)
    assert body["max_output_tokens"] == given
    assert fired == ([] if asked == given else ["output_limit"])


@pytest.mark.parametrize(
    ("model", "asked", "left"),
    [
        (GPT, {"effort": "max"}, {"effort": "xhigh"}),
        (GPT, {"effort": "minimal"}, {"effort": "none"}),
        (PLAIN, {"effort": "high"}, None),
        (PLAIN, {"effort": "high", "summary": "auto"}, {"summary": "auto"}),
    ],
)
def test_efforts_are_those_that_the_model_lists(
    model: ModelFacts, asked: dict[str, str], left: dict[str, str] | None
) -> None:
    body, fired, dropped = send(model, reasoning=asked)
    assert body.get("reasoning") == left
    assert (fired, dropped) == (["effort"], ["reasoning.effort"])


def test_additional_tools_of_codex_are_offered_as_tools() -> None:
    tool = {"type": "function", "name": "wait"}
    body, fired, dropped = send(
        tools=[{"type": "function", "name": "f"}],
        input=[
            {"type": "additional_tools", "role": "developer", "tools": [tool]},
            {"type": "message", "role": "user", "content": "x"},
        ],
    )
    assert body["tools"] == [{"type": "function", "name": "f"}, tool]
    assert [item["type"] for item in body["input"]] == ["message"]
    assert (fired, dropped) == (["additional_tools"], [])
