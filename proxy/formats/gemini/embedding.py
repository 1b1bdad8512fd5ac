"""`embedContent` and `batchEmbedContents` in OpenAI's words, and the answers in Google's.

Also `countTokens`, which may wrap the request that it asks about.
"""

from typing import Any

from proxy.errors import InvalidRequest, UnsupportedContent
from proxy.formats.gemini.fields import (
    Body,
    mapping,
    optional_count,
    others,
    proto,
    sequence,
    string,
)

_KNOWN = frozenset({"model", "content", "outputDimensionality"})


def embed_input(body: Body, model: str) -> Body:
    """The OpenAI body for one text. Raises `InvalidRequest` naming the field."""
    text, dimensions, rest = _one(body, "")
    return _openai(model, [text], dimensions, rest)


def batch_input(body: Body, model: str) -> Body:
    """The OpenAI body for a batch, whose entries must want the same number of dimensions."""
    entries = sequence(proto(body, "body").get("requests"), "requests")
    if not entries:
        raise InvalidRequest("requests: at least one entry is required.", param="requests")
    texts: list[str] = []
    wanted: set[int | None] = set()
    unread: Body = {}
    for i, entry in enumerate(entries):
        text, dimensions, rest = _one(entry, f"requests[{i}].")
        texts.append(text)
        wanted.add(dimensions)
        unread |= rest
    if len(wanted) > 1:
        raise InvalidRequest(
            "requests: outputDimensionality must be the same in all entries.",
            param="requests.outputDimensionality",
        )
    return _openai(model, texts, wanted.pop(), unread)


def _openai(model: str, texts: list[str], dimensions: int | None, rest: Body) -> Body:
    """`rest` (taskType, title) stays in the body, so that it is named as left out."""
    body: Body = {**rest, "model": model, "input": texts}
    if dimensions is not None:
        body["dimensions"] = dimensions
    return body


def _one(value: Any, where: str) -> tuple[str, int | None, Body]:
    entry = proto(value, where.rstrip(".") or "body")
    content = proto(entry.get("content"), f"{where}content")
    at = f"{where}content.parts"
    parts = [proto(one, f"{at}[{i}]") for i, one in enumerate(sequence(content.get("parts"), at))]
    for i, part in enumerate(parts):
        if part.get("text") is None and part:
            raise UnsupportedContent("Copilot's models embed text only.", param=f"{at}[{i}]")
    texts = [string(part.get("text"), f"{at}[{i}].text") for i, part in enumerate(parts)]
    dimensions = optional_count(
        entry.get("outputDimensionality"), f"{where}outputDimensionality", 1
    )
    return "\n".join(texts), dimensions, others(entry, _KNOWN)


def embed_answer(answer: Body) -> Body:
    """Google's answer to one text, from OpenAI's."""
    return {"embedding": {"values": answer["data"][0]["embedding"]}}


def batch_answer(answer: Body) -> Body:
    return {"embeddings": [{"values": entry["embedding"]} for entry in answer["data"]]}


def counted(body: Body) -> Body:
    """The request whose tokens `countTokens` asks for: bare contents, or a whole request."""
    entry = proto(body, "body")
    inner = entry.get("generateContentRequest")
    if inner is None:
        return entry
    return mapping(inner, "generateContentRequest")
