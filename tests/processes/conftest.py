"""Gateways that tests of this folder break and leave whole again, so that they start once."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.team import Redis, Team


def until_settled(records: Callable[[], list[Any]]) -> None:
    """Wait for the records of the test before: nothing arrives for twice the writer's pause."""
    known, deadline = -1, time.monotonic() + 30
    while known != (known := len(records())) and time.monotonic() < deadline:
        time.sleep(0.9)


def alive(gateway: Gateway) -> None:
    """Start it again where a test that failed has left it dead: the others fail by themselves only."""
    if gateway.process.poll() is not None:
        gateway.output.clear()
        gateway.start()


@pytest.fixture(scope="session")
def lasting_solo(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("broken") / "data",
        shared_simulator.url,
        ("--github-token", "ghu_octocat"),
        {"GATEWAY_DRAIN_S": "2", "GATEWAY_HEARTBEAT_S": "0.5"},
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture
def solo(lasting_solo: Gateway, simulator: SimulatorThread) -> Gateway:
    """A gateway alone, on SQLite. It may be killed and started again."""
    alive(lasting_solo)
    until_settled(lasting_solo.records)
    return lasting_solo


@pytest.fixture(scope="session")
def lasting_pair(
    team_servers: Any, shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Team, str]]:
    postgres, template = team_servers
    redis = Redis()
    team = Team(
        postgres, redis, shared_simulator, tmp_path_factory.mktemp("pair"), template=template
    )
    yield team, team.new_keys(pair={})["pair"]
    team.close()
    redis.close()


@pytest.fixture
def pair(lasting_pair: tuple[Team, str], simulator: SimulatorThread) -> Team:
    """Two gateways on PostgreSQL and Redis, without a Celery worker. Both may be taken from them."""
    team = lasting_pair[0]
    for gateway in team.gateways:
        alive(gateway)
    until_settled(team.records)
    return team


@pytest.fixture
def key(lasting_pair: tuple[Team, str]) -> str:
    """An API key of the pair's."""
    return lasting_pair[1]
