"""Two gateways on one PostgreSQL and Redis, each of which goes away, hangs and comes back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.conftest import ROOT, Gateway
from tests.processes.observing import CHAT, KINDS, Stream, chat, signed_in
from tests.team import Postgres, Team

pytestmark = pytest.mark.team
PAGES = (
    "/dashboard/",
    "/dashboard/accounts/",
    "/dashboard/keys/",
    "/dashboard/health/",
    "/dashboard/live/",
    "/dashboard/requests/",
    "/dashboard/models/",
    "/dashboard/members/",
    "/dashboard/approvals/",
    "/dashboard/notifications/",
    "/dashboard/reports/",
    "/dashboard/pools/",
    "/admin/",
)


def begin_of(team: Team) -> set[str]:
    return {r["id"] for r in team.records()}


def arrived(
    team: Team, before: set[str], count: int, seconds: float = 40
) -> list[dict[str, object]]:
    """The new records, once there are `count`; none is there twice, and the sums agree."""

    def new() -> list[dict[str, object]]:
        return [r for r in team.records() if r["id"] not in before]

    team.wait_for(lambda: len(new()) >= count, seconds)
    found = new()
    assert len(found) == count
    [sums] = team.query("SELECT coalesce(sum(requests), 0) AS n FROM usage_rollup")
    assert sums["n"] == len(team.records())
    return found


def ask_both(team: Team, key: str) -> int:
    """One request of each kind to each gateway; how many that were."""
    asked = 0
    for number in range(len(team.gateways)):
        with team.client(number, key) as client:
            for path, body in KINDS:
                began = time.monotonic()
                answer = client.post(path, json=body)
                assert answer.status_code == 200, team.gateways[number].text[-3000:]
                assert time.monotonic() - began < 10
                asked += 1
    return asked


def is_ready(gateway: Gateway) -> bool:
    with gateway.client() as client:
        return client.get("/readyz").status_code == 200


@contextmanager
def postgres_away(team: Team) -> Iterator[None]:
    team.postgres.stop()
    try:
        yield
    finally:
        team.postgres.start()
        for gateway in team.gateways:
            gateway.wait_for(partial(is_ready, gateway), 30)
            assert is_ready(gateway)


def drip(seconds: float) -> str:
    return f"hi [[drip chunks={int(seconds * 10)} delay=0.1]]"


def test_p02_p18_streams_and_known_keys_outlive_a_database_that_is_away(
    pair: Team, key: str
) -> None:
    before = begin_of(pair)
    with pair.client(0, key) as one, pair.client(1, key) as other:
        streams = [Stream(client, drip(8)) for client in (one, other) for _ in range(3)]
        assert all(stream.begun.wait(20) for stream in streams)
        with postgres_away(pair):
            asked = ask_both(pair, key)
            for gateway in pair.gateways:
                with gateway.client() as client:
                    assert client.get("/healthz").status_code == 200
                    ready = client.get("/readyz")
                    assert ready.status_code == 503
                    assert ready.json()["checks"] == {"database": False, "accepting": True}
                    # A key that memory does not know cannot be looked up.
                    unknown = client.post(
                        CHAT, json=chat(), headers={"authorization": "Bearer cgw_" + "x" * 43}
                    )
                    assert unknown.status_code in (401, 503)
            assert all(stream.is_whole for stream in streams), streams
    found = arrived(pair, before, asked + len(streams))
    assert {r["outcome"] for r in found} == {"completed"}
    for gateway in pair.gateways:
        assert "usage records wait for the database" in gateway.text
        assert "Traceback" not in gateway.text


def test_p01_p02_what_was_killed_while_the_database_was_away_is_stored_afterwards(
    pair: Team, key: str
) -> None:
    before = begin_of(pair)
    victim = pair.gateways[1]
    with pair.client(1, key) as client:
        stream = Stream(client, drip(30))
        assert stream.begun.wait(20)
        with postgres_away(pair):
            for path, body in KINDS:
                assert client.post(path, json=body).status_code == 200
            victim.kill()
            stream.join(20)
            assert not stream.is_whole
            # Its port stays shut; the other one serves.
            with pair.client(0, key) as other:
                assert other.post(CHAT, json=chat()).status_code == 200
            pair.gateways.remove(victim)
    pair.gateways.append(victim)
    victim.output.clear()
    victim.start()
    found = arrived(pair, before, len(KINDS) + 2)
    outcomes = sorted(str(r["outcome"]) for r in found)
    assert outcomes == ["completed"] * (len(KINDS) + 1) + ["interrupted"]


def test_p01_what_a_killed_process_left_is_stored_by_another_on_the_same_folder(
    pair: Team, key: str
) -> None:
    before = begin_of(pair)
    shared = pair.gateways[0].data_dir
    third = Gateway(shared, pair.simulator.url, ("--require-keys",), pair.environment)
    with third.client(headers={"x-api-key": key}) as client:
        streams = [Stream(client, drip(30)) for _ in range(5)]
        assert all(stream.begun.wait(20) for stream in streams)
        third.kill()
        assert not any(stream.is_whole for stream in streams)
    found = arrived(pair, before, len(streams))
    assert {r["outcome"] for r in found} == {"interrupted"}


def processes_of(postgres: Postgres) -> list[int]:
    assert postgres.process is not None
    parent = postgres.process.pid
    found = [parent]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def test_p02_p18_a_database_that_hangs_holds_no_request_up(pair: Team, key: str) -> None:
    before = begin_of(pair)
    frozen = processes_of(pair.postgres)
    for pid in frozen:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        asked = ask_both(pair, key)
        with pair.client(0) as client:
            assert client.get("/healthz").status_code == 200
            began = time.monotonic()
            assert client.get("/readyz").status_code == 503
            assert time.monotonic() - began < 6
        # Nor does it hold up a stop, also when a key was looked up in it; what could not be stored stays
        # in the journal.
        stopping = pair.gateways[1]
        with stopping.client(headers={"authorization": "Bearer cgw_" + "y" * 43}) as client:
            assert client.post(CHAT, json=chat()).status_code == 503
        stopping.process.send_signal(signal.SIGTERM)
        assert stopping.process.wait(45) == 0
        stopping._close()
    finally:
        for pid in frozen:
            # One that was ending when it was stopped ends now.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert "Traceback" not in stopping.text, stopping.text[-3000:]
    stopping.output.clear()
    stopping.start()
    arrived(pair, before, asked)


def test_p04_a_database_that_may_only_be_read_delays_records_and_loses_none(
    pair: Team, key: str
) -> None:
    before = begin_of(pair)

    def read_only(word: str) -> None:
        with psycopg.connect(pair.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(
                f'ALTER DATABASE "{pair.database}" SET default_transaction_read_only = {word}'
            )
            # Open connections keep the old setting.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [pair.database],
            )

    read_only("on")
    try:
        asked = ask_both(pair, key)
        time.sleep(1.5)
        assert begin_of(pair) == before
        # Who waits for the database is told, whoever only asks is served.
        with pair.client(0, key) as client:
            assert client.get("/readyz").status_code == 200
    finally:
        read_only("off")
    arrived(pair, before, asked)
    assert not [g for g in pair.gateways if "Traceback" in g.text]


def test_p12_p21_a_schema_that_lags_behind_costs_no_answer_and_no_record(
    pair: Team, key: str
) -> None:
    """As in an upgrade: a process of the new release runs before the schema is brought up to date."""
    before = begin_of(pair)
    pair.query("ALTER TABLE usage_usagerecord RENAME COLUMN estimated_nano_aiu TO not_yet_there")
    try:
        asked = ask_both(pair, key)
        time.sleep(1)
        assert begin_of(pair) == before
    finally:
        pair.query(
            "ALTER TABLE usage_usagerecord RENAME COLUMN not_yet_there TO estimated_nano_aiu"
        )
    found = arrived(pair, before, asked)
    assert {r["outcome"] for r in found} == {"completed"}


def test_p12_a_schema_that_is_ahead_is_served_by_the_older_release(pair: Team, key: str) -> None:
    """In a rolling upgrade the older processes go on: releases only add what older ones leave out."""
    before = begin_of(pair)
    pair.query(
        "ALTER TABLE usage_usagerecord ADD COLUMN of_the_next_release integer NULL;"
        "ALTER TABLE accounts_apikey ADD COLUMN of_the_next_release text DEFAULT '' NOT NULL;"
        "INSERT INTO django_migrations (app, name, applied)"
        " VALUES ('usage', '9999_next_release', now())"
    )
    try:
        asked = ask_both(pair, key)
        made = pair.new_key(name="while-upgrading")
        with pair.client(1, made) as client:
            assert client.post(CHAT, json=chat()).status_code == 200
        # A process of this release that starts again changes nothing of the newer schema.
        pair.gateways[1].stop()
        pair.gateways[1].output.clear()
        pair.gateways[1].start()
        with pair.client(1, key) as client:
            assert client.post(CHAT, json=chat()).status_code == 200
        arrived(pair, before, asked + 2)
    finally:
        pair.query(
            "ALTER TABLE usage_usagerecord DROP COLUMN of_the_next_release;"
            "ALTER TABLE accounts_apikey DROP COLUMN of_the_next_release;"
            "DELETE FROM django_migrations WHERE name = '9999_next_release'"
        )


SEND_TASK = """
import time
from kombu.exceptions import OperationalError
from accounts.tasks import refresh_account
began = time.monotonic()
try:
    refresh_account.delay(0)
    print("sent")
