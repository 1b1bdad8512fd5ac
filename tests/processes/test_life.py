"""What happens to a gateway once in a while: weak settings, clocks, backups, lost keys, old rows."""

import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from simulator.testing import SimulatorThread
from tests.conftest import ROOT, Gateway, clean_environment
from tests.processes.observing import CHAT, KINDS, Stream, chat, loop_cpu_s, signed_in
from tests.team import Team, free_port

MakeGateway = Callable[..., Gateway]

# What is set, and what the refusal names.
WEAK = {
    "short": ({"SECRET_KEY": "short"}, "SECRET_KEY is weak"),
    "encryption": ({"ENCRYPTION_KEYS": "weak"}, "ENCRYPTION_KEYS is weak"),
    "hosts": ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS lets any name in"),
    "clear": ({"GITHUB_API_URL": "http://api.github.example.org"}, "GITHUB_API_URL would send"),
}


def test_p17_weak_settings_refuse_to_start_and_are_named(tmp_path: Path) -> None:
    def start(name: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", "start", "--port", "0"],
            cwd=ROOT,
            env={**clean_environment(), "COPILOT_DATA_DIR": str(tmp_path / name), **WEAK[name][0]},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )

    with ThreadPoolExecutor(3) as pool:
        ends = dict(zip(WEAK, pool.map(start, WEAK), strict=True))
    for name, (values, words) in WEAK.items():
        done = ends[name]
        assert done.returncode == 1, (name, done.stderr)
        assert words in done.stderr, (name, done.stderr)
        assert "Traceback" not in done.stderr
        secret = values.get("SECRET_KEY", "no secret")
        assert len(secret) < 20 or secret not in done.stderr, "what is weak is not shown"


def test_p02_a_database_that_is_away_at_the_start_is_said_in_words(tmp_path: Path) -> None:
    environment = {"DATABASE_URL": f"postgres://gateway@127.0.0.1:{free_port()}/gateway"}
    done = subprocess.run(
        [sys.executable, "manage.py", "start", "--port", "0"],
        cwd=ROOT,
        env={**clean_environment(), "COPILOT_DATA_DIR": str(tmp_path / "data"), **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The database cannot be used")
    assert "DATABASE_URL" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


# Clocks


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static long *ahead;
static int (*real)(clockid_t, struct timespec *);
static long seconds(void) {
    if (!ahead) {
        int file = open(getenv("CLOCK_AHEAD"), O_RDONLY);
        ahead = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    }
    return *ahead;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += seconds();
    return done;
}
time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
"""


class Clock:
    """The time of day of the processes that are started with `environment`; the monotonic one stays."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None or not sys.platform.startswith("linux"):
            pytest.skip("needs a C compiler to set a process's clock")
        folder.mkdir()
        (folder / "clock.c").write_text(CLOCK)
        library = folder / "clock.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-o", library, folder / "clock.c", "-ldl"], check=True
        )
        self._ahead = folder / "ahead"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(self._ahead)}

    def set(self, seconds: int) -> None:
        """So many seconds before or after the true time."""
        with self._ahead.open("r+b" if self._ahead.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))


def test_p08_clocks_that_jump_end_no_stream_and_leave_nobody_without_a_token(
    new_gateway: MakeGateway, simulator: SimulatorThread, tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "clock")
    gateway = new_gateway(**clock.environment, GATEWAY_IDLE_TIMEOUT_S="4")
    exchanges = simulator.exchanges("octocat")
    hour = 3600
    with gateway.client() as client:
        for jump in (-26 * hour, 5 * hour, -400 * 24 * hour, 0):
            stream = Stream(client, "hi [[drip chunks=20 delay=0.1]]")
            assert stream.begun.wait(20)
            clock.set(jump)
            for path, body in KINDS:
                began = time.monotonic()
                assert client.post(path, json=body).status_code == 200, gateway.text[-3000:]
                assert time.monotonic() - began < 10
            assert stream.is_whole, stream.text[-500:]
    count = 4 * (len(KINDS) + 1)
    records = gateway.wait_for_records(count)
    assert len(records) == count
    assert {r["outcome"] for r in records} == {"completed"}
    # Durations are of the clock that never jumps.
    assert all(0 <= r["total_ms"] < 60_000 for r in records)
    assert all(r["first_token_ms"] is None or 0 <= r["first_token_ms"] < 60_000 for r in records)
    # A new token at most for each jump, and the last one is used.
    assert simulator.exchanges("octocat") <= exchanges + 4
    assert "Traceback" not in gateway.text, gateway.text[-3000:]


