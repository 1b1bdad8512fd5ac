"""The limits as one process counts them: solo mode, and a team whose Redis is away.

It means the same as the scripts of `remote`, and is tested by the same tests. Microseconds, no
waiting: everything happens on the event loop.
"""

import bisect
import time
from collections import deque
from collections.abc import Callable, Iterable

from proxy.limits.asking import WINDOW_S, Ask, Room, Verdict


class Tokens:
    """Tokens of the last minute: what was estimated, and later what it came to."""

    __slots__ = ("amounts", "times", "total")

    def __init__(self) -> None:
        self.times: deque[tuple[float, str]] = deque()
        self.amounts: dict[str, int] = {}
        self.total = 0

    def trim(self, until: float) -> None:
        while self.times and self.times[0][0] <= until:
            self.total -= self.amounts.pop(self.times.popleft()[1], 0)

    def add(self, at: float, name: str, amount: int) -> None:
        self.times.append((at, name))
        self.amounts[name] = amount
        self.total += amount

    def correct(self, at: float, name: str, by: int) -> None:
        """What was estimated for `name` was off by so much; more than estimated counts from now."""
        if by > 0:
            self.add(at, name + "+", by)
        elif name in self.amounts:
            by = max(by, -self.amounts[name])
            self.amounts[name] += by
            self.total += by


class Subject:
    """What one subject uses at the moment."""

    __slots__ = ("held", "minute", "queue", "tokens")

    def __init__(self) -> None:
        self.minute: deque[tuple[float, str]] = deque()
        self.held: set[str] = set()
        # Lane, arrival, id: interactive before batch, then first come, first served.
        self.queue: list[tuple[bool, float, str]] = []
        self.tokens = Tokens()

    @property
    def is_empty(self) -> bool:
        return not (self.minute or self.held or self.queue or self.tokens.times)