except OperationalError:
    print("refused" if time.monotonic() - began < 20 else "refused late")
"""


def watch_live(gateway: Gateway, session: str) -> None:
    """The live page's socket says what it knows, or ends; it never hangs."""
    address = f"ws://127.0.0.1:{gateway.port}/ws/live/"
    headers = {"Cookie": f"gateway_session={session}"}
    with (
        suppress(WebSocketException, OSError),
        connect(
            address, origin=Origin(gateway.url), additional_headers=headers, open_timeout=15
        ) as socket,
    ):
        socket.recv(timeout=10)


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_p05_without_redis_requests_and_pages_go_on(pair: Team, key: str, how: str) -> None:
    before = begin_of(pair)
    gateway = pair.gateways[0]
    with signed_in(gateway) as browser, pair.client(1, key) as client:
        for page in PAGES:
            assert browser.get(page).status_code == 200, page
        stream = Stream(client, drip(5))
        assert stream.begun.wait(20)
        if how == "stopped":
            pair.redis.stop()
        else:
            pair.redis.freeze()
        try:
            asked = ask_both(pair, key)
            began = time.monotonic()
            for page in PAGES:
                assert browser.get(page).status_code == 200, page
            assert time.monotonic() - began < 30
            health = browser.get("/dashboard/health/")
            assert "away" in health.text
            # Somebody else signs in, and fails to.
            with gateway.client() as stranger:
                form = stranger.get("/dashboard/sign-in/")
                assert form.status_code == 200
                token = form.text.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
                wrong = stranger.post(
                    "/dashboard/sign-in/",
                    data={"username": "nobody", "password": "wrong", "csrfmiddlewaretoken": token},
                    headers={"origin": gateway.url},
                )
                assert wrong.status_code in (200, 401, 403), wrong.status_code
            watch_live(gateway, browser.cookies["gateway_session"])
            broker = pair.manage("shell", "--no-imports", "-c", SEND_TASK)
            assert broker.stdout.split()[-1] == "refused"
            assert stream.is_whole
        finally:
            if how == "stopped":
                pair.redis.start()
            else:
                pair.redis.thaw()
    arrived(pair, before, asked + 1)
    assert gateway.wait_for(
        lambda: all("Redis is back, limits hold" in g.text for g in pair.gateways), 15
    )
    for each in pair.gateways:
        assert "Traceback" not in each.text, each.text[-3000:]
        each.output.clear()