# Backups and keys

BACKUP = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"


@pytest.fixture
def restored(solo: Gateway, tmp_path: Path) -> Iterator[tuple[Gateway, str, int]]:
    """A gateway on what was backed up while another one served, an API key, its records."""
    made = solo.manage("create-key", "kept").stdout.strip()
    with solo.client(headers={"x-api-key": made}) as client:
        assert solo.wait_for(lambda: client.post(CHAT, json=chat()).status_code == 200, 5)
    solo.wait_for(lambda: any(r["key"] == "kept" for r in solo.records()))
    data = tmp_path / "restored"
    data.mkdir()
    subprocess.run(
        [sys.executable, "-c", BACKUP, solo.data_dir / "gateway.sqlite3", data / "gateway.sqlite3"],
        check=True,
    )
    for name in ("encryption_keys", "secret_key"):
        shutil.copy(solo.data_dir / name, data / name)
    environment = {k: v for k, v in solo.environment.items() if k.startswith("GATEWAY_")}
    gateway = Gateway(data, solo.environment["GITHUB_URL"], (), environment)
    yield gateway, made, len(gateway.records())
    with suppress(subprocess.TimeoutExpired):
        gateway.stop()


def test_p13_p14_a_backup_serves_again_and_without_its_key_says_so_in_words(
    restored: tuple[Gateway, str, int],
) -> None:
    gateway, made, count = restored
    assert count > 0
    headers = {"x-api-key": made}

    # With the key everything is as it was, and nobody signs in.
    with gateway.client(headers=headers) as client:
        assert gateway.wait_for(lambda: client.post(CHAT, json=chat()).status_code == 200)
    assert len(gateway.wait_for_records(count + 1)) > count

    # A new key in front of the old one: both are readable, and rotation needs the new one only.
    gateway.stop()
    keys = gateway.data_dir / "encryption_keys"
    old = keys.read_text().strip()
    new = "Zm9yIHRlc3RzIG9ubHksIG5ldmVyIHVzZWQgZWxzZXdoZXJl"
    keys.write_text(f"{new},{old}")
    gateway.output.clear()
    gateway.start()
    with gateway.client(headers=headers) as client:
        assert gateway.wait_for(lambda: client.post(CHAT, json=chat()).status_code == 200)
    gateway.manage("rotate-keys")
    gateway.stop()
    keys.write_text(new)
    gateway.output.clear()
    gateway.start()
    with gateway.client(headers=headers) as client:
        assert gateway.wait_for(lambda: client.post(CHAT, json=chat()).status_code == 200)

    # Lost: said in words to the caller, in the log and on the command line; the rest is whole.
    gateway.stop()
    records = len(gateway.records())
    keys.write_text(old)
    gateway.output.clear()
    gateway.start()
    with gateway.client(headers=headers) as client:
        assert gateway.wait_for(lambda: client.post(CHAT, json=chat()).status_code == 503)
        answer = client.post(CHAT, json=chat())
        assert answer.status_code == 503
        assert "sign in" in answer.json()["error"]["message"].lower()
        assert client.get("/readyz").status_code == 200
    assert len(gateway.records()) >= records
    done = gateway.manage("rotate-keys", check=False)
    assert done.returncode == 1
    assert "ENCRYPTION_KEYS" in done.stderr
    assert "Traceback" not in gateway.text + done.stderr


