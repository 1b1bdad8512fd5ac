"""Token counts of this wire: thoughts stand beside the candidates, the cache inside the prompt."""

import math
from typing import Any

from proxy.formats.canonical import Usage
from proxy.formats.gemini.fields import MAX_COUNT, Body

_MOST_NANO_AIU = 2**63 - 1


def _count(value: Any, most: int = MAX_COUNT) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return max(0, min(int(value), most))


def read_usage(body: Body) -> Usage | None:
    """What a frame or body reports; None when nothing readable."""
    report = body.get("usageMetadata")
    cost = body.get("copilot_usage")
    nano = _count(cost.get("total_nano_aiu"), _MOST_NANO_AIU) if isinstance(cost, dict) else None
    figures = report if isinstance(report, dict) else {}
    prompt = _count(figures.get("promptTokenCount"))
    answer = _count(figures.get("candidatesTokenCount"))
    if prompt is None and answer is None and nano is None:
        return None
    thoughts = _count(figures.get("thoughtsTokenCount")) or 0
    tools = _count(figures.get("toolUsePromptTokenCount")) or 0
    return Usage(
        input_tokens=min((prompt or 0) + tools, MAX_COUNT),
        output_tokens=min((answer or 0) + thoughts, MAX_COUNT),
        cache_read_tokens=_count(figures.get("cachedContentTokenCount")) or 0,
        reasoning_tokens=thoughts,
        nano_aiu=nano,
    )


def wire_usage(usage: Usage) -> Body:
    thoughts = min(usage.reasoning_tokens, usage.output_tokens)
    entry: Body = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - thoughts,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if thoughts:
        entry["thoughtsTokenCount"] = thoughts
    if usage.cache_read_tokens:
        entry["cachedContentTokenCount"] = usage.cache_read_tokens
    return entry
