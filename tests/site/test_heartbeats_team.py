"""A team's worker and beat are processes of their own; their heartbeats look the same."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import ROOT, clean_environment

pytestmark = pytest.mark.team


@pytest.fixture
def celery(new_team: Callable[..., Any]) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """A team without a gateway, and `run("worker", ...)` for what runs beside it."""
    team = new_team(processes=0)
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "copilot_site", *arguments],
            cwd=ROOT,
            env={
                **clean_environment(),
                **team.environment,
                "COPILOT_DATA_DIR": str(team.folder / "celery"),
                "GITHUB_URL": team.simulator.url,
                "GITHUB_API_URL": team.simulator.url,
                # Celery's own modules, not ours.
                "PYTHONWARNINGS": "ignore",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield team, run
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_worker_and_beat_leave_heartbeats_and_beat_goes_on_after_a_restart(
    celery: tuple[Any, Callable[..., Any]],
) -> None:
    team, run = celery
    # A daily task that ran an hour ago is not due; one of yesterday morning is.
    team.query(
        "INSERT INTO usage_taskrun (name, task_id, started_at, succeeded, result, worker) VALUES"
        " ('proxy.tasks.forget_conversations', 'a', now() - interval '1 hour', true, '', ''),"
        " ('accounts.tasks.refresh_tokens', 'b', now() - interval '1 day', true, '', '')"
    )
    run("worker", "--loglevel", "warning", "--concurrency", "2", "-n", "mine@%h")
    run("beat", "--loglevel", "warning", "--pidfile=")

    def ran() -> Any:
        return team.query(
            "SELECT * FROM usage_taskrun WHERE name = 'accounts.tasks.refresh_tokens'"
            " AND task_id <> 'b' AND succeeded"
        )

    deadline = time.monotonic() + 60
    while not (rows := ran()) and time.monotonic() < deadline:
        time.sleep(0.2)

    assert rows, team.query("SELECT name, result FROM usage_taskrun")
    assert rows[0]["worker"].startswith("mine@")
    assert rows[0]["duration_ms"] is not None
    assert rows[0]["next_at"] is not None
    names = [row["name"] for row in team.query("SELECT name FROM usage_taskrun")]
    assert names.count("proxy.tasks.forget_conversations") == 1
