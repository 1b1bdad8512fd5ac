"""Celery: background work. In solo mode a worker and beat live as threads of the web process."""

import os
import threading
from typing import Any

from celery import Celery
from celery.schedules import schedule

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")

app = Celery("copilot_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    "refresh-tokens": {"task": "accounts.tasks.refresh_tokens", "schedule": schedule(30.0)},
    "poll-quotas": {"task": "usage.tasks.poll_quotas", "schedule": schedule(60.0)},
    "refresh-catalogs": {"task": "proxy.tasks.refresh_catalogs", "schedule": schedule(60.0)},
    "delete-old-records": {"task": "usage.tasks.delete_old_records", "schedule": schedule(86400.0)},
}


class Embedded:
    """A worker (threads) and beat inside this process, on the in-memory broker.

    `celery worker -B` never runs a task on `memory://`; a `WorkController` and an `EmbeddedService`
    as threads of one process do.
    """

    def __init__(self) -> None:
        self._worker: Any = None
        self._beat: Any = None

    def start(self) -> None:
        import warnings

        from celery.beat import EmbeddedService, Scheduler
        from celery.exceptions import SecurityWarning

        # Its advice is for workers that read pickled messages of others; ours has no broker at all.
        warnings.simplefilter("ignore", SecurityWarning)

        self._worker = app.Worker(
            pool="threads",
            concurrency=2,
            hostname="solo@localhost",
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            loglevel="WARNING",
            quiet=True,
        )
        threading.Thread(target=self._worker.start, name="celery-worker", daemon=True).start()
        self._beat = EmbeddedService(app, thread=True, scheduler_cls=Scheduler, max_interval=5)
        self._beat.daemon = True
        self._beat.start()

    def stop(self) -> None:
        if self._beat is not None:
            self._beat.stop()
        if self._worker is not None:
            self._worker.should_stop = True
            self._worker.stop()
