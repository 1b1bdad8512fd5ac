"""Scripts: what a request's scenarios decided, and the context a request is handled in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from simulator.frames import PLAIN, Frame, LineStyle
from simulator.journal import Received
from simulator.prompts import Prompt, Reply
from simulator.server import Request, Responder
from simulator.state import Account, Json, State

# How an answer ends: properly; properly framed but too early; FIN in the framing; RST; never.
Ending = Literal["complete", "clean", "fin", "reset", "stall"]


@dataclass(slots=True)
class Delivery:
    """How the bytes of an answer travel. Times in seconds, `split` in bytes per write."""

    status: int = 200
    first_delay_s: float = 0.0
    delay_s: float = 0.0
    interval_s: float = 0.0
    split: int = 0
    split_delay_s: float = 0.0
    style: LineStyle = PLAIN
    gzip: bool = False
    framing: str = "chunked"
    cut_after_bytes: int | None = None
    ending: Ending = "complete"
    preamble: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    content_type: str | None = None


FrameEdit = Callable[[Iterable[Frame]], Iterable[Frame]]


@dataclass(slots=True)
class Script:
    """Everything that the scenarios of one request change about its answer.

    `instead` answers in place of the endpoint; `replies` change what is said; `frame_edits` what
    is streamed; `body_edits` a plain body; `usage_edit` the usage document (None leaves it out).
    """

    names: list[str] = field(default_factory=list)
    instead: Callable[[Call], Awaitable[None]] | None = None
    replies: list[Callable[[Reply, Prompt], None]] = field(default_factory=list)
    frame_edits: list[FrameEdit] = field(default_factory=list)
    body_edits: list[Callable[[bytes], bytes]] = field(default_factory=list)
    usage_edit: Callable[[Json], Any] | None = None
    delivery: Delivery = field(default_factory=Delivery)
    swap_streaming: bool = False
    is_endless: bool = False
    is_fast: bool = True

    def usage(self, document: Json) -> Any:
        """Return the usage document as it goes out, None when it is left out."""
        return document if self.usage_edit is None else self.usage_edit(document)


@dataclass(slots=True)
class Call:
    """One request on its way: who asks, what, and what the scenarios want."""

    state: State
    request: Request
    out: Responder
    received: Received
    body: Any = None
    account: Account | None = None
    is_direct: bool = False
    script: Script = field(default_factory=Script)

    @property
    def known_account(self) -> Account:
        """Return the account; only for handlers behind the front door."""
        assert self.account is not None
        return self.account

    def header(self, name: str) -> str:
        return self.request.headers.get(name, "")