class Local:
    """The counters of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.subjects: dict[str, Subject] = {}
        self._arrived: dict[str, tuple[bool, float, str]] = {}
        self._swept_at = clock()

    def enter(self, ask: Ask) -> Verdict:
        """Take what `ask` needs of all its subjects, or nothing."""
        at = self.clock()
        blocked = -1
        spent: tuple[int, ...] = ()
        for index, room in enumerate(ask.rooms):
            if room.budgets:
                refusal = _over_budget(ask, room, index)
                spent += tuple(b.known for b in room.budgets)
                if refusal is not None:
                    return self._refuse(ask, refusal)
            one = self.subjects.get(room.name)
            if one is None:
                if room.tpm and ask.tokens > room.tpm:
                    return self._refuse(ask, Verdict("refused", "tokens", index, value=ask.tokens))
                continue
            if room.rpm or room.tpm:
                refusal = _over_minute(one, room, ask, index, at)
                if refusal is not None:
                    return self._refuse(ask, refusal)
            if room.concurrency and blocked < 0 and not self._has_slot(one, room, ask):
                blocked = index
        if blocked >= 0:
            return self._queue(ask, blocked, at)
        self.take(ask)
        return Verdict("granted", spent=spent)

    def take(self, ask: Ask) -> None:
        """Count it, whatever the limits say: another place has let it in."""
        at = self.clock()
        arrived = self._arrived.pop(ask.id, None) if self._arrived else None
        for room in ask.rooms:
            if not (room.rpm or room.tpm or room.concurrency):
                continue
            one = self.subjects.get(room.name)
            if one is None:
                one = self.subjects[room.name] = Subject()
            if arrived is not None and arrived in one.queue:
                one.queue.remove(arrived)
            if room.rpm:
                one.minute.append((at, ask.id))
                while one.minute[0][0] <= at - WINDOW_S:
                    one.minute.popleft()
            if room.tpm:
                one.tokens.trim(at - WINDOW_S)
                one.tokens.add(at, ask.id, ask.tokens)
            if room.concurrency:
                one.held.add(ask.id)
        if at - self._swept_at > WINDOW_S:
            self._sweep(at)

    def leave(self, ask: Ask, tokens: int | None = None) -> None:
        """Give back the slots; `tokens` is what it came to, None when that is unknown."""
        for room in ask.rooms:
            one = self.subjects.get(room.name)
            if one is None:
                continue
            one.held.discard(ask.id)
            if room.tpm and tokens is not None:
                one.tokens.correct(self.clock(), ask.id, tokens - ask.tokens)

    def withdraw(self, ask: Ask) -> None:
        """It was not sent after all: nothing of it counts."""
        self.leave_queue(ask)
        for room in ask.rooms:
            one = self.subjects.get(room.name)
            if one is None:
                continue
            one.held.discard(ask.id)
            if room.rpm:
                one.minute = deque(entry for entry in one.minute if entry[1] != ask.id)
            if room.tpm:
                one.tokens.correct(self.clock(), ask.id, -ask.tokens)

    def leave_queue(self, ask: Ask) -> None:
        arrived = self._arrived.pop(ask.id, None)
        if arrived is None:
            return
        for room in ask.rooms:
            one = self.subjects.get(room.name)
            if one is not None and arrived in one.queue:
                one.queue.remove(arrived)

    def waiting(self, names: Iterable[str]) -> int:
        return max((len(s.queue) for n in names if (s := self.subjects.get(n))), default=0)

    def used(self, room: Room) -> dict[str, int]:
        """What stands in a subject's counters now."""
        one = self.subjects.get(room.name)
        if one is None:
            return {"requests": 0, "tokens": 0, "in_flight": 0, "waiting": 0}
        until = self.clock() - WINDOW_S
        one.tokens.trim(until)
        return {
            "requests": sum(1 for at, _id in one.minute if at > until),
            "tokens": one.tokens.total,
            "in_flight": len(one.held),
            "waiting": len(one.queue),
        }

    def _has_slot(self, one: Subject, room: Room, ask: Ask) -> bool:
        free = room.concurrency - len(one.held)
        if free <= 0 or not one.queue:
            return free > 0
        place = self._arrived.get(ask.id)
        if place is None:
            # Whoever comes now waits behind those of its lane.
            place = (ask.is_batch, float("inf"), ask.id)
        return bisect.bisect_left(one.queue, place) < free

    def _queue(self, ask: Ask, blocked: int, at: float) -> Verdict:
        room = ask.rooms[blocked]
        one = self.subjects[room.name]
        place = self._arrived.get(ask.id)
        if place is None and len(one.queue) >= ask.queue_limit:
            return Verdict("refused", "concurrency", blocked, value=len(one.queue))
        if place is None:
            place = self._arrived[ask.id] = (ask.is_batch, at, ask.id)
        if place not in one.queue:
            for other in ask.rooms:
                behind = self.subjects.get(other.name)
                if behind is not None and place in behind.queue:
                    behind.queue.remove(place)
            bisect.insort(one.queue, place)
        return Verdict("queued", "concurrency", blocked, value=one.queue.index(place))

    def _refuse(self, ask: Ask, refusal: Verdict) -> Verdict:
        if self._arrived:
            self.leave_queue(ask)
        return refusal

    def _sweep(self, at: float) -> None:
        """Forget subjects of which nothing is left."""
        self._swept_at = at
        for name, one in list(self.subjects.items()):
            while one.minute and one.minute[0][0] <= at - WINDOW_S:
                one.minute.popleft()
            one.tokens.trim(at - WINDOW_S)
            if one.is_empty:
                del self.subjects[name]


def _over_budget(ask: Ask, room: Room, index: int) -> Verdict | None:
    for which, budget in enumerate(room.budgets):
        if not budget.limit:
            continue
        if budget.known >= budget.limit:
            return Verdict("refused", "budget", index, which, value=budget.known)
        if budget.known + ask.nano_aiu > budget.limit:
            return Verdict("refused", "estimate", index, which, value=budget.known)
    return None


def _over_minute(one: Subject, room: Room, ask: Ask, index: int, at: float) -> Verdict | None:
    until = at - WINDOW_S
    if room.rpm:
        minute = one.minute
        while minute and minute[0][0] <= until:
            minute.popleft()
        if len(minute) >= room.rpm:
            free_at = minute[len(minute) - room.rpm][0] + WINDOW_S
            return Verdict("refused", "rpm", index, wait_s=free_at - at, value=len(minute))
    if room.tpm:
        tokens = one.tokens
        tokens.trim(until)
        if ask.tokens > room.tpm:
            return Verdict("refused", "tokens", index, value=ask.tokens)
        over = tokens.total + ask.tokens - room.tpm
        # A limit that is used up to the last lets nothing in, also where nothing is estimated.
        if over > 0 or tokens.total >= room.tpm:
            return Verdict(
                "refused", "tpm", index, wait_s=_free_in(tokens, over, at), value=tokens.total
            )
    return None


def _free_in(tokens: Tokens, over: int, at: float) -> float:
    freed = 0
    wait_s = 0.0
    for when, name in tokens.times:
        amount = tokens.amounts.get(name, 0)
        if not amount:
            continue
        freed += amount
        wait_s = when + WINDOW_S - at
        if freed >= max(over, 1):
            break
    return wait_s
