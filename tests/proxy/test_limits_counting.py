"""The limits as they are counted: the same in one process and in Redis."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from accounts.limits import Allowance, Budget
from proxy.limits import asking, local, remote
from proxy.limits.asking import Ask, Ceiling, Room, Verdict
from proxy.limits.local import Local
from proxy.limits.remote import Remote
from proxy.shared import Shared

WINDOW_S = 0.5
_ids = itertools.count()


def make_ask(*rooms: Room, **values: Any) -> Ask:
    allowances = tuple(
        Allowance(r.name, f"the {r.name}", r.name, budgets=(Budget("day", 1),) * len(r.budgets))
        for r in rooms
    )
    return Ask(f"ask{next(_ids)}", allowances, rooms, **{"queue_limit": 10, **values})


def room(name: str, rpm: int = 0, tpm: int = 0, concurrency: int = 0, *budgets: Ceiling) -> Room:
    return Room(name, rpm, tpm, concurrency, budgets)


class Counters:
    """Either place that counts, asked in the same way."""

    def __init__(self, here: Local | None, there: Remote | None) -> None:
        self.here, self.there = here, there

    async def enter(self, ask: Ask) -> Verdict:
        if self.here is not None:
            return self.here.enter(ask)
        assert self.there is not None
        return await self.there.enter(ask)

    async def leave(self, ask: Ask, tokens: int | None = None) -> None:
        if self.here is not None:
            self.here.leave(ask, tokens)
        elif self.there is not None:
            await self.there.leave(ask, tokens, ())

    async def withdraw(self, ask: Ask) -> None:
        for one in (self.here, self.there):
            if one is not None:
                one.withdraw(ask)

    async def leave_queue(self, ask: Ask) -> None:
        for one in (self.here, self.there):
            if one is not None:
                one.leave_queue(ask)

    async def used(self, of: Room) -> dict[str, int]:
        if self.here is not None:
            return self.here.used(of)
        assert self.there is not None
        return (await self.there.used(of))[0]


@pytest.fixture(params=["process", pytest.param("redis", marks=pytest.mark.team)])
async def counters(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Counters]:
    for module in (local, remote):
        monkeypatch.setattr(module, "WINDOW_S", WINDOW_S)
    if request.param == "process":
        yield Counters(Local(), None)
        return
    monkeypatch.setattr(remote, "LEASE_S", 0.3)
    monkeypatch.setattr(remote, "UNSEEN_S", 0.3)
    async with connected(request.getfixturevalue("new_redis")().url, monkeypatch) as shared:
        yield Counters(None, Remote(shared))


class connected:  # noqa: N801 - reads as what it is, like a function
    """A connected `Shared`."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("proxy.shared.settings", SimpleNamespace(REDIS_URL=url))
        self.shared = Shared()

    async def __aenter__(self) -> Shared:
        await self.shared.start()
        assert self.shared.state == "ready"
        return self.shared

    async def __aexit__(self, *_exception: object) -> None:
        await self.shared.close()


async def until(moment: float) -> None:
    """The window is real time in Redis, and short."""
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def test_never_more_than_the_limit_in_any_window_and_the_wait_is_true(
    counters: Counters,
) -> None:
    key = room("key:1", rpm=5)
    granted: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < WINDOW_S * 3:
        before = time.monotonic()
        verdict = await counters.enter(make_ask(key))
        if verdict.outcome == "granted":
            granted.append(before)
            continue
        assert (verdict.kind, verdict.value) == ("rpm", 5)
        assert 0 < verdict.wait_s <= WINDOW_S
        await until(before + verdict.wait_s)
        assert (await counters.enter(make_ask(key))).outcome == "granted", "as it was told"
        granted.append(time.monotonic())
    # The clock looks a moment before the gate does, hence the hair's breadth.
    gaps = [b - a for a, b in zip(granted, granted[5:], strict=False)]
    assert gaps
    assert min(gaps) > WINDOW_S - 0.02


async def test_a_request_takes_of_all_its_subjects_or_of_none(counters: Counters) -> None:
    key, team = room("key:1", rpm=10), room("team:1", rpm=2)
    for _ in range(2):
        assert (await counters.enter(make_ask(key, team))).outcome == "granted"
    refused = await counters.enter(make_ask(key, team))
    assert (refused.outcome, refused.subject) == ("refused", 1)
    assert (await counters.used(key))["requests"] == 2


