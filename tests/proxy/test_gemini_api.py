"""The Gemini API over a socket: Claude, GPT and Gemini models behind Google's words."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

CLAUDE, GPT, GEMINI, OLD_GPT = "claude-sonnet-4.6", "gpt-5.5", "gemini-3.1-pro-preview", "gpt-4.1"
MODELS = {
    CLAUDE: "messages",
    GPT: "responses",
    GEMINI: "chat_completions",
    OLD_GPT: "chat_completions",
}
every_model = pytest.mark.parametrize("model", MODELS)

READ = {
    "name": "read_file",
    "description": "Reads a file",
    "parameters": {
        "type": "OBJECT",
        "properties": {"path": {"type": "STRING"}},
        "required": ["path"],
    },
}
TOOLS = [{"functionDeclarations": [READ]}]


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"contents": [said(text)], **fields}


def path(model: str, method: str) -> str:
    return f"/v1beta/models/{model}:{method}"


def parts_of(payloads: list[Any]) -> list[Any]:
    return [
        part
        for payload in payloads
        for candidate in payload.get("candidates", [])
        for part in candidate["content"].get("parts", [])
    ]


def text_of(payloads: list[Any]) -> str:
    return "".join(p.get("text", "") for p in parts_of(payloads) if not p.get("thought"))


def stream(client: httpx.Client, model: str, wanted: dict[str, Any]) -> list[Any]:
    """The objects of a stream that may hold nothing but data lines."""
    answer = client.post(f"{path(model, 'streamGenerateContent')}?alt=sse", json=wanted)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    lines = answer.text.split("\n")
    assert all(not line or line.startswith("data: {") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines if line]


# Generation.


@every_model
def test_a_whole_answer(client: httpx.Client, model: str) -> None:
    answer = client.post(path(model, "generateContent"), json=body("hello there"))

    assert answer.status_code == 200
    assert answer.headers["x-gateway-route"] == f"gemini->{MODELS[model]}, translated"
    told = answer.json()
    candidate = told["candidates"][0]
    assert text_of([told]) == "You said: hello there"
    assert (candidate["finishReason"], candidate["content"]["role"]) == ("STOP", "model")
    usage = told["usageMetadata"]
    assert usage["promptTokenCount"] > 0
    assert usage["totalTokenCount"] == sum(
        usage.get(name, 0)
        for name in ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    )
    assert told["modelVersion"]
    assert told["responseId"]


@every_model
def test_a_stream_of_events(client: httpx.Client, model: str) -> None:
    told = stream(client, model, body("[[drip chunks=5 delay=0.01]]"))

    assert text_of(told) == "word1 word2 word3 word4 word5 "
    assert len(told) > 2
    reasons = [one["candidates"][0].get("finishReason") for one in told]
    assert reasons == [None] * (len(told) - 1) + ["STOP"]
    assert told[-1]["usageMetadata"]["promptTokenCount"] > 0


@every_model
def test_a_stream_as_one_array(client: httpx.Client, model: str) -> None:
    answer = client.post(path(model, "streamGenerateContent"), json=body("hello"))

    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert isinstance(told, list)
    assert text_of(told) == "You said: hello"
    assert told[-1]["candidates"][0]["finishReason"] == "STOP"


def test_the_array_arrives_while_the_answer_is_made(gateway: Gateway) -> None:
    wanted = body("[[drip chunks=4 delay=0.2]]")
    with (
        gateway.client() as client,
        client.stream("POST", path(CLAUDE, "streamGenerateContent"), json=wanted) as answer,
    ):
        chunks = list(answer.iter_raw())

    assert len(chunks) > 2
    assert chunks[0].startswith(b'[{"candidates"')
    assert b"word4" not in chunks[0]


@every_model
def test_a_tool_loop_comes_to_its_end(
    client: httpx.Client, simulator: SimulatorThread, model: str
) -> None:
    """As Gemini CLI does it: thoughts are dropped, all other parts sent back as they came."""
    thinking = {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"}}
    wanted = body(
        'call read_file {"path": "a.txt"} and call read_file {"path": "b.txt"}',
        tools=TOOLS,
        generationConfig=thinking,
    )
    told = stream(client, model, wanted)
    parts = [part for part in parts_of(told) if not part.get("thought")]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]

    assert [call["args"] for call in calls] == [{"path": "a.txt"}, {"path": "b.txt"}]
    assert told[-1]["candidates"][0]["finishReason"] == "STOP"

    answers = [
        {
            "functionResponse": {
                "id": call["id"],
                "name": call["name"],
                "response": {"output": f"text of {call['args']['path']}"},
            }
        }
        for call in calls
    ]
    wanted["contents"] += [{"role": "model", "parts": parts}, {"role": "user", "parts": answers}]
    final = stream(client, model, wanted)

    assert text_of(final) == "Tool said: text of a.txt | text of b.txt"
    first, second = simulator.generations
    assert first.headers["x-initiator"] == "user"
    assert second.headers["x-initiator"] == "agent"
    assert second.status == 200


def test_geminis_reasoning_comes_back_to_it(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    wanted = body('call read_file {"path": "a"}', tools=TOOLS)
    call = next(p for p in parts_of(stream(client, GEMINI, wanted)) if "functionCall" in p)
    response = {"id": call["functionCall"]["id"], "name": "read_file", "response": {"output": "x"}}
    wanted["contents"] += [
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": [{"functionResponse": response}]},
    ]

    stream(client, GEMINI, wanted)

    sent = simulator.generations[-1].json["messages"][1]
    assert call["thoughtSignature"] == f"cgw1.copilot_chat.{sent['reasoning_opaque']}"


def test_claudes_signature_comes_back_to_it(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    thinking = {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"}}
    wanted = body('call read_file {"path": "a"}', tools=TOOLS, generationConfig=thinking)
    parts = parts_of(stream(client, CLAUDE, wanted))
    assert parts[0]["thought"] is True
    call = next(part["functionCall"] for part in parts if "functionCall" in part)
    response = {"id": call["id"], "name": "read_file", "response": {"output": "x"}}
    wanted["contents"] += [
        {"role": "model", "parts": parts},
        {"role": "user", "parts": [{"functionResponse": response}]},
    ]

    assert text_of(stream(client, CLAUDE, wanted)) == "Tool said: x"

    first = simulator.generations[-1].json["messages"][1]["content"][0]
    assert first["type"] == "thinking"
    assert first["thinking"] == "".join(p["text"] for p in parts if p.get("thought"))
    assert any(p.get("thoughtSignature") == f"cgw1.anthropic.{first['signature']}" for p in parts)


@every_model
def test_a_forced_call_is_made(client: httpx.Client, model: str) -> None:
    calling = {"mode": "ANY", "allowedFunctionNames": ["read_file"]}
    wanted = body("hello", tools=TOOLS, toolConfig={"functionCallingConfig": calling})

    told = client.post(path(model, "generateContent"), json=wanted).json()

    assert parts_of([told])[-1]["functionCall"]["name"] == "read_file"


@every_model
def test_a_schema_shapes_the_answer(client: httpx.Client, model: str) -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"name": {"type": "STRING"}},
        "required": ["name"],
        "propertyOrdering": ["name"],
    }
    config = {"responseMimeType": "application/json", "responseSchema": schema}

    told = client.post(path(model, "generateContent"), json=body("x", generationConfig=config))

    assert list(json.loads(text_of([told.json()]))) == ["name"]


def test_an_image_is_seen(client: httpx.Client, simulator: SimulatorThread) -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    wanted = {"contents": [{"parts": [{"text": "look"}, image]}]}

    answer = client.post(path(CLAUDE, "generateContent"), json=wanted)

    assert answer.status_code == 200
    assert simulator.generations[-1].headers["copilot-vision-request"] == "true"


def test_the_system_instruction_reaches_the_model(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    wanted = body("x", systemInstruction={"role": "user", "parts": [{"text": "Be brief."}]})

    client.post(path(CLAUDE, "generateContent"), json=wanted)

    sent = simulator.generations[-1].json["system"]
    assert [block["text"] for block in sent] == ["Be brief."]


def test_the_older_version_in_the_path_is_served(client: httpx.Client) -> None:
    answer = client.post(f"/v1/models/{GPT}:generateContent", json=body("hello"))

    assert text_of([answer.json()]) == "You said: hello"
    assert client.get("/v1/models").json()["object"] == "list"


def test_what_was_left_out_is_named(client: httpx.Client) -> None:
    wanted = body("x", generationConfig={"topK": 40}, safetySettings=[{"category": "c"}])

    answer = client.post(path(GPT, "generateContent"), json=wanted)

    assert answer.headers["x-gateway-dropped"] == "top_k, safetySettings"


# What goes wrong.


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == answer.status_code
    return error


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        (b"{", "not valid JSON"),
        (b"", "empty"),
        (b"[]", "an array"),
        (b"{}", "contents"),
        (b'{"contents": [{"parts": [{"text": 1}]}]}', "contents[0].parts[0].text"),
        (b'{"contents": [{"parts": [{"text": "x"}]}], "cachedContent": "c/1"}', "cached at Google"),
    ],
)
def test_a_bad_body_is_refused_in_googles_words(
    client: httpx.Client, simulator: SimulatorThread, wanted: bytes, word: str
) -> None:
    for method in ("generateContent", "streamGenerateContent?alt=sse", "countTokens"):
        answer = client.post(path(GPT, method), content=wanted)

        assert answer.status_code == 400
        error = error_of(answer)
        assert error["status"] == "INVALID_ARGUMENT"
        assert word in error["message"]
    assert simulator.generations == []


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    answer = client.post(path("gpt-99", "streamGenerateContent?alt=sse"), json=body("x"))

    assert answer.status_code == 404
    assert error_of(answer)["status"] == "NOT_FOUND"
    assert error_of(client.get("/v1beta/models/gpt-99"))["status"] == "NOT_FOUND"


def test_unknown_paths_and_methods_answer_in_googles_words(client: httpx.Client) -> None:
    assert error_of(client.get("/v1beta/files"))["status"] == "NOT_FOUND"
    assert error_of(client.get(path(GPT, "generateContent") + "/"))["status"] == "NOT_FOUND"
    assert client.delete("/v1beta/models").status_code == 405
    assert (
        client.post(path(GPT, "streamGenerateContent?alt=xml"), json=body("x")).status_code == 400
    )


@every_model
def test_a_limit_says_when_to_come_back(
    client: httpx.Client, simulator: SimulatorThread, model: str
) -> None:
    simulator.play("status", code=529, retry_after=7)

    answer = client.post(path(model, "streamGenerateContent?alt=sse"), json=body("x"))

    assert answer.status_code in (503, 529)
    assert error_of(answer)["status"] == "UNAVAILABLE"


@every_model
@pytest.mark.parametrize("alt", ["sse", "json"])
def test_a_cut_answer_ends_with_an_error_and_no_reason(
    client: httpx.Client, simulator: SimulatorThread, model: str, alt: str
) -> None:
    wanted = body("[[drip chunks=9 delay=0.01]] [[cut mid_block fin]]")

    answer = client.post(path(model, f"streamGenerateContent?alt={alt}"), json=wanted)

    assert answer.status_code == 200
    lines = [line for line in answer.text.split("\n") if line]
    told = answer.json() if alt == "json" else [json.loads(one[6:]) for one in lines]
    assert "word1" in text_of(told)
    assert told[-1]["error"]["code"] == 502
    assert "finishReason" not in answer.text


def test_silence_is_never_filled_with_comments(client: httpx.Client) -> None:
    # Longer than two heartbeats of this gateway.
    told = stream(client, CLAUDE, body("[[stall 1.2]] hello"))

    assert "hello" in text_of(told)


# Counting, embeddings, models.


@every_model
def test_tokens_are_counted(client: httpx.Client, model: str) -> None:
    few = client.post(path(model, "countTokens"), json=body("hello"))
    many = client.post(path(model, "countTokens"), json=body("hello there " * 200))
    request = {"model": f"models/{model}", **body("hello there " * 200, tools=TOOLS)}
    more = client.post(path(model, "countTokens"), json={"generateContentRequest": request})

    assert few.status_code == 200, few.text
    assert 0 < few.json()["totalTokens"] < many.json()["totalTokens"] < more.json()["totalTokens"]


def test_copilot_counts_for_claude(client: httpx.Client, simulator: SimulatorThread) -> None:
    client.post(path(CLAUDE, "countTokens"), json=body("hello"))

    assert simulator.received_on("/v1/messages/count_tokens")[-1].status == 200


def test_one_text_is_embedded(client: httpx.Client, last_record: Any) -> None:
    wanted = {
        "model": "models/text-embedding-3-small",
        "content": {"parts": [{"text": "hello"}]},
        "taskType": "RETRIEVAL_QUERY",
        "outputDimensionality": 8,
    }

    answer = client.post(path("text-embedding-3-small", "embedContent"), json=wanted)

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["embedding"]["values"]) == 8
    assert answer.headers["x-gateway-dropped"] == "taskType"
    assert last_record(source="embeddings", status=200)["input_tokens"] > 0


def test_a_batch_is_embedded_in_order(client: httpx.Client) -> None:
    def wanted(text: str) -> dict[str, Any]:
        return {"model": "models/text-embedding-3-small", "content": {"parts": [{"text": text}]}}

    many = client.post(
        path("text-embedding-3-small", "batchEmbedContents"),
        json={"requests": [wanted("a"), wanted("b")]},
    ).json()
    one = client.post(path("text-embedding-3-small", "embedContent"), json=wanted("b")).json()

    assert len(many["embeddings"]) == 2
    assert many["embeddings"][1]["values"] == one["embedding"]["values"]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"requests": []},
        {"requests": [{"content": {"parts": [{"inlineData": {}}]}}]},
        {"requests": [{"content": "x"}]},
    ],
)
def test_a_batch_that_is_none_is_refused(client: httpx.Client, wanted: Any) -> None:
    answer = client.post(path("text-embedding-3-small", "batchEmbedContents"), json=wanted)

    assert error_of(answer)["status"] == "INVALID_ARGUMENT"


def test_models_are_listed_in_googles_words(client: httpx.Client) -> None:
    listed = {one["name"]: one for one in client.get("/v1beta/models").json()["models"]}

    assert {f"models/{model}" for model in MODELS} <= set(listed)
    claude = listed[f"models/{CLAUDE}"]
    assert claude["inputTokenLimit"] > claude["outputTokenLimit"] > 0
    assert "generateContent" in claude["supportedGenerationMethods"]
    embedding = listed["models/text-embedding-3-small"]
    assert embedding["supportedGenerationMethods"] == ["embedContent", "batchEmbedContents"]
    assert client.get(f"/v1beta/models/{CLAUDE}").json() == claude


# Keys.


def test_the_key_may_stand_in_a_header_or_the_query_and_is_never_written_down(
    new_gateway: Any,
) -> None:
    gateway = new_gateway("--verbose", "--require-keys")
    made = gateway.manage("create-key", "Gemini")
    key = next(word for word in made.stdout.split() if word.startswith("cgw_"))
    with gateway.client() as client:
        by_header = client.post(
            path(GPT, "generateContent"), json=body("x"), headers={"x-goog-api-key": key}
        )
        by_query = client.post(path(GPT, "generateContent") + f"?key={key}", json=body("x"))
        refused = client.post(path(GPT, "generateContent") + f"?key={key}x", json=body("x"))
        elsewhere = client.get(f"/v1/models?key={key}")
        failed = client.post(f"/v1beta/models/none:generateContent?key={key}", json=body("x"))

    assert (by_header.status_code, by_query.status_code) == (200, 200)
    assert (refused.status_code, elsewhere.status_code) == (401, 401)
    assert error_of(refused)["status"] == "UNAUTHENTICATED"
    assert failed.status_code == 404
    gateway.stop()
    assert key not in gateway.text
    written = [file for file in gateway.data_dir.rglob("*") if file.is_file()]
    assert written
    for file in written:
        assert key.encode() not in file.read_bytes(), file.name
