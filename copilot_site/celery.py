"""Celery: background work. In solo mode a worker and beat live as threads of the web process."""

import os
import threading
from typing import Any

from celery import Celery
from celery.schedules import schedule
from celery.signals import beat_init, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")

app = Celery("copilot_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_scheduler = "copilot_site.heartbeats:Remembering"
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
# How often each task runs, in seconds. Every run leaves a heartbeat, which the Health page shows.
EVERY_S = {
    "accounts.tasks.refresh_tokens": 30.0,
    "usage.tasks.deliver_notifications": 30.0,
    "proxy.tasks.sweep_approvals": 60.0,
    "usage.tasks.poll_quotas": 60.0,
    "usage.tasks.watch_thresholds": 60.0,
    "usage.tasks.send_digests": 300.0,
    "proxy.tasks.refresh_catalogs": 60.0,
    "proxy.tasks.probe_upstream": HOUR_S / 2,
    "usage.tasks.forecast": HOUR_S,
    "usage.tasks.reconcile": 6 * HOUR_S,
    "usage.tasks.close_month": 6 * HOUR_S,
    "proxy.tasks.delete_old_changes": DAY_S,
    "proxy.tasks.forget_conversations": DAY_S,
    "usage.tasks.check_rollups": DAY_S,
    "usage.tasks.delete_old_records": DAY_S,
}
app.conf.beat_schedule = {
    name.rpartition(".")[2].replace("_", "-"): {
        "task": name,
        "schedule": schedule(every_s),
        # What waited for a worker longer than that is overtaken by the next one.
        "options": {"expires": every_s},
    }
    for name, every_s in EVERY_S.items()
}


@worker_init.connect
@beat_init.connect
def refuse_weak_settings(**_: Any) -> None:
    """A worker or beat of a team does not run with what would make it weak."""
    from django.core.exceptions import ImproperlyConfigured

    from copilot_site import checks, hardening

    hardening.leave_no_core()
    try:
        checks.refuse_weak_settings()
    except ImproperlyConfigured as error:
        # Celery writes down what its receivers raise and goes on, but not for this.
        raise SystemExit(str(error)) from None


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

        from celery.beat import EmbeddedService
        from celery.exceptions import SecurityWarning

        from copilot_site.heartbeats import Remembering

        # Its advice is for workers that read pickled messages of others; ours has no broker at all.
        warnings.simplefilter("ignore", SecurityWarning)
        # They load all pages, 10 MiB of a process that may never serve one; `manage.py check` is theirs.
        os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

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
        self._beat = EmbeddedService(app, thread=True, scheduler_cls=Remembering, max_interval=5)
        self._beat.daemon = True
        self._beat.start()

    def stop(self) -> None:
        if self._beat is not None:
            self._beat.stop()
        if self._worker is not None:
            self._worker.should_stop = True
            self._worker.stop()
