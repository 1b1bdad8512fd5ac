"""The gate of one process: waiting, ceilings, slow-down and fair shares, without a server."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils.timezone import now

from accounts.limits import Allowance, Budget, Raise, begin_of, end_of
from proxy import pacing, slowdown
from proxy.board import board
from proxy.errors import GatewayError, RateLimited
from proxy.limits import ceilings
from proxy.limits.gate import Gate
from proxy.pacing import Shares
from proxy.shared import Shared
from usage import room
from usage.room import Left
from usage.spend import Crossing, on_threshold, spend

KEY = Allowance("key:1", "this API key", "key ci")


@dataclass
class FakeExchange:
    """What the gate knows of a request. A real one needs a server."""

    id: str
    headers: dict[str, str] = field(default_factory=dict)
    disclosed: dict[str, str] = field(default_factory=dict)
    leases: list[Any] = field(default_factory=list)
    records: bool = True
    seat_hold: Any = None
    estimate: Any = None
    caller: Any = field(
        default_factory=lambda: SimpleNamespace(is_batch=False, member_id=1, key_id=None)
    )
    record: Any = field(
        default_factory=lambda: SimpleNamespace(
            queue_ms=0, nano_aiu=None, input_tokens=0, output_tokens=0
        )
    )

    def end(self, nano_aiu: int | None = None) -> None:
        self.record.nano_aiu = nano_aiu
        for leave in self.leases:
            leave()
            leave()


class Requests:
    def __init__(self) -> None:
        self.gate = Gate(Shared())
        self._number = 0

    def new(self, **values: Any) -> Any:
        self._number += 1
        return FakeExchange(f"exchange{self._number}", **values)

    async def enter(self, *allowances: Allowance, **values: Any) -> Any:
        exchange = self.new(**values)
        await self.gate.enter(exchange, allowances)
        return exchange


@pytest.fixture
def requests() -> Iterator[Requests]:
    spend.forget()
    board.facts.clear()
    yield Requests()
    spend.forget()
    board.facts.clear()


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_without_limits_nothing_is_held(requests: Requests) -> None:
    exchange = await requests.enter(replace(KEY, max_output_tokens=5))
    assert exchange.leases == []
    assert requests.gate.local.subjects == {}


async def test_who_waits_goes_on_in_order_and_is_told_for_how_long(requests: Requests) -> None:
    key = replace(KEY, concurrency=1)
    first = await requests.enter(key)
    order: list[str] = []

    async def wait(name: str, **headers: str) -> Any:
        exchange = await requests.enter(key, headers=headers)
        order.append(name)
        return exchange

    batch = asyncio.ensure_future(wait("batch", **{"x-gateway-lane": "batch"}))
    await turn()
    person = asyncio.ensure_future(wait("person"))
    await asyncio.sleep(0.02)
    assert requests.gate.waiting == 2
    first.end()
    exchange = await person
    assert int(exchange.disclosed["x-gateway-queued-ms"]) >= 15
    assert exchange.record.queue_ms >= 15
    exchange.end()
    (await batch).end()
    assert order == ["person", "batch"]
    assert requests.gate.waiting == 0
    assert not requests.gate.local.subjects["key:1"].held


async def test_a_client_that_leaves_the_queue_frees_its_place_at_once(requests: Requests) -> None:
    key = replace(KEY, concurrency=1)
    holder = await requests.enter(key)
    leaving = asyncio.ensure_future(requests.enter(key))
    await turn()
    behind = asyncio.ensure_future(requests.enter(key))
    await turn()
    leaving.cancel()
    await turn()
    assert requests.gate.waiting == 1
    holder.end()
    (await behind).end()
    assert requests.gate.local.subjects["key:1"].queue == []


async def test_a_full_queue_and_a_long_wait_are_refused(requests: Requests, settings: Any) -> None:
    settings.GATEWAY_QUEUE_LIMIT, settings.GATEWAY_QUEUE_TIMEOUT_S = 1, 0.05
    key = replace(KEY, concurrency=1)
    holder = await requests.enter(key)
    waiting = asyncio.ensure_future(requests.enter(key))
    await turn()
    with pytest.raises(RateLimited) as full:
        await requests.enter(key)
    assert full.value.code == "queue_full"
    with pytest.raises(RateLimited) as late:
        await waiting
    assert late.value.code == "queue_timeout"
    assert (late.value.retry_after_s or 0) >= 1
    holder.end()
    (await requests.enter(key)).end()


async def test_what_the_seat_refuses_does_not_count_for_the_key(requests: Requests) -> None:
    key, seat = replace(KEY, rpm=5), Allowance("account:1", "the account a", "account a", rpm=1)
    (await requests.enter(key, seat)).end()
    exchange = requests.new()
    await requests.gate.enter(exchange, [key])
    with pytest.raises(RateLimited) as refused:
        await requests.gate.enter(exchange, [seat], is_seat=True)
    assert "The account a" in refused.value.message
    assert len(requests.gate.local.subjects["key:1"].minute) == 1
    exchange.end()


async def test_the_retry_after_of_a_minute_is_true(requests: Requests) -> None:
    clock = [1000.0]
    requests.gate.local.clock = lambda: clock[0]
    key = replace(KEY, rpm=2)
    await requests.enter(key)
    clock[0] += 20
    await requests.enter(key)
    with pytest.raises(RateLimited) as refused:
        await requests.enter(key)
    wait_s = refused.value.retry_after_s or 0
    assert wait_s == pytest.approx(40, abs=0.01)
    clock[0] += wait_s - 1
    with pytest.raises(RateLimited):
        await requests.enter(key)
    began = clock[0]
    clock[0] += 1
    # The quarter of a second that the window is longer passes while the request waits.
    waiting = asyncio.ensure_future(requests.enter(key))
    await turn()
    clock[0] = began + 1.3
    await waiting


async def test_light_requests_are_counted_by_themselves_and_ten_times_as_many(
    requests: Requests,
) -> None:
    key = replace(KEY, rpm=1)
    await requests.enter(key)
    for _ in range(10):
        await requests.gate.enter(requests.new(), [key], is_light=True)
    with pytest.raises(RateLimited):
        await requests.gate.enter(requests.new(), [key], is_light=True)


# Budgets.


async def test_a_raise_counts_as_long_as_it_lasts(requests: Requests) -> None:
    soon = now() + timedelta(hours=1)
    raised = Budget("day", 100, (Raise(50, soon),))
    assert (raised.at(now()), raised.at(soon)) == (150, 100)
    key = replace(KEY, budgets=(raised,))
    record(120)
    await requests.enter(key)
    record(30)
    with pytest.raises(RateLimited) as refused:
        await requests.enter(key)
    assert refused.value.code == "insufficient_quota"
    assert refused.value.should_retry is False
    left_s = (end_of("day", now()) - now()).total_seconds()
    assert refused.value.retry_after_s == pytest.approx(left_s, abs=5)


async def test_a_budget_warns_and_tells_who_listens_once_a_level(requests: Requests) -> None:
    heard: list[Crossing] = []
    on_threshold.append(heard.append)
    try:
        key = replace(KEY, budgets=(Budget("week", 1000),), budget_is_hard=False)
        for nano in (400, 150, 10, 300, 500):
            exchange = await requests.enter(key)
            exchange.end(nano)
            record(nano)
        last = await requests.enter(key)
    finally:
        on_threshold.remove(heard.append)
    assert [(c.percent, c.spent) for c in heard] == [(50, 550), (80, 860), (100, 1360)]
    assert heard[0].begin == begin_of("week", now()).date()
    assert last.disclosed["x-gateway-budget"] == "key ci 136% of week"


def record(nano_aiu: int) -> None:
    """A request of key 1 that has ended now."""
    from usage.journal import Record

    record.count = getattr(record, "count", 0) + 1  # type: ignore[attr-defined]
    spend.add(
        Record(
            id=f"spent{record.count}", started_at=now(), outcome="completed",  # type: ignore[attr-defined]
            key_id=1, nano_aiu=nano_aiu,
        )
    )  # fmt: skip


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    friday = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert begin_of("week", friday) == datetime(2026, 11, 16, tzinfo=UTC)
    assert end_of("week", friday) == datetime(2026, 11, 23, tzinfo=UTC)
    assert end_of("month", datetime(2026, 12, 31, 23, tzinfo=UTC)) == datetime(
        2027, 1, 1, tzinfo=UTC
    )


# Ceilings.


@pytest.mark.parametrize(
    ("endpoint_format", "body", "efforts", "expected"),
    [
        (
            "messages",
            {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8000}},
            (),
            {"max_tokens": 100, "thinking": {"type": "enabled", "budget_tokens": 4096}},
        ),
        (
            "messages",
            {"max_tokens": 50, "output_config": {"effort": "max", "format": {}}},
            ("low", "medium", "high", "max"),
            {"max_tokens": 50, "output_config": {"effort": "low", "format": {}}},
        ),
        # Claude thinks hard when nobody says anything.
        (
            "messages",
            {"max_tokens": 50},
            ("low", "high"),
            {"max_tokens": 50, "output_config": {"effort": "low"}},
        ),
        ("responses", {}, (), {"max_output_tokens": 100}),
        (
            "chat_completions",
            {"max_completion_tokens": 101, "reasoning_effort": "xhigh"},
            ("medium", "high", "xhigh"),
            # The model has nothing as weak as the ceiling: its weakest.
            {"max_completion_tokens": 100, "reasoning_effort": "medium"},
        ),
        ("chat_completions", {"max_tokens": 7}, (), {"max_tokens": 7}),
    ],
)
def test_output_and_effort_are_lowered(
    requests: Requests,
    endpoint_format: str,
    body: dict[str, Any],
    efforts: tuple[str, ...],
    expected: dict[str, Any],
) -> None:
    limits = [replace(KEY, max_output_tokens=100), replace(KEY, subject="team:1", max_effort="low")]
    exchange = requests.new()
    ceilings.lower(exchange, body, endpoint_format, limits, efforts)
    assert body == expected


# Slow-down.


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    later = time.monotonic() + seconds
    monkeypatch.setattr("proxy.board.time", SimpleNamespace(monotonic=lambda: later))
    monkeypatch.setattr("proxy.slowdown.time", SimpleNamespace(monotonic=lambda: later))


def test_after_a_limit_requests_return_by_steps(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    account: Any = SimpleNamespace(id=7, login="octocat", allowance=None)

    def at_once() -> int:
        found = slowdown.allowances(account, "gpt-4.1")
        return found[0].concurrency if found else 0

    assert at_once() == 0
    slowdown.limited(7, 30)
    assert at_once() == 1
    assert [s[:2] for s in slowdown.by_account()[7]] == [("limited", 1)]
    slowdown.succeeded(7, "gpt-4.1")
    assert at_once() == 1, "that was under way before"
    pass_time(monkeypatch, 31)
    assert [s[:2] for s in slowdown.by_account()[7]] == [("recovering", 1)]
    steps = []
    while at_once():
        steps.append(at_once())
        slowdown.succeeded(7, "gpt-4.1")
    assert list(dict.fromkeys(steps)) == [1, 2, 4, 8, 16, 32]
    assert slowdown.by_account() == {}


def test_a_limit_of_one_model_slows_that_model_only(requests: Requests) -> None:
    own = Allowance("account:7", "the account octocat", "account octocat", concurrency=3)
    account: Any = SimpleNamespace(id=7, login="octocat", allowance=own)
    slowdown.limited(7, 30, "gpt-5.5")
    assert slowdown.allowances(account, "gpt-4.1") == (own,)
    mine, model = slowdown.allowances(account, "gpt-5.5")
    assert (mine.concurrency, model.concurrency) == (3, 1)
    slowdown.limited(7, 30)
    assert slowdown.allowances(account, "gpt-4.1")[0].concurrency == 1


# Fair shares.


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say what GitHub says of an account's five hours: percent left, hours until it begins anew."""

    def say(percent_left: float, hours_left: float) -> None:
        left = Left(percent_left, now(), now() + timedelta(hours=hours_left))
        monkeypatch.setitem(room._heard, (7, "session"), left)

    return say


