"""Requests that wait for a person's word: one queue over all processes, its rows in `Approval`.

A request is held by its own process and known to all by its row. Whoever decides, on the page, in a
terminal or by the API, changes the row in one guarded update: the first decision counts. The holder
hears of it at once (`approval_news`), and in any case within a second, when it looks at its rows and
says that it is still there. Rows whose holder has fallen silent are lost, which means refused. So
are, in the end, those that nobody answers within `settings.GATEWAY_APPROVAL_TIMEOUT_S`.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from django.conf import settings
from django.db import Error, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.timezone import now

from accounts import audit
from accounts.auth import Refused
from accounts.database import in_database
from accounts.models import Member
from proxy import approval_rules
from proxy.approval_news import Event, news
from proxy.errors import Forbidden, GatewayError, InvalidRequest, Unauthorized, Unavailable
from proxy.exchange import Exchange
from proxy.formats import FORMATS
from proxy.limits.gate import is_valid
from proxy.models import Approval
from proxy.reading import read_in_full

Scope = Literal["once", "conversation", "hour"]
SCOPES: dict[str, Scope] = {scope: scope for scope in get_args(Scope)}
State = Approval.State
MAX_PENDING = 200
MAX_DECISIONS = 50
LOOK_EVERY_S = 1.0
SWEEP_EVERY_S = 5.0
# A holder says every second that it is there; after this long without a word it is gone.
SILENT_AFTER = timedelta(seconds=10)
HOUR = timedelta(hours=1)
CONVERSATION = timedelta(hours=24)
PROCESS = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
logger = logging.getLogger(__name__)

# Told of each request that begins to wait, in the database thread of the process that holds it.
LISTENERS: list[Callable[[Approval], None]] = []


@dataclass(slots=True)
class Held:
    """A request of this process that waits; `answer` becomes the state that ends the waiting."""

    exchange: Exchange
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[str]" = field(repr=False)

    def settle(self, state: str) -> None:
        if not self.answer.done():
            self.answer.set_result(state)


class Queue:
    """What of the queue is in this process. Used on the gateway's loop."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[Any]] = set()

    def is_waiting(self, exchange_id: str) -> bool:
        held = self._held.get(exchange_id)
        return held is not None and not held.answer.done()

    async def ask(self, exchange: Exchange) -> None:
        """Return when approved. Raises `Forbidden` when refused or out of time."""
        if len(self._held) >= MAX_PENDING:
            raise _full()
        loop = asyncio.get_running_loop()
        held = self._held[exchange.id] = Held(exchange, loop, loop.create_future())
        began = time.monotonic()
        try:
            state = await self._answer(held)
        except asyncio.CancelledError:
            # The client left, or the gateway stops: nobody needs to decide any more.
            self._close(exchange.id, State.LOST if exchange.ended_by else State.GONE)
            raise
        except Error as error:
            raise Unavailable(
                "The approval queue's database does not answer.", retry_after_s=10
            ) from error
        finally:
            self._held.pop(exchange.id, None)
            exchange.record.queue_ms += int((time.monotonic() - began) * 1000)
        if state != State.APPROVED:
            raise _refusal(state)
        _check_key(exchange)

    async def _answer(self, held: Held) -> str:
        wait_s = settings.GATEWAY_APPROVAL_TIMEOUT_S
        row = row_of(held.exchange, now() + timedelta(seconds=wait_s))
        state = await in_database(open_row, row)
        if state != State.WAITING:
            return state
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="approvals")
        try:
            async with asyncio.timeout(wait_s):
                return await held.answer
        except TimeoutError:
            try:
                # Who decided in the last moment still counts.
                return await in_database(close_row, held.exchange.id, State.TIMED_OUT)
            except Error:
                return State.TIMED_OUT

    async def _look(self) -> None:
        """While something waits: say that its holder is there, and see what was decided."""
        while self._held:
            await asyncio.sleep(LOOK_EVERY_S)
            for held in list(self._held.values()):
                if not is_valid(held.exchange.caller):
                    self._close(held.exchange.id, State.REFUSED)
                    held.settle(REVOKED)
            try:
                closed = await in_database(look, list(self._held))
            except Error as error:
                logger.warning("the approval queue cannot be read: %s", error)
                continue
            for approval_id, state in closed.items():
                if (waiting := self._held.get(approval_id)) is not None:
                    waiting.settle(state)

    def _close(self, approval_id: str, state: str) -> None:
        task = asyncio.ensure_future(in_database(close_row, approval_id, state))
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: "asyncio.Task[Any]") -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The row stays until it is swept as one whose holder is silent.
            logger.warning("an approval could not be closed: %s", error)

    def hear(self, event: Event) -> None:
        """What was decided, here or elsewhere. From any thread."""
        held = self._held.get(str(event.get("approval")))
        if held is not None and event.get("t") == "approval.closed":
            held.loop.call_soon_threadsafe(held.settle, str(event["state"]))

    async def lose_all(self) -> None:
        """The gateway stops: what waits here is refused."""
        for held in list(self._held.values()):
            self._close(held.exchange.id, State.LOST)
            held.settle(State.LOST)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def sweep_for_ever(self) -> None:
        """Refuse, every few seconds, what processes have left behind that are gone."""
        only_one = not settings.TEAM_MODE
        while True:
            try:
                await in_database(sweep, only_process=PROCESS if only_one else None)
            except Error as error:
                logger.warning("the approval queue cannot be swept: %s", error)
            only_one = False
            await asyncio.sleep(SWEEP_EVERY_S)


