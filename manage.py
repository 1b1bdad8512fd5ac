#!/usr/bin/env python
"""The one command surface: `python manage.py start` and its siblings."""

import os
import sys
from types import ModuleType
from typing import Any


def take_data_dir(arguments: list[str]) -> None:
    """Settings name the data folder when they are loaded, which is before options are parsed."""
    for position, argument in enumerate(arguments):
        if argument == "--data-dir" and position + 1 < len(arguments):
            os.environ["COPILOT_DATA_DIR"] = arguments[position + 1]
        elif argument.startswith("--data-dir="):
            os.environ["COPILOT_DATA_DIR"] = argument.partition("=")[2]


# Packages that others load when they find them, and a gateway has no use for: colours and tracebacks of
# terminals, other event loops, formats and detectors of other people's text. 11 MiB together.
SPARED = ("chardet", "greenlet", "opentelemetry", "pygments", "rich", "twisted", "yaml")
# The admin's widgets know PostgreSQL's columns where a driver is installed: 9 MiB without need on SQLite.
DRIVERS = ("psycopg", "psycopg2")

# Without REDIS_URL nobody connects; our modules only name its classes. 5 MiB.
REDIS = ("redis", "redis.asyncio", "redis.asyncio.retry", "redis.backoff", "redis.exceptions")


class NamesOnly(ModuleType):
    """Stands for a package of which only names are needed: each is an exception that nobody raises."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> type[Exception]:
        if name.startswith("__"):
            raise AttributeError(name)
        found = type(name, (Exception,), {})
        setattr(self, name, found)
        return found


def spare_memory(arguments: list[str]) -> None:
    """Let `start` go without packages that it does not need: they are as if not installed."""
    if arguments[1:2] == ["start"]:
        names = SPARED if os.environ.get("DATABASE_URL") else SPARED + DRIVERS
        absent: dict[str, Any] = dict.fromkeys(names)
        sys.modules.update(absent)
        if not os.environ.get("REDIS_URL"):
            sys.modules.update({name: NamesOnly(name) for name in REDIS})


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")
    take_data_dir(sys.argv)
    spare_memory(sys.argv)
    # Database, keys and journals are the owner's alone, whatever the shell's habit is.
    os.umask(0o077)
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.stderr.write(f"{error}\nCorrect the setting and start again.\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
