"""How many tokens a request has: Copilot's own counter first, a local count when it cannot say.

Tokenising holds an event loop for up to seconds, so it runs in a worker process, with a size cap.
Local counts use o200k_base, which the catalog names for every model; its rank file is in the tree.
Source: docs/upstream.md#count-tokens.
"""

import asyncio
import base64
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from django.conf import settings

logger = logging.getLogger(__name__)
# Longer texts are counted by their first part and scaled: an estimate anyway.
MAX_COUNTED_CHARS = 400_000
COUNT_TIMEOUT_S = 8.0
# Pieces are at most this long: the tokenizer is quadratic in runs without a boundary.
PIECE_CHARS = 2_000
TOKENS_PER_IMAGE = 1_600
TOKENS_PER_MESSAGE = 4
# What a tool-using prompt costs beyond its text (the seed's numbers, by vendor).
TOOLS_OVERHEAD = {"Anthropic": 346, "xAI": 480}
VENDOR_FACTOR = {"Anthropic": 1.15, "xAI": 1.03}

_lock = threading.Lock()
_pool: ProcessPoolExecutor | None = None
_encoding: Any = None


def texts_of(value: Any, *, depth: int = 0) -> Iterator[str]:
    """Every text in a body's messages, system and tools; base64 data does not count as text."""
    if depth > 40:
        return
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                if key in ("data", "url", "signature", "encrypted_content", "image_url"):
                    continue
                yield from texts_of(inner, depth=depth + 1)
        case list():
            for inner in value:
                yield from texts_of(inner, depth=depth + 1)


def images_in(value: Any) -> int:
    """Image and document blocks at any depth."""
    match value:
        case dict():
            own = int(value.get("type") in ("image", "image_url", "input_image", "document"))
            return own + sum(images_in(inner) for inner in value.values())
        case list():
            return sum(images_in(inner) for inner in value)
    return 0


async def count_locally(body: dict[str, Any], vendor: str) -> int:
    """An estimate of a body's input tokens, at least 1. Never raises; never holds the loop."""
    parts = ("system", "instructions", "messages", "tools", "input")
    counted = {k: body[k] for k in parts if k in body}
    texts = "\n".join(texts_of(counted))
    messages = body.get("messages")
    extra = TOKENS_PER_IMAGE * images_in(counted)
    extra += TOKENS_PER_MESSAGE * (len(messages) if isinstance(messages, list) else 1)
    if body.get("tools"):
        extra += TOOLS_OVERHEAD.get(vendor, 0)
    tokens = await tokens_in(texts)
    return max(1, round((tokens + extra) * VENDOR_FACTOR.get(vendor, 1.0)))


async def tokens_in(text: str) -> int:
    """Tokens of a text by o200k_base; by its length when the worker fails or takes too long."""
    head = text[:MAX_COUNTED_CHARS]
    scale = len(text) / len(head) if head else 0.0
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(COUNT_TIMEOUT_S):
            counted = await loop.run_in_executor(
                _workers(), _count, head, str(settings.TOKENIZER_FILE)
            )
    except (TimeoutError, BrokenProcessPool, OSError) as error:
        logger.warning("counting fell back to a length estimate: %s", type(error).__name__)
        stop_workers()
        return len(text) // 4
    return round(counted * scale)


def _workers() -> ProcessPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            # One process: counting is rare, short, and must never compete with streams for cores.
            _pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        return _pool


def stop_workers() -> None:
    """End the worker, at shutdown or when it is stuck; the next count starts another."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)


def _count(text: str, rank_file: str) -> int:
    """In the worker process."""
    global _encoding
    if _encoding is None:
        _encoding = _load(Path(rank_file))
    total = 0
    for start in range(0, len(text), PIECE_CHARS):
        piece = text[start : start + PIECE_CHARS].encode("utf-8", "replace").decode()
        try:
            total += len(_encoding.encode(piece, disallowed_special=()))
        except BaseException:  # noqa: BLE001
            # The tokenizer's Rust code panics with a BaseException on pathological text.
            total += len(piece) // 4
    return total


def _load(rank_file: Path) -> Any:
    import tiktoken

    ranks: dict[bytes, int] = {}
    for line in rank_file.read_bytes().splitlines():
        token, _, rank = line.partition(b" ")
        ranks[base64.b64decode(token)] = int(rank)
    return tiktoken.Encoding(
        name="o200k_base",
        pat_str=O200K_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    )


# How o200k_base splits text before merging. Source: the tokenizer's published definition.
O200K_PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
