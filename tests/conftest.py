"""Fixtures that every suite shares: the simulator, and the gateway as its users start it."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest

from simulator.testing import SimulatorThread
from tests.prepared import prepare

# The gate tries the same examples each time; on a desk they are new ones at every run. A busy machine
# makes the making of inputs slow.
hypothesis.settings.register_profile(
    "ours",
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ours")

# What starts many processes; `make test` leaves it to `make test-slow`.
SLOW = ("processes", "security", "soak")
SLOW_FILES = (
    "test_approvals.py",
    "test_browser_admin.py",
    "test_credential_kinds.py",
    "test_models_gateway.py",
    "test_placement.py",
)


# About how many seconds a test with such a fixture takes; others take next to nothing.
SECONDS = {"new_gateway": 5.0, "new_team": 10.0, "manage": 3.0, "transactional_db": 0.3, "db": 0.1}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in SLOW or item.path.name in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
    # With several workers the longest files begin first, so that none is left alone with one at the end.
    seconds: Counter[Path] = Counter()
    for item in items:
        used = getattr(item, "fixturenames", ())
        seconds[item.path] += max((s for name, s in SECONDS.items() if name in used), default=0.02)
    items.sort(key=lambda item: -seconds[item.path])


ROOT = Path(__file__).resolve().parent.parent
# Generous, as every limit that only ends what will not come: machines are busy, and slow.
START_TIMEOUT_S = 120
# Variables that a test's own gateway must not inherit.
OURS = ("GATEWAY_", "GH_", "GITHUB_", "COPILOT_", "DJANGO_", "DATABASE_", "REDIS_")


def clean_environment() -> dict[str, str]:
    """The environment of this process, free of what would configure a gateway."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OURS)}


class Gateway:
    """`manage.py start` in a process and data folder of its own.

    A new folder begins as a first start leaves it; `empty` is for tests of that first start.
    """

    def __init__(
        self,
        data_dir: Path,
        github_url: str,
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        *,
        empty: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self.output: list[str] = []
        self.environment = {
            **clean_environment(),
            "COPILOT_DATA_DIR": str(data_dir),
            "GITHUB_URL": github_url,
            "GITHUB_API_URL": github_url,
            "HOME": str(data_dir),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self.arguments = arguments
        self.port = 0
        if not empty:
            prepare(data_dir, self.environment)
        self.start()

    def start(self) -> None:
        listening = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "start", "--port", str(self.port), *self.arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(listening,), daemon=True)
        self._reader.start()
        if not listening.wait(START_TIMEOUT_S) or self.process.poll() is not None:
            self.kill()
            pytest.fail("the gateway did not start:\n" + "".join(self.output))

    def _read(self, listening: threading.Event) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.output.append(line)
                if found := re.search(r"OpenAI API\s+http://\S+?:(\d+)/v1", line):
                    self.port = int(found[1])
                if re.search(r"Runs\s", line):
                    listening.set()
        listening.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sign_in_link(self) -> str:
        found = re.search(r"Dashboard\s+(http://\S+)", self.text)
        assert found is not None, self.text
        return found[1].replace("localhost", "127.0.0.1")

    @property
    def text(self) -> str:
        return "".join(self.output)

    def manage(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run another command on the same data folder."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{arguments} exited {done.returncode}: {done.stderr}")
        return done

    def query(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        connection = sqlite3.connect(self.data_dir / "gateway.sqlite3", timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.close()

    def records(self, where: str = "1=1", *values: Any) -> list[dict[str, Any]]:
        """Usage records, oldest first."""
        return self.query(
            f"SELECT * FROM usage_usagerecord WHERE {where} ORDER BY started_at, id", *values
        )

    def wait_signed_in(self) -> None:
        if not self.wait_for(lambda: "Signed in" in self.text, START_TIMEOUT_S):
            pytest.fail("the gateway did not sign in:\n" + self.text)

    def wait_for(self, what: Callable[[], Any], seconds: float = 30) -> Any:
        """Poll until `what` gives something true: the writer thread needs a moment."""
        deadline = time.monotonic() + seconds
        while True:
            found = what()
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def wait_for_records(
        self, count: int, where: str = "1=1", *values: Any
    ) -> list[dict[str, Any]]:
        self.wait_for(lambda: len(self.records(where, *values)) >= count)
        return self.records(where, *values)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def stop(self) -> int:
        """End as a person would, by Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(2)
        try:
            return self.process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._reader.join(timeout=5)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[SimulatorThread]:
    with SimulatorThread() as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: SimulatorThread) -> SimulatorThread:
    """The simulator without memory of earlier tests' scenarios and requests."""
    shared_simulator.reset(keep_tokens=True)
    return shared_simulator


@pytest.fixture(scope="session")
def shared_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One gateway for all tests that need no flags, signed in as octocat."""
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat"),
        {
            "GATEWAY_HEARTBEAT_S": "0.5",
            "GATEWAY_IDLE_TIMEOUT_S": "3",
            "GATEWAY_FIRST_BYTE_TIMEOUT_S": "4",
            "GATEWAY_CONNECT_TIMEOUT_S": "2",
            "GATEWAY_DRAIN_S": "2",
        },
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(shared_gateway: Gateway, simulator: SimulatorThread) -> Gateway:
    return shared_gateway


@pytest.fixture
def new_gateway(simulator: SimulatorThread, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways with flags of the test's own."""
    started: list[Gateway] = []

    def make(
        *arguments: str,
        token: str | None = "ghu_octocat",
        empty: bool = False,
        **environment: str,
    ) -> Gateway:
        signed = ("--github-token", token) if token else ()
        folder = tmp_path / f"data{len(started)}"
        gateway = Gateway(folder, simulator.url, (*signed, *arguments), environment, empty=empty)
        if token:
            gateway.wait_signed_in()
        started.append(gateway)
        return gateway

    yield make
    for gateway in started:
        gateway.stop()


# Several processes: see tests/team.py.


@pytest.fixture(scope="session")
def team_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """PostgreSQL with a migrated database to copy; skips where it is not installed."""
    from tests import team

    yield from team.servers(tmp_path_factory.mktemp("migrating"))


@pytest.fixture
def new_redis() -> Iterator[Callable[[], Any]]:
    from tests import team

    started: list[Any] = []

    def make() -> Any:
        started.append(team.Redis())
        return started[-1]

    yield make
    for redis in started:
        redis.close()


@pytest.fixture
def new_team(
    team_servers: Any, new_redis: Callable[[], Any], simulator: SimulatorThread, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """Start teams with flags and environment of the test's own; see `tests.team.Team`."""
    from tests.team import Team

    postgres, template = team_servers
    started: list[Team] = []

    def make(*arguments: str, **options: Any) -> Team:
        folder = tmp_path / f"team{len(started)}"
        started.append(
            Team(postgres, new_redis(), simulator, folder, *arguments, template=template, **options)
        )
        return started[-1]

    yield make
    for team in started:
        team.close()


@pytest.fixture(scope="session")
def shared_team(
    team_servers: Any, shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    from tests.team import Redis, Team

    postgres, template = team_servers
    redis = Redis()
    team = Team(
        postgres, redis, shared_simulator, tmp_path_factory.mktemp("team"), template=template
    )
    yield team
    team.close()
    redis.close()


@pytest.fixture
def team(shared_team: Any, simulator: SimulatorThread) -> Any:
    """Two gateways for tests that leave them as they were; keys and rows may be added."""
    return shared_team