def test_p06_a_day_without_celery_is_bridged_by_the_requests_themselves(
    pair: Team, key: str
) -> None:
    """No worker and no beat runs in this team, and token and quota are a day old."""
    exchanges = pair.simulator.exchanges("octocat")
    pair.set(
        "accounts_account",
        "login",
        "octocat",
        token_fetched_at="2026-11-01T00:00:00Z",
        quota_polled_at="2026-11-01T00:00:00Z",
    )
    pair.simulator.revoke_copilot_tokens("octocat")
    pair.settle()
    with ThreadPoolExecutor(2) as pool:
        assert all(asked for asked in pool.map(lambda _: ask_both(pair, key), range(2)))
    assert pair.simulator.exchanges("octocat") == exchanges + 1, "one exchange for two gateways"

    def polled() -> list[dict[str, object]]:
        return pair.query(
            "SELECT 1 FROM accounts_account WHERE login = 'octocat'"
            " AND quota_polled_at > now() - interval '5 minutes'"
        )

    assert pair.wait_for(polled, 40), "the gateways poll what no worker polls"


EVERY_TASK = """
from importlib import import_module
from copilot_site.celery import EVERY_S
print("begun", flush=True)
for name in EVERY_S:
    module, _, function = name.rpartition(".")
    getattr(import_module(module), function)()
"""
SUMS = """
SELECT (SELECT count(*) FROM usage_usagerecord) AS records,
       (SELECT coalesce(sum(requests), 0) FROM usage_rollup) AS requests,
       (SELECT coalesce(sum(nano_aiu), 0) FROM usage_rollup) AS nano_aiu,
       (SELECT count(*) FROM accounts_account) AS accounts,
       (SELECT count(*) FROM accounts_apikey WHERE revoked_at IS NULL) AS keys
"""


