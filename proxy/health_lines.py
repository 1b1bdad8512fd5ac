"""Whether all is well, one line for each part: green, amber or red, with a word."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import import_string
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import book
from accounts.models import Account, UpstreamProfile
from proxy import canary, slowdown
from proxy.models import Catalog, UpstreamProbe
from proxy.shared import shared
from proxy.slowdown import Slow
from usage import quota, task_runs
from usage.filters import FAILED
from usage.models import TaskRun, UsageRecord
from usage.recorder import recorder

Tone = Literal["ok", "warn", "bad"]
QUOTA_LATE = timedelta(minutes=15)
CATALOG_LATE = timedelta(minutes=30)
# Refreshing tokens is the most frequent task, every half minute.
WORKER_LATE = timedelta(minutes=3)
PROBE_LATE = timedelta(hours=2)
REDIS_TIMEOUT_S: Final = 1.0
REPORT_KEPT_S: Final = 60
MAX_COUNTED: Final = 1000


@dataclass(frozen=True, slots=True)
class HealthLine:
    """`at` is when the fact was last true or is next due; None when time says nothing."""

    part: str
    tone: Tone
    word: str
    detail: str
    at: datetime | None = None


def lines() -> list[HealthLine]:
    """Every part in the order in which a person would look for a fault."""
    found = [
        _database(),
        _cache(),
        _broker(),
        _limits(),
        _channel(),
        _worker(),
        _records(),
        _profile(),
    ]
    found += [_probe(probe) for probe in UpstreamProbe.objects.all()]
    paces = slowdown.by_account()
    for account in Account.objects.select_related("pool").order_by("login"):
        found += [_token(account), *_paces(account, paces.get(account.pk, []))]
        if quota.has_document(account):
            found += [_quota(account)]
    found += [_catalog(catalog) for catalog in Catalog.objects.select_related("account")]
    return [*found, *_upstream()]


def _database() -> HealthLine:
    part = _("Database")
    kind = connection.vendor
    try:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except Error as error:
        return HealthLine(part, "bad", _("away"), str(error)[:200])
    if missing:
        text = ngettext(
            "%(count)d update is missing: run manage.py migrate",
            "%(count)d updates are missing: run manage.py migrate",
            missing,
        )
        return HealthLine(part, "bad", _("out of date"), text % {"count": missing})
    return HealthLine(part, "ok", _("ready"), {"sqlite": "SQLite"}.get(kind, kind))


def _cache() -> HealthLine:
    part = _("Cache")
    mode = _("Redis") if settings.TEAM_MODE else _("in this process")
    try:
        cache.set("health", 1, 5)
        is_kept = cache.get("health") == 1
    except Exception as error:  # noqa: BLE001 - each cache backend has its own exceptions
        return HealthLine(part, "bad", _("away"), type(error).__name__)
    # Kept in this process for as long as Redis does not answer.
    if getattr(cache, "is_away", False):
        return HealthLine(part, "bad", _("away"), mode)
    if not is_kept:
        return HealthLine(part, "bad", _("forgets"), mode)
    return HealthLine(part, "ok", _("ready"), mode)


def _broker() -> HealthLine:
    return _over_redis(_("Broker"), _("requests to the worker, by Redis"))


def _channel() -> HealthLine:
    return _over_redis(_("Live channel"), _("what the pages hear at once, by Redis"))


def _limits() -> HealthLine:
    """Where limits are counted: as this process sees it while it counts by itself."""
    part = _("Limits")
    if shared.state == "away":
        text = _("Redis is away: each process counts by itself until it is back")
        return HealthLine(part, "bad", _("per process"), text)
    return _over_redis(part, _("counted in Redis for all processes"))


def _paces(account: Account, slows: list[Slow]) -> list[HealthLine]:
    """An account that GitHub has limited a moment ago goes slower for a while."""
    found = []
    for slow in slows:
        part = _("Pace of %(login)s") % {"login": account.login}
        word = _("limited") if slow.state == "limited" else _("recovering")
        text = ngettext(
            "%(count)d request at once after a limit of GitHub's",
            "%(count)d requests at once after a limit of GitHub's",
            slow.at_once,
        ) % {"count": slow.at_once}
        found.append(
            HealthLine(part, "warn", word, f"{slow.model}: {text}" if slow.model else text)
        )
    return found


def _over_redis(part: str, purpose: str) -> HealthLine:
    if not settings.TEAM_MODE:
        return HealthLine(part, "ok", _("ready"), _("in this process"))
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            socket_timeout=REDIS_TIMEOUT_S,
        ) as connected:
            connected.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return HealthLine(part, "bad", _("away"), type(error).__name__)
    return HealthLine(part, "ok", _("ready"), purpose)


def _worker() -> HealthLine:
    """Whether anybody does the background work: by its newest heartbeat."""
    part = _("Worker and beat")
    last = TaskRun.objects.first()
    if last is None:
        return HealthLine(part, "warn", _("never seen"), _("no task has run yet"))
    if now() - last.started_at > WORKER_LATE:
        text = _("no task has begun for a while: is the worker running, and beat?")
        return HealthLine(part, "bad", _("silent"), text, last.started_at)
    return HealthLine(part, "ok", _("ready"), last.worker, last.started_at)


def _probe(probe: UpstreamProbe) -> HealthLine:
    """What the drift canary heard last. A host that could not be judged is no alarm."""
    kinds = {"models": _("Copilot API"), "account": _("GitHub REST API")}
    words = {"kind": kinds.get(probe.kind, probe.kind), "host": probe.host}
    part = _("%(kind)s at %(host)s") % words
    text = canary.sentence(probe)
    match probe.state:
        case UpstreamProbe.State.REFUSED:
            detail = f"{text.rstrip('.')}. {canary.advice(probe)}"
            return HealthLine(part, "bad", _("refuses our versions"), detail, probe.since)
        case UpstreamProbe.State.OUTDATED:
            detail = f"{text.rstrip('.')}. {canary.advice(probe)}"
            return HealthLine(part, "warn", _("asks for an update"), detail, probe.since)
        case UpstreamProbe.State.UNCLEAR:
            return HealthLine(part, "warn", _("not judged"), text, probe.at)
    if now() - probe.at > PROBE_LATE:
        late = _("the canary has not asked for a while")
        return HealthLine(part, "warn", _("old"), late, probe.at)
    return HealthLine(part, "ok", _("accepts us"), text, probe.at)


def _records() -> HealthLine:
    part = _("Usage records")
    words = {"waiting": recorder.waiting, "written": recorder.written}
    text = _("%(waiting)d waiting, %(written)d written since the start") % words
    if recorder.lost:
        lost = _("%(lost)d records could not be kept") % {"lost": recorder.lost}
        return HealthLine(part, "bad", _("lost"), lost)
    if recorder.waiting > 1000:
        return HealthLine(part, "warn", _("behind"), text)
    return HealthLine(part, "ok", _("ready"), text)


def _profile() -> HealthLine:
    part = _("Upstream profile")
    profile = UpstreamProfile.objects.filter(is_active=True).first()
    if profile is None:
        return HealthLine(part, "warn", _("none active"), _("the shipped default is used"))
    text = _("%(name)s, API version %(version)s") % {
        "name": profile.name,
        "version": profile.api_version,
    }
    return HealthLine(part, "ok", _("active"), text)


def _token(account: Account) -> HealthLine:
    part = _("Token of %(login)s") % {"login": account.login}
    if account.state in (Account.State.PAUSED, Account.State.COOLING_DOWN):
        return HealthLine(part, "warn", account.get_state_display().lower(), account.state_reason)
    if account.state != Account.State.ACTIVE:
        return HealthLine(part, "bad", account.get_state_display().lower(), account.state_reason)
    if account.credential_kind == Account.CredentialKind.DIRECT:
        return HealthLine(part, "ok", _("ready"), _("sent as it is, does not expire"))
    ends_at = None
    if account.token_fetched_at is not None:
        ends_at = account.token_fetched_at + timedelta(seconds=account.token_lifetime_s)
    if account.refresh_error:
        is_over = ends_at is None or ends_at <= now()
        return HealthLine(
            part, "bad" if is_over else "warn", _("refresh fails"), account.refresh_error, ends_at
        )
    if ends_at is None or ends_at <= now():
        return HealthLine(part, "warn", _("expired"), _("made anew with the next request"), ends_at)
    return HealthLine(part, "ok", _("ready"), _seat(account), ends_at)


def _seat(account: Account) -> str:
    """Where it goes, which pool it serves, which models it cannot serve just now."""
    limited = [
        model for model, limit in book.view_of(account).limits.items() if limit.until > now()
    ]
    said = [account.api_base]
    if account.pool is not None:
        words = {"name": account.pool.name, "weight": account.weight}
        said.append(_("pool %(name)s, weight %(weight)d") % words)
    if limited:
        said.append(_("limited: %(models)s") % {"models": ", ".join(sorted(limited))})
    return "; ".join(part for part in said if part)


def _quota(account: Account) -> HealthLine:
    part = _("Quota of %(login)s") % {"login": account.login}
    at = account.quota_polled_at
    if account.quota_error:
        return HealthLine(part, "warn", _("not read"), account.quota_error, at)
    if at is None:
        return HealthLine(part, "warn", _("never read"), "")
    if now() - at > QUOTA_LATE:
        late = _("no worker has polled it for a while")
        return HealthLine(part, "warn", _("old"), late, at)
    return HealthLine(part, "ok", _("fresh"), "", at)


def _catalog(catalog: Catalog) -> HealthLine:
    part = _("Models of %(login)s") % {"login": catalog.account.login}
    count = len(catalog.entries)
    text = ngettext("%(count)d model", "%(count)d models", count) % {"count": count}
    if catalog.error:
        return HealthLine(part, "warn", _("not refreshed"), catalog.error, catalog.fetched_at)
    if catalog.fetched_at is None or now() - catalog.fetched_at > CATALOG_LATE:
        return HealthLine(part, "warn", _("old"), text, catalog.fetched_at)
    return HealthLine(part, "ok", _("fresh"), text, catalog.fetched_at)


def _upstream() -> list[HealthLine]:
    """The failures of the last hour at each host, counted at most over a thousand exchanges."""
    rows = UsageRecord.objects.filter(started_at__gte=now() - timedelta(hours=1))
    outcomes = list(rows.values_list("account_id", "outcome")[:MAX_COUNTED])
    if not outcomes:
        return [HealthLine(_("Upstream, last hour"), "ok", _("quiet"), _("no requests"))]
    hosts = {
        pk: urlsplit(base).netloc or host
        for pk, base, host in Account.objects.values_list("pk", "api_base", "host")
    }
    total: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for account_id, outcome in outcomes:
        if account_id is None:
            # Refused before it had a seat: nothing that a host could have done.
            continue
        host = hosts.get(account_id, "–")
        total[host] += 1
        failed[host] += outcome in FAILED
    return [_share(host, failed[host], total[host]) for host in sorted(total)]


def _share(host: str, failed: int, total: int) -> HealthLine:
    part = _("Upstream %(host)s, last hour") % {"host": host}
    share = failed * 100 / total
    words = {"failed": failed, "all": total, "share": f"{share:.1f}"}
    text = _("%(failed)d of %(all)d failed (%(share)s %%)") % words
    tone: Tone = "bad" if share >= 20 else "warn" if share >= 5 else "ok"
    return HealthLine(part, tone, _("failing") if tone != "ok" else _("ready"), text)


# Background work.


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One scheduled task: how it is doing, its last run, when the next is due."""

    name: str
    every: timedelta
    tone: Tone
    word: str
    started_at: datetime | None
    duration_ms: int | None
    result: str
    next_at: datetime | None


