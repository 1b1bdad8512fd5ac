"""Mixed clients and random faults for a while; at the end nothing is lost and nothing has grown.

`make soak` runs it for half an hour (SOAK_S=1800); the suite for half a minute.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.soak.load import Clients

SOAK_S = float(os.environ.get("SOAK_S", "20"))
# Faults so many times as often as in reality, so that a short run meets some.
FACTOR = 1.0 if SOAK_S >= 600 else 10.0
KILL_EVERY_S = 20.0 if SOAK_S >= 600 else 6.0
# A seat of the organisation's, whose credits last for half an hour of this.
ENDLESS = "ghu_mona"
SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "nano_aiu")


@pytest.fixture
def soaking() -> Iterator[SimulatorThread]:
    with SimulatorThread(journal_requests=2_000_000) as simulator:
        yield simulator


def memory_mib(pid: int) -> float:
    """Memory that belongs to the process alone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.M)) / 1024


def files_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def recorded(rows: list[dict[str, Any]]) -> dict[str, int]:
    exact = [row for row in rows if row["cost_source"] == "exact"]
    return {name: sum(row[name] for row in exact) for name in SUMS}


def charged(simulator: SimulatorThread) -> int:
    return int(simulator.ledger()["total_nano_aiu"])


@pytest.mark.timeout(7200)
def test_p15_a_soak_loses_nothing_and_grows_nothing(
    soaking: SimulatorThread, tmp_path: Path
) -> None:
    gateway = Gateway(
        tmp_path / "data",
        soaking.url,
        ("--github-token", ENDLESS),
        {"GATEWAY_HEARTBEAT_S": "1", "GATEWAY_IDLE_TIMEOUT_S": "5", "GATEWAY_DRAIN_S": "5"},
    )
    try:
        gateway.wait_signed_in()
        pid = gateway.process.pid
        warm = Clients(lambda: [gateway.url], "", threads=12, seed=1)
        warm.start()
        time.sleep(min(60.0, max(5.0, SOAK_S / 10)))
        warm.stop()
        before, files = memory_mib(pid), files_of(pid)

        soaking.soak(FACTOR)
        clients = Clients(lambda: [gateway.url], "", threads=12, seed=100)
        clients.start()
        time.sleep(SOAK_S)
        clients.stop()
        soaking.clear()
        assert soaking.wait_closed(10), "streams are still open upstream"

        asked = warm.total + clients.total
        rows = gateway.wait_for_records(asked)
        # One record for each request that an answer or a hang-up ended; a client that broke off
        # before its head was read has none, and no other is missing.
        broken = sum(warm.broken.values()) + sum(clients.broken.values())
        assert asked - broken <= len(rows) <= asked, (len(rows), asked, broken)
        assert len({row["id"] for row in rows}) == len(rows)
        told = Counter(str(row["status"]) for row in rows)
        assert set(told) <= {"200", "400", "413", "429", "500", "502", "503", "504", "None"}, told
        # Whatever the upstream told us it charged is recorded to the unit.
        assert recorded(rows)["nano_aiu"] == told_by(soaking, rows)
        assert "Traceback" not in gateway.text, gateway.text[-4000:]
        assert gateway.wait_for(lambda: files_of(pid) <= files + 25, 20), files_of(pid)
        grown = memory_mib(pid) - before
        assert grown < 40, f"{grown:.0f} MiB more than {before:.0f}"
    finally:
        gateway.stop()


def told_by(simulator: SimulatorThread, rows: list[dict[str, Any]]) -> int:
    """What the simulator charged for the requests whose cost it could tell us to the end."""
    ids = {row["upstream_request_id"] for row in rows if row["cost_source"] == "exact"}
    return sum(
        line["nano_aiu"] for line in simulator.ledger()["requests"] if line["request_id"] in ids
    )


@pytest.mark.team
@pytest.mark.timeout(7200)
def test_p01_p09_gateways_that_are_killed_lose_no_record(new_team: Callable[..., Any]) -> None:
    """Two gateways on one PostgreSQL and Redis, one killed every so often under load."""
    team = new_team(processes=2, token=ENDLESS)
    key = team.new_key()
    alive = list(team.gateways)
    clients = Clients(lambda: [g.url for g in alive], key, threads=10, seed=1)
    clients.start()
    end = time.monotonic() + SOAK_S
    killed = 0
    while time.monotonic() < end:
        time.sleep(min(KILL_EVERY_S, max(0.1, end - time.monotonic())))
        victim = team.gateways[killed % 2]
        alive[:] = [g for g in team.gateways if g is not victim]
        victim.kill()
        killed += 1
        victim.start()
        alive[:] = list(team.gateways)
    clients.stop()
    assert killed >= 2
    # Nobody saw anything but streams of their own that broke.
    assert set(clients.statuses) <= {"200", "400", "429", "502", "503", "504"}, clients.statuses
    assert clients.statuses["200"] > 20
    served = sum(clients.statuses.values())
    rows = team.wait_for(lambda: _settled(team, served), 60)
    assert rows, (len(team.records()), served)
    assert len({row["id"] for row in rows}) == len(rows)
    cut = [row for row in rows if row["outcome"] == "interrupted"]
    assert len(cut) <= sum(clients.broken.values()) + 10 * killed


def _settled(team: Any, served: int) -> list[dict[str, Any]]:
    """All records, once there are as many as were served and none is waiting any more."""
    rows: list[dict[str, Any]] = team.records()
    return rows if len(rows) >= served else []
