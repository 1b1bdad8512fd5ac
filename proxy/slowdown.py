"""Slower after GitHub has said 429: normal, limited, recovering, normal again.

While a limit lasts nothing is sent (the account or model cools down). After it one request at a time
may go, then two, four and so on: twice as many when half as many as may go at once have been accepted,
until it is as before. Another 429 begins anew. All processes go by the same step, see `proxy.board`.
"""

import asyncio
import time
import uuid
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis

from accounts.book import AccountView
from accounts.limits import Allowance
from proxy import shared
from proxy.board import board, look

# Where the steps end: nobody's account has more in flight.
MOST_AT_ONCE = 32
# Without a request the caution ends by itself.
FORGET_S = 900.0
State = Literal["limited", "recovering"]


class Slow(NamedTuple):
    """`at_once` requests may be in flight; None while none may. `model` is empty for the account."""

    state: State
    at_once: int
    model: str


def _name(account_id: int, model: str) -> str:
    return f"slow:{account_id}:{model}"


def limited(account_id: int, wait_s: float, model: str = "") -> None:
    """GitHub has limited the account, or this model of it, for `wait_s`."""
    fact = {"at_once": 1, "succeeded": 0, "id": uuid.uuid4().hex[:12]}
    board.put(_name(account_id, model), fact, wait_s + FORGET_S)


def succeeded(account_id: int, model: str) -> None:
    """GitHub has served a request: a step back towards normal, if there is a way to go."""
    if not board.facts:
        return
    for scope in ("", model):
        name = _name(account_id, scope)
        if (fact := board.get(name)) is None or _is_limited(board.left_s(name)):
            # What was under way when the limit came says nothing of the time after it.
            continue
        if shared.client() is None:
            _step(name, fact, int(fact["succeeded"]) + 1)
            continue
        task = asyncio.get_running_loop().create_task(_step_together(name, fact))
        _steps.add(task)
        task.add_done_callback(_steps.discard)


_steps: set[asyncio.Task[None]] = set()


async def _step_together(name: str, fact: dict[str, Any]) -> None:
    """Count the success over all processes: each step is taken by whoever completes it."""
    counter = f"{shared.PREFIX}{name}:{fact['id']}:{fact['at_once']}"

    async def count(redis: Redis) -> int:
        done = int(await redis.incr(counter))
        await redis.expire(counter, int(FORGET_S))
        return done

    done = await shared.attempt(count, 0)
    if done == _needed(int(fact["at_once"])):
        _step(name, fact, done)


def _is_limited(left_s: float) -> bool:
    # A sum of times is off by a little.
    return left_s > FORGET_S + 0.001


def _needed(at_once: int) -> int:
    # Half of them: the other half may be long streams of the step before.
    return max(1, at_once // 2)


def _step(name: str, fact: dict[str, Any], done: int) -> None:
    at_once = int(fact["at_once"])
    if done < _needed(at_once):
        board.put(name, {**fact, "succeeded": done}, FORGET_S)
    elif at_once * 2 > MOST_AT_ONCE:
        board.remove(name)
    else:
        board.put(name, {**fact, "at_once": at_once * 2, "succeeded": 0}, FORGET_S)


def allowances(account: AccountView, model: str) -> tuple[Allowance, ...]:
    """The account's limits, and as slow as GitHub wants it now."""
    own = account.allowance
    if not board.facts:
        return () if own is None else (own,)
    who, name = f"the account {account.login}", f"account {account.login}"
    if (fact := board.get(_name(account.id, ""))) is not None:
        own = own or Allowance(f"account:{account.id}", who, name)
        at_once = int(fact["at_once"])
        own = replace(own, concurrency=min(at_once, own.concurrency or at_once))
    found = [] if own is None else [own]
    if (fact := board.get(_name(account.id, model))) is not None:
        found.append(
            Allowance(
                f"account:{account.id}:{model}",
                f"{model} on {who}",
                f"{model} on {name}",
                concurrency=int(fact["at_once"]),
            )
        )
    return tuple(found)


def by_account() -> dict[int, list[Slow]]:
    """How slow accounts are, for pages; those that are as ever are missing. It may wait."""
    found: dict[int, list[Slow]] = {}
    for name, fact in look().items():
        kind, _, rest = name.partition(":")
        number, _, model = rest.partition(":")
        if kind != "slow" or not number.isdecimal():
            continue
        limited_still = _is_limited(fact.until - time.monotonic())
        state: State = "limited" if limited_still else "recovering"
        slow = Slow(state, int(fact.value["at_once"]), model)
        found.setdefault(int(number), []).append(slow)
    return found
