"""The gate that requests pass: asks the limits, waits in the queue, gives back what was taken.

With Redis all processes count together; without it, or while it is away, each counts by itself. What
this process lets in is always counted here, too: that is what it goes by when Redis leaves, and what
it tells Redis when it is back.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from django.conf import settings
from msgspec import Struct
from redis.asyncio import Redis

from accounts.clock import now
from accounts.keys import Caller, ring
from accounts.limits import Allowance, Period
from proxy import policies
from proxy.board import board
from proxy.errors import Unauthorized
from proxy.exchange import Exchange
from proxy.limits import words
from proxy.limits.asking import GRACE_S, LEASE_S, Ask, Room, Verdict, room_of
from proxy.limits.local import Local
from proxy.limits.remote import Away, Charge, Remote
from proxy.shared import AWAY, PREFIX, Shared, shared
from usage.spend import spend

# The first in a process's line asks so often whether another process has left a slot.
POLL_S = 0.05
IDLE_POLL_S = 1.0
MOST_ROOMS = 10_000
UNBOUNDED = 1_000_000
WATCH_EVERY_S = 0.5
MARK_LIVES_S = 60
# Estimates below a credit refuse nothing: that little may be overdrawn by what is in flight, too.
MATTERS_NANO_AIU = 1_000_000_000
# Of a new request in the mean time that a slot is held.
WEIGHT = 0.1
logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Waiter:
    """A request in the queue of `name`, and what wakes it."""

    ask: Ask
    since: float
    name: str
    woken: asyncio.Event


class Hold(Struct, eq=False):
    """What one request holds of its subjects, until it leaves."""

    gate: "Gate"
    ask: Ask
    exchange: Exchange
    began: float
    counts_spend: bool
    is_over: bool = False

    def leave(self) -> None:
        self.gate.leave(self)


class Gate:
    """The limits of this process's requests."""

    def __init__(self, redis: Shared, clock: Callable[[], float] = time.monotonic) -> None:
        self.shared = redis
        self.local = Local(clock)
        self.remote = Remote(redis)
        self._waiters: OrderedDict[str, Waiter] = OrderedDict()
        self._rooms: dict[tuple[str, bool], tuple[Allowance, Room]] = {}
        self._mark = f"{PREFIX}process:{uuid.uuid4().hex}"
        self._watching: asyncio.Task[None] | None = None
        self._tell_all = False
        self.mean_held_s = 2.0

    # Life

    def start(self) -> None:
        """Begin to renew what is held in Redis. Nothing to do in solo mode."""
        if self.shared.state != "solo" and self._watching is None:
            self.shared.returned.append(self._came_back)
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.shared.returned.remove(self._came_back)

    async def _watch(self) -> None:
        """Renew leases, and notice when Redis has lost its memory without going away for long."""
        renewed_at = 0.0
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            redis = self.shared.client
            if redis is None:
                continue
            try:
                await board.sync(redis)
                known = await redis.set(self._mark, "1", ex=MARK_LIVES_S, xx=True)
                due = time.monotonic() - renewed_at >= LEASE_S / 3
                everything = self._tell_all or not known
                if not (everything or due):
                    continue
                self._tell_all = False
                await self.remote.tell(redis, self.local, leases_only=not everything)
                await redis.set(self._mark, "1", ex=MARK_LIVES_S)
                renewed_at = time.monotonic()
            except AWAY as error:
                self.shared.failed(error)
            except Exception:
                logger.exception("what this process holds could not be told to Redis")

    async def _came_back(self, redis: Redis) -> None:
        await self.remote.tell(redis, self.local, leases_only=False)
        # What is let in until the circuit is closed is told a moment later.
        self._tell_all = True
        await redis.set(self._mark, "1", ex=MARK_LIVES_S)

    # A request's way

    async def enter(
        self,
        exchange: Exchange,
        allowances: Iterable[Allowance],
        *,
        is_light: bool = False,
        counts_spend: bool = True,
        is_seat: bool = False,
        current: Callable[[], tuple[Allowance, ...]] | None = None,
    ) -> None:
        """Take what the request needs, perhaps after waiting for its turn. Raises the refusal.

        `current` gives the allowances as they are when a turn has come, where they may change.
        """
        counted = tuple([one for one in allowances if one.is_counted])
        if not counted:
            return
        ask = self._ask_for(exchange, counted, is_light=is_light, counts_spend=counts_spend)
        began = time.monotonic()
        if self.shared.client is None:
            verdict = self.local.enter(ask)
        else:
            verdict = await self._try(ask)
        if verdict.outcome != "granted" and (
            verdict.outcome == "queued" or 0 < verdict.wait_s <= GRACE_S
        ):
            try:
                verdict = await self._wait_a_little(ask, verdict)
                if verdict.outcome == "queued":
                    verdict = await self._wait(exchange, ask, verdict, current)
            finally:
                waited_ms = int((time.monotonic() - began) * 1000)
                exchange.record.queue_ms = (exchange.record.queue_ms or 0) + waited_ms
                exchange.disclosed["x-gateway-queued-ms"] = str(exchange.record.queue_ms)
            if verdict.outcome == "granted" and not is_valid(exchange.caller):
                self._withdraw(Hold(self, ask, exchange, began, counts_spend))
                self._take_back(exchange)
                raise Unauthorized("The API key was revoked while the request waited.")
        if verdict.outcome != "granted":
            self._take_back(exchange)
            raise words.refusal(ask, verdict, mean_held_s=self.mean_held_s)
        if verdict.spent and (warning := words.warning(ask, verdict.spent, now())):
            exchange.disclosed["x-gateway-budget"] = warning
        hold = Hold(self, ask, exchange, time.monotonic(), counts_spend)
        exchange.leases.append(hold.leave)
        if is_seat:
            exchange.seat_hold = hold

    def leave_seat(self, exchange: Exchange) -> None:
        """Another seat takes over: what was taken of the first one does not count."""
        hold, exchange.seat_hold = exchange.seat_hold, None
        if hold is not None:
            self._withdraw(hold)

    def leave(self, hold: Hold) -> None:
        """The request has ended, in whatever way. A second time does nothing."""
        if hold.is_over:
            return
        hold.is_over = True
        ask, exchange = hold.ask, hold.exchange
        record = exchange.record
        tokens = (record.input_tokens or 0) + (record.output_tokens or 0)
        self.local.leave(ask, tokens)
        nano_aiu = (record.nano_aiu or 0) if hold.counts_spend and exchange.records else 0
        charges = self._charges(ask, nano_aiu) if nano_aiu > 0 else ()
        if self.shared.client is not None:
            done = self.remote.leave(ask, tokens, tuple(charge for charge, _known in charges))
            if charges:
                done.add_done_callback(lambda answer: self._notice(ask, _sums(answer)))
        elif charges:
            self._notice(ask, [known for _charge, known in charges])
        self.mean_held_s += WEIGHT * (time.monotonic() - hold.began - self.mean_held_s)
        if self._waiters:
            self._wake(room.name for room in ask.rooms)

    def _take_back(self, exchange: Exchange) -> None:
        """It is not sent: what it had been let into before does not count."""
        for hold in _holds_of(exchange):
            self._withdraw(hold)

    def _withdraw(self, hold: Hold) -> None:
        if hold.is_over:
            return
        hold.is_over = True
        self.local.withdraw(hold.ask)
        if self.shared.client is not None:
            self.remote.withdraw(hold.ask)
        self._wake(room.name for room in hold.ask.rooms)

    def _ask_for(
        self,
        exchange: Exchange,
        counted: tuple[Allowance, ...],
        *,
        is_light: bool,
        counts_spend: bool,
    ) -> Ask:
        estimate = exchange.estimate
        rooms = tuple([self._room(a, is_light, counts_spend) for a in counted])
        ask = Ask(
            exchange.id,
            counted,
            rooms,
            is_batch(exchange),
            is_light,
            counts_spend,
            queue_limit=settings.GATEWAY_QUEUE_LIMIT,
        )
        if estimate is not None:
            ask.tokens = estimate.input_tokens + estimate.output_tokens
            if estimate.nano_aiu >= MATTERS_NANO_AIU:
                ask.nano_aiu = estimate.nano_aiu
        return ask

    def _room(self, one: Allowance, is_light: bool, counts_spend: bool) -> Room:
        if one.budgets and counts_spend:
            return room_of(one, is_light=is_light, spent=spent_of, moment=now())
        # The same as last time, until the limits are read anew.
        key = (one.subject, is_light)
        last = self._rooms.get(key)
        if last is not None and last[0] is one:
            return last[1]
        if len(self._rooms) > MOST_ROOMS:
            self._rooms.clear()
        room = room_of(one, is_light=is_light, spent=None, moment=now())
        self._rooms[key] = (one, room)
        return room

    async def _try(self, ask: Ask) -> Verdict:
        if self.shared.client is not None:
            try:
                verdict = await self.remote.enter(ask)
            except Away:
                return self.local.enter(ask)
            if verdict.outcome == "granted":
                self.local.take(ask)
            return verdict
        return self.local.enter(ask)

    def check_budget(self, exchange: Exchange) -> None:
        """Raise the refusal when a hard budget is spent, with what the exchange has cost so far."""
        for hold in _holds_of(exchange):
            for index, (one, room) in enumerate(
                zip(hold.ask.allowances, hold.ask.rooms, strict=True)
            ):
                for which, ceiling in enumerate(room.budgets):
                    if not ceiling.limit:
                        continue
                    used = spent_of(one.subject, one.budgets[which].period)
                    used = max(used, ceiling.known) + (exchange.record.nano_aiu or 0)
                    if used >= ceiling.limit:
                        over = Verdict("refused", "budget", index, which, value=used)
                        raise words.refusal(hold.ask, over, mean_held_s=self.mean_held_s)

    # The queue

    async def _wait_a_little(self, ask: Ask, verdict: Verdict) -> Verdict:
        """Who came back after the very minute is let in a moment later."""
        if verdict.outcome == "refused" and verdict.wait_s <= GRACE_S:
            await asyncio.sleep(verdict.wait_s)
            return await self._try(ask)
        return verdict

    async def _wait(
        self,
        exchange: Exchange,
        ask: Ask,
        verdict: Verdict,
        current: Callable[[], tuple[Allowance, ...]] | None,
    ) -> Verdict:
        """Wait for a turn. The last word is given back; raises when that takes too long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + settings.GATEWAY_QUEUE_TIMEOUT_S
        waiter = Waiter(ask, loop.time(), ask.rooms[verdict.subject].name, asyncio.Event())
        self._waiters[ask.id] = waiter
        try:
            while verdict.outcome == "queued":
                waiter.name = ask.rooms[verdict.subject].name
                waiter.woken.clear()
                left = until - loop.time()
                if left <= 0:
                    raise words.waited_too_long(
                        ask, verdict, settings.GATEWAY_QUEUE_TIMEOUT_S, self.mean_held_s
                    )
                pause = POLL_S if self._leads(waiter) else IDLE_POLL_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, pause)):
                        await waiter.woken.wait()
                if current is not None:
                    self._renew(ask, current())
                verdict = await self._try(ask)
        except BaseException as error:
            self._leave_queue(ask)
            if not isinstance(error, asyncio.CancelledError):
                self._take_back(exchange)
            raise
        finally:
            del self._waiters[ask.id]
            # Who stood behind may be first now, and may find another slot free.
            self._wake([waiter.name])
        return verdict

    def _renew(self, ask: Ask, allowances: tuple[Allowance, ...]) -> None:
        """Go by the limits of now: an account that recovers takes more at once than a moment ago."""
        found = {one.subject: one for one in allowances}
        renewed = []
        for one in ask.allowances:
            now_is = found.get(one.subject) or Allowance(one.subject, one.who, one.name)
            if one.concurrency and not now_is.concurrency:
                # Still counted, so that it is given back and leaves its queue.
                now_is = replace(now_is, concurrency=UNBOUNDED)
            renewed.append(now_is)
        ask.allowances = tuple(renewed)
        ask.rooms = tuple([self._room(a, ask.is_light, ask.counts_spend) for a in renewed])

    def _leave_queue(self, ask: Ask) -> None:
        self.local.leave_queue(ask)
        if self.shared.client is not None:
            self.remote.leave_queue(ask)

    def _line(self, name: str) -> list[Waiter]:
        """Who waits here for `name`, in the order in which they will go."""
        found = [w for w in self._waiters.values() if w.name == name]
        return sorted(found, key=lambda w: (w.ask.is_batch, w.since))

    def _leads(self, waiter: Waiter) -> bool:
        return self.shared.client is not None and self._line(waiter.name)[0] is waiter

    def _wake(self, names: Iterable[str]) -> None:
        if not self._waiters:
            return
        for name in names:
            if line := self._line(name):
                line[0].woken.set()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    # Budgets

    def _charges(self, ask: Ask, nano_aiu: int) -> Sequence[tuple[Charge, int]]:
        """For each budget: what is added to its counter, and what the counter is then at least."""
        found: list[tuple[Charge, int]] = []
        for one, room in zip(ask.allowances, ask.rooms, strict=True):
            for budget, ceiling in zip(one.budgets, room.budgets, strict=True):
                # The record itself is counted a moment later.
                known = spent_of(one.subject, budget.period) + nano_aiu
                found.append(((ceiling.counter, nano_aiu, known), known))
        return found

    def _notice(self, ask: Ask, sums: list[int]) -> None:
        moment = now()
        at = iter(sums)
        for one in ask.allowances:
            for budget in one.budgets:
                spend.notice(
                    one.subject,
                    one.name,
                    budget.period,
                    spent=next(at, 0),
                    limit=budget.at(moment),
                    warn_percent=one.warn_percent,
                    is_hard=one.budget_is_hard,
                )

    # What is left

    @property
    def counted_in(self) -> str:
        """Where the limits are counted now: `redis` for all processes, or `process`."""
        return "redis" if self.shared.client is not None else "process"

    async def left(self, allowances: Iterable[Allowance]) -> list[dict[str, object]]:
        """What each subject has used and may use, for the person whose limits they are."""
        found = []
        moment = now()
        for one in allowances:
            room = room_of(one, is_light=False, spent=spent_of, moment=moment)
            used = self.local.used(room)
            sums = [budget.known for budget in room.budgets]
            if self.shared.client is not None:
                with contextlib.suppress(Away):
                    used, sums = await self.remote.used(room)
            found.append(words.left(one, used, sums, moment))
        return found


def is_valid(caller: Caller) -> bool:
    """Whether the key may still call. Who waits may wait longer than a key lives."""
    return caller.key_id is None or any(
        entry.caller.key_id == caller.key_id and not entry.refusal
        for entry in ring.value.entries.values()
    )


def _holds_of(exchange: Exchange) -> list[Hold]:
    """What the exchange still holds: its leases of this kind."""
    found = [getattr(lease, "__self__", None) for lease in exchange.leases]
    return [hold for hold in found if isinstance(hold, Hold) and not hold.is_over]


def _sums(answer: "asyncio.Future[object]") -> list[int]:
    if answer.cancelled() or answer.exception() is not None:
        return []
    found = answer.result()
    return [int(value) for value in found] if isinstance(found, list) else []


def is_batch(exchange: Exchange) -> bool:
    """The lane of a request. A client may put its own request behind, not in front."""
    if exchange.caller.is_batch:
        return True
    return exchange.headers.get("x-gateway-lane", "").strip().lower() == "batch"


def spent_of(subject: str, period: Period) -> int:
    """Nano-AIU of a subject in the present period, as this process knows it."""
    if subject.startswith("model:"):
        pattern = subject[6:]

        def fits(model_id: str) -> bool:
            policy = policies.policy_for(model_id)
            return policy is not None and policy.pattern == pattern

        return spend.spent_of_models(fits, period)
    return spend.spent(subject, period)


gate = Gate(shared)
