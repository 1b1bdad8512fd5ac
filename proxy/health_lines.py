"""Whether all is well, one line for each part: green, amber or red, with a word."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from django.conf import settings
from django.core.cache import cache
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Account, UpstreamProfile
from proxy.models import Catalog
from usage.filters import FAILED
from usage.models import UsageRecord
from usage.recorder import recorder

Tone = Literal["ok", "warn", "bad"]
QUOTA_LATE = timedelta(minutes=15)
CATALOG_LATE = timedelta(minutes=30)


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
    found = [_database(), _cache(), _records(), _profile()]
    for account in Account.objects.order_by("login"):
        found += [_token(account), _quota(account)]
    found += [_catalog(catalog) for catalog in Catalog.objects.select_related("account")]
    return [*found, _upstream()]


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
    part = _("Cache and live channel")
    mode = _("Redis") if settings.TEAM_MODE else _("in this process")
    try:
        cache.set("health", 1, 5)
        is_kept = cache.get("health") == 1
    except Exception as error:  # noqa: BLE001 - each cache backend has its own exceptions
        return HealthLine(part, "bad", _("away"), type(error).__name__)
    if not is_kept:
        return HealthLine(part, "bad", _("forgets"), mode)
    return HealthLine(part, "ok", _("ready"), mode)


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
    return HealthLine(part, "ok", _("ready"), account.api_base, ends_at)


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


def _upstream() -> HealthLine:
    """The failures of the last hour, counted at most over a thousand exchanges."""
    part = _("Upstream, last hour")
    rows = UsageRecord.objects.filter(started_at__gte=now() - timedelta(hours=1))
    outcomes = list(rows.values_list("outcome", flat=True)[:1000])
    failed = sum(outcome in FAILED for outcome in outcomes)
    if not outcomes:
        return HealthLine(part, "ok", _("quiet"), _("no requests"))
    share = failed * 100 / len(outcomes)
    words = {"failed": failed, "all": len(outcomes), "share": f"{share:.1f}"}
    text = _("%(failed)d of %(all)d failed (%(share)s %%)") % words
    tone: Tone = "bad" if share >= 20 else "warn" if share >= 5 else "ok"
    return HealthLine(part, tone, _("failing") if tone != "ok" else _("ready"), text)
