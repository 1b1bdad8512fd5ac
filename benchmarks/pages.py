"""How long pages take over a full data folder, as an administrator sees them; see `benchmarks.fill`.

    COPILOT_DATA_DIR=/tmp/full python -m benchmarks.pages [--only /dashboard/requests/] [--queries]

With DATABASE_URL the same over PostgreSQL. The view's own time in this process, the median of five
after the first: no socket, no browser. CPU is this process's, and of a PostgreSQL on the same machine
the server process's that serves it, the mean of all turns (it is counted in hundredths of a second).
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

TURNS = 5
RANGES = ("24h", "7d", "30d", "cycle")
FILTERS = (
    "outcome=errors", "outcome=retried", "outcome=timeout", "outcome=refused", "outcome=cancelled",
    "model=claude-opus-5", "model=opus", "model=nowhere", "client=codex_cli_rs/0.140.0",
    "client=nobody", "endpoint=messages", "endpoint=gemini", "member={member}", "key={key}",
    "account=3", "member={member}&model=gpt-5.4", "model=gpt-5.4&client=curl/8.5.0",
    "model=gpt-5.4&client=curl/8.5.0&outcome=errors", "q=opus", "q=member07", "q=nothing-like-it",
    "q=019e", "q=a+key", "q=0123456789abcdef01234567",
)  # fmt: skip
OTHERS = (
    "/dashboard/keys/", "/dashboard/keys/?page=9", "/dashboard/keys/?q=key+77",
    "/dashboard/keys/{prefix}/", "/dashboard/accounts/", "/dashboard/members/",
    "/dashboard/members/member07/",
    "/dashboard/teams/", "/dashboard/live/", "/dashboard/conversations/{conversation}/",
    "/dashboard/requests/{exchange}/", "/dashboard/search/?q={exchange}",
    "/dashboard/search/?q=opus", "/dashboard/reports/reconciliation/", "/dashboard/reports/months/",
    "/dashboard/notifications/", "/dashboard/health/", "/dashboard/models/",
    "/dashboard/approvals/", "/dashboard/privacy/",
)  # fmt: skip
REPORTS = ("model", "member", "key", "client", "account", "team", "cost_centre")


def pages() -> Iterator[str]:
    day = datetime.now(UTC).date()
    long = f"from={day - timedelta(days=89)}&to={day}"
    for asked in (*(f"range={name}" for name in RANGES), long):
        yield f"/dashboard/?{asked}"
        yield f"/dashboard/requests/?{asked}"
    for by in ("member", "key", "client", "account"):
        yield f"/dashboard/?range=30d&by={by}"
    for narrowed in ("model=claude-opus-5", "member={member}", "key={key}", "account=3"):
        yield f"/dashboard/?range=30d&{narrowed}"
    yield "/dashboard/?range=30d&member={member}&model=gpt-5.4"
    for narrowed in FILTERS:
        yield f"/dashboard/requests/?range=30d&{narrowed}"
    for narrowed in ("", "&outcome=errors", "&model=nowhere", "&q=nothing-like-it"):
        yield f"/dashboard/requests/?{long}{narrowed}"
    yield "/dashboard/requests/?range=30d&after={place}"
    yield "/dashboard/requests/?range=30d&outcome=errors&after={place}"
    yield from OTHERS
    for grouping in REPORTS:
        yield f"/dashboard/reports/{grouping}/"
    for grouping in ("model", "member", "key"):
        yield f"/dashboard/reports/{grouping}/?range=30d"
        yield f"/dashboard/reports/{grouping}.csv?range=30d"
    yield "/dashboard/reports/model/?range=30d&client=curl/8.5.0"
    yield "/dashboard/requests/export.csv?range=24h"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.pages", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of addresses")
    parser.add_argument("--queries", action="store_true", help="also the slowest queries of each")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "copilot_site.settings")
    import django

    django.setup()
    client, facts = _prepared()
    print("   wall    CPU  queries  kB  status")
    for pattern in pages():
        page = pattern.format(**facts)
        if options.only and not any(part in page for part in options.only):
            continue
        _measure(client, page, tells_queries=options.queries)


def _prepared() -> tuple[Any, dict[str, Any]]:
    """A client that is signed in as an administrator, and what addresses need."""
    from django.test import Client

    from accounts.models import ApiKey, Member
    from copilot_site.preparation import prepare_static_files
    from usage.models import UsageRecord

    prepare_static_files()
    admin, _ = Member.objects.get_or_create(
        username="bench-admin", defaults={"is_superuser": True, "is_staff": True}
    )
    client = Client(headers={"host": "localhost"})
    client.force_login(admin)
    member = Member.objects.get(username="member07")
    key = ApiKey.objects.filter(owner=member).order_by("pk")[0]
    record = UsageRecord.objects.all()[200]
    return client, {
        "member": member.pk,
        "key": key.pk,
        "prefix": key.prefix,
        "conversation": record.conversation,
        "exchange": record.pk,
        "place": f"{(datetime.now(UTC) - timedelta(days=20)).isoformat()}~".replace("+", "%2B"),
    }


def _server_cpu_ms() -> float:
    """What the database's own process has worked for this connection, where it can be seen."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        process = Path("/proc", str(cursor.fetchone()[0]), "stat")
    if not process.exists():
        return 0.0
    fields = process.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _measure(client: Any, page: str, *, tells_queries: bool) -> None:
    from django.db import connection, reset_queries

    took, worked = [], []
    client.get(page)
    served = _server_cpu_ms()
    for _turn in range(TURNS + 1):
        reset_queries()
        connection.force_debug_cursor = tells_queries
        began, begun = time.perf_counter(), time.process_time()
        response = client.get(page)
        size = len(b"".join(response) if response.streaming else response.content)
        worked.append((time.process_time() - begun) * 1000)
        took.append((time.perf_counter() - began) * 1000)
        connection.force_debug_cursor = False
    wall = statistics.median(took[1:])
    cpu = statistics.median(worked[1:]) + (_server_cpu_ms() - served) / (TURNS + 1)
    count = len(connection.queries_log) if tells_queries else 0
    print(
        f"{wall:6.0f} {cpu:6.0f} {count or '':>6} {size // 1024:6d}  {response.status_code}  {page}"
        f"  (first {took[0]:.0f})",
        flush=True,
    )
    if tells_queries:
        for query in sorted(connection.queries_log, key=lambda q: -float(q["time"]))[:3]:
            if float(query["time"]) >= 0.005:
                print(f"          {query['time']} s  {query['sql'][:1500]}", flush=True)


if __name__ == "__main__":
    main()
