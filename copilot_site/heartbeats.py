"""Every run of a background task leaves a heartbeat: Celery's signals, in this one place.

A database that is away stops no task: the heartbeat is left out and the log says so.
"""

import logging
import random
import time
from datetime import timedelta
from typing import Any, Final

from celery import signals
from celery.beat import Scheduler
from django.db import Error
from django.utils.timezone import now

from copilot_site.logging import scrub
from usage import task_runs

logger = logging.getLogger(__name__)
OURS: Final = ("accounts.", "usage.", "proxy.", "copilot_site.")
# How many runs may be under way; what a killed thread left is forgotten beyond.
MAX_RUNNING: Final = 1000
# Within it, and within half a period, what is due at a start begins: not all at the same moment.
FIRST_RUN_WITHIN_S: Final = 300.0

_started: dict[str, float] = {}
_failures: dict[str, str] = {}


def connect() -> None:
    """Listen to every task of this process; a second call changes nothing."""
    signals.task_prerun.connect(_begin, dispatch_uid="heartbeat-begin", weak=False)
    signals.task_failure.connect(_fail, dispatch_uid="heartbeat-fail", weak=False)
    signals.task_postrun.connect(_end, dispatch_uid="heartbeat-end", weak=False)


def _begin(task_id: str = "", task: Any = None, **_kwargs: Any) -> None:
    if not task.name.startswith(OURS):
        return
    if len(_started) >= MAX_RUNNING:
        _started.clear()
        _failures.clear()
    _started[task_id] = time.monotonic()
    try:
        task_runs.begin(task.name, task_id, getattr(task.request, "hostname", None) or "")
    except Error as error:
        logger.warning("no heartbeat of %s: %s", task.name, scrub(str(error)))


def _fail(task_id: str = "", exception: BaseException | None = None, **_kwargs: Any) -> None:
    text = str(exception) or "no reason given"
    _failures[task_id] = f"{type(exception).__name__}: {text}"


def _end(
    task_id: str = "", task: Any = None, retval: Any = None, state: Any = None, **_kwargs: Any
) -> None:
    started = _started.pop(task_id, None)
    failure = _failures.pop(task_id, None)
    if started is None:
        return
    result = failure if failure is not None else _words(retval)
    try:
        task_runs.finish(
            task.name,
            task_id,
            succeeded=failure is None and state in ("SUCCESS", None),
            result=scrub(result),
            duration_ms=int((time.monotonic() - started) * 1000),
        )
    except Error as error:
        logger.warning("no heartbeat of %s: %s", task.name, scrub(str(error)))


def _words(result: Any) -> str:
    """What a task gives back, as a line: a count, a sentence, or pairs."""
    if result is None:
        return ""
    if isinstance(result, dict):
        return ", ".join(f"{name} {value}" for name, value in result.items())
    return str(result)


class Remembering(Scheduler):
    """Beat that goes on where the last one ended: a restart neither skips nor repeats a daily task.

    Celery's own schedulers begin each period anew, or keep it in a file.
    """

    def setup_schedule(self) -> None:
        super().setup_schedule()
        try:
            last = task_runs.last_started()
        except Error as error:
            logger.warning("beat does not know when tasks last ran: %s", scrub(str(error)))
            return
        at = now()
        periods = {one.name: one for one in task_runs.planned()}
        for name, entry in self.schedule.items():
            if name not in periods:
                continue
            every = periods[name].period
            started = last.get(periods[name].task)
            if started is None or at - started >= every:
                # Due already: soon, but not all at once.
                wait_s = random.uniform(0, min(FIRST_RUN_WITHIN_S, every.total_seconds() / 2))  # noqa: S311
                started = at - every + timedelta(seconds=wait_s)
            entry.last_run_at = min(started, at)
