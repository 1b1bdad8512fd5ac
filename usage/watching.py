"""What is looked at every minute for something worth telling; each looker by itself.

Other packages add their own lookers with `watcher`, in their AppConfig's `ready`.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from django.db import Error
from django.utils.timezone import now

Look = Callable[[datetime], int]
_watchers: dict[str, Look] = {}
logger = logging.getLogger(__name__)


class WatchersFailed(Exception):
    """Some of them; the others have looked."""


def watcher(look: Look) -> Look:
    """Have `look` called with the present time at every watch; it gives back how many notices."""
    _watchers[f"{look.__module__}.{look.__qualname__}"] = look
    return look


def watch(at: datetime | None = None) -> int:
    """Let all look; how many new notices. Raises `WatchersFailed` when all have had their turn."""
    at = at or now()
    told, failed = 0, []
    for name, look in list(_watchers.items()):
        try:
            told += look(at)
        except Error:
            # Without a database nobody can look, and the task's own failure says so.
            raise
        except Exception:
            logger.exception("%s could not look", name)
            failed.append(name)
    if failed:
        raise WatchersFailed(", ".join(failed))
    return told
