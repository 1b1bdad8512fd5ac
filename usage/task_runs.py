"""Heartbeats of background work: a row for each run, and what they say together.

Rows are written by `copilot_site.heartbeats`, through Celery's signals; Health reads them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from celery import current_app
from django.db.models import Min, Q
from django.utils.timezone import now

from usage.bounds import storable
from usage.models import TaskRun

KEPT_RUNS: Final = 200
PRUNE_EVERY: Final = 20
# A task that has said nothing for so long was cut off with its process.
LONGEST_RUN: Final = timedelta(hours=2)
# Beat looks every few seconds, and a worker may have a queue.
GRACE: Final = timedelta(seconds=30)
LATE_PERIODS: Final = 3
# A new beat spreads first runs over five minutes.
FIRST_RUN_WITHIN: Final = timedelta(minutes=10)
FAILED_RUNS: Final = 3

Tone = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One entry of the schedule: `task` is Celery's name of it, `period` how often it runs."""

    name: str
    task: str
    period: timedelta


@dataclass(frozen=True, slots=True)
class Beat:
    """A scheduled task with its newest runs, the last first. `next_at` None: when beat begins."""

    planned: Planned
    runs: list[TaskRun]
    tone: Tone
    state: Literal["ok", "running", "waiting", "never", "late", "failed", "cut_off"]
    next_at: datetime | None

    @property
    def last(self) -> TaskRun | None:
        return self.runs[0] if self.runs else None


def planned() -> list[Planned]:
    """The schedule, as the site gives it to Celery."""
    entries = current_app.conf.beat_schedule or {}
    return [
        Planned(name, entry["task"], entry["schedule"].run_every)
        for name, entry in sorted(entries.items())
    ]


def period_of(task: str) -> timedelta | None:
    return next((one.period for one in planned() if one.task == task), None)


def begin(task: str, task_id: str, worker: str) -> TaskRun:
    """A run has begun."""
    at = now()
    period = period_of(task)
    return TaskRun.objects.create(
        name=storable(task, 100),
        task_id=storable(task_id, 64),
        worker=storable(worker, 100),
        started_at=at,
        next_at=None if period is None else at + period,
    )


def finish(task: str, task_id: str, *, succeeded: bool, result: str, duration_ms: int) -> None:
    """The run has ended; of each task the newest 200 runs stay."""
    rows = TaskRun.objects.filter(name=storable(task, 100), task_id=storable(task_id, 64))
    row = rows.filter(finished_at=None).first()
    if row is None:
        return
    row.finished_at = now()
    row.duration_ms = max(0, duration_ms)
    row.succeeded = succeeded
    row.result = storable(" ".join(result.split()), 500)
    row.save(update_fields=["finished_at", "duration_ms", "succeeded", "result"])
    if row.pk % PRUNE_EVERY == 0:
        prune(row.name)


def prune(task: str) -> int:
    """Forget all but the newest runs of a task; how many."""
    rows = TaskRun.objects.filter(name=task).order_by("-started_at", "-pk")
    kept = list(rows[KEPT_RUNS - 1 : KEPT_RUNS])
    if not kept:
        return 0
    last = kept[0]
    older = Q(started_at__lt=last.started_at) | Q(started_at=last.started_at, pk__lt=last.pk)
    return TaskRun.objects.filter(older, name=task).delete()[0]


def last_started() -> dict[str, datetime]:
    """When each task last began: where a new beat goes on."""
    found: dict[str, datetime] = {}
    for one in planned():
        row = TaskRun.objects.filter(name=one.task).values_list("started_at", flat=True).first()
        if row is not None:
            found[one.task] = row
    return found


def beats(at: datetime | None = None) -> list[Beat]:
    """Every scheduled task with how it is doing; one short query for each."""
    at = at or now()
    since = TaskRun.objects.aggregate(first=Min("started_at"))["first"]
    return [_beat(one, at, since) for one in planned()]


def _beat(one: Planned, at: datetime, since: datetime | None) -> Beat:
    """`since` is when anything first ran here."""
    runs = list(TaskRun.objects.filter(name=one.task)[:FAILED_RUNS])
    if not runs and since is not None and at - since < FIRST_RUN_WITHIN:
        return Beat(one, [], "ok", "waiting", None)
    if not runs:
        return Beat(one, [], "warn", "never", None)
    last = runs[0]
    next_at = last.started_at + one.period
    ended = [run for run in runs if run.succeeded is not None]
    if at > last.started_at + LATE_PERIODS * one.period + GRACE:
        return Beat(one, runs, "bad", "late", next_at)
    if ended and not ended[0].succeeded:
        is_lasting = len(ended) == FAILED_RUNS and not any(run.succeeded for run in ended)
        return Beat(one, runs, "bad" if is_lasting else "warn", "failed", next_at)
    if last.finished_at is None:
        is_lost = at - last.started_at > max(LONGEST_RUN, one.period)
        return Beat(
            one, runs, "warn" if is_lost else "ok", "cut_off" if is_lost else "running", next_at
        )
    if at > next_at + max(GRACE, one.period / 2):
        return Beat(one, runs, "warn", "late", next_at)
    return Beat(one, runs, "ok", "ok", next_at)