queue = Queue()
# Not a state of the row: the key was revoked while its request waited.
REVOKED = "revoked"


def _refresh_settled(event: Event) -> None:
    # Before the queue hears of it, so that a conversation's next request finds itself settled.
    if event.get("scope") in (Approval.Scope.CONVERSATION, Approval.Scope.HOUR):
        approval_rules.settled.refresh(force=True)


def start() -> None:
    """Hear what is decided. Once in each process that serves requests."""
    for listener in (_refresh_settled, queue.hear):
        news.leave(listener)
        news.listen(listener)


async def ask_person(exchange: Exchange) -> None:
    """Wait for a person's word where a rule wants it (`exchange.approval_rule`), else go on at once.

    Raises `Forbidden` when it is refused, `InvalidRequest` for what nobody needs to be asked about.
    """
    if not exchange.approval_rule:
        return
    if (source := FORMATS.get(exchange.source)) is not None:
        try:
            source.check(exchange.body, counted=not exchange.records)
        except InvalidRequest:
            # In an outline it is not known which message is the wrong one.
            read_in_full(exchange)
            source.check(exchange.body, counted=not exchange.records)
            raise
    await queue.ask(exchange)


def _full() -> GatewayError:
    return Unavailable("Too many requests wait for approval.", retry_after_s=30)


def _refusal(state: str) -> GatewayError:
    match state:
        case State.TIMED_OUT:
            return Forbidden(
                "Nobody approved this request in time, so it was refused.", code="approval_timeout"
            )
        case State.LOST:
            return Forbidden(
                "The gateway stopped before anybody approved this request, so it was refused.",
                code="approval_lost",
            )
        case "full":
            return _full()
        case "revoked":
            return Unauthorized(Refused.message)
    return Forbidden("This request was refused by a person.", code="approval_refused")


def _check_key(exchange: Exchange) -> None:
    if not is_valid(exchange.caller):
        raise Unauthorized(Refused.message)


# The rows. Everything below works on the database and belongs into a thread.


def row_of(exchange: Exchange, expires_at: datetime) -> Approval:
    """The row of a request that waits. No prompt text."""
    caller, estimate = exchange.caller, exchange.estimate
    return Approval(
        id=exchange.id,
        expires_at=expires_at,
        holder=PROCESS,
        member_id=caller.member_id,
        member=caller.member[:150],
        key_id=caller.key_id,
        key=caller.key_name[:120],
        client=exchange.record.client[:100],
        model=(exchange.model if estimate is None else estimate.model)[:100],
        path=exchange.path[:200],
        conversation=exchange.conversation,
        input_tokens=0 if estimate is None else estimate.input_tokens,
        estimated_nano_aiu=(
            estimate.nano_aiu if estimate is not None and estimate.is_priced else None
        ),
        tools=exchange.gist.tools,
        rule=exchange.approval_rule[:200],
    )


def open_row(row: Approval) -> str:
    """Put a request into the queue; the state it is in then: approved when that was settled before.

    `full` when too many wait already, in all processes together.
    """
    scopes = Approval.Scope
    covered = Q(scope=scopes.HOUR, member_id=row.member_id, key_id=row.key_id)
    if row.conversation:
        covered |= Q(scope=scopes.CONVERSATION, conversation=row.conversation)
    if Approval.objects.filter(
        covered, state=State.APPROVED, rule=row.rule, settles_until__gt=now()
    ).exists():
        return State.APPROVED
    if waiting_count() >= MAX_PENDING:
        return "full"
    row.save(force_insert=True)
    look([row.pk])
    news.tell({"t": "approval.opened", **described(row)})
    for listener in LISTENERS:
        try:
            listener(row)
        except Exception:
            # Somebody else's notice must not cost the request its answer.
            logger.exception("a listener of the approval queue failed")
    return State.WAITING


