"""Keys that are refused: noted in the log without the key, and looked up only so often.

A flood of invented keys must not fill the log, nor keep the database from those who have one.
"""

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from accounts.auth import Refused

logger = logging.getLogger(__name__)
WINDOW_S: Final = 60.0
# Lines in a window; of one key from one address there is one.
MOST_LINES: Final = 30
MOST_KNOWN: Final = 1000
# Lookups a second of keys that memory does not know: a new key is in memory a second later anyway.
MOST_LOOKUPS: Final = 20


@dataclass(slots=True)
class Sieve:
    """Lets `most` through in each window of `window_s`; counts the others."""

    most: int
    window_s: float
    held_back: int = 0
    _passed: int = 0
    _since: float = float("-inf")

    def lets_through(self) -> bool:
        at = time.monotonic()
        if at - self._since >= self.window_s:
            self._since, self._passed = at, 0
        self._passed += 1
        if self._passed <= self.most:
            return True
        self.held_back += 1
        return False


@dataclass(slots=True)
class Notes:
    """What was told of refused keys lately."""

    lines: Sieve = field(default_factory=lambda: Sieve(MOST_LINES, WINDOW_S))
    _told: OrderedDict[tuple[str, str, str], float] = field(default_factory=OrderedDict)

    def take(self, error: Refused, address: str) -> None:
        """One line: why, from where, and of a key of ours the beginning of its hash or its prefix."""
        if error.reason == "missing":
            return
        at, what = time.monotonic(), (error.reason, error.shown, address)
        if at - self._told.get(what, float("-inf")) < WINDOW_S:
            self.lines.held_back += 1
            return
        if not self.lines.lets_through():
            return
        self._told[what] = at
        self._told.move_to_end(what)
        if len(self._told) > MOST_KNOWN:
            self._told.popitem(last=False)
        more, self.lines.held_back = self.lines.held_back, 0
        logger.warning(
            "API key refused: reason=%s key=%s from=%s%s",
            error.reason,
            error.shown or "-",
            address or "-",
            f" and {more} more since the last line" if more else "",
        )


notes = Notes()
lookups = Sieve(MOST_LOOKUPS, 1.0)
