"""One request with its response: what the steps know of it, and its one record."""

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from msgspec import Struct, field

from accounts.auth import Caller
from proxy.errors import GatewayError, Unavailable
from proxy.formats.canonical import Usage
from proxy.formats.contract import Gist, Voice
from proxy.lean_request import headers_of
from proxy.upstream.initiator import Decision, Traits
from usage import live
from usage.journal import JournalUnwritable, Record
from usage.recorder import recorder

if TYPE_CHECKING:
    from proxy.bodies import Kept
    from proxy.estimates import Estimate
    from proxy.hosted_search import Plan
    from proxy.limits.gate import Hold

# The session that a request belongs to, in the order in which the headers count. A sub-agent's parent
# comes before its own session: they share the account. Source: docs/clients.md#conversations.
CLIENT_HEADERS = (
    "x-claude-code-session-id",
    "x-parent-session-id",
    "session-id",
    "x-session-id",
    "x-session-affinity",
    "x-opencode-session",
    "thread-id",
)
_CLIENT_HEADERS = frozenset(CLIENT_HEADERS)
LIVE: "dict[str, Exchange]" = {}
# Told of each finished record, on the loop: the terminal's log line, metrics.
LISTENERS: list[Callable[[Record], None]] = []


class Exchange(Struct, eq=False, kw_only=True):
    """Everything about one request. `record` is its usage record.

    `body` is the client's decoded JSON, whose inner objects the quirks may change on the way up;
    `asked` keeps what the answer's encoder must know of it. `complete` makes the body whole where the
    client says a part of it in the URL. `voice` writes the answer where it is not the source's usual,
    `search` that it may search the web on the way.
    """

    id: str
    source: str
    path: str
    headers: dict[str, str]
    caller: Caller
    raw: bytes
    record: Record
    started: float
    body: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    model: str = ""
    stream: bool = False
    gist: Gist = field(default_factory=Gist)
    traits: Traits = Traits()
    decision: Decision | None = None
    conversation: str = ""
    # The client named its conversation; else it is known by its first words.
    is_named: bool = False
    # The account must not change any more: see `proxy.placement`.
    is_bound: bool = False
    tried: list[int] = []
    # Why another model serves than the one that was asked for: `asked -> used (reason)`.
    fallback: str = ""
    dropped: list[str] = []
    leases: list[Callable[[], None]] = []
    abort: Callable[[GatewayError], None] | None = None
    ended_by: GatewayError | None = None
    records: bool = True
    finished: bool = False
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    voice: Voice | None = None
    search: "Plan | None" = None
    kept: "Kept | None" = None
    # The body may hold runs of bytes where nothing needs to see objects: see `proxy.formats.outlines`.
    in_outline: bool = False
    has_runs: bool = False
    estimate: "Estimate | None" = None
    # generation, embeddings or count_tokens.
    kind: str = "generation"
    # What it holds of the limits of its seat.
    seat_hold: "Hold | None" = None
    # Headers by which the gates tell what they did.
    disclosed: dict[str, str] = {}
    # The approval rule that wants a person's word before this goes on; empty when none does.
    approval_rule: str = ""

    @classmethod
    def begin(cls, request: HttpRequest, source: str, caller: Caller) -> "Exchange":
        exchange_id = new_id()
        headers = headers_of(request)
        # From here on it is the exchange's, which lets it go once it is read.
        raw, request._body = request.body, b""
        record = Record(
            id=exchange_id,
            started_at=datetime.now(UTC),
            outcome="interrupted",
            source=source,
            path=request.path[:200],
            client=client_name(headers.get("user-agent", "")),
            member_id=caller.member_id,
            member=caller.member,
            key_id=caller.key_id,
            key=caller.key_name,
            team_id=caller.team_id,
            team=caller.team,
            cost_centre=caller.cost_centre,
            bytes_in=len(raw),
        )
        return cls(
            id=exchange_id,
            source=source,
            path=request.path,
            headers=headers,
            caller=caller,
            raw=raw,
            record=record,
            started=time.monotonic(),
        )

    @property
    def request_id(self) -> str:
        return f"req_{self.id}"

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.started) * 1000)

    def drop(self, *names: str) -> None:
        """Note what the upstream does not get of the client's wishes, each once."""
        self.dropped.extend(name for name in names if name not in self.dropped)

    def enter(self) -> None:
        """From here on a gateway that stops waits for this request, and ends it in the end."""
        LIVE[self.id] = self
        self.abort = partial(self._interrupt, asyncio.current_task())

    def _interrupt(self, task: "asyncio.Task[Any] | None", error: GatewayError) -> None:
        """No answer has begun: what waits here, in a queue or for the upstream, ends with `error`."""
        self.ended_by = error
        if task is not None:
            task.cancel()

    def open_record(self) -> None:
        """Write the begin line: from here on a killed process leaves a record.

        Raises `Unavailable` in strict mode when the journal cannot be written.
        """
        try:
            recorder.begin(self.record)
        except JournalUnwritable as error:
            raise Unavailable(
                "The gateway cannot write its journal, and is told to serve nothing unrecorded.",
                retry_after_s=30,
                code="journal_unwritable",
            ) from error

    def first_token(self) -> None:
        if self.record.first_token_ms is None:
            self.record.first_token_ms = self.elapsed_ms()
            live.first_token(self.record)

    def finish(
        self, outcome: str, status: int | None, *, error: GatewayError | None = None
    ) -> None:
        """Write the one record, whatever happened; a second call does nothing."""
        if self.finished:
            return
        self.finished = True
        LIVE.pop(self.id, None)
        leases, self.leases = self.leases, []
        for leave in leases:
            leave()
        record = self.record
        record.outcome = outcome
        record.status = status
        record.finished_at = datetime.now(UTC)
        record.total_ms = self.elapsed_ms()
        record.dropped = self.dropped
        if error is not None:
            record.error_code = error.code
            record.error_message = error.message
        if self.records:
            recorder.finish(record)
            for listener in LISTENERS:
                listener(record)
        # Nothing of it points back at it any more: it goes when its last user goes, and what it held
        # is used again while it is warm, where the collector would come by a thousand requests later.
        self.abort = None
        # One that failed may stay as long as its traceback does: without its megabytes.
        self.body, self.asked, self.raw, self.gist = {}, {}, b"", Gist()

    def abandon(self) -> None:
        """The answer will not be read any further: the client is gone.

        A stream that had not begun runs no `finally` of its own, so this ends what it holds.
        """
        if self.finished:
            return
        if self.abort is not None:
            self.abort(Unavailable("The client has left."))
        self.finish("cancelled", None)

    def note_usage(self, usage: Usage) -> None:
        """Keep token counts; the last report counts."""
        record = self.record
        record.input_tokens = usage.input_tokens
        record.output_tokens = usage.output_tokens
        record.cache_read_tokens = usage.cache_read_tokens
        record.cache_write_tokens = usage.cache_write_tokens
        record.reasoning_tokens = usage.reasoning_tokens

    def identify_conversation(self) -> None:
        """An id that the client gave, else a hash of what the conversation begins with."""
        named = self.gist.conversation
        if not _CLIENT_HEADERS.isdisjoint(self.headers):
            named = next((v for h in CLIENT_HEADERS if (v := self.headers.get(h))), named)
        basis = named or f"{self.caller.key_id}:{self.gist.opening}"
        if not named and not self.gist.opening:
            return
        self.is_named = bool(named)
        digest = hashlib.blake2s(f"{self.caller.member_id}:{basis}".encode("utf-8", "replace"))
        self.conversation = digest.hexdigest()[:24]
        self.record.conversation = self.conversation


def new_id() -> str:
    """The id of an exchange: milliseconds since 1970, then 52 random bits, in 24 hexadecimal digits.

    Growing ids go to one end of the tables' indexes, others touch a page each. Unique, not secret: the
    system's random source costs a system call, in which another thread may take the interpreter.
    """
    return f"{int(time.time() * 1000):011x}{random.getrandbits(52):013x}"


def set_headers(response: HttpResponseBase, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        response[name] = value


def client_name(user_agent: str) -> str:
    """`claude-cli/2.1.328 (external, cli)` -> `claude-cli/2.1.328`."""
    return user_agent.split(" ", 1)[0][:100]


async def end_all(error: GatewayError, within_s: float) -> int:
    """Let exchanges in flight end by themselves, then end the rest with `error`; how many those were."""
    deadline = time.monotonic() + within_s
    # Exchanges end by the hundred; a look now and then is cheaper than an event for each.
    while LIVE and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    left = list(LIVE.values())
    for exchange in left:
        if exchange.abort is not None:
            exchange.abort(error)
    return len(left)