async def test_what_was_not_sent_does_not_count(counters: Counters) -> None:
    key = room("key:1", rpm=1, tpm=100, concurrency=1)
    ask = make_ask(key, tokens=100)
    assert (await counters.enter(ask)).outcome == "granted"
    await counters.withdraw(ask)
    assert await counters.used(key) == {"requests": 0, "tokens": 0, "in_flight": 0, "waiting": 0}
    assert (await counters.enter(make_ask(key, tokens=100))).outcome == "granted"


async def test_tokens_count_as_estimated_and_then_as_they_came_to(counters: Counters) -> None:
    key = room("key:1", tpm=100)
    first = make_ask(key, tokens=60)
    assert (await counters.enter(first)).outcome == "granted"
    refused = await counters.enter(make_ask(key, tokens=50))
    assert (refused.outcome, refused.kind, refused.value) == ("refused", "tpm", 60)
    assert 0 < refused.wait_s <= WINDOW_S
    await counters.leave(first, 20)
    second = make_ask(key, tokens=50)
    assert (await counters.enter(second)).outcome == "granted", "less than was feared"
    await counters.leave(second, 200)
    assert (await counters.used(key))["tokens"] == 220
    assert (await counters.enter(make_ask(key, tokens=0))).kind == "tpm"
    too_large = await counters.enter(make_ask(room("key:2", tpm=100), tokens=101))
    assert (too_large.outcome, too_large.kind) == ("refused", "tokens")
    await until(time.monotonic() + WINDOW_S)
    assert (await counters.enter(make_ask(key, tokens=100))).outcome == "granted"


async def test_requests_at_once_are_bounded_and_the_queue_is_too(counters: Counters) -> None:
    key = room("key:1", concurrency=2)
    held = [make_ask(key) for _ in range(2)]
    for ask in held:
        assert (await counters.enter(ask)).outcome == "granted"
    waiting = [make_ask(key, queue_limit=2) for _ in range(3)]
    verdicts = [await counters.enter(ask) for ask in waiting]
    assert [v.outcome for v in verdicts] == ["queued", "queued", "refused"]
    assert [v.value for v in verdicts] == [0, 1, 2]
    await counters.leave(held[0])
    assert (await counters.enter(make_ask(key))).outcome == "queued", "nobody passes who waits"
    assert (await counters.enter(waiting[1])).outcome == "queued"
    assert (await counters.enter(waiting[0])).outcome == "granted"
    assert (await counters.used(key))["in_flight"] == 2


async def test_interactive_goes_before_batch_and_first_come_first(counters: Counters) -> None:
    key = room("key:1", concurrency=1)
    holder = make_ask(key)
    await counters.enter(holder)
    batch = [make_ask(key, is_batch=True) for _ in range(2)]
    people = [make_ask(key) for _ in range(2)]
    for ask in (*batch, *people):
        assert (await counters.enter(ask)).outcome == "queued"
    order = []
    for _ in range(4):
        await counters.leave(holder)
        for ask in (*batch, *people):
            if ask not in order and (await counters.enter(ask)).outcome == "granted":
                order.append(ask)
                holder = ask
    assert order == [*people, *batch]


async def test_who_leaves_the_queue_frees_the_place_at_once(counters: Counters) -> None:
    key = room("key:1", concurrency=1)
    holder, first, second = make_ask(key), make_ask(key), make_ask(key)
    for ask in (holder, first, second):
        await counters.enter(ask)
    await counters.leave_queue(first)
    await counters.leave(holder)
    assert (await counters.enter(second)).outcome == "granted"
    assert (await counters.used(key))["waiting"] == 0


async def test_who_waits_for_one_subject_does_not_stand_in_the_way_at_another(
    counters: Counters,
) -> None:
    key, team = room("key:1", concurrency=1), room("team:1", concurrency=1)
    holder, other = make_ask(key), make_ask(team)
    await counters.enter(holder)
    await counters.enter(other)
    both = make_ask(key, team)
    assert (await counters.enter(both)).subject == 0
    await counters.leave(holder)
    blocked = await counters.enter(both)
    assert (blocked.outcome, blocked.subject) == ("queued", 1)
    assert (await counters.enter(make_ask(key))).outcome == "granted"


async def test_a_budget_is_refused_when_spent_or_when_the_estimate_is_too_much(
    counters: Counters,
) -> None:
    def ask(known: int, estimate: int, limit: int = 1000) -> Ask:
        ceiling = Ceiling(f"key:1:day:{next(_ids)}", limit, known)
        return make_ask(room("key:1", 0, 0, 0, ceiling), nano_aiu=estimate)

    assert (await counters.enter(ask(999, 1))).outcome == "granted"
    assert (await counters.enter(ask(999, 2))).kind == "estimate"
    over = await counters.enter(ask(1000, 0))
    assert (over.outcome, over.kind, over.value) == ("refused", "budget", 1000)
    soft = await counters.enter(ask(5000, 0, limit=0))
    assert (soft.outcome, soft.spent) == ("granted", (5000,))


