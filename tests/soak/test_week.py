"""A played-through week of a team: no limit exceeded, no seat used by anybody else.

`WEEK_REQUESTS=10000 WEEK_MEMBERS=50 pytest tests/soak/test_week.py` plays it at full size
(`make week`); the suite plays a smaller one.
"""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.soak.week import Week, most_at_once, most_within

REQUESTS = int(os.environ.get("WEEK_REQUESTS", "900"))
MEMBERS = int(os.environ.get("WEEK_MEMBERS", "20"))


@pytest.mark.team
@pytest.mark.timeout(1800)
def test_a_week_of_a_team_keeps_every_limit(
    new_team: Callable[..., Any], simulator: SimulatorThread
) -> None:
    team = new_team(processes=2)
    simulator.config(journal_requests=50_000)
    week = Week(team, simulator, members=MEMBERS, seed=7)

    played = week.play(REQUESTS)

    assert played.broken == []
    statuses = Counter(status for (_, status), n in played.statuses.items() for _ in range(n))
    assert set(statuses) <= {200, 429}, statuses
    # Both sides of the limits were seen.
    assert statuses[200] > REQUESTS / 10
    assert statuses[429] > 0
    assert team.wait_for(lambda: len(week.records()) == REQUESTS, 30), len(week.records())
    assert week.wrong_seats() == []
    assert week.beyond_rate() == []
    assert week.beyond_concurrency() == []
    assert week.overdrawn() == []
    # What the simulator charged is what is recorded, to the unit.
    ledger = simulator.ledger()["accounts"]
    charged = {
        login: sum(sums["nano_aiu"] for sums in models.values()) for login, models in ledger.items()
    }
    recorded: Counter[str] = Counter()
    for row in week.records():
        recorded[row["account"]] += row["nano_aiu"]
    assert {k: v for k, v in recorded.items() if v} == {k: v for k, v in charged.items() if v}


def test_the_measures_themselves() -> None:
    assert most_within([0, 10, 59.9, 60.1], 60) == 3
    assert most_within([], 60) == 0
    assert most_at_once([(0, 2), (1, 3), (2.5, 4)]) == 2
    assert most_at_once([(0, 1), (1, 2)]) == 1
