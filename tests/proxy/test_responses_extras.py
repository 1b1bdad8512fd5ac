"""What surrounds /v1/responses: stored responses, compaction, counting."""

import json
from typing import Any

import openai
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import WIRES, read_stream

RESPONSES = WIRES["responses"]
MODELS = ["gpt-5.5", "claude-sonnet-4.6", "gpt-4.1"]
HISTORY: list[dict[str, Any]] = [
    {"type": "message", "role": "developer", "content": "You are a careful engineer."},
    {"role": "user", "content": "the password is swordfish"},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "I keep that in mind."}],
    },
    {"role": "user", "content": [{"type": "input_text", "text": "now fix the parser"}]},
]
TRIGGER = {"type": "compaction_trigger"}
TOOL = {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}}


def sent_bodies(simulator: SimulatorThread) -> list[dict[str, Any]]:
    return [item.json for item in simulator.generations]


# Nothing is stored.


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-sonnet-4.6"])
@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("previous_response_id", "resp_123", "previous_response_not_found"),
        ("conversation", "conv_1", "unsupported_parameter"),
        ("conversation", {"id": "conv_1"}, "unsupported_parameter"),
        ("prompt", {"id": "pmpt_1", "version": "2"}, "unsupported_parameter"),
        ("background", True, "unsupported_parameter"),
    ],
)
def test_what_leans_on_a_store_is_refused_before_it_is_sent(
    gateway: Gateway,
    simulator: SimulatorThread,
    model: str,
    field: str,
    value: object,
    code: str,
) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/responses", json=RESPONSES.body("hello", model, **{field: value}))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, field)
    assert error["type"] == "invalid_request_error"
    assert answer.headers["x-should-retry"] == "false"
    assert not simulator.generations


def test_the_refusal_says_what_to_do(gateway: Gateway) -> None:
    body = RESPONSES.body("hello", "gpt-5.5", previous_response_id="resp_123")
    with gateway.client() as client:
        message = client.post("/v1/responses", json=body).json()["error"]["message"]
    assert "resp_123" in message
    assert "Send the full history in 'input'" in message


def test_fields_that_say_nothing_are_no_reason_to_refuse(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    empty = {"previous_response_id": None, "conversation": None, "prompt": None}
    body = RESPONSES.body("hello", "gpt-5.5", stream=False, background=False, **empty)
    with gateway.client() as client:
        assert client.post("/v1/responses", json=body).status_code == 200
    assert "background" not in sent_bodies(simulator)[-1]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ],
)
def test_a_stored_response_is_not_found(gateway: Gateway, method: str, path: str) -> None:
    with gateway.client() as client:
        answer = client.request(method, path)
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "response_not_found"
    assert "not stored" in error["message"]


def test_the_sdk_names_a_stored_response_not_found(gateway: Gateway) -> None:
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.NotFoundError, match="not stored"),
    ):
        client.responses.retrieve("resp_1")


# Compaction.


@pytest.mark.parametrize("model", MODELS)
def test_a_triggered_turn_streams_exactly_one_compaction_item(
    gateway: Gateway, simulator: SimulatorThread, model: str
) -> None:
    body = {"model": model, "stream": True, "input": [*HISTORY, TRIGGER], "tools": [TOOL]}
    with gateway.client() as client:
        stream = read_stream(client, "/v1/responses", body)
    assert stream.status == 200
    kinds = [frame["type"] for frame in stream.frames]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        "response.completed",
    ]
    assert [f["sequence_number"] for f in stream.frames] == list(range(5))
    done = stream.frames[3]["item"]
    assert set(done) == {"type", "id", "encrypted_content"}
    assert done["type"] == "compaction"
    assert done["encrypted_content"].startswith("cgw1.")
    final = stream.frames[-1]["response"]
    assert final["output"] == [done]
    assert final["usage"]["output_tokens"] > 0
    assert stream.headers["x-gateway-route"].endswith("summarised")

    sent = simulator.generations[-1]
    assert sent.headers["x-initiator"] == "agent"
    assert "compaction_trigger" not in json.dumps(sent.json)
    assert "swordfish" in json.dumps(sent.json)
    assert sent.json["tool_choice"] in ("none", {"type": "none"})


def test_a_compaction_is_recorded_as_the_clients_own_doing(
    gateway: Gateway, last_record: Any
) -> None:
    body = {"model": "gpt-5.5", "stream": True, "input": [*HISTORY, TRIGGER]}
    with gateway.client() as client:
        read_stream(client, "/v1/responses", body)
    record = last_record(outcome="completed")
    assert (record["initiator"], record["initiator_rule"]) == ("agent", "declared_compaction")
    assert record["output_tokens"] > 0


def test_a_triggered_turn_without_a_stream(gateway: Gateway) -> None:
    body = {"model": "claude-sonnet-4.6", "input": [*HISTORY, TRIGGER]}
    with gateway.client() as client:
        answer = client.post("/v1/responses", json=body).json()
    assert answer["object"] == "response"
    assert answer["status"] == "completed"
    assert [item["type"] for item in answer["output"]] == ["compaction"]


