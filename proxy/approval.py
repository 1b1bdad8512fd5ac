"""Requests that wait for a person's word: one queue, answered from the terminal or from the page.

The first decision counts; none within `settings.GATEWAY_APPROVAL_TIMEOUT_S` means refused.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from django.conf import settings

from proxy.errors import Forbidden, Unavailable

logger = logging.getLogger(__name__)
Scope = Literal["once", "conversation", "hour"]
MAX_PENDING = 200
MAX_DECISIONS = 50


@dataclass(slots=True)
class Pending:
    """One waiting request. No prompt text; `expires_at` is on the monotonic clock."""

    id: str
    member: str
    key: str
    client: str
    model: str
    path: str
    conversation: str
    input_tokens: int
    tools: int
    rule: str
    expires_at: float
    answer: "asyncio.Future[bool]" = field(repr=False)
    loop: asyncio.AbstractEventLoop = field(repr=False)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.expires_at - time.monotonic())


@dataclass(frozen=True, slots=True)
class Decision:
    pending: Pending
    approved: bool
    actor: str
    scope: Scope
    at: float


class Queue:
    """Used from the gateway's loop, from page threads and from the terminal's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, Pending] = {}
        self._conversations: dict[str, float] = {}
        self._free_until = 0.0
        self.decisions: deque[Decision] = deque(maxlen=MAX_DECISIONS)
        self.listeners: list[Callable[[], None]] = []

    def pending(self) -> list[Pending]:
        """What waits now, oldest first."""
        with self._lock:
            return list(self._pending.values())

    def is_settled(self, conversation: str) -> bool:
        """True when an earlier decision covers this request."""
        now = time.monotonic()
        return now < self._free_until or self._conversations.get(conversation, 0.0) > now

    async def ask(self, waiting: Pending) -> None:
        """Return when approved. Raises `Forbidden` when refused or out of time."""
        with self._lock:
            if len(self._pending) >= MAX_PENDING:
                raise Unavailable("Too many requests wait for approval.", retry_after_s=30)
            self._pending[waiting.id] = waiting
        self._tell()
        try:
            async with asyncio.timeout(waiting.seconds_left):
                approved = await waiting.answer
        except TimeoutError:
            raise Forbidden(
                "Nobody approved this request in time, so it was refused.", code="approval_timeout"
            ) from None
        finally:
            with self._lock:
                self._pending.pop(waiting.id, None)
            self._tell()
        if not approved:
            raise Forbidden("This request was refused by a person.", code="approval_refused")

    def decide(self, pending_id: str, *, approve: bool, actor: str, scope: Scope = "once") -> bool:
        """Answer a waiting request; False when somebody was faster. From any thread."""
        with self._lock:
            waiting = self._pending.pop(pending_id, None)
            if waiting is None:
                return False
            now = time.monotonic()
            if approve and scope == "conversation" and waiting.conversation:
                self._conversations[waiting.conversation] = now + 24 * 3600
            if approve and scope == "hour":
                self._free_until = now + 3600
            self.decisions.appendleft(Decision(waiting, approve, actor, scope, time.time()))
        waiting.loop.call_soon_threadsafe(_answer, waiting.answer, approve)
        logger.info("approval: %s by %s", "approved" if approve else "refused", actor)
        return True

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()


def _answer(future: "asyncio.Future[bool]", approve: bool) -> None:
    if not future.done():
        future.set_result(approve)


queue = Queue()
pending = queue.pending
decide = queue.decide


def new_pending(
    *,
    id: str,
    member: str,
    key: str,
    client: str,
    model: str,
    path: str,
    conversation: str,
    input_tokens: int,
    tools: int,
    rule: str,
) -> Pending:
    loop = asyncio.get_running_loop()
    return Pending(
        id=id,
        member=member,
        key=key,
        client=client,
        model=model,
        path=path,
        conversation=conversation,
        input_tokens=input_tokens,
        tools=tools,
        rule=rule,
        expires_at=time.monotonic() + settings.GATEWAY_APPROVAL_TIMEOUT_S,
        answer=loop.create_future(),
        loop=loop,
    )