def test_p07_every_task_may_run_twice_at_once_and_be_cut_off(pair: Team, key: str) -> None:
    before = begin_of(pair)
    asked = ask_both(pair, key)
    arrived(pair, before, asked)
    was = pair.query(SUMS)
    exchanges = pair.simulator.exchanges("octocat")
    script = ("shell", "--no-imports", "-c", EVERY_TASK)
    for cut_after_s in (0.05, 0.5):
        cut = subprocess.Popen(
            [sys.executable, "manage.py", *script],
            cwd=ROOT,
            env=pair.gateways[0].environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert cut.stdout is not None
        assert b"begun" in cut.stdout.readline()
        time.sleep(cut_after_s)
        cut.kill()
        cut.communicate()
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: pair.manage(*script, check=False), range(2)))
    assert [d.returncode for d in done] == [0, 0], done[0].stderr + done[1].stderr
    assert pair.query(SUMS) == was
    assert pair.simulator.exchanges("octocat") <= exchanges + 1
    for table, columns in (
        ("usage_closedmonth", "month"),
        ("usage_reconciliation", "account_id, day, quota_id"),
        ("proxy_catalogchange", "model, kind, at"),
    ):
        found = pair.query(f"SELECT {columns} FROM {table} GROUP BY {columns} HAVING count(*) > 1")
        assert found == [], table


def test_p20_long_streams_hold_no_connection_to_the_database(pair: Team, key: str) -> None:
    def connections() -> list[str]:
        return [
            str(row["state"])
            for row in pair.query(
                "SELECT state FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ]

    with pair.client(0, key) as client:
        assert client.post(CHAT, json=chat()).status_code == 200
    before = len(connections())
    with pair.client(0, key) as one, pair.client(1, key) as other:
        streams = [Stream((one, other)[n % 2], drip(6)) for n in range(40)]
        assert all(stream.begun.wait(30) for stream in streams)
        meanwhile = connections()
        assert len(meanwhile) <= before + 2, (before, meanwhile)
        assert "idle in transaction" not in meanwhile
        assert all(stream.is_whole for stream in streams), streams


def test_p09_gateways_that_start_at_once_on_an_empty_database_migrate_it_once(
    pair: Team,
) -> None:
    database = pair.postgres.new_database()
    environment = {**pair.environment, "DATABASE_URL": pair.postgres.url(database)}

    def start(number: int) -> Gateway:
        return Gateway(
            pair.folder / f"empty{number}", pair.simulator.url, ("--require-keys",), environment
        )

    with ThreadPoolExecutor(2) as pool:
        gateways = list(pool.map(start, range(2)))
    try:
        for gateway in gateways:
            with gateway.client() as client:
                assert client.get("/readyz").status_code == 200
            assert "Traceback" not in gateway.text
        with psycopg.connect(pair.postgres.url(database)) as connection:
            twice = connection.execute(
                "SELECT app, name FROM django_migrations GROUP BY app, name HAVING count(*) > 1"
            ).fetchall()
            members = connection.execute("SELECT count(*) FROM accounts_member").fetchone()
        assert twice == []
        assert members is not None
        assert members[0] <= 1
    finally:
        for gateway in gateways:
            gateway.stop()