@pytest.mark.parametrize("model", MODELS)
def test_the_summary_comes_back_in_place_of_its_item(
    gateway: Gateway, simulator: SimulatorThread, model: str
) -> None:
    """The simulator's summary repeats the order to summarise, so that is what must come back."""
    with gateway.client() as client:
        body = {"model": "gpt-5.5", "input": [*HISTORY, TRIGGER]}
        item = client.post("/v1/responses", json=body).json()["output"][0]
        follow_up = {"model": model, "input": [item, {"role": "user", "content": "go on"}]}
        answer = client.post("/v1/responses", json=follow_up)
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"][-1]["content"][0]["text"] == "You said: go on"
    sent = json.dumps(sent_bodies(simulator)[-1])
    assert "You said: Summarise this conversation" in sent
    assert "cgw1." not in sent
    assert '"compaction"' not in sent


def test_a_compacted_conversation_can_be_compacted_again(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    with gateway.client() as client:
        first = {"model": "gpt-5.5", "input": [*HISTORY, TRIGGER]}
        item = client.post("/v1/responses", json=first).json()["output"][0]
        again = {"model": "claude-sonnet-4.6", "input": [item, *HISTORY, TRIGGER]}
        answer = client.post("/v1/responses", json=again).json()
    assert [i["type"] for i in answer["output"]] == ["compaction"]
    assert answer["output"][0]["encrypted_content"] != item["encrypted_content"]
    assert "You said: Summarise" in json.dumps(sent_bodies(simulator)[-1])


def test_an_item_that_nobody_can_read_is_refused_by_name(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    broken = {"type": "compaction", "encrypted_content": "cgw1.compaction.of-another-house"}
    body = {"model": "gpt-5.5", "input": [*HISTORY, broken, HISTORY[1]]}
    with gateway.client() as client:
        answer = client.post("/v1/responses", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[4].encrypted_content"
    assert not simulator.generations


def test_an_item_of_the_upstreams_own_passes_untouched(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    """The upstream makes such items when asked for them; they are its own to read."""
    wanted = [{"type": "compaction", "compact_threshold": 10}]
    long_text = "word " * 100
    with gateway.client() as client:
        body = {"model": "gpt-5.5", "input": long_text, "context_management": wanted}
        output = client.post("/v1/responses", json=body).json()["output"]
        item = next(i for i in output if i["type"] == "compaction")
        follow_up = {"model": "gpt-5.5", "input": [item, {"role": "user", "content": "go on"}]}
        assert client.post("/v1/responses", json=follow_up).status_code == 200
    sent = sent_bodies(simulator)[-1]["input"][0]
    assert sent == {"type": "compaction", "encrypted_content": item["encrypted_content"]}


def test_the_compaction_route_answers_as_openai_does(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.responses.compact(model="gpt-5.5", input=HISTORY, instructions="Be brief.")
        assert answer.object == "response.compaction"
        assert [item.type for item in answer.output] == ["message", "message", "compaction"]
        assert answer.usage.total_tokens > 0
        assert simulator.generations[-1].headers["x-initiator"] == "agent"
        assert sent_bodies(simulator)[-1]["instructions"] == "Be brief."

        history = [item.model_dump(exclude_none=True, warnings=False) for item in answer.output]
        after = client.responses.create(
            model="claude-sonnet-4.6", input=[*history, {"role": "user", "content": "go on"}]
        )
        assert after.output_text == "You said: go on"


def test_a_text_alone_can_be_compacted(gateway: Gateway) -> None:
    with gateway.client() as client:
        body = {"model": "gpt-4.1", "input": "the password is swordfish"}
        answer = client.post("/v1/responses/compact", json=body).json()
    assert [item["type"] for item in answer["output"]] == ["message", "compaction"]
    assert answer["output"][0]["content"][0]["text"] == "the password is swordfish"


def test_nothing_to_compact_is_refused(gateway: Gateway, simulator: SimulatorThread) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/responses/compact", json={"model": "gpt-5.5", "input": []})
    assert answer.status_code == 400
    assert "nothing to compact" in answer.json()["error"]["message"]
    assert not simulator.generations


@pytest.mark.parametrize("scenario", ["silent", "finish"])
def test_no_summary_is_a_failure_and_no_empty_item(
    gateway: Gateway, simulator: SimulatorThread, scenario: str, last_record: Any
) -> None:
    simulator.play(scenario, times=2, **({} if scenario == "silent" else {"reason": "refusal"}))
    body = {"model": "claude-sonnet-4.6", "stream": True, "input": [*HISTORY, TRIGGER]}
    with gateway.client() as client:
        stream = read_stream(client, "/v1/responses", body)
    kinds = [frame["type"] for frame in stream.frames]
    assert kinds[-2:] == ["error", "response.failed"]
    assert "response.completed" not in kinds
    assert last_record()["outcome"] == "upstream_error"


def test_a_cut_summary_fails_the_turn(gateway: Gateway, simulator: SimulatorThread) -> None:
    simulator.play("cut", at="mid_block", how="reset", times=1)
    body = {"model": "gpt-5.5", "stream": True, "input": [*HISTORY, TRIGGER]}
    with gateway.client() as client:
        stream = read_stream(client, "/v1/responses", body)
    assert [f["type"] for f in stream.frames][-1] == "response.failed"


# Counting.


@pytest.mark.parametrize("model", MODELS)
def test_input_tokens_are_counted_without_an_answer(
    gateway: Gateway, simulator: SimulatorThread, model: str
) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        short = client.responses.input_tokens.count(model=model, input="hello")
        longer = client.responses.input_tokens.count(
            model=model, input="hello " * 200, instructions="Be brief.", tools=[TOOL]
        )
    assert short.object == "response.input_tokens"
    assert 0 < short.input_tokens < longer.input_tokens
    assert not [g for g in simulator.generations if not g.path.endswith("count_tokens")]
