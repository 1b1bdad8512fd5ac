"""The limits as Redis counts them for all processes: one script call for each request.

Calls of one turn of the loop go out together, in their order, and nobody's cancellation breaks a
connection: a request that is given up takes back what it was given with a later call.
"""

import asyncio
import hashlib
import logging
from collections import deque
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from proxy.limits.asking import LEASE_S, UNSEEN_S, WINDOW_S, Ask, Room, Verdict
from proxy.limits.local import Local
from proxy.shared import AWAY, Shared

FOLDER = Path(__file__).parent
AT_ONCE = 256
logger = logging.getLogger(__name__)
Value = str | int
# A counter in Redis, what is added to it, and what it is then at least.
Charge = tuple[str, int, int]


class Script:
    """A script and the name by which Redis knows it once it has read it."""

    def __init__(self, name: str) -> None:
        self.source = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        # Redis's own name of it, no secret.
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


ENTER, LEAVE = Script("enter"), Script("leave")
RESTORE, USED = Script("restore"), Script("used")
SCRIPTS = (ENTER, LEAVE, RESTORE, USED)


class Away(Exception):
    """Redis does not answer."""


class Calls:
    """Script calls in their order, as many at a time as have gathered."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._waiting: deque[tuple[Script, tuple[Value, ...], asyncio.Future[object]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    def call(self, script: Script, *values: Value) -> "asyncio.Future[object]":
        """The script's answer; `Away` when there is none. Nobody needs to wait for it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()
        answer.add_done_callback(_heard)
        if self._shared.client is None:
            answer.set_exception(Away())
            return answer
        self._waiting.append((script, values, answer))
        if self._sending is None or self._sending.done():
            self._sending = loop.create_task(self._send())
        return answer

    async def _send(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            try:
                answers = await self._execute(batch)
            except AWAY as error:
                self._shared.failed(error)
                answers = [Away()] * len(batch)
            for (_script, _values, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    async def _execute(
        self, batch: list[tuple[Script, tuple[Value, ...], "asyncio.Future[object]"]]
    ) -> list[object]:
        redis = self._shared.client
        if redis is None:
            return [Away()] * len(batch)
        async with redis.pipeline(transaction=False) as pipeline:
            for script, values, _future in batch:
                pipeline.evalsha(script.sha, 0, *values)
            answers: list[object] = await pipeline.execute(raise_on_error=False)
            if any(isinstance(a, NoScriptError) for a in answers):
                # None of them has run: the scripts come and go together.
                for one in SCRIPTS:
                    await redis.script_load(one.source)
                for script, values, _future in batch:
                    pipeline.evalsha(script.sha, 0, *values)
                answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers


def _heard(future: "asyncio.Future[object]") -> None:
    # Looked at, so that asyncio does not complain of an answer nobody waits for.
    if not future.cancelled():
        future.exception()


class Remote:
    def __init__(self, shared: Shared) -> None:
        self.calls = Calls(shared)

    async def enter(self, ask: Ask) -> Verdict:
        """Take what `ask` needs of all its subjects, or nothing. Raises `Away`."""
        values: list[Value] = [
            ask.id,
            int(ask.is_batch),
            ask.tokens,
            ask.nano_aiu,
            int(WINDOW_S * 1e6),
            int(LEASE_S * 1e6),
            ask.queue_limit,
            int(UNSEEN_S * 1e6),
            len(ask.rooms),
        ]
        for room in ask.rooms:
            values += (room.name, room.rpm, room.tpm, room.concurrency, len(room.budgets))
            for budget in room.budgets:
                values += (budget.counter, budget.limit, budget.known)
        answer = self.calls.call(ENTER, *values)
        try:
            found = await asyncio.shield(answer)
        except asyncio.CancelledError:
            # It may have been let in meanwhile.
            self.withdraw(ask)
            raise
        assert isinstance(found, list)
        return Verdict(
            found[0],
            found[1],
            int(found[2]),
            int(found[3]),
            int(found[4]) / 1e6,
            int(found[5]),
            tuple(int(sum_) for sum_ in found[6:]),
        )

    def leave(
        self, ask: Ask, tokens: int | None, charges: tuple[Charge, ...]
    ) -> "asyncio.Future[object]":
        off = 0 if tokens is None else tokens - ask.tokens
        return self._end("leave", ask, off, charges)

    def withdraw(self, ask: Ask) -> None:
        self._end("withdraw", ask, -ask.tokens, ())

    def leave_queue(self, ask: Ask) -> None:
        self._end("unqueue", ask, 0, ())

    def _end(
        self, what: str, ask: Ask, off: int, charges: tuple[Charge, ...]
    ) -> "asyncio.Future[object]":
        rooms = [r for r in ask.rooms if r.rpm or r.tpm or r.concurrency]
        values: list[Value] = [what, ask.id, off, len(rooms), len(charges)]
        for room in rooms:
            values += (room.name, int(room.tpm > 0))
        for charge in charges:
            values += charge
        return self.calls.call(LEAVE, *values)

    async def tell(self, redis: Redis, local: Local, *, leases_only: bool) -> None:
        """Tell Redis what this process holds. Raises one of `AWAY`."""
        entries = held(local, leases_only=leases_only)
        await redis.script_load(RESTORE.source)
        for start in range(0, len(entries), 500):
            part = entries[start : start + 500]
            values: list[Value] = [int(LEASE_S * 1e6), len(part)]
            for entry in part:
                values += entry
            await redis.evalsha(RESTORE.sha, 0, *values)

    async def used(self, room: Room) -> tuple[dict[str, int], list[int]]:
        """What stands in a subject's counters now, and in those of its budgets. Raises `Away`."""
        values: list[Value] = [room.name, int(WINDOW_S * 1e6), len(room.budgets)]
        for budget in room.budgets:
            values += (budget.counter, budget.known)
        found = await self.calls.call(USED, *values)
        assert isinstance(found, list)
        numbers = [int(value) for value in found]
        names = ("requests", "tokens", "in_flight", "waiting")
        return dict(zip(names, numbers, strict=False)), numbers[len(names) :]


def held(local: Local, *, leases_only: bool) -> list[tuple[str, str, str, int, int]]:
    """Kind, subject, id, age in microseconds and tokens of everything that still counts."""
    at = local.clock()
    found: list[tuple[str, str, str, int, int]] = []
    for name, one in local.subjects.items():
        found += [("c", name, exchange_id, 0, 0) for exchange_id in one.held]
        if leases_only:
            continue
        for when, exchange_id in one.minute:
            found.append(("m", name, exchange_id, int((at - when) * 1e6), 0))
        for when, exchange_id in one.tokens.times:
            amount = one.tokens.amounts.get(exchange_id, 0)
            found.append(("t", name, exchange_id, int((at - when) * 1e6), amount))
    return [entry for entry in found if entry[3] < WINDOW_S * 1e6]