def look(ids: list[str]) -> dict[str, str]:
    """Say that the holder of these is there; gives back the states of those that wait no more."""
    rows = Approval.objects.filter(pk__in=ids)
    rows.filter(state=State.WAITING).update(seen_at=Now())
    return dict(rows.exclude(state=State.WAITING).values_list("pk", "state"))


def close_row(approval_id: str, state: str) -> str:
    """End the waiting without a person's decision; the state that counts, perhaps another's."""
    with transaction.atomic():
        changed = Approval.objects.filter(pk=approval_id, state=State.WAITING).update(
            state=state, decided_at=now(), decided_by=audit.GATEWAY
        )
        if changed:
            audit.record(audit.GATEWAY, f"approval.{state}", approval_id)
    row = Approval.objects.filter(pk=approval_id).first()
    if row is None:
        return state
    if changed:
        news.tell(closed(row))
    return row.state


def decide(
    approval_id: str,
    *,
    approve: bool,
    actor: Member | str,
    scope: Scope = "once",
    address: str = "",
) -> Approval | None:
    """Answer a waiting request; None when somebody was faster, or its time was up."""
    at = now()
    lasting = {"conversation": CONVERSATION, "hour": HOUR}.get(scope) if approve else None
    name = actor if isinstance(actor, str) else actor.get_username()
    with transaction.atomic():
        waiting = Approval.objects.filter(pk=approval_id, state=State.WAITING, expires_at__gt=at)
        changed = waiting.update(
            state=State.APPROVED if approve else State.REFUSED,
            scope=scope if approve else Approval.Scope.ONCE,
            decided_at=at,
            decided_by=name[:150],
            settles_until=None if lasting is None else at + lasting,
        )
        if not changed:
            return None
        row = Approval.objects.get(pk=approval_id)
        detail = {
            "scope": row.scope,
            "member": row.member,
            "key": row.key,
            "model": row.model,
            "rule": row.rule,
        }
        action = "approval.approved" if approve else "approval.refused"
        audit.record(actor, action, approval_id, detail, address)
    news.tell(closed(row))
    logger.info("approval: %s by %s", row.state, row.decided_by)
    return row


def sweep(*, only_process: str | None = None) -> int:
    """Refuse what waits for a process that is gone; how many that were.

    `only_process` says that there is no other gateway: whatever others held is lost at once.
    """
    silent = Q(seen_at__lt=Now() - SILENT_AFTER) | Q(
        seen_at=None, opened_at__lt=now() - SILENT_AFTER
    )
    if only_process is not None:
        silent |= ~Q(holder=only_process)
    gone = Approval.objects.filter(silent, state=State.WAITING).values_list("pk", flat=True)
    lost: Iterable[str] = list(gone)
    return sum(close_row(pk, State.LOST) == State.LOST for pk in lost)


def waiting(member_id: int | None = None) -> list[Approval]:
    """What waits now in all processes, of one member or of all, oldest first."""
    return list(_of(_waiting(), member_id).order_by("opened_at", "pk")[:MAX_PENDING])


def waiting_count() -> int:
    return int(_waiting().count())


def _waiting() -> Any:
    return Approval.objects.filter(state=State.WAITING, expires_at__gt=now())


def decisions(member_id: int | None = None) -> list[Approval]:
    """The last that were decided, by people or by time, newest first."""
    decided = _of(Approval.objects.exclude(decided_at=None), member_id)
    return list(decided.order_by("-decided_at", "pk")[:MAX_DECISIONS])


def _of(rows: Any, member_id: int | None) -> Any:
    return rows if member_id is None else rows.filter(member_id=member_id)


def described(row: Approval) -> Event:
    """A row as pages and programs get it, under 1 kB."""
    return {
        "approval": row.pk,
        "state": row.state,
        "member_id": row.member_id,
        "member": row.member[:60],
        "key": row.key[:60],
        "client": row.client[:60],
        "model": row.model[:60],
        "path": row.path[:60],
        "input_tokens": row.input_tokens,
        "estimated_nano_aiu": row.estimated_nano_aiu,
        "tools": row.tools,
        "rule": row.rule[:100],
        "has_conversation": bool(row.conversation),
        "opened_at": row.opened_at.isoformat(),
        "expires_at": row.expires_at.isoformat(),
        "scope": row.scope,
        "decided_by": row.decided_by[:60],
        "decided_at": row.decided_at.isoformat() if row.decided_at else None,
    }


def closed(row: Approval) -> Event:
    return {"t": "approval.closed", **described(row)}
