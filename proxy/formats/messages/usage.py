"""Token counts of the Messages wire. Its `input_tokens` leaves the cache out, ours includes it."""

import math
from typing import Any

from proxy.formats.canonical import Usage

_MOST_TOKENS = 2**31 - 1
_MOST_NANO_AIU = 2**63 - 1


def _count(value: Any, most: int = _MOST_TOKENS) -> int | None:
    """A count within its bounds; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return max(0, min(int(value), most))


class Meter:
    """Adds up what `message_start` and `message_delta` report.

    Figures are cumulative. A later one replaces an earlier one unless it is zero, because some
    backends fill only `output_tokens` at the end. Source: docs/upstream.md (messages leg, stream;
    copilot_usage).
    """

    __slots__ = ("_figures", "_nano_aiu", "_thinking")

    def __init__(self) -> None:
        self._figures: dict[str, int] = {}
        self._thinking = 0
        self._nano_aiu: int | None = None

    def read(self, usage: Any, copilot_usage: Any = None) -> Usage | None:
        """Take in a report; what is known so far, or None when nothing readable has come yet."""
        figures = self._figures
        if isinstance(usage, dict):
            for name in (
                "input_tokens",
                "output_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
            ):
                count = _count(usage.get(name))
                if count is not None:
                    figures[name] = count or figures.get(name, 0)
            details = usage.get("output_tokens_details")
            if isinstance(details, dict):
                self._thinking = _count(details.get("thinking_tokens")) or self._thinking
        if isinstance(copilot_usage, dict):
            cost = _count(copilot_usage.get("total_nano_aiu"), _MOST_NANO_AIU)
            self._nano_aiu = self._nano_aiu if cost is None else cost
        if not figures and self._nano_aiu is None:
            return None
        return self._usage()

    def _usage(self) -> Usage:
        figures = self._figures
        read = figures.get("cache_read_input_tokens", 0)
        written = figures.get("cache_creation_input_tokens", 0)
        return Usage(
            input_tokens=min(figures.get("input_tokens", 0) + read + written, _MOST_TOKENS),
            output_tokens=figures.get("output_tokens", 0),
            cache_read_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=self._thinking,
            nano_aiu=self._nano_aiu,
        )


def wire_usage(usage: Usage | None) -> dict[str, Any]:
    """The `usage` object; SDKs raise when it is missing, so an unknown one is all zeros."""
    usage = usage or Usage()
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    entry: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - cached),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        entry["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return entry


def repaired(usage: Any, known: Usage | None) -> dict[str, Any] | None:
    """`usage` with the counts that clients demand; None when nothing is missing."""
    if (
        isinstance(usage, dict)
        and type(usage.get("output_tokens")) is int
        and type(usage.get("input_tokens")) is int
    ):
        return None
    wanted = wire_usage(known)
    if not isinstance(usage, dict):
        return wanted
    for name, value in usage.items():
        if value is not None and not (name in wanted and type(value) is not int):
            wanted[name] = value
    return wanted