def test_who_has_had_more_than_a_fair_share_waits_while_others_go_on(window: Any) -> None:
    shares = Shares({1: 900, 2: 100})
    # After one of five hours, 60 % are used.
    window(40, 4)
    wait_s = pacing.wait_for(7, "session", shares, 1, now())
    # 60 % of five hours, less what has passed and the slack.
    assert wait_s == pytest.approx((0.6 - 0.25) * 5 * 3600, abs=5)
    assert pacing.wait_for(7, "session", shares, 2, now()) == 0
    assert pacing.wait_for(7, "session", shares, 3, now()) == 0, "who has used nothing"
    later = now() + timedelta(seconds=wait_s + 1)
    assert pacing.wait_for(7, "session", shares, 1, later) == 0, "as it was told"


def test_nobody_waits_while_the_account_keeps_its_pace(window: Any) -> None:
    shares = Shares({1: 900, 2: 100})
    window(40, 2)
    assert pacing.wait_for(7, "session", shares, 1, now()) == 0
    window(60, 4.9)
    assert pacing.wait_for(7, "session", shares, 1, now()) == 0, "less than half is used"
    window(10, 300)
    assert pacing.wait_for(7, "session", shares, 1, now()) == 0, "no window of five hours"


def test_the_answer_says_whose_limit_it_is(
    requests: Requests, window: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    window(10, 4)
    account: Any = SimpleNamespace(id=7, login="octocat", allowance=None)
    monkeypatch.setattr(pacing.snapshot, "value", {(7, "session"): Shares({1: 90, 2: 10})})
    with pytest.raises(GatewayError) as refused:
        pacing.check(requests.new(), account)
    assert refused.value.code == "fair_share"
    assert "five-hour" in refused.value.message
    monkeypatch.setattr(pacing.snapshot, "value", {(7, "session"): Shares({1: 90})})
    pacing.check(requests.new(), account)


async def test_who_waits_for_an_account_goes_by_its_limit_of_now(requests: Requests) -> None:
    slow = Allowance("account:7", "the account octocat", "account octocat", concurrency=1)
    limits = [(slow,)]
    await requests.enter(slow)
    waiting = requests.new()
    task = asyncio.ensure_future(
        requests.gate.enter(waiting, (slow,), is_seat=True, current=lambda: limits[0])
    )
    await turn()
    assert requests.gate.waiting == 1
    limits[0] = ()
    requests.gate._wake(["account:7"])
    await asyncio.wait_for(task, 1)
    waiting.end()
    assert len(requests.gate.local.subjects["account:7"].held) == 1


async def test_a_key_that_is_revoked_while_it_waits_is_refused(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accounts.keys import KeyRing, ring

    monkeypatch.setattr(ring, "value", KeyRing())
    key = replace(KEY, concurrency=1)
    holder = await requests.enter(key)
    caller = SimpleNamespace(is_batch=False, member_id=1, key_id=1)
    waiting = asyncio.ensure_future(requests.enter(key, caller=caller))
    await turn()
    holder.end()
    with pytest.raises(GatewayError) as refused:
        await waiting
    assert refused.value.status == 401
    assert not requests.gate.local.subjects["key:1"].held


async def test_who_waits_for_an_account_that_github_limits_meanwhile_is_told_so(
    requests: Requests,
) -> None:
    seat = Allowance("account:7", "the account octocat", "account octocat", concurrency=1)
    holder = await requests.enter(seat)
    waiting = requests.new()
    await requests.gate.enter(waiting, [replace(KEY, rpm=5)])

    def limited() -> tuple[Allowance, ...]:
        raise RateLimited("The account octocat is cooling down.", retry_after_s=9)

    task = asyncio.ensure_future(
        requests.gate.enter(waiting, (seat,), is_seat=True, current=limited)
    )
    await turn()
    holder.end()
    with pytest.raises(RateLimited):
        await task
    assert requests.gate.waiting == 0
    assert requests.gate.local.subjects["account:7"].queue == []
    assert not requests.gate.local.subjects["key:1"].minute