@pytest.mark.team
def test_p13_a_dump_of_postgresql_is_restored_with_the_key(pair: Team, key: str) -> None:
    with pair.client(0, key) as client:
        assert client.post(CHAT, json=chat()).status_code == 200
    pair.wait_for(pair.records)
    programs = pair.postgres.programs
    dump = subprocess.run(
        [programs / "pg_dump", "--no-owner", pair.postgres.url(pair.database)],
        capture_output=True,
        check=True,
    ).stdout
    assert key.encode() not in dump
    assert b"ghu_octocat" not in dump
    database = pair.postgres.new_database()
    subprocess.run(
        [programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", pair.postgres.url(database)],
        input=dump,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    environment = {**pair.environment, "DATABASE_URL": pair.postgres.url(database)}
    gateway = Gateway(
        pair.folder / "restored", pair.simulator.url, ("--require-keys",), environment
    )
    try:
        with gateway.client(headers={"x-api-key": key}) as client:
            assert gateway.wait_for(lambda: client.post(CHAT, json=chat()).status_code == 200)
        assert "Traceback" not in gateway.text
    finally:
        gateway.stop()


# The loop


def test_p19_large_bodies_and_pages_never_hold_the_loop_for_a_tenth_of_a_second(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    """Measured in processor time of the loop's thread, which a busy machine does not lengthen."""
    megabyte = [
        {"role": ("user", "assistant")[n % 2], "content": f"{n} " + "implementation " * 660}
        for n in range(101)
    ]
    bodies = [
        (CHAT, {**chat(), "messages": megabyte}),
        (
            "/v1/messages",
            {**chat(model="claude-sonnet-4.6"), "max_tokens": 9, "messages": megabyte},
        ),
        ("/v1/messages", {**chat(), "max_tokens": 9, "messages": megabyte}),
        ("/v1/responses", {"model": "claude-sonnet-4.6", "input": megabyte}),
        ("/v1/messages/count_tokens", {"model": "claude-sonnet-4.6", "messages": megabyte}),
    ]
    pid = solo.process.pid
    longest: dict[str, float] = {}
    with signed_in(solo) as client, solo.client() as other, ThreadPoolExecutor(1) as pool:

        def watch(name: str, work: Callable[[], httpx.Response]) -> httpx.Response:
            doing = pool.submit(work)
            worst = 0.0
            while not doing.done():
                before = loop_cpu_s(pid)
                assert other.get("/healthz").status_code == 200
                worst = max(worst, loop_cpu_s(pid) - before)
            longest[name] = max(longest.get(name, 0.0), worst)
            return doing.result()

        for path, body in bodies:
            for _ in range(2):
                post = partial(client.post, path, json=body)
                answer = watch(f"{path} {body['model']}", post)
                # The upstream may find it too long; it has been read, checked and sent by then.
                assert answer.status_code in (200, 400), answer.text[:300]
        for page in (
            "/dashboard/",
            "/dashboard/requests/",
            "/dashboard/health/",
            "/admin/",
            "/usage",
        ):
            assert watch(page, partial(client.get, page)).status_code == 200, page
    assert max(longest.values()) < 0.1, longest


# Old rows


def test_p23_rows_of_years_go_in_batches_and_hold_no_writer_up(
    solo: Gateway, simulator: SimulatorThread
) -> None:
    """So many rows that one statement for all of them would hold every writer up for seconds."""
    rows = 120_000
    with solo.client() as client:
        assert client.post(CHAT, json=chat()).status_code == 200
    [sample] = solo.wait_for_records(1)[:1]
    database = sqlite3.connect(solo.data_dir / "gateway.sqlite3", timeout=30)
    try:
        names = [c for c in sample if c not in ("id", "started_at", "finished_at")]
        kept = ", ".join(names)
        with database:
            database.execute(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
                f" INSERT INTO usage_usagerecord (id, started_at, finished_at, {kept})"
                f" SELECT 'old' || n.i, datetime('2020-01-01', '+' || n.i || ' minutes'), NULL,"
                f" {kept} FROM n, (SELECT {kept} FROM usage_usagerecord WHERE id = ?)",
                [sample["id"]],
            )
        plan = database.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM usage_usagerecord WHERE started_at < ?"
            " ORDER BY started_at LIMIT 1000",
            ["2021-01-01"],
        ).fetchall()
        assert "INDEX" in str(plan), plan
        assert "TEMP B-TREE" not in str(plan), plan
        with ThreadPoolExecutor(1) as pool:
            script = "from usage import retention; print(retention.delete_old())"
            cleaning = pool.submit(solo.manage, "shell", "--no-imports", "-c", script)
            slowest, asked = 0.0, 0
            while not cleaning.done():
                began = time.monotonic()
                # As any writer: it waits for a transaction, never for the whole.
                with database:
                    database.execute("BEGIN IMMEDIATE")
                slowest = max(slowest, time.monotonic() - began)
                with solo.client() as client:
                    assert client.post(CHAT, json=chat()).status_code == 200
                asked += 1
        assert int(cleaning.result().stdout.strip()) >= rows
        assert asked > 3
        assert slowest < 2, "each batch is a transaction of its own"
        assert solo.query("SELECT count(*) AS n FROM usage_usagerecord WHERE id LIKE 'old%'") == [
            {"n": 0}
        ]
        removal = solo.query("SELECT removed, left FROM usage_removal ORDER BY id DESC LIMIT 1")
        assert removal[0]["removed"] >= rows
    finally:
        database.close()
