"""The responses leg: rotating ids, echoes, encrypted reasoning, refusals."""

from __future__ import annotations

import json

import pytest

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
ENCRYPTED = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "high"}}


def test_every_event_has_another_id_sorted_keys_and_no_done(copilot, events):
    answer = copilot.responses("hello", stream=True, instructions="Be brief.", tools=[WEATHER])
    seen = events(answer)
    assert "[DONE]" not in answer.text
    assert [event.data["sequence_number"] for event in seen] == list(range(len(seen)))
    assert all(event.name == event.data["type"] for event in seen)
    assert seen[-1].name == "response.completed"
    ids = [event.data["item_id"] for event in seen if "item_id" in event.data]
    ids += [event.data["response"]["id"] for event in seen if "response" in event.data]
    assert len(set(ids)) == len(ids)
    assert seen[0].data["response"]["tools"] == [WEATHER]
    assert seen[0].data["response"]["instructions"] == "Be brief."
    for event in seen:
        assert list(event.data) == sorted(event.data)
    text = "".join(
        event.data["delta"] for event in seen if event.name == "response.output_text.delta"
    )
    assert text == "You said: hello"


def test_usage_comes_only_with_the_end_and_cost_beside_the_response(copilot, events):
    seen = events(copilot.responses("hello", stream=True))
    assert seen[0].data["response"]["usage"] is None
    last = seen[-1].data
    assert last["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert last["copilot_usage"]["total_nano_aiu"] > 0
    assert "copilot_usage" in copilot.responses("hello").json()


def test_item_ids_cannot_be_replayed_but_encrypted_reasoning_can(copilot):
    first = copilot.responses('call weather {"city": "Rome"}', tools=[WEATHER], **ENCRYPTED).json()
    reasoning, call = first["output"]
    assert call["arguments"] == '{"city": "Rome"}'
    user = {"role": "user", "content": "call weather"}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "21 degrees"}

    def follow_up(*items):
        return copilot.post(
            "/responses",
            {"model": "gpt-5.5", "tools": [WEATHER], "input": [user, *items, result]} | ENCRYPTED,
        )

    refused = follow_up(reasoning, call)
    assert refused.json()["error"]["message"] == "input item ID does not belong to this connection"

    def bare(item):
        return {key: value for key, value in item.items() if key != "id"}

    good = follow_up(bare(reasoning), bare(call)).json()
    assert good["output"][-1]["content"][0]["text"] == "Tool said: 21 degrees"
    foreign = bare(reasoning) | {"encrypted_content": "bm90IG91cnM="}
    assert "could not be verified" in follow_up(foreign, bare(call)).json()["error"]["message"]
    wrong_prefix = follow_up(bare(reasoning), bare(call) | {"id": "call_x"}).json()
    assert "Expected an ID that begins with 'fc'" in wrong_prefix["error"]["message"]


def test_encrypted_reasoning_belongs_to_its_account(copilot):
    reasoning = copilot.responses("hi", **ENCRYPTED).json()["output"][0]
    body = {
        "model": "gpt-5.5",
        "input": [
            {
                "type": "reasoning",
                "summary": [],
                "encrypted_content": reasoning["encrypted_content"],
            },
            {"role": "user", "content": "again"},
        ],
    }
    assert copilot.post("/responses", body).status_code == 200
    copilot.bearer = "gho_opencode"
    assert copilot.post("/responses", body).status_code == 400


@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        ({"store": True}, "unsupported_value", "store is not supported"),
        ({"service_tier": "auto"}, "unsupported_value", "service_tier"),
        ({"safety_identifier": "x"}, "unsupported_value", "safety_identifier"),
        ({"tools": [{"type": "image_generation"}]}, "unsupported_value", "image_generation"),
        ({"max_output_tokens": 8}, "invalid_request_body", "Expected a value >= 16, but got 8"),
        ({"reasoning": {"effort": "max"}}, "invalid_reasoning_effort", "'max'"),
        ({"previous_response_id": "resp_1"}, "previous_response_not_found", "resp_1"),
        ({"client_metadata": {}}, "invalid_request_body", "Unknown parameter: 'client_metadata'"),
        (
            {"input": [{"type": "compaction_trigger"}]},
            "invalid_request_body",
            "Invalid value: 'compaction_trigger'",
        ),
        ({"model": "gpt-4.1"}, "unsupported_api_for_model", "/responses"),
    ],
)
def test_what_the_leg_refuses(copilot, extra, code, words):
    answer = copilot.responses(**extra)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == code
    assert words in error["message"]


def test_overflow_is_told_without_numbers(simulator, copilot):
    entry = {
        "id": "tiny",
        "supported_endpoints": ["/responses"],
        "capabilities": {"type": "chat", "limits": {"max_prompt_tokens": 10}},
    }
    simulator.add_model(entry)
    answer = copilot.responses("x" * 100, "tiny")
    error = answer.json()["error"]
    assert error["code"] == "invalid_request_body"
    assert error["message"].startswith("Your input exceeds the context window")
    assert answer.headers["content-type"].startswith("text/plain")


def test_custom_tools_web_search_and_namespaces(copilot):
    custom = {"type": "custom", "name": "apply_patch"}
    answer = copilot.responses("call apply_patch *** Begin", tools=[custom]).json()
    assert answer["output"][-1]["type"] == "custom_tool_call"
    assert answer["output"][-1]["input"] == "*** Begin"
    found = copilot.responses("search for cats", tools=[{"type": "web_search"}]).json()
    kinds = [item["type"] for item in found["output"]]
    assert kinds == ["reasoning", "web_search_call", "message"]
    note = found["output"][-1]["content"][0]["annotations"][0]
    assert note["type"] == "url_citation"
    space = {"type": "namespace", "name": "home", "tools": [WEATHER]}
    called = copilot.responses("call weather {}", tools=[space]).json()["output"][-1]
    assert (called["name"], called["namespace"]) == ("weather", "home")


def test_a_cut_answer_is_incomplete_with_an_incomplete_item(copilot, events):
    seen = events(copilot.responses("x" * 400, max_output_tokens=16, stream=True))
    assert seen[-1].name == "response.incomplete"
    response = seen[-1].data["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][-1]["status"] == "incomplete"
    assert "status" not in response["output"][0]


def test_a_long_prompt_is_compacted_when_asked(copilot):
    edit = [{"type": "compaction", "compact_threshold": 10}]
    kinds = [
        item["type"]
        for item in copilot.responses("x" * 100, context_management=edit).json()["output"]
    ]
    assert kinds == ["reasoning", "compaction", "message"]


def test_summaries_arrive_with_their_item_or_are_streamed(copilot, events):
    wish = {"reasoning": {"effort": "low", "summary": "auto"}, "stream": True}
    quiet = events(copilot.responses("hi", **wish))
    assert not any("summary_text.delta" in event.name for event in quiet)
    done = next(event for event in quiet if event.name == "response.output_item.done")
    assert done.data["item"]["summary"][0]["text"]
    loud = events(copilot.responses("hi [[stream_summary]]", **wish))
    assert any(event.name == "response.reasoning_summary_text.delta" for event in loud)


def test_structured_output_is_json(copilot):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = {"format": {"type": "json_schema", "name": "x", "schema": schema}}
    answer = copilot.post("/responses", {"model": "gpt-5.5", "input": "go", "text": wanted})
    words = answer.json()["output"][-1]["content"][0]["text"]
    assert json.loads(words) == {"ok": True}
