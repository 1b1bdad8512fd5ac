"""What `debug` tells: versions, folders, services, accounts. No secrets, and no network but ours.

The keys `version, runtime, paths, tokenExists` are those of copilot-api; the others are added.
"""

import platform
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.cache import cache
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor

from accounts.models import Account
from copilot_site import __version__
from copilot_site.logging import scrub

PING_S: Final = 1.0


def report() -> dict[str, Any]:
    """Everything as plain values; a part that is away says so and stops nothing."""
    database = _database()
    accounts = _accounts()
    return {
        "version": __version__,
        "runtime": {
            "name": platform.python_implementation(),
            "version": platform.python_version(),
            "platform": sys.platform,
            "arch": platform.machine(),
        },
        "paths": {
            "APP_DIR": str(settings.DATA_DIR),
            # Tokens stand encrypted in the database; there is no file of their own.
            "GITHUB_TOKEN_PATH": database["place"],
        },
        "tokenExists": any(account["has_token"] for account in accounts),
        "database": database,
        "broker": _broker(),
        "cache": _cache(),
        "accounts": accounts,
        "workers": _workers(),
    }


def text(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The report as labelled rows."""
    runtime, paths = found["runtime"], found["paths"]
    accounts = [
        f"{a['login']} ({', '.join(filter(None, (a['state'], a['token_kind'], a['plan'])))})"
        for a in found["accounts"]
    ]
    return [
        ("Version", found["version"]),
        ("Runtime", f"{runtime['name']} {runtime['version']} on {_system(runtime)}"),
        ("Data folder", paths["APP_DIR"]),
        ("Tokens", f"encrypted in the database, {paths['GITHUB_TOKEN_PATH']}"),
        ("Token there", "yes" if found["tokenExists"] else "no"),
        ("Database", _words(found["database"])),
        ("Broker", _words(found["broker"])),
        ("Cache", _words(found["cache"])),
        ("Accounts", ", ".join(accounts) or "none"),
        ("Workers", _words(found["workers"])),
    ]


def _system(runtime: dict[str, str]) -> str:
    return f"{runtime['platform']} {runtime['arch']}"


def _words(part: dict[str, Any]) -> str:
    words = [part["kind"], part.get("state", ""), part.get("detail", "")]
    words.append(", ".join(part.get("names", [])))
    return ", ".join(word for word in words if word)


def _database() -> dict[str, Any]:
    kind = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(
        connection.vendor, connection.vendor
    )
    found: dict[str, Any] = {"kind": kind, "place": _place()}
    if connection.vendor == "sqlite" and not Path(found["place"]).exists():
        # Connecting would make an empty file: looking changes nothing.
        return found | {"state": "not made yet", "detail": "the first start or auth makes it"}
    try:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except Error as error:
        return found | {"state": "away", "detail": _reason(error)}
    if missing:
        return found | {"state": "out of date", "detail": f"{missing} updates missing"}
    return found | {"state": "ready", "detail": ""}


def _place() -> str:
    if not settings.DATABASE_URL:
        return str(settings.DATABASES["default"]["NAME"])
    return _without_password(settings.DATABASE_URL)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return scrub(lines[0])[:200]


def _accounts() -> list[dict[str, Any]]:
    if connection.vendor == "sqlite" and not Path(_place()).exists():
        return []
    try:
        return [
            {
                "login": row.login,
                "host": row.host,
                "state": row.state,
                "token_kind": row.token_kind,
                "plan": row.plan,
                "has_token": bool(row.github_token),
            }
            for row in Account.objects.order_by("login", "host")
        ]
    except Error:
        # The database's own line says why.
        return []


def _broker() -> dict[str, Any]:
    if not settings.TEAM_MODE:
        return {"kind": "in the gateway's process", "state": "ready", "detail": "no Redis needed"}
    place = _without_password(settings.REDIS_URL)
    return {"kind": "Redis", "place": place, "state": _redis_state(), "detail": place}


def _redis_state() -> str:
    import redis

    try:
        client = redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=PING_S, socket_timeout=PING_S
        )
        client.ping()
    except (redis.RedisError, OSError, ValueError):
        return "away"
    return "ready"


def _cache() -> dict[str, Any]:
    if not settings.TEAM_MODE:
        return {"kind": "in each process", "state": "ready"}
    try:
        cache.set("debug", 1, 5)
        state = "ready" if cache.get("debug") == 1 else "forgets"
        if getattr(cache, "is_away", False):
            state = "away"
    except Exception:  # noqa: BLE001 - each cache backend has its own exceptions
        state = "away"
    return {"kind": "Redis", "state": state}


def _workers() -> dict[str, Any]:
    if not settings.TEAM_MODE:
        return {"kind": "threads of the gateway's own process", "names": []}
    if _redis_state() != "ready":
        return {"kind": "Celery", "state": "unknown", "names": []}
    from copilot_site.celery import app

    try:
        answers = app.control.ping(timeout=PING_S)
    except Exception:  # noqa: BLE001 - each broker has its own exceptions
        return {"kind": "Celery", "state": "unknown", "names": []}
    names = sorted(name for answer in answers or [] for name in answer)
    return {"kind": "Celery", "state": "ready" if names else "none answers", "names": names}