# What only Redis has to do.


@pytest.fixture
async def shared(
    new_redis: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shared]:
    for module in (local, remote):
        monkeypatch.setattr(module, "WINDOW_S", WINDOW_S)
    monkeypatch.setattr(remote, "LEASE_S", 0.3)
    async with connected(new_redis().url, monkeypatch) as found:
        yield found


@pytest.mark.team
async def test_what_a_killed_process_held_is_free_after_its_lease(shared: Shared) -> None:
    there, key = Remote(shared), room("key:1", concurrency=1)
    assert (await there.enter(make_ask(key))).outcome == "granted"
    began = time.monotonic()
    next_one = make_ask(key)
    while (await there.enter(next_one)).outcome != "granted":  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert 0.2 < time.monotonic() - began < 1


@pytest.mark.team
async def test_what_is_held_is_kept_as_long_as_it_is_renewed(shared: Shared) -> None:
    there, here, key = Remote(shared), Local(), room("key:1", concurrency=1)
    ask = make_ask(key)
    await there.enter(ask)
    here.take(ask)
    for _ in range(5):
        await asyncio.sleep(0.15)
        assert shared.client is not None
        await there.tell(shared.client, here, leases_only=True)
        assert (await there.enter(make_ask(key, queue_limit=0))).outcome == "refused"


@pytest.mark.team
async def test_counters_that_redis_has_lost_begin_at_what_the_database_knows(
    shared: Shared,
) -> None:
    there = Remote(shared)
    ceiling = Ceiling("key:1:day:2026-11-20", 1000, 400)
    ask = make_ask(room("key:1", 0, 0, 0, ceiling))
    assert (await there.enter(ask)).spent == (400,)
    assert await there.leave(ask, None, ((ceiling.counter, 50, 450),)) == ["450"]
    # Another process has counted more than this one's database knows.
    assert await there.leave(ask, None, ((ceiling.counter, 50, 410),)) == ["500"]
    assert (await there.enter(ask)).spent == (500,)
    assert shared.client is not None
    await shared.client.flushall()
    assert (await there.enter(ask)).spent == (400,)
    assert await there.leave(ask, None, (("key:9:day:2026-11-20", 70, 90),)) == ["90"]


@pytest.mark.team
async def test_after_a_loss_of_memory_redis_hears_what_each_process_has_let_in(
    shared: Shared,
) -> None:
    there, here = Remote(shared), Local()
    key = room("key:1", rpm=3, tpm=100, concurrency=3)
    for _ in range(3):
        ask = make_ask(key, tokens=30)
        assert (await there.enter(ask)).outcome == "granted"
        here.take(ask)
    assert shared.client is not None
    await shared.client.flushall()
    await shared.client.script_flush()
    await there.tell(shared.client, here, leases_only=False)
    await there.tell(shared.client, here, leases_only=False)
    used, _sums = await there.used(key)
    assert used == {"requests": 3, "tokens": 90, "in_flight": 3, "waiting": 0}
    assert (await there.enter(make_ask(key))).kind == "rpm"


@pytest.mark.team
async def test_a20_a_clock_that_goes_back_locks_nobody_out(shared: Shared) -> None:
    assert shared.client is not None
    there, key = Remote(shared), room("key:1", rpm=1, concurrency=1)
    later = int((time.time() + 3600) * 1e6)
    await shared.client.zadd("gateway:limits:key:1:m", {"old": later})
    await shared.client.zadd("gateway:limits:key:1:c", {"old": later})
    refused = await there.enter(make_ask(key))
    assert refused.outcome == "refused"
    assert refused.wait_s <= WINDOW_S
    await until(time.monotonic() + WINDOW_S + 0.1)
    assert (await there.enter(make_ask(key))).outcome == "granted"


@pytest.mark.team
async def test_a_request_that_is_given_up_while_redis_answers_holds_nothing(
    shared: Shared,
) -> None:
    there, key = Remote(shared), room("key:1", rpm=5, concurrency=1)
    task = asyncio.ensure_future(there.enter(make_ask(key)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await there.enter(make_ask(key))).outcome == "granted"
    assert (await there.used(key))[0]["requests"] == 1


def test_the_window_is_a_little_more_than_a_minute() -> None:
    assert 60 < asking.WINDOW_S <= 61
