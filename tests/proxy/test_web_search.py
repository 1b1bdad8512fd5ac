"""Anthropic's web search, fulfilled through a model's hosted search."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import anthropic
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import Stream, read_stream

SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
QUESTION = 'call web_search {"query": "newest django"}'
OTHER_TOOL = {
    "name": "note",
    "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}},
}
MODELS = ["claude-sonnet-4.6", "gpt-5.5", "gpt-4.1"]


@pytest.fixture(scope="module")
def searching_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway whose solo person may search."""
    gateway = Gateway(
        tmp_path_factory.mktemp("searching"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat"),
        {"GATEWAY_WEB_SEARCH": "true", "GATEWAY_HEARTBEAT_S": "0.3", "GATEWAY_IDLE_TIMEOUT_S": "3"},
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture
def searcher(searching_gateway: Gateway, simulator: SimulatorThread) -> Gateway:
    return searching_gateway


def body(said: str = QUESTION, model: str = "claude-sonnet-4.6", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": said}]
    return {"model": model, "max_tokens": 1000, "messages": messages, "tools": [SEARCH], **more}


def ask(gateway: Gateway, given: dict[str, Any]) -> dict[str, Any]:
    with gateway.client() as client:
        answer = client.post("/v1/messages", json=given)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def stream(gateway: Gateway, given: dict[str, Any]) -> Stream:
    with gateway.client() as client:
        return read_stream(client, "/v1/messages", {**given, "stream": True})


def said(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks without thoughts, and without what Claude says before it calls a tool."""
    blocks = [b for b in message["content"] if b["type"] != "thinking"]
    return blocks[1:] if len(blocks) > 1 and blocks[0]["type"] == "text" else blocks


def kinds(message: dict[str, Any]) -> list[str]:
    return [block["type"] for block in said(message)]


def paths(simulator: SimulatorThread) -> list[str]:
    return [item.path for item in simulator.generations]


SEARCHED = ["server_tool_use", "web_search_tool_result", "text"]


@pytest.mark.parametrize("model", MODELS)
def test_a_search_is_made_and_told_in_anthropics_words(
    searcher: Gateway, simulator: SimulatorThread, model: str
) -> None:
    message = ask(searcher, body(model=model))
    call, result, text = said(message)
    assert call == {
        "type": "server_tool_use",
        "id": call["id"],
        "name": "web_search",
        "input": {"query": "newest django"},
    }
    assert call["id"].startswith("srvtoolu_")
    assert result["tool_use_id"] == call["id"]
    page = result["content"][0]
    assert set(page) == {"type", "url", "title", "encrypted_content", "page_age"}
    assert (page["type"], page["url"]) == ("web_search_result", "https://example.com/source")
    assert text["text"].startswith("Tool said: I searched the web.")
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["server_tool_use"] == {
        "web_search_requests": 1,
        "web_fetch_requests": 0,
    }

    first, search, last = simulator.generations
    assert search.path == "/responses"
    assert search.json["tools"] == [{"type": "web_search"}]
    assert "newest django" in json.dumps(search.json["input"])
    assert [first.model, last.model] == [model, model]
    assert [g.headers["x-initiator"] for g in (first, search, last)] == ["user", "agent", "agent"]
    assert "web_search_2025" not in json.dumps(first.json)


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_tells_the_same(searcher: Gateway, model: str) -> None:
    answered = stream(searcher, body(model=model))
    frames = answered.frames
    starts = [f for f in frames if f["type"] == "content_block_start"]
    assert [f["index"] for f in starts] == list(range(len(starts)))
    blocks = said({"content": [f["content_block"] for f in starts]})
    assert [block["type"] for block in blocks] == SEARCHED
    assert blocks[0]["input"] == {}
    pieces = [f["delta"]["partial_json"] for f in frames if "partial_json" in f.get("delta", {})]
    assert json.loads("".join(pieces)) == {"query": "newest django"}
    names = [f["type"] for f in frames]
    assert names.count("message_start") == names.count("message_stop") == 1
    assert names.count("content_block_start") == names.count("content_block_stop")
    end = frames[-2]
    assert end["delta"]["stop_reason"] == "end_turn"
    assert end["usage"]["server_tool_use"]["web_search_requests"] == 1
    assert frames[0]["message"]["usage"]["output_tokens"] < end["usage"]["output_tokens"]


def test_the_sdk_reads_the_blocks(searcher: Gateway) -> None:
    with anthropic.Anthropic(base_url=searcher.url, api_key="none", max_retries=0) as client:
        with client.messages.stream(**body()) as events:
            message = events.get_final_message()
        *_, call, result, text = message.content
        assert [call.type, result.type, text.type] == SEARCHED
        assert isinstance(call, anthropic.types.ServerToolUseBlock)
        assert call.input == {"query": "newest django"}
        assert isinstance(result, anthropic.types.WebSearchToolResultBlock)
        assert message.usage.server_tool_use is not None
        assert message.usage.server_tool_use.web_search_requests == 1


@pytest.mark.parametrize("model", MODELS)
def test_the_next_turn_brings_the_search_back_as_it_was(
    searcher: Gateway, simulator: SimulatorThread, model: str
) -> None:
    first = body(model=model)
    message = ask(searcher, first)
    sent_before = simulator.generations[-1].json
    history = [
        *first["messages"],
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": "thanks"},
    ]
    after = ask(searcher, {**first, "messages": history})
    assert after["content"][-1]["text"] == "You said: thanks"
    sent = simulator.generations[-1].json
    assert "srvtoolu_" not in json.dumps(sent)
    key = "input" if "input" in sent else "messages"

    def bare(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Cache markers move with the end of the conversation."""
        return json.loads(json.dumps(items).replace(', "cache_control": {"type": "ephemeral"}', ""))

    before = bare(sent_before[key])
    assert bare(sent[key])[: len(before)] == before


def test_a_request_without_the_tool_gets_the_history_as_words(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    """Claude Code's side requests bring the history, but no tools."""
    first = body()
    message = ask(searcher, first)
    history = [
        *first["messages"],
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": "thanks"},
    ]
    after = {"model": "claude-sonnet-4.6", "max_tokens": 100, "messages": history}
    assert ask(searcher, after)["content"][-1]["text"] == "You said: thanks"
    sent = json.dumps(simulator.generations[-1].json)
    assert "[Web search: newest django]" in sent
    assert "I searched the web" in sent
    assert "server_tool_use" not in sent


def test_every_call_is_recorded_under_the_clients(searcher: Gateway) -> None:
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    ask(searcher, body())
    records = searcher.wait_for_records(3, "started_at >= ?", began)
    assert [r["source"] for r in records] == ["messages", "responses", "messages"]
    own = records[0]
    assert (own["parent"], own["initiator_rule"]) == ("", "last_item_user")
    assert [r["parent"] for r in records[1:]] == [own["id"]] * 2
    assert [r["initiator_rule"] for r in records[1:]] == ["hosted_search", "last_item_tool"]
    assert [r["outcome"] for r in records] == ["completed"] * 3
    assert all(r["output_tokens"] > 0 and r["nano_aiu"] > 0 for r in records)
    assert not any(r["usage_estimated"] for r in records)
    assert "hosted_web_search" in own["quirks"]


def test_what_was_recorded_is_what_was_charged(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    before = simulator.ledger()["total_nano_aiu"]
    stream(searcher, body(model="gpt-5.5"))
    records = searcher.wait_for_records(3, "started_at >= ? AND finished_at IS NOT NULL", began)
    assert sum(r["nano_aiu"] for r in records) == simulator.ledger()["total_nano_aiu"] - before


def test_tools_of_the_client_go_back_to_the_client(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    asked = 'call web_search {"query": "newest django"} call note {"text": "hi"}'
    message = ask(searcher, body(asked, tools=[SEARCH, OTHER_TOOL]))
    assert kinds(message) == ["server_tool_use", "tool_use", "web_search_tool_result"]
    assert message["stop_reason"] == "tool_use"
    assert paths(simulator) == ["/v1/messages", "/responses"]

    result = {"type": "tool_result", "tool_use_id": said(message)[1]["id"], "content": "done"}
    history = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [result]},
    ]
    after = ask(searcher, {**body(tools=[SEARCH, OTHER_TOOL]), "messages": history})
    assert after["content"][-1]["text"].startswith("Tool said:")
    assert "done" in after["content"][-1]["text"]
    roles = [m["role"] for m in simulator.generations[-1].json["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_several_searches_of_one_turn(searcher: Gateway, simulator: SimulatorThread) -> None:
    asked = 'call web_search {"query": "one"} call web_search {"query": "two"}'
    message = ask(searcher, body(asked))
    assert kinds(message).count("web_search_tool_result") == 2
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 2
    assert paths(simulator).count("/responses") == 2


def test_searches_are_bounded(searcher: Gateway, simulator: SimulatorThread) -> None:
    asked = 'call web_search {"query": "one"} call web_search {"query": "two"}'
    message = ask(searcher, body(asked, tools=[{**SEARCH, "max_uses": 1}]))
    results = [b["content"] for b in message["content"] if b["type"] == "web_search_tool_result"]
    assert results[0][0]["type"] == "web_search_result"
    assert results[1] == {
        "type": "web_search_tool_result_error",
        "error_code": "max_uses_exceeded",
    }
    assert paths(simulator).count("/responses") == 1
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_a_forced_search_is_forced_once(searcher: Gateway, simulator: SimulatorThread) -> None:
    choice = {"type": "tool", "name": "web_search"}
    message = ask(searcher, body("what is new?", tool_choice=choice))
    assert kinds(message) == SEARCHED
    first, _, last = simulator.generations
    assert first.json["tool_choice"]["name"] == "web_search"
    assert last.json["tool_choice"] == {"type": "auto"}


def test_other_sites_than_the_allowed_are_no_results(searcher: Gateway) -> None:
    message = ask(searcher, body(tools=[{**SEARCH, "blocked_domains": ["example.com"]}]))
    result = next(b for b in message["content"] if b["type"] == "web_search_tool_result")
    assert result["content"] == []


def test_a_search_that_fails_is_told_to_the_model(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    simulator.play("status", code=500, match={"path": "/responses"})
    message = ask(searcher, body())
    assert kinds(message) == SEARCHED
    _, result, text = said(message)
    assert result["content"]["error_code"] == "unavailable"
    assert "search failed" in text["text"]
    assert "web_search_requests" in message["usage"]["server_tool_use"]
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 0


def test_a_slow_search_keeps_the_stream_alive(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    simulator.play("slow", seconds=1.5, match={"path": "/responses"}, times=1)
    answered = stream(searcher, body())
    assert answered.raw.count("ping") + answered.raw.count(": ") > 1
    assert answered.frames[-1]["type"] == "message_stop"


def test_a_later_round_that_is_cut_ends_with_an_error(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    messages = {"path": "/v1/messages"}
    simulator.play("plain", match=messages, times=1)
    simulator.play("cut", at="mid_block", how="reset", match=messages, times=2)
    answered = stream(searcher, body())
    names = [f["type"] for f in answered.frames]
    assert names[-1] == "error"
    assert "message_stop" not in names
    assert names.count("content_block_start") == names.count("content_block_stop")
    records = searcher.wait_for_records(3, "started_at >= ? AND finished_at IS NOT NULL", began)
    assert [r["outcome"] for r in records] == ["upstream_error", "completed", "upstream_error"]


def test_the_first_rounds_error_is_a_proper_status(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    simulator.play("overflow_messages", match={"path": "/v1/messages"})
    with searcher.client() as client:
        answer = client.post("/v1/messages", json=body(stream=True))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("prompt is too long")


def test_a_client_that_leaves_ends_the_search(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    simulator.play("hang", seconds=30, match={"path": "/responses"}, times=1)
    with (
        searcher.client() as client,
        client.stream("POST", "/v1/messages", json=body(stream=True)) as response,
    ):
        for line in response.iter_lines():
            if "server_tool_use" in line:
                break
    assert simulator.wait_closed(5)
    records = searcher.wait_for_records(2, "started_at >= ? AND finished_at IS NOT NULL", began)
    assert [r["outcome"] for r in records] == ["cancelled", "cancelled"]


# Not allowed.


def test_without_leave_the_tool_is_left_out_and_disclosed(
    gateway: Gateway, simulator: SimulatorThread
) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/messages", json=body("hello"))
    assert answer.status_code == 200
    assert "web_search" in answer.headers["x-gateway-dropped"]
    assert kinds(answer.json()) == ["text"]
    assert "server_tool_use" not in answer.json()["usage"]
    assert "tools" not in simulator.generations[-1].json


def test_keys_are_allowed_one_by_one(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway("--require-keys")
    plain = gateway.manage("create-key", "plain").stdout.strip()
    searching = gateway.manage("create-key", "searching", "--web-search").stdout.strip()
    with gateway.client() as client:

        def asked(key: str) -> Any:
            return client.post("/v1/messages", json=body(), headers={"x-api-key": key})

        gateway.wait_for(lambda: asked(searching).status_code == 200)
        assert kinds(asked(searching).json()) == SEARCHED
        answer = asked(plain)
    assert kinds(answer.json()) == ["text"]
    assert "web_search" in answer.headers["x-gateway-dropped"]


def test_without_a_model_that_searches_the_tool_is_left_out(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway(GATEWAY_WEB_SEARCH="true", GATEWAY_WEB_SEARCH_MODEL="claude-sonnet-4.6")
    with gateway.client() as client:
        answer = client.post("/v1/messages", json=body())
    assert answer.status_code == 200
    assert "web_search" in answer.headers["x-gateway-dropped"]
    assert paths(simulator) == ["/v1/messages"]


def test_the_settings_name_the_model(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway(GATEWAY_WEB_SEARCH="true", GATEWAY_WEB_SEARCH_MODEL="gpt-5.5")
    assert kinds(ask(gateway, body())) == SEARCHED
    assert [g.model for g in simulator.generations] == [
        "claude-sonnet-4.6",
        "gpt-5.5",
        "claude-sonnet-4.6",
    ]


def test_a_function_of_the_clients_own_keeps_its_name(
    searcher: Gateway, simulator: SimulatorThread
) -> None:
    own = {"name": "web_search", "input_schema": {"type": "object", "properties": {}}}
    message = ask(searcher, body("call web_search {}", tools=[own]))
    assert kinds(message) == ["tool_use"]
    assert paths(simulator) == ["/v1/messages"]
