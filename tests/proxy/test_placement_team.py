"""Placement over several processes: they agree on the seat of a conversation, and keep it."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.proxy.seats import MAKE, ask, register

pytestmark = pytest.mark.team
LOGINS = ("team-a", "team-b", "team-c")


@pytest.fixture(scope="module")
def key(shared_team: Any, shared_simulator: SimulatorThread) -> str:
    """A key of a pool of three seats."""
    register(shared_simulator, *LOGINS)
    pools = {"shared seats": {"seats": dict.fromkeys(LOGINS, 1)}}
    code = MAKE % json.dumps({"accounts": LOGINS, "pools": pools})
    done = shared_team.manage("shell", "--no-imports", "-c", code)
    shared_team.settle()
    return str(json.loads(done.stdout.rpartition("@@")[2])["shared seats"])


def unique(words: str) -> str:
    return f"{words} {time.monotonic_ns()}"


def seats_of(simulator: SimulatorThread, text: str) -> set[str | None]:
    """The seats that requests with this text went to."""
    return {one.login for one in simulator.generations if text.encode() in one.body}


def test_processes_that_meet_a_conversation_at_once_agree(
    team: Any, key: str, simulator: SimulatorThread
) -> None:
    register(simulator, *LOGINS)
    topics = [unique(f"topic {n}") for n in range(12)]

    def both(text: str) -> list[int]:
        with ThreadPoolExecutor(6) as threads:
            answers = threads.map(
                lambda n: ask(team.gateways[n % 2], key, text).status_code, range(6)
            )
            return list(answers)

    for text in topics:
        assert both(text) == [200] * 6
        assert len(seats_of(simulator, text)) == 1
    used = Counter(next(iter(seats_of(simulator, text))) for text in topics)
    assert len(used) > 1


def test_a_conversation_is_kept_by_a_process_that_begins_later(
    team: Any, key: str, simulator: SimulatorThread
) -> None:
    register(simulator, *LOGINS)
    topics = [unique(f"kept {n}") for n in range(6)]
    for text in topics:
        assert ask(team.gateways[0], key, text).status_code == 200
    before = {text: seats_of(simulator, text) for text in topics}

    team.gateways[1].kill()
    team.gateways[1].start()

    for text in topics:
        assert ask(team.gateways[1], key, text, "an answer", "go on").status_code == 200
        assert seats_of(simulator, text) == before[text]


def test_a_lost_redis_loses_no_conversation(new_team: Any, simulator: SimulatorThread) -> None:
    team = new_team(processes=1)
    register(simulator, *LOGINS)
    pools = {"shared seats": {"seats": dict.fromkeys(LOGINS, 1)}}
    done = team.manage(
        "shell", "--no-imports", "-c", MAKE % json.dumps({"accounts": LOGINS, "pools": pools})
    )
    key = str(json.loads(done.stdout.rpartition("@@")[2])["shared seats"])
    team.settle()
    topics = [unique(f"lost {n}") for n in range(6)]
    for text in topics:
        assert ask(team.gateways[0], key, text).status_code == 200
    before = {text: seats_of(simulator, text) for text in topics}
    assert team.wait_for(
        lambda: len(team.query("SELECT 1 FROM proxy_conversationseat")) >= len(topics)
    )

    team.redis.restart()
    team.gateways[0].kill()
    team.gateways[0].start()

    for text in topics:
        assert ask(team.gateways[0], key, text, "an answer", "go on").status_code == 200
        assert seats_of(simulator, text) == before[text]


def test_a_freeze_in_one_process_holds_in_the_other(
    team: Any, key: str, simulator: SimulatorThread
) -> None:
    register(simulator, *LOGINS)
    text = unique("abuse")
    assert ask(team.gateways[0], key, text).status_code == 200
    (login,) = seats_of(simulator, text)
    simulator.play("forbidden_abuse", match={"login": login})
    assert ask(team.gateways[0], key, text, "an answer", "go on").status_code == 403
    frozen_at = time.monotonic()
    while ask(team.gateways[1], key, text, "an answer", "go on").status_code != 503:
        assert time.monotonic() - frozen_at < 2.5
    asked = len(simulator.generations)

    for number in range(8):
        ask(team.gateways[number % 2], key, unique(f"new {number}"))
        assert ask(team.gateways[number % 2], key, text, "an answer", "go on").status_code == 503

    assert login not in {one.login for one in simulator.generations[asked:]}
    team.shell(
        "from accounts import states\nfrom accounts.models import Account\n"
        f"states.set_state(Account.objects.get(login={login!r}), 'active', '', None, 'tests')"
    )
    team.settle()
