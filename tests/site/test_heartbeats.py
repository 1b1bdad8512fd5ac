"""Heartbeats of background work: every run leaves its row, the schedule goes on, Health tells."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.db import OperationalError, connection
from django.utils.timezone import now

from accounts import claims
from copilot_site.heartbeats import FIRST_RUN_WITHIN_S, Remembering
from tests.conftest import Gateway
from usage import task_runs
from usage.models import TaskRun

TASK = "usage.tasks.of_a_test"
SECRET = "ghu_abcdefghijklmnop1234"


@pytest.fixture
def make_task() -> Iterator[Callable[[Callable[..., Any]], Any]]:
    """A task of ours that Celery knows for one test."""

    def make(function: Callable[..., Any]) -> Any:
        # Celery writes the name into code that it makes.
        function.__name__ = "of_a_test"
        return current_app.task(name=TASK)(function)

    yield make
    current_app.tasks.pop(TASK, None)


def test_a_run_leaves_when_how_long_and_what_came_of_it(db: None, make_task: Any) -> None:
    before = now()

    make_task(lambda: {"accepted": 2, "refused": 0}).apply()

    (row,) = TaskRun.objects.all()
    assert row.name == TASK
    assert before <= row.started_at <= row.finished_at <= now()  # type: ignore[operator]
    assert row.duration_ms is not None
    assert row.succeeded is True
    assert row.result == "accepted 2, refused 0"


def test_a_failure_is_kept_without_its_secrets(db: None, make_task: Any) -> None:
    def fails() -> None:
        raise ValueError(f"GitHub answered Bearer {SECRET}\nwith a second line")

    make_task(fails).apply()

    row = TaskRun.objects.get()
    assert row.succeeded is False
    assert row.result.startswith("ValueError: GitHub answered")
    assert SECRET not in row.result
    assert "\n" not in row.result


def test_a_result_with_a_secret_is_scrubbed(db: None, make_task: Any) -> None:
    make_task(lambda: f"made cgw_{'a' * 40}").apply()

    assert "cgw_a" not in TaskRun.objects.get().result


def test_a_database_that_is_away_stops_no_task(
    transactional_db: None, make_task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_args: Any, **_kwargs: Any) -> Any:
        raise OperationalError("the database is locked")

    with connection.execute_wrapper(away):
        result = make_task(lambda: "done").apply()

    assert result.get() == "done"
    assert "no heartbeat" in caplog.text
    assert not TaskRun.objects.exists()


def test_two_hundred_runs_of_each_task_stay(db: None) -> None:
    at = now()
    TaskRun.objects.bulk_create(
        TaskRun(name=name, started_at=at - timedelta(minutes=n))
        for name in (TASK, "usage.tasks.poll_quotas")
        for n in range(230)
    )

    task_runs.prune(TASK)

    kept = TaskRun.objects.filter(name=TASK)
    assert kept.count() == task_runs.KEPT_RUNS
    assert kept.order_by("started_at")[0].started_at == at - timedelta(minutes=199)
    assert TaskRun.objects.filter(name="usage.tasks.poll_quotas").count() == 230


def test_old_runs_go_by_themselves(db: None, make_task: Any) -> None:
    task = make_task(lambda: None)
    TaskRun.objects.bulk_create(
        TaskRun(name=TASK, started_at=now() - timedelta(days=1, minutes=n)) for n in range(250)
    )

    for _ in range(task_runs.PRUNE_EVERY):
        task.apply()

    assert TaskRun.objects.filter(name=TASK).count() < 250


def run(name: str, ago: timedelta, **values: Any) -> TaskRun:
    at = now() - ago
    ended = {"finished_at": at, "duration_ms": 5, "succeeded": True}
    return TaskRun.objects.create(name=name, started_at=at, **(ended | values))


@pytest.mark.parametrize(
    ("periods", "tone", "state"),
    [(0.5, "ok", "ok"), (1.2, "ok", "ok"), (2, "warn", "late"), (3.5, "bad", "late")],
)
def test_lateness_counts_in_periods(db: None, periods: float, tone: str, state: str) -> None:
    (probe,) = [p for p in task_runs.planned() if p.name == "probe-upstream"]
    run(probe.task, probe.period * periods)

    (beat,) = [b for b in task_runs.beats() if b.planned == probe]

    assert (beat.tone, beat.state) == (tone, state)
    assert beat.last is not None
    assert beat.next_at == beat.last.started_at + probe.period


def test_a_failure_is_amber_and_three_in_a_row_are_red(db: None) -> None:
    name = "proxy.tasks.probe_upstream"

    def tone() -> tuple[str, str]:
        (beat,) = [b for b in task_runs.beats() if b.planned.task == name]
        return beat.tone, beat.state

    assert tone() == ("warn", "never")
    # Others have begun a moment ago: its turn comes.
    other = run("usage.tasks.poll_quotas", timedelta(minutes=1))
    assert tone() == ("ok", "waiting")
    other.delete()
    run(name, timedelta(minutes=3), succeeded=False)
    assert tone() == ("warn", "failed")
    run(name, timedelta(minutes=2), succeeded=False)
    run(name, timedelta(minutes=1), succeeded=False)
    assert tone() == ("bad", "failed")
    run(name, timedelta(seconds=5))
    assert tone() == ("ok", "ok")
    # One that is at work is no failure; one that has been for hours was cut off.
    run(name, timedelta(seconds=1), finished_at=None, succeeded=None)
    assert tone() == ("ok", "running")


def test_beat_goes_on_where_the_last_one_ended(db: None) -> None:
    daily, probe = "usage.tasks.delete_old_records", "proxy.tasks.probe_upstream"
    run(daily, timedelta(hours=23))
    run(probe, timedelta(hours=5))

    schedule = {e.task: e for e in Remembering(app=current_app, lazy=False).schedule.values()}

    def due_in_s(task: str) -> float:
        return float(schedule[task].is_due().next) if not schedule[task].is_due().is_due else 0.0

    assert 3500 < due_in_s(daily) <= 3600
    # What is overdue, or has never run, comes soon and not with all the others at once.
    assert due_in_s(probe) <= FIRST_RUN_WITHIN_S
    assert due_in_s("proxy.tasks.delete_old_changes") <= FIRST_RUN_WITHIN_S
    assert due_in_s("accounts.tasks.refresh_tokens") <= 15


def test_every_task_of_the_schedule_is_one_that_a_worker_knows() -> None:
    current_app.loader.import_default_modules()

    assert {one.task for one in task_runs.planned()} <= set(current_app.tasks)
    assert len({one.name for one in task_runs.planned()}) == len(task_runs.planned())


def test_of_two_at_once_one_works_and_the_other_says_so() -> None:
    @claims.once_at_a_time("a-test", 60)
    def work(again: bool) -> Any:
        return work(False) if again else "done"

    assert work(True) == claims.BUSY
    # The claim ended with the work.
    assert work(False) == "done"


def test_an_embedded_worker_leaves_heartbeats_that_health_shows(
    new_gateway: Callable[..., Gateway],
) -> None:
    gateway = new_gateway()

    rows = gateway.wait_for(
        lambda: gateway.query(
            "SELECT * FROM usage_taskrun WHERE name = ? AND succeeded",
            "accounts.tasks.refresh_tokens",
        ),
        40,
    )

    assert rows
    assert rows[0]["worker"] == "solo@localhost"
    with gateway.client(follow_redirects=True) as client:
        client.get(gateway.sign_in_link)
        page = client.get("/dashboard/health/").text
    for planned in task_runs.planned():
        assert planned.name in page
    # `Copy as text` has what `debug --json` gives.
    assert "tokenExists" in page
