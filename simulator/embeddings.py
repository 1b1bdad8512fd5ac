"""Embeddings: arrays of strings only, vectors that are the same for the same text.

Source: docs/upstream.md (embeddings).
"""

from __future__ import annotations

import hashlib
import random

import orjson

from simulator.delivery import send_body
from simulator.generation import find_model, json_object
from simulator.metering import count_tokens
from simulator.refusals import JSON, text
from simulator.script import Call

MAX_INPUTS = 512
MAX_TOKENS = 8191
DIMENSIONS = 1536


async def embed(call: Call) -> None:
    """Answer `POST /embeddings`; every fault of the input is the same bare 400."""
    body = json_object(call)
    find_model(call, body, "/embeddings")
    inputs = body.get("input")
    if not isinstance(inputs, list) or not inputs or len(inputs) > MAX_INPUTS:
        raise text(400, "Bad Request\n")
    if not all(isinstance(words, str) and len(words) > 0 for words in inputs):
        raise text(400, "Bad Request\n")
    counts = [count_tokens(words) for words in inputs]
    dimensions = body.get("dimensions", DIMENSIONS)
    if (
        max(counts) > MAX_TOKENS
        or not isinstance(dimensions, int)
        or not 0 < dimensions <= DIMENSIONS
    ):
        raise text(400, "Bad Request\n")
    data = [
        {"object": "embedding", "index": index, "embedding": vector(words, dimensions)}
        for index, words in enumerate(inputs)
    ]
    usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    document = {"object": "list", "model": body["model"], "data": data, "usage": usage}
    await send_body(call, orjson.dumps(document), JSON)


def vector(words: str, dimensions: int) -> list[float]:
    """Return numbers that only the text decides."""
    source = random.Random(hashlib.sha256(words.encode()).digest())
    return [round(source.uniform(-1, 1), 6) for _ in range(dimensions)]
