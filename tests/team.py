"""A team as it is deployed: PostgreSQL, Redis, and several gateways on one database.

For every suite that needs more than one process. The fixtures are in `tests/conftest.py`:

    def test_something(team):              # two gateways for the whole session, keys required
        key = team.new_key("--rpm", "50")
        answers = team.together(300, key)  # spread over both gateways

    def test_that_breaks_things(new_team):
        team = new_team(processes=2, GATEWAY_QUEUE_TIMEOUT_S="5")
        team.redis.restart()
        team.gateways[0].kill()

Mark such tests with `pytest.mark.team`; they skip, and say so, where the programs are missing.
`team.query(sql)` asks the database, `team.shell(code)` runs Django code and gives back what its last
line, `answer = …`, says.
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from simulator.testing import SimulatorThread
from tests.conftest import ROOT, Gateway, clean_environment

START_TIMEOUT_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, seconds: float = START_TIMEOUT_S) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)
    return False


class Redis:
    """A redis-server of a test's own, without a file on disk."""

    def __init__(self) -> None:
        self.program = shutil.which("redis-server") or ""
        if not self.program:
            pytest.skip("redis-server is not installed")
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="team-redis-")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Empty, as after a restart without persistence."""
        self.process = subprocess.Popen(
            [
                self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", self.folder,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert _answers(self.port), "redis-server did not start"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It accepts and answers nothing, as a host that hangs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres:
    """A PostgreSQL of the test session's own; a database for each team."""

    def __init__(self) -> None:
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        program = found[-1] if found else shutil.which("postgres")
        if not program:
            pytest.skip("PostgreSQL is not installed")
        self.programs = Path(program).parent
        self.folder = Path(tempfile.mkdtemp(prefix="team-postgres-"))
        self.port = free_port()
        # It refuses to run as root.
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres"} if _is_root() else {}
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self.process: subprocess.Popen[bytes] | None = None
        self._numbers = iter(range(1, 10_000))
        subprocess.run(
            [
                self.programs / "initdb", "-D", self.folder / "data", "-U", "gateway", "-A", "trust",
                "--no-sync", "-E", "UTF8", "--locale=C",
            ],
            check=True, stdout=subprocess.DEVNULL, cwd="/", **self._as,
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200",
                "-c", "shared_buffers=32MB", "-c", f"unix_socket_directories={self.folder}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self._as,
        )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.05)

    def stop(self) -> None:
        """At once, as when its host goes."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def url(self, name: str) -> str:
        return f"postgresql://gateway@127.0.0.1:{self.port}/{name}"

    def new_database(self, template: str = "") -> str:
        """A new database, as `template` is; its name."""
        name = f"team{next(self._numbers)}"
        copied = f' TEMPLATE "{template}"' if template else ""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"{copied}')
        return name

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_root() -> bool:
    return os.geteuid() == 0


class Team:
    """Gateways that share a database and a Redis; each requires keys. The first signs octocat in."""

    def __init__(
        self,
        postgres: Postgres,
        redis: Redis,
        simulator: SimulatorThread,
        folder: Path,
        *arguments: str,
        processes: int = 2,
        template: str = "",
        token: str | None = "ghu_octocat",
        **environment: str,
    ) -> None:
        self.postgres, self.redis, self.simulator = postgres, redis, simulator
        self.folder = folder
        self.database = postgres.new_database(template)
        self.environment = {
            "DATABASE_URL": postgres.url(self.database),
            "REDIS_URL": redis.url,
            "SECRET_KEY": "the same in every process of the team",
            "ENCRYPTION_KEYS": "kCV0pNmGm9HYT9X5rcEmdaG0Z6CewGiuqEMEUMFZNtY=",
            "GATEWAY_DRAIN_S": "2",
            "GATEWAY_HEARTBEAT_S": "0.5",
            **environment,
        }
        self.arguments = arguments
        self.gateways: list[Gateway] = []
        for number in range(processes):
            self.add_gateway(*(("--github-token", token) if token and number == 0 else ()))
        if token and processes:
            first = self.gateways[0]
            first.wait_signed_in()
            for gateway in self.gateways[1:]:
                # The account book of each process reads the tables every second.
                ready = gateway.wait_for(lambda g=gateway: "ready" in self._state_of(g))
                assert ready, gateway.text

    def _state_of(self, gateway: Gateway) -> str:
        with gateway.client() as client:
            return "ready" if client.get("/readyz").status_code == 200 else ""

    def add_gateway(self, *arguments: str) -> Gateway:
        """One more process of the team."""
        gateway = Gateway(
            self.folder / f"gateway{len(self.gateways)}",
            self.simulator.url,
            ("--require-keys", *arguments, *self.arguments),
            self.environment,
        )
        self.gateways.append(gateway)
        return gateway

    def manage(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.gateways[0].manage(*arguments, check=check)

    def shell(self, code: str) -> Any:
        """Run Django code on the team's database; gives back its `answer`, by way of JSON."""
        script = (
            "import json\nanswer = None\n"
            + code
            + "\nprint('\\n@@' + json.dumps(answer, default=str))"
        )
        done = self.manage("shell", "--no-imports", "-c", script)
        return json.loads(done.stdout.rpartition("@@")[2])

    def query(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(
            self.postgres.url(self.database), autocommit=True, row_factory=dict_row
        ) as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def records(self, where: str = "true", *values: Any) -> list[dict[str, Any]]:
        """Usage records, oldest first."""
        return self.query(
            f"SELECT * FROM usage_usagerecord WHERE {where} ORDER BY started_at, id", *values
        )

    def wait_for(self, what: Callable[[], Any], seconds: float = 10) -> Any:
        return self.gateways[0].wait_for(what, seconds)

    def new_key(self, *options: str, name: str = "tests", **columns: Any) -> str:
        """A key that every gateway knows. `columns` are those of `ApiKey`, set in the database."""
        key = self.manage("create-key", name, *options).stdout.strip()
        if columns:
            self.set("accounts_apikey", "prefix", key[:12], **columns)
        self.settle()
        return key

    def new_keys(self, **wanted: dict[str, Any]) -> dict[str, str]:
        """Several keys of the first gateway's owner at once: name to the columns of `ApiKey`."""
        made: dict[str, str] = self.shell(
            "from accounts import keys\n"
            "from accounts.members import solo_member\n"
            "from accounts.models import ApiKey\n"
            "answer = {}\n"
            f"for name, columns in {wanted!r}.items():\n"
            "    key, secret = keys.create(name, solo_member())\n"
            "    if columns:\n"
            "        ApiKey.objects.filter(pk=key.pk).update(**columns)\n"
            "    answer[name] = secret\n"
        )
        self.settle()
        return made

    def set(self, table: str, column: str, value: Any, **columns: Any) -> None:
        """Change a row as the pages do; call `settle` before counting on it."""
        changes = ", ".join(f"{name} = %s" for name in columns)
        self.query(
            f"UPDATE {table} SET {changes}, updated_at = now() WHERE {column} = %s",
            *columns.values(), value,
        )  # fmt: skip

    def settle(self) -> None:
        """Wait until every process has read its tables anew: two of their rounds."""
        time.sleep(2.2)

    def client(self, number: int = 0, key: str = "", **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.gateways[number].client(headers=headers, **options)

    def together(
        self,
        count: int,
        key: str,
        body: dict[str, Any] | None = None,
        *,
        path: str = "/v1/chat/completions",
        threads: int = 40,
        headers: dict[str, str] | None = None,
    ) -> list[httpx.Response]:
        """`count` requests at once, spread over the gateways; their answers."""
        body = body or {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
        alive = [g for g in self.gateways if g.process.poll() is None]
        gate = threading.Barrier(min(count, threads))
        limits = httpx.Limits(max_connections=threads, max_keepalive_connections=threads)
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(
                    g.client(headers={"authorization": f"Bearer {key}"}, limits=limits)
                )
                for g in alive
            ]

            def ask(number: int) -> httpx.Response:
                if number < gate.parties:
                    gate.wait(30)
                return clients[number % len(clients)].post(path, json=body, headers=headers)

            with ThreadPoolExecutor(gate.parties) as pool:
                return list(pool.map(ask, range(count)))

    def close(self) -> None:
        for gateway in self.gateways:
            if gateway.process.poll() is None:
                gateway.kill()
            else:
                gateway._close()


def migrated_template(postgres: Postgres, folder: Path) -> str:
    """A database with all tables, to be copied; migrating takes seconds, copying none."""
    name = postgres.new_database()
    done = subprocess.run(
        [os.sys.executable, "manage.py", "migrate", "--verbosity", "0"],  # type: ignore[attr-defined]
        cwd=ROOT,
        env={
            **clean_environment(),
            "DATABASE_URL": postgres.url(name),
            "COPILOT_DATA_DIR": str(folder),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return name


def servers(folder: Path) -> Iterator[tuple[Postgres, str]]:
    postgres = Postgres()
    try:
        yield postgres, migrated_template(postgres, folder)
    finally:
        postgres.close()
