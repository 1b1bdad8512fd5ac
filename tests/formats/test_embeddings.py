"""Embeddings: what clients send, and what they get back."""

import base64
import os
import struct
from pathlib import Path

import httpx
import openai
import orjson
import pytest

from proxy.errors import InvalidRequest, UpstreamFailed
from proxy.formats import embeddings
from proxy.formats.canonical import Usage

MODEL = "text-embedding-3-small"
# A folder of requests captured from clients, one JSON file each; they are not part of the project.
CAPTURED = os.environ.get("CLIENT_REQUESTS", "")


def body(value, **rest):
    return {"model": MODEL, "input": value, **rest}


def answer(*vectors, usage=None):
    data = [{"index": i, "embedding": list(v)} for i, v in enumerate(vectors)]
    return {"data": data, "usage": usage or {"prompt_tokens": 2, "total_tokens": 2}}


def test_a_string_becomes_a_list_and_unknown_fields_go():
    given = body("alpha", encoding_format="base64", dimensions=256, user="u", extra=1)
    assert embeddings.prepare(given) == {"model": MODEL, "input": ["alpha"], "dimensions": 256}
    assert given["input"] == "alpha"


def test_a_list_of_strings_stays():
    assert embeddings.prepare(body(["a", "b"]))["input"] == ["a", "b"]


@pytest.mark.skipif(not CAPTURED, reason="CLIENT_REQUESTS names no folder")
def test_every_captured_request_is_accepted():
    found = sorted(Path(CAPTURED).glob("*/*-embeddings-*.json"))
    assert found
    for path in found:
        prepared = embeddings.prepare(orjson.loads(path.read_bytes())["request"]["body"])
        assert all(isinstance(text, str) for text in prepared["input"])


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_way_out(tokens):
    with pytest.raises(InvalidRequest, match="check_embedding_ctx_length=False"):
        embeddings.prepare(body(tokens))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input"),
        ({"input": ""}, "input"),
        ({"input": [None]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "9"}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(InvalidRequest) as caught:
        embeddings.prepare({**body("a"), **change})
    assert caught.value.param == field


def test_many_inputs_are_sent_in_batches_and_come_back_in_order():
    texts = [str(i) for i in range(1030)]
    parts = embeddings.batches(embeddings.prepare(body(texts, dimensions=1)))
    assert [len(part["input"]) for part in parts] == [512, 512, 6]
    assert all(part["dimensions"] == 1 for part in parts)
    answers = [answer(*[[float(text)] for text in part["input"]]) for part in parts]
    whole = embeddings.finish(answers, body(texts))
    assert [(e["index"], e["embedding"]) for e in whole["data"]] == [
        (i, [float(i)]) for i in range(1030)
    ]
    assert whole["usage"] == {"prompt_tokens": 6, "total_tokens": 6}


def test_an_incomplete_answer_is_completed():
    given = {"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1.0]}]}
    assert embeddings.finish([given], body(["a", "b"])) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0]},
            {"object": "embedding", "index": 1, "embedding": [2]},
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


def test_base64_is_little_endian_floats():
    whole = embeddings.finish([answer([0.5, -2.0])], body("a", encoding_format="base64"))
    packed = base64.b64decode(whole["data"][0]["embedding"])
    assert struct.unpack("<2f", packed) == (0.5, -2.0)


def test_an_upstream_that_packs_by_itself_is_understood():
    packed = base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()
    given = {"data": [{"embedding": packed}]}
    assert embeddings.finish([given], body("a"))["data"][0]["embedding"] == [0.5, -2.0]


def test_the_official_client_reads_what_it_asked_for():
    def serve(request):
        asked = orjson.loads(request.content)
        upstream = [answer([0.5, -2.0]) for _ in embeddings.batches(embeddings.prepare(asked))]
        return httpx.Response(200, content=orjson.dumps(embeddings.finish(upstream, asked)))

    client = openai.OpenAI(
        api_key="k",
        base_url="http://gateway.test/v1",
        http_client=httpx.Client(transport=httpx.MockTransport(serve)),
    )
    assert client.embeddings.create(model=MODEL, input="a").data[0].embedding == [0.5, -2.0]
    floats = client.embeddings.create(model=MODEL, input="a", encoding_format="float")
    assert floats.data[0].embedding == [0.5, -2.0]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": None},
        {"data": ["x"]},
        {"data": []},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": ["x"]}]},
        {"data": [{"embedding": [True]}]},
        {"data": [{"embedding": "*"}]},
        {"data": [{"embedding": "AAA="}]},
        {"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]},
        {"data": [{"embedding": [1e300]}]},
    ],
)
def test_nonsense_is_the_upstreams_failure(given):
    with pytest.raises(UpstreamFailed):
        embeddings.finish([given], body("a", encoding_format="base64"))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 7}, 7),
        ({"total_tokens": 7}, 7),
        ({"prompt_tokens": -7}, 0),
        ({"prompt_tokens": "many"}, 0),
        ({"prompt_tokens": 1e30}, 2**31 - 1),
        (None, 0),
        (3, 0),
    ],
)
def test_usage_is_read_within_bounds(usage, tokens):
    assert embeddings.read_usage({"usage": usage}) == Usage(input_tokens=tokens)
