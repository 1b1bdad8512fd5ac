"""Tables held in memory: what a request reads without touching the database.

A snapshot has a cheap `revision` query and a `load` that builds its value. One thread asks every
second whether a revision moved and loads again; so a revoked key is refused everywhere within two
seconds, whatever process revoked it. When the database is away the last value stays in use.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django.db import Error, close_old_connections, models
from django.db.models import Count, Max

T = TypeVar("T")
POLL_S = 1.0
logger = logging.getLogger(__name__)


def revision_of(*tables: type[models.Model]) -> Callable[[], object]:
    """Moves when a row of `tables` is added, removed or saved. Each has an indexed `updated_at`."""

    def revision() -> object:
        return tuple(
            tuple(sorted(t._default_manager.aggregate(n=Count("pk"), at=Max("updated_at")).items()))
            for t in tables
        )

    return revision


class Snapshot(Generic[T]):
    """A value loaded from the database, at most a second older than its tables."""

    all: "list[Snapshot[Any]]" = []

    def __init__(self, name: str, revision: Callable[[], object], load: Callable[[], T], empty: T):
        self.name = name
        self.value = empty
        self.loaded_at: float | None = None
        self._revision = revision
        self._load = load
        self._seen: object = None
        self._lock = threading.Lock()
        Snapshot.all.append(self)

    def refresh(self, *, force: bool = False) -> None:
        """Load again if the tables moved. Raises `django.db.Error` when the database is away."""
        with self._lock:
            revision = self._revision()
            if force or self.loaded_at is None or revision != self._seen:
                self.value = self._load()
                self._seen = revision
            self.loaded_at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since the value was last known to be true; infinite before the first load."""
        return float("inf") if self.loaded_at is None else time.monotonic() - self.loaded_at


def refresh_all(*, force: bool = False) -> None:
    for snapshot in Snapshot.all:
        snapshot.refresh(force=force)


class Watcher:
    """The thread that keeps every snapshot of this process fresh."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        failing = False
        while not self._stop.wait(POLL_S):
            try:
                close_old_connections()
                refresh_all()
                failing = False
            except Error as error:
                if not failing:
                    logger.warning("database away, serving what is in memory: %s", error)
                failing = True
