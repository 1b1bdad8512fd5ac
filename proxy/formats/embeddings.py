"""Embeddings: what clients send made acceptable to Copilot, and its answers made complete.

Copilot takes a list of at most 512 strings, and answers numbers.
Source: docs/upstream.md#embeddings.
"""

import base64
import binascii
import struct
from typing import Any

from proxy.errors import InvalidRequest, UpstreamFailed
from proxy.formats.canonical import Usage

Body = dict[str, Any]

MAX_INPUTS = 2048
BATCH_SIZE = 512
MAX_TOKENS = 2**31 - 1
_NUMBERS_REFUSED = (
    "'input' holds token ids; this gateway's models take strings only. "
    "In LangChain set check_embedding_ctx_length=False on OpenAIEmbeddings."
)


def prepare(body: Body) -> Body:
    """The upstream body for a client's: a list of strings, and only the fields that Copilot takes.

    Raises `InvalidRequest` naming the field. It may hold up to 2048 inputs: see `batches`.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("'model' is required.", param="model")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise InvalidRequest(
            "'encoding_format' must be 'float' or 'base64'.", param="encoding_format"
        )
    prepared: Body = {"model": model, "input": _inputs(body.get("input"))}
    dimensions = body.get("dimensions")
    if dimensions is not None:
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1:
            raise InvalidRequest("'dimensions' must be a positive integer.", param="dimensions")
        prepared["dimensions"] = dimensions
    return prepared


def _inputs(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise InvalidRequest("'input' must be a string or a list of strings.", param="input")
    if not value:
        raise InvalidRequest("'input' must not be empty.", param="input")
    if len(value) > MAX_INPUTS:
        raise InvalidRequest(f"'input' may hold at most {MAX_INPUTS} strings.", param="input")
    for i, text in enumerate(value):
        if isinstance(text, int | list) and not isinstance(text, bool):
            raise InvalidRequest(_NUMBERS_REFUSED, param="input")
        if not isinstance(text, str):
            raise InvalidRequest(f"'input[{i}]' must be a string.", param="input")
        if not text:
            raise InvalidRequest(f"'input[{i}]' must not be empty.", param="input")
    return value


def batches(body: Body, size: int = BATCH_SIZE) -> list[Body]:
    """A prepared body as bodies of at most `size` inputs each, in order."""
    inputs = body["input"]
    return [{**body, "input": inputs[i : i + size]} for i in range(0, len(inputs), size)]


def finish(bodies: list[Body], body: Body) -> Body:
    """The answers to the batches of the client's `body`, in their order, as one answer.

    Raises `UpstreamFailed` when the vectors are none, or not as many as the inputs.
    """
    vectors = [vector for answer in bodies for vector in _vectors(answer)]
    inputs = body.get("input")
    expected = len(inputs) if isinstance(inputs, list) else 1
    if len(vectors) != expected:
        raise UpstreamFailed(f"The upstream sent {len(vectors)} embeddings for {expected} inputs.")
    in_base64 = body.get("encoding_format") == "base64"
    models = [answer.get("model") for answer in bodies]
    usages = [read_usage(answer) for answer in bodies]
    total = min(sum(usage.input_tokens for usage in usages), MAX_TOKENS)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": i,
                "embedding": _packed(vector) if in_base64 else vector,
            }
            for i, vector in enumerate(vectors)
        ],
        "model": next((m for m in models if isinstance(m, str) and m), body.get("model")),
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


def _vectors(answer: Body) -> list[list[float]]:
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise UpstreamFailed("The upstream answered without a list of embeddings.")
    places = [entry.get("index") for entry in data]
    if all(isinstance(place, int) for place in places) and len(set(places)) == len(places):
        data = sorted(data, key=lambda entry: entry["index"])
    return [_numbers(entry.get("embedding")) for entry in data]


def _numbers(vector: Any) -> list[float]:
    if isinstance(vector, str):
        return _unpacked(vector)
    numbers = isinstance(vector, list) and all(type(x) is float or type(x) is int for x in vector)
    if not numbers or not vector:
        raise UpstreamFailed("The upstream sent an embedding that is not a list of numbers.")
    found: list[float] = vector
    return found


def _packed(vector: list[float]) -> str:
    """Little-endian 32-bit floats in base64, as OpenAI sends them and its SDKs ask for them."""
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (struct.error, OverflowError):
        raise UpstreamFailed("The upstream sent an embedding out of range.") from None


def _unpacked(text: str) -> list[float]:
    try:
        data = base64.b64decode(text, validate=True)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    except (binascii.Error, ValueError, struct.error):
        raise UpstreamFailed("The upstream sent an embedding that is not base64.") from None


def read_usage(body: Body) -> Usage:
    """Tokens of one answer or of a finished one; zeros when it says nothing readable."""
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    for name in ("prompt_tokens", "total_tokens"):
        value = counts.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return Usage(input_tokens=int(min(value, MAX_TOKENS)))
    return Usage()
