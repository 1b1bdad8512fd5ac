"""What has to be there before serving: database schema, static files, the solo member."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import Error, connection

from copilot_site import __version__

# The name of our advisory lock: any number that no other program uses on this database.
MIGRATING = 4_141_202_611


def prepare_database() -> None:
    """Bring the schema up to date; nothing happens when it is. Of several processes one does it."""
    with _alone():
        call_command("migrate", interactive=False, verbosity=0)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold what only one process of all hosts holds at a time.

    A SQLite file serves one gateway, and its commands wait for one another's transactions.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATING])
        try:
            yield
        finally:
            # Not when the connection is lost: the lock has gone with it, and the error counts.
            with contextlib.suppress(Error):
                cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATING])


def prepare_static_files() -> bool:
    """Collect static files when they changed since the last time; True when they did."""
    stamp = Path(settings.STATIC_ROOT) / ".stamp"
    fingerprint = _fingerprint()
    if stamp.exists() and stamp.read_text() == fingerprint:
        return False
    call_command("collectstatic", interactive=False, verbosity=0, clear=True)
    stamp.write_text(fingerprint)
    return True


def _fingerprint() -> str:
    """Names, sizes and times of every source file, in one digest."""
    digest = hashlib.sha256(__version__.encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            status = os.stat(storage.path(path))
            digest.update(f"{path}:{status.st_size}:{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
