"""One line per request, and the sum of a run."""

import asyncio
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from django.conf import settings

from proxy import exchange
from usage.journal import Record

TOGETHER_S = 0.05


@dataclass(slots=True)
class Totals:
    """What this process has served since it started."""

    requests: int = 0
    failed: int = 0
    nano_aiu: int = 0
    started: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, record: Record) -> None:
        with self.lock:
            self.requests += 1
            self.failed += record.outcome not in ("completed", "cancelled")
            self.nano_aiu += record.nano_aiu

    def say_lines(self) -> None:
        """Write the lines that wait; at the end nobody else does."""
        if self.lines:
            text = "\n".join(self.lines) + "\n"
            self.lines.clear()
            sys.stderr.write(text)

    def summary(self) -> str:
        self.say_lines()
        minutes = (time.monotonic() - self.started) / 60
        return (
            f"Served {self.requests} requests ({self.failed} failed), "
            f"{self.nano_aiu / 1e9:.1f} AI credits, in {minutes:.0f} min."
        )


def line(record: Record) -> str:
    """`14:02:11 200 /v1/messages claude-sonnet-5 30.7k→1.1k 2.2/8.5 s 4.1 cr mona octo-build`."""
    at = _clock(int(record.started_at.timestamp()))
    first = "-" if record.first_token_ms is None else f"{record.first_token_ms / 1000:.1f}"
    about = "≈" if record.cost_source == "estimated" else ""
    words = [
        at,
        str(record.status or record.outcome),
        record.path,
        record.model_used or record.model_asked or "-",
        f"{_short(record.input_tokens)}→{_short(record.output_tokens)}",
        f"{first}/{record.total_ms / 1000:.1f} s",
        f"{about}{record.nano_aiu / 1e9:.1f} cr",
        record.member or "-",
        record.account or "-",
    ]
    if record.error_code:
        words.append(f"{record.error_code}: {record.error_message[:120]}")
    return " ".join(words) + f" req_{record.id}"


def details(record: Record) -> str:
    """What --verbose adds: attempts, quirks, what was dropped."""
    attempts = ", ".join(
        f"{a.get('account')} {a.get('status', a.get('error', '?'))}" for a in record.attempts
    )
    return (
        f"         {record.source}->{record.target or '-'} attempts [{attempts}] "
        f"quirks {record.quirks} dropped {record.dropped} {record.initiator} "
        f"({record.initiator_rule})"
    )


@lru_cache(maxsize=8)
def _clock(second: int) -> str:
    """The time of day on the operator's clock; most lines of a moment have the same."""
    return datetime.fromtimestamp(second, settings.LOCAL_ZONE).strftime("%H:%M:%S")


def _short(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.1f}k"


def start(*, verbose: bool) -> Totals:
    """Write a line to stderr for each finished request from now on."""
    totals = Totals()

    def write(record: Record) -> None:
        totals.add(record)
        text = line(record)
        if verbose:
            text += "\n" + details(record)
        # Control characters of a client must not reach the operator's terminal.
        if not text.isprintable():
            text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
        totals.lines.append(text)
        if len(totals.lines) == 1:
            # One write for all lines of a moment: each costs a system call.
            asyncio.get_running_loop().call_later(TOGETHER_S, totals.say_lines)

    exchange.LISTENERS.append(write)
    return totals
