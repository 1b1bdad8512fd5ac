"""Approvals with two gateways on PostgreSQL and Redis: one queue, whoever holds the request."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.proxy.approving import Queue, signed_in

pytestmark = pytest.mark.team
BODY = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def asking_team(
    team_servers: Any,
    shared_simulator: SimulatorThread,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """A team whose every request is asked about."""
    from tests.team import Redis, Team

    postgres, template = team_servers
    redis = Redis()
    team = Team(
        postgres,
        redis,
        shared_simulator,
        tmp_path_factory.mktemp("asking"),
        "--manual",
        template=template,
        GATEWAY_APPROVAL_TIMEOUT_S="30",
    )
    yield team
    team.close()
    redis.close()


@pytest.fixture(scope="module")
def key(asking_team: Any) -> str:
    return str(asking_team.new_key())


@pytest.fixture(scope="module")
def elsewhere(asking_team: Any) -> Iterator[Queue]:
    """The owner on the second gateway's page."""
    with signed_in(asking_team.gateways[1]) as queue:
        yield queue


def test_who_decides_on_another_gateway_is_heard_at_once(
    asking_team: Any, key: str, elsewhere: Queue, simulator: SimulatorThread
) -> None:
    with asking_team.client(0, key) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, PATH, json=BODY)
        waiting = elsewhere.first()
        token = elsewhere.token()
        elsewhere.client.post(
            f"/dashboard/approvals/{waiting}/",
            data={"csrfmiddlewaretoken": token, "decision": "approve", "scope": "once"},
        )
        decided = time.monotonic()
        assert answer.result(10).status_code == 200
        assert time.monotonic() - decided < 1

        answer = pool.submit(client.post, PATH, json=BODY)
        elsewhere.decide("refuse")
        assert answer.result(10).status_code == 403


def test_a_scope_is_valid_in_every_process_at_once(
    asking_team: Any, key: str, elsewhere: Queue, simulator: SimulatorThread
) -> None:
    body = {**BODY, "messages": [{"role": "user", "content": "Of one conversation"}]}
    with (
        asking_team.client(0, key) as one,
        asking_team.client(1, key) as two,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(one.post, PATH, json=body)
        elsewhere.decide("approve", "conversation")
        assert answer.result(10).status_code == 200
        for client in (two, one, two):
            assert client.post(PATH, json=body).status_code == 200
    assert elsewhere.ids() == []


def test_of_two_people_on_two_gateways_one_decides(
    asking_team: Any, key: str, elsewhere: Queue, simulator: SimulatorThread
) -> None:
    admin = asking_team.new_key("--admin", name="deciding")
    with (
        asking_team.client(0, key) as client,
        asking_team.client(0, admin) as one,
        asking_team.client(1, admin) as two,
        ThreadPoolExecutor(9) as pool,
    ):
        answer = pool.submit(client.post, PATH, json=BODY)
        address = f"/api/approvals/{elsewhere.first()}"
        decisions = [
            pool.submit(
                (one, two)[number % 2].post,
                address,
                json={"decision": ("approve", "refuse")[number // 2 % 2]},
            )
            for number in range(8)
        ]
        done = [decision.result() for decision in decisions]
        won = [one for one in done if one.status_code == 200]
        assert len(won) == 1
        assert {one.status_code for one in done} == {200, 409}
        expected = 200 if won[0].json()["state"] == "approved" else 403
        assert answer.result(10).status_code == expected


def test_without_redis_decisions_are_heard_by_looking(
    asking_team: Any, key: str, elsewhere: Queue, simulator: SimulatorThread
) -> None:
    asking_team.redis.stop()
    try:
        with asking_team.client(0, key) as client, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.post, PATH, json=BODY)
            row = asking_team.wait_for(
                lambda: asking_team.query("SELECT id FROM proxy_approval WHERE state='waiting'")
            )[0]
            # Pages need Redis for nothing that matters here; the API decides by the database alone.
            asking_team.query(
                "UPDATE proxy_approval SET state='approved', decided_at=now() WHERE id=%s",
                row["id"],
            )
            assert answer.result(10).status_code == 200
    finally:
        asking_team.redis.start()


def test_what_a_killed_gateway_held_is_refused_by_the_others(
    new_team: Callable[..., Any], simulator: SimulatorThread
) -> None:
    team = new_team("--manual", GATEWAY_APPROVAL_TIMEOUT_S="60")
    key = team.new_key()
    with (
        signed_in(team.gateways[1]) as elsewhere,
        team.client(0, key) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.post, PATH, json=BODY)
        waited = elsewhere.first()
        team.gateways[0].kill()
        with contextlib.suppress(httpx.HTTPError):
            answer.result(10)
        assert team.wait_for(
            lambda: team.query("SELECT 1 FROM proxy_approval WHERE id=%s AND state='lost'", waited),
            18,
        )
        assert elsewhere.ids() == []
    assert not simulator.generations
