"""The checklist of docs/clients.md, line by line, at the doors that clients use.

Lines that have tests of their own elsewhere: websocket probe and `?key=` (tests/proxy/test_input.py),
heartbeats, cut streams and clients that leave (tests/proxy/test_faults_upstream.py,
test_clients_leaving.py), Gemini's silence (test_gemini_api.py), seals of Gemini's tool calls
(test_reasoning.py), rules of the initiator (tests/proxy/upstream/test_initiator.py).
"""

import concurrent.futures
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.conftest import WIRES, Stream, read_stream

CLAUDE = "claude-sonnet-4.6"
HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
READ = {"name": "Read", "input_schema": SCHEMA}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}


@pytest.fixture
def client(gateway: Gateway, simulator: SimulatorThread) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def claude(**fields: Any) -> dict[str, Any]:
    return {"model": CLAUDE, "max_tokens": 1000, "messages": HELLO, **fields}


def upstream(simulator: SimulatorThread) -> Any:
    """The one body that was sent, and its headers."""
    assert [item.status for item in simulator.generations] == [200]
    return simulator.generations[0]


HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "openai-beta": "responses_websockets=2026-02-06",
}


# Auth and paths.


@pytest.fixture(scope="module")
def keyed(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, str]]:
    gateway = Gateway(
        tmp_path_factory.mktemp("checklist"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--require-keys"),
    )
    gateway.wait_signed_in()
    key = gateway.manage("create-key", "checklist").stdout.strip()
    # Another process made it: the gateway learns of it within its next look.
    with gateway.client(headers={"x-api-key": key}) as client:
        assert gateway.wait_for(lambda: client.get("/v1/models").status_code == 200, 20)
    yield gateway, key
    gateway.stop()


SURFACES: list[tuple[str, dict[str, Any]]] = [
    ("/chat/completions", {"model": "gpt-4.1", "messages": HELLO}),
    ("/messages", claude()),
    ("/messages/count_tokens", {"model": CLAUDE, "messages": HELLO}),
    ("/responses", {"model": "gpt-5.5", "input": "hello"}),
    ("/embeddings", {"model": "text-embedding-3-small", "input": "hello"}),
]


def test_a_key_is_taken_in_every_header_on_every_surface(keyed: tuple[Gateway, str]) -> None:
    gateway, key = keyed
    with gateway.client() as client:
        for path, body in SURFACES:
            for headers in (
                {"authorization": f"Bearer {key}"},
                {"x-api-key": key},
                {"x-goog-api-key": key},
            ):
                answer = client.post(f"/v1{path}", json=body, headers=headers)
                assert answer.status_code == 200, (path, headers.keys(), answer.text)
            assert client.post(f"/v1{path}", json=body).status_code == 401


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_every_path_stands_with_and_without_its_version(client: httpx.Client, prefix: str) -> None:
    for path, body in SURFACES:
        assert client.post(prefix + path, json=body).status_code == 200
    assert client.get(f"{prefix}/models").status_code == 200
    assert client.get(f"{prefix}/models/gpt-4.1").status_code == 200


def test_the_root_answers_to_get_and_head(client: httpx.Client) -> None:
    assert client.get("/").status_code == 200
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")


def test_one_list_of_models_serves_both_worlds(client: httpx.Client) -> None:
    listed = client.get("/v1/models", params={"limit": 1000}).json()
    entries = listed["data"]
    ids = [entry["id"] for entry in entries]
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert (listed["first_id"], listed["last_id"]) == (ids[0], ids[-1])
    assert len(ids) == len(set(ids))
    for entry in entries:
        assert (entry["object"], entry["type"]) == ("model", "model")
        assert isinstance(entry["created"], int)
        assert entry["created_at"].endswith("Z")
        assert entry["owned_by"]
        assert entry["display_name"]
    one = client.get(f"/v1/models/{ids[0]}").json()
    assert one == entries[0]
    assert client.get("/v1/models/none-such").status_code == 404


@pytest.mark.parametrize("headers", [{}, HANDSHAKE])
@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
def test_codex_is_told_at_once_to_use_http(
    client: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    assert client.get(path, headers=headers).status_code == 426


# Messages.


def test_claude_codes_newest_request_goes_through_at_the_first_try(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    marker = {"type": "ephemeral", "scope": "global"}
    body = claude(
        max_tokens=128000,
        system=[{"type": "text", "text": "be brief", "cache_control": marker}],
        messages=[
            HELLO[0],
            {"role": "system", "content": "be polite", "output_config": {"effort": "low"}},
        ],
        tools=[
            {**READ, "eager_input_streaming": True, "strict": True},
            {"name": "Later", "input_schema": SCHEMA, "defer_loading": True},
        ],
        thinking={"type": "adaptive", "display": "omitted"},
        output_config={"effort": "xhigh"},
        context_management={"edits": []},
        service_tier="auto",
        diagnostics={"x": 1},
    )
    betas = [
        "claude-code-20250219",
        "interleaved-thinking-2025-05-14",
        "context-management-2025-06-27",
        "thinking-token-count-2026-05-13",
        "advanced-tool-use-2025-11-20",
        "per-turn-control-2026-07-01",
        "mid-conversation-tool-changes-2026-07-01",
        "context-1m-2025-08-07",
    ]
    answer = client.post(
        "/v1/messages?beta=true",
        json=body,
        headers={"anthropic-beta": ",".join(betas), "anthropic-version": "2026-10-21"},
    )

    assert answer.status_code == 200
    sent = upstream(simulator)
    taken = sent.headers["anthropic-beta"].split(",")
    assert "per-turn-control-2026-07-01" not in taken
    assert "context-1m-2025-08-07" not in taken
    assert "advanced-tool-use-2025-11-20" in taken
    assert sent.headers["anthropic-version"] == "2023-06-01"
    text = json.dumps(sent.json)
    for gone in ("scope", "eager_input_streaming", '"strict"', "service_tier", "diagnostics"):
        assert gone not in text
    assert '"defer_loading": true' in text
    assert "be polite" in text
    assert all(message.keys() == {"role", "content"} for message in sent.json["messages"])
    assert sent.json["max_tokens"] < 128000
    assert sent.json["output_config"]["effort"] != "xhigh"
    assert sent.headers["x-initiator"] == "user"


def test_a_signature_goes_up_byte_by_byte(client: httpx.Client, simulator: SimulatorThread) -> None:
    body = claude(
        max_tokens=9000,
        thinking={"type": "enabled", "budget_tokens": 2000},
        tools=[READ],
        messages=[{"role": "user", "content": 'call Read {"path": "a"}'}],
    )
    first = client.post("/v1/messages", json=body).json()
    assert first["content"][0]["type"] == "thinking"
    call = next(block for block in first["content"] if block["type"] == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "it says hi"}
    body["messages"] += [
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    second = client.post("/v1/messages", json=body)

    assert second.status_code == 200
    assert [item.status for item in simulator.generations] == [200, 200]
    sent = simulator.generations[-1].json["messages"][1]["content"]
    assert sent[0] == first["content"][0]


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("claude-sonnet-4-6", "claude-sonnet-4.6"),
        ("claude-sonnet-4-6-20260101", "claude-sonnet-4.6"),
        ("claude-sonnet-4.6[1m]", "claude-sonnet-4.6"),
        ("claude-opus-99", "claude-opus-"),
    ],
)
def test_names_of_other_spellings_and_newer_ones_are_served(
    client: httpx.Client, name: str, used: str
) -> None:
    answer = client.post("/v1/messages", json=claude(model=name))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-model"].startswith(used)


def test_twenty_six_counts_at_once_are_answered_and_not_billed(
    client: httpx.Client, gateway: Gateway, simulator: SimulatorThread
) -> None:
    def count(number: int) -> int:
        body = {"model": CLAUDE, "messages": [{"role": "user", "content": "word " * number}]}
        answer = client.post("/v1/messages/count_tokens?beta=true", json=body)
        assert answer.status_code == 200
        return int(answer.json()["input_tokens"])

    with concurrent.futures.ThreadPoolExecutor(26) as pool:
        counts = list(pool.map(count, range(10, 270, 10)))

    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert simulator.generations == []
    assert gateway.records("path LIKE '%count_tokens%'") == []


@pytest.mark.parametrize("model", [CLAUDE, "gpt-5.5", "gpt-4.1"])
def test_an_error_is_anthropics_with_the_upstreams_text(
    client: httpx.Client, simulator: SimulatorThread, model: str
) -> None:
    simulator.play("status", code=422, message="no such luck", error_code="odd")
    answer = client.post("/v1/messages", json=claude(model=model))
    document = answer.json()
    assert answer.status_code >= 400
    assert document["type"] == "error"
    assert document["request_id"].startswith("req_")
    assert document["error"]["type"]
    assert "no such luck" in document["error"]["message"]


@pytest.mark.parametrize("model", [CLAUDE, "gpt-5.5", "gpt-4.1"])
def test_usage_stands_at_the_start_and_at_the_end(client: httpx.Client, model: str) -> None:
    stream = read_stream(client, "/v1/messages", claude(model=model, stream=True))
    start = next(f for f in stream.frames if f["type"] == "message_start")
    end = next(f for f in stream.frames if f["type"] == "message_delta")
    assert "input_tokens" in start["message"]["usage"]
    assert "output_tokens" in start["message"]["usage"]
    assert end["usage"]["output_tokens"] > 0
    names = [line for line in stream.raw.split("\n") if line.startswith("event: ")]
    assert names[0] == "event: message_start"
    assert names[-1] == "event: message_stop"


# Chat completions.


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4.1", "messages": HELLO, **fields}


CHAT_READ = {"type": "function", "function": {"name": "Read", "parameters": SCHEMA}}


@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-5.5", CLAUDE, "gemini-3.1-pro-preview"])
def test_every_chunk_is_whole_and_usage_comes_last_when_asked(
    client: httpx.Client, model: str
) -> None:
    body = chat(model=model, stream=True, stream_options={"include_usage": True})
    stream = read_stream(client, "/v1/chat/completions", body)
    check_chunks(stream)
    assert stream.frames[-1]["choices"] == []
    assert stream.frames[-1]["usage"]["prompt_tokens"] > 0
    assert all(frame.get("usage") is None for frame in stream.frames[:-1])

    unasked = read_stream(client, "/v1/chat/completions", chat(model=model, stream=True))
    check_chunks(unasked)
    assert all(frame.get("usage") is None for frame in unasked.frames)


def check_chunks(stream: Stream) -> None:
    assert stream.raw.count("data: [DONE]") == 1
    assert len({frame["id"] for frame in stream.frames}) == 1
    for frame in stream.frames:
        assert frame["object"] == "chat.completion.chunk"
        assert frame["model"]
        assert frame["created"] > 0
        assert all(choice["index"] == 0 for choice in frame["choices"])


def test_claudes_two_choices_are_one(client: httpx.Client) -> None:
    body = chat(
        model=CLAUDE,
        tools=[CHAT_READ],
        messages=[{"role": "user", "content": 'call Read {"path": "a"}'}],
    )
    answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["object"] == "chat.completion"
    assert len(answer["choices"]) == 1
    choice = answer["choices"][0]
    assert (choice["index"], choice["finish_reason"]) == (0, "tool_calls")
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "Read"


def test_gpt_5_gets_the_limit_under_its_new_name(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    simulator.config(gpt5_refuses_max_tokens=True)
    answer = client.post("/v1/chat/completions", json=chat(model="gpt-5-mini", max_tokens=50))
    assert answer.status_code == 200
    assert upstream(simulator).json["max_completion_tokens"] == 50


def test_reasoning_is_shown_under_the_name_that_clients_know(client: httpx.Client) -> None:
    body = chat(
        model="gemini-3.1-pro-preview",
        messages=[{"role": "user", "content": "hello [[thinking text=pondering]]"}],
    )
    answer = client.post("/v1/chat/completions", json=body).json()
    assert "pondering" in answer["choices"][0]["message"]["reasoning_content"]


def test_a_model_of_responses_alone_is_served_to_chat_clients(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    answer = client.post("/v1/chat/completions", json=chat(model="gpt-5.5"))
    assert answer.json()["choices"][0]["message"]["content"] == "You said: hello"
    assert upstream(simulator).path == "/responses"


# Responses.


@pytest.mark.parametrize("model", ["gpt-5.5", CLAUDE, "gpt-4.1"])
def test_ids_stay_the_same_and_numbers_have_no_gap(client: httpx.Client, model: str) -> None:
    body = {
        "model": model,
        "stream": True,
        "input": 'call Read {"path": "a"}',
        "tools": [{"type": "function", "name": "Read", "parameters": SCHEMA}],
    }
    frames = read_stream(client, "/v1/responses", body).frames
    ids = {frame["response"]["id"] for frame in frames if "response" in frame}
    items: dict[int, set[str]] = {}
    for frame in frames:
        item_id = frame.get("item_id") or frame.get("item", {}).get("id")
        if item_id is not None:
            items.setdefault(frame["output_index"], set()).add(item_id)
    assert len(ids) == 1
    assert items
    assert all(len(found) == 1 for found in items.values())
    assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
    assert frames[0]["type"] == "response.created"
    assert frames[-1]["type"] == "response.completed"
    whole = {index: item["id"] for index, item in enumerate(frames[-1]["response"]["output"])}
    assert all(items[index] == {item_id} for index, item_id in whole.items())


def test_foreign_ids_and_refused_fields_never_go_up(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    body = {
        "model": "gpt-5.5",
        "store": True,
        "service_tier": "auto",
        "tools": [{"type": "image_generation"}],
        "input": [
            {"type": "message", "id": "msg_of_client", "role": "user", "content": "hello"},
            {"role": "user", "content": [{**image, "detail": "original"}]},
        ],
    }
    answer = client.post("/v1/responses", json=body)

    assert answer.status_code == 200
    sent = upstream(simulator).json
    assert sent["store"] is False
    assert not {"service_tier", "tools"} & sent.keys()
    assert "msg_of_client" not in json.dumps(sent)
    assert sent["input"][1]["content"][0]["detail"] == "high"
    for name in ("store", "service_tier", "image_generation"):
        assert name in answer.headers["x-gateway-dropped"]


@pytest.mark.parametrize("model", ["gpt-5.5", CLAUDE, "gpt-4.1"])
def test_an_error_in_a_stream_is_flat(
    client: httpx.Client, simulator: SimulatorThread, model: str
) -> None:
    simulator.play("cut", at="mid_block", how="reset")
    stream = read_stream(client, "/v1/responses", {"model": model, "stream": True, "input": "hi"})
    errors = [frame for frame in stream.frames if frame["type"] == "error"]
    assert len(errors) == 1
    assert isinstance(errors[0]["code"], str)
    assert isinstance(errors[0]["message"], str)


@pytest.mark.parametrize("model", [CLAUDE, "gpt-4.1"])
def test_models_without_responses_answer_on_it(client: httpx.Client, model: str) -> None:
    answer = client.post("/v1/responses", json={"model": model, "input": "hello"}).json()
    assert (answer["object"], answer["status"]) == ("response", "completed")
    assert answer["output"][-1]["content"][0]["text"] == "You said: hello"


# Streams and billing.


@pytest.mark.parametrize(
    ("wire_name", "model"),
    [("chat_completions", "gpt-4.1"), ("messages", "gpt-5.5"), ("responses", CLAUDE)],
)
def test_the_first_bytes_are_passed_on_at_once(
    client: httpx.Client, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    body = wire.body("[[paced interval=0.3]] a long answer in many words", model)
    with client.stream("POST", wire.path, json=body) as response:
        seen = b""
        for piece in response.iter_raw():
            seen += piece
            break
    assert seen
    assert b"stop" not in seen.replace(b"stop_", b"")


@pytest.mark.parametrize(
    ("fields", "headers", "initiator"),
    [
        ({}, {}, "user"),
        ({}, {"x-claude-code-agent-id": "sub-1"}, "agent"),
        (
            {
                "messages": [
                    HELLO[0],
                    {"role": "assistant", "content": [CALL]},
                    {"role": "user", "content": [RESULT]},
                    {"role": "system", "content": "a reminder"},
                ],
                "tools": [READ],
            },
            {},
            "agent",
        ),
        (
            {"messages": [HELLO[0], {"role": "system", "content": "a reminder"}]},
            {},
            "user",
        ),
    ],
)
def test_the_last_conversational_message_says_who_began(
    client: httpx.Client,
    simulator: SimulatorThread,
    fields: dict[str, Any],
    headers: dict[str, str],
    initiator: str,
) -> None:
    answer = client.post("/v1/messages", json=claude(**fields), headers=headers)
    assert answer.status_code == 200
    assert upstream(simulator).headers["x-initiator"] == initiator
