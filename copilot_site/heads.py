"""Heads of requests that have come before: known by their bytes, not parsed again.

A client sends the same head with each request of a session, but for the length of its body. The parser
tells each line of it to Python, 40 us a request. What it has once accepted, from the first byte to the
last, is found here by the bytes themselves; whatever differs in one byte goes through the parser.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from copilot_site.handler import View

# Longer heads are seldom, and what nobody has a key for must not fill the memory.
MAX_HEAD_BYTES: Final = 4096
MAX_HEADS: Final = 512
_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,9})(?=\r\n)")


@dataclass(frozen=True, slots=True)
class Head:
    """What the parser made of a head, and the view that its path leads to."""

    view: View
    headers: dict[str, str]
    raw_headers: list[tuple[bytes, bytes]]
    url: bytes


class Sliced(NamedTuple):
    """A request that has arrived whole: its head without the digits of the length, and its body."""

    key: bytes
    body: bytes


known: dict[bytes, Head] = {}


def sliced(data: bytes) -> Sliced | None:
    """None unless `data` is one head with a length, and as much body as that says."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    length = None if end < 0 else _LENGTH.search(data, 0, end + 2)
    if length is None or len(data) - end - 4 != int(length[1]):
        return None
    return Sliced(data[: length.start(1)] + data[length.end(1) : end], data[end + 4 :])


def keep(request: Sliced, head: Head) -> None:
    """The parser has accepted exactly this request."""
    if len(known) >= MAX_HEADS:
        known.clear()
    known[request.key] = head
