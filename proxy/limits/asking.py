"""What is asked of the limits, and what they answer: the same for both places that count."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Literal, NamedTuple

from msgspec import Struct

from accounts.limits import Allowance, Budget, Period, first_day_of

# A little more than a minute: between the gate and the upstream requests are not all as quick, and
# nobody's clock may see more than the limit within sixty seconds. Who comes back after exactly a minute
# waits for that little more.
GRACE_S = 0.25
WINDOW_S = 60 + GRACE_S
# A process renews what it holds every third of it; what a killed one held is free after it.
LEASE_S = 15.0
# Who waits is tried again at least this often; who was not seen for so long has died.
UNSEEN_S = 5.0
# Embeddings and token counts are light: counted by themselves, and so many times as many may go.
LIGHT_FACTOR = 10

Kind = Literal["rpm", "tpm", "tokens", "concurrency", "budget", "estimate"]
# Nano-AIU of a subject in the present period: subject, period -> as far as this process knows.
Spent = Callable[[str, Period], int]


class Room(NamedTuple):
    """What one subject has room for, as it is counted: `name` is the counter."""

    name: str
    rpm: int
    tpm: int
    concurrency: int
    budgets: tuple["Ceiling", ...]


class Ceiling(NamedTuple):
    """A budget in its present period. `limit` is 0 where it only warns."""

    counter: str
    limit: int
    known: int


class Ask(Struct, eq=False):
    """One request at the gate. `tokens` and `nano_aiu` are estimates, 0 when unknown."""

    id: str
    allowances: tuple[Allowance, ...]
    rooms: tuple[Room, ...]
    is_batch: bool = False
    is_light: bool = False
    counts_spend: bool = True
    tokens: int = 0
    nano_aiu: int = 0
    queue_limit: int = 0


class Verdict(NamedTuple):
    """`granted`, `queued` or `refused` by `kind` of the subject with that index, free in
    `wait_s`.

    `value` is what stands there already (requests, tokens, nano-AIU), `which` the index of the budget;
    `spent` has the counter of each budget, in the order of the rooms.
    """

    outcome: Literal["granted", "queued", "refused"]
    kind: Kind = "rpm"
    subject: int = 0
    which: int = 0
    wait_s: float = 0.0
    value: int = 0
    spent: tuple[int, ...] = ()


def room_of(one: Allowance, *, is_light: bool, spent: Spent | None, moment: datetime) -> Room:
    """`spent` is None where what the request costs is not counted."""
    budgets = () if spent is None else tuple(_ceiling(one, b, spent, moment) for b in one.budgets)
    if is_light:
        return Room(
            one.subject + ":light",
            one.rpm * LIGHT_FACTOR,
            one.tpm * LIGHT_FACTOR,
            one.concurrency * LIGHT_FACTOR,
            budgets,
        )
    return Room(one.subject, one.rpm, one.tpm, one.concurrency, budgets)


@lru_cache(maxsize=4096)
def _counter(subject: str, period: Period, today: date) -> str:
    return f"{subject}:{period}:{first_day_of(period, today):%Y-%m-%d}"


def _ceiling(one: Allowance, budget: Budget, spent: Spent, moment: datetime) -> Ceiling:
    return Ceiling(
        _counter(one.subject, budget.period, moment.astimezone(UTC).date()),
        budget.at(moment) if one.budget_is_hard else 0,
        spent(one.subject, budget.period),
    )