def tasks() -> list[TaskLine]:
    """Every task of the schedule, those in trouble first."""
    words = {
        "ok": _("ready"),
        "running": _("running"),
        "waiting": _("waits for its turn"),
        "never": _("never run"),
        "late": _("late"),
        "failed": _("failed"),
        "cut_off": _("cut off"),
    }
    found = []
    for beat in task_runs.beats():
        # While one runs, the last result is the one before it.
        ended = next((run for run in beat.runs if run.finished_at is not None), None)
        found.append(
            TaskLine(
                name=beat.planned.name,
                every=beat.planned.period,
                tone=beat.tone,
                word=words[beat.state],
                started_at=beat.last.started_at if beat.last else None,
                duration_ms=ended.duration_ms if ended else None,
                result=ended.result if ended else "",
                next_at=beat.next_at,
            )
        )
    rank = {"bad": 0, "warn": 1, "ok": 2}
    return sorted(found, key=lambda line: (rank[line.tone], line.name))


def report() -> str:
    """What `debug --json` gives, at most a minute old: it asks the workers, which takes a second."""
    kept = cache.get("health.report")
    if kept is None:
        diagnose = import_string(settings.HEALTH_REPORT)
        kept = json.dumps(diagnose(), indent=2, default=str)
        cache.set("health.report", kept, REPORT_KEPT_S)
    return str(kept)
