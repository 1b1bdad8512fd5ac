"""Accounts and budgets as cards show them: words, meter, tone, and what one may do."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.core.cache import caches
from django.utils.formats import date_format
from django.utils.timezone import localtime, now
from django.utils.translation import gettext as _

from accounts.access import oversees
from accounts.models import Account, ApiKey, Member
from usage import live
from usage.figures import credit_number, span
from usage.forecasts import Forecast, cycle_start
from usage.quota import has_document
from usage.quota_shapes import QuotaReading
from usage.quota_summary import Summary, summary
from usage.recorder import recorder
from usage.reports import KeyUse

Tone = Literal["ok", "warn", "bad", ""]
SUMMARY_KEPT_S: Final = 30
QUOTA_PERIOD: Final = timedelta(minutes=5)
PUBLIC_HOST: Final = "github.com"


@dataclass(frozen=True, slots=True)
class Meter:
    """Widths in percent as SVG takes them; `pace` is where an even use would stand now."""

    width: str
    tone: Tone
    pace: str
    label: str


@dataclass(frozen=True, slots=True)
class Window:
    """A five-hour or weekly limit: what is used of it, and when it begins anew."""

    name: str
    meter: Meter
    reset_at: datetime | None


@dataclass(frozen=True, slots=True)
class Card:
    """An account as one person may see it. `is_full` is false for members who are not its owner:
    they see the percentage and the state."""

    account: Account
    summary: Summary
    is_full: bool
    state: str
    state_tone: Tone
    outlook: str
    outlook_tone: Tone
    meter: Meter | None
    windows: list[Window]
    is_stale: bool
    trouble: int
    # Requests in flight, over all processes.
    load: int = 0

    @property
    def kind(self) -> str:
        """How the account's requests prove themselves, in a word or two."""
        return {
            Account.CredentialKind.EXCHANGE.value: _("exchanged token"),
            Account.CredentialKind.DIRECT.value: _("sent directly"),
            Account.CredentialKind.INSTALLATION.value: _("App installation"),
        }.get(self.account.credential_kind, self.account.credential_kind)

    @property
    def has_quota(self) -> bool:
        """False for installations of an App: GitHub tells no quota of them."""
        return has_document(self.account)

    @property
    def slug(self) -> str:
        return slug_of(self.account)

    @property
    def unit(self) -> str:
        return _("credits") if self.summary.unit == "credits" else _("requests")

    @property
    def free(self) -> list[QuotaReading]:
        """Chat and completions of the Free plan."""
        return [q for q in self.summary.quotas if q.entitlement]

    @property
    def outside(self) -> float | None:
        """What was used of the quota and not through this gateway; None when it cannot be known."""
        used = self.summary.used
        if self.summary.unit != "credits" or used is None:
            return None
        return max(0.0, used - self.summary.own_credits)


def slug_of(account: Account) -> str:
    return account.login if account.host == PUBLIC_HOST else f"{account.login}@{account.host}"


STATE_TONES: Final[dict[str, Tone]] = {
    Account.State.ACTIVE: "ok",
    Account.State.COOLING_DOWN: "warn",
    Account.State.PAUSED: "",
    Account.State.NEEDS_SIGN_IN: "bad",
    Account.State.NO_SEAT: "bad",
    Account.State.FROZEN: "bad",
}


def state_word(state: str) -> str:
    return {
        Account.State.ACTIVE.value: _("active"),
        Account.State.COOLING_DOWN.value: _("cooling down"),
        Account.State.PAUSED.value: _("paused"),
        Account.State.NEEDS_SIGN_IN.value: _("signed out"),
        Account.State.NO_SEAT.value: _("seat gone"),
        Account.State.FROZEN.value: _("frozen"),
    }.get(state, state)


def cards(member: Member, only: Iterable[Account] | None = None) -> list[Card]:
    """Every account, those in trouble first."""
    accounts = Account.objects.select_related("owner", "pool") if only is None else only
    load = Counter(str(row["account"]) for row in in_flight(None))
    made = [card(account, member, load[account.login]) for account in accounts]
    return sorted(made, key=lambda c: (-c.trouble, c.account.login.lower()))


def _summary(account: Account) -> Summary:
    """The summary, kept for half a minute: it costs several queries for each account."""
    key = f"quota-summary:{account.pk}:{account.updated_at.timestamp()}:{account.quota_polled_at}"
    key = key.replace(" ", "")
    # In the process: what stands in Redis is JSON, and this would be half a page of it.
    cache = caches["process"]
    found: Summary | None = cache.get(key)
    if found is None:
        found = summary(account)
        cache.set(key, found, SUMMARY_KEPT_S)
    return found


def card(account: Account, member: Member, load: int = 0) -> Card:
    said = _summary(account)
    is_full = oversees(member) or account.owner_id == member.pk
    outlook, tone = outlook_of(said)
    state_tone = STATE_TONES.get(account.state, "")
    polled_at = account.quota_polled_at
    # Amber when the fact is older than three periods of its poll.
    is_stale = polled_at is not None and now() - polled_at > 3 * QUOTA_PERIOD
    trouble = {"bad": 4, "warn": 2}.get(state_tone, 0) + {"bad": 3, "warn": 1}.get(tone, 0)
    return Card(
        account,
        said,
        is_full,
        state_word(account.state),
        state_tone,
        outlook,
        tone,
        meter_of(said, tone),
        [window_of(reading) for reading in said.windows],
        is_stale,
        trouble,
        load,
    )


def outlook_of(said: Summary) -> tuple[str, Tone]:
    """The forecast in words, and the colour that goes with them."""
    line: Forecast | None = said.forecast
    if said.kind == "over":
        return _("used up"), "warn" if said.overage_permitted else "bad"
    if said.kind != "counted":
        return "", ""
    if not said.left:
        return _("used up"), "bad"
    if line is None or line.lasts or line.runs_out_at is None:
        return _("on pace"), "ok"
    if line.runs_out_at - now() < timedelta(hours=24):
        return _("runs out in %(span)s") % {"span": span(line.runs_out_at - now())}, "bad"
    day = date_format(localtime(line.runs_out_at), "j M")
    if said.reset_at is None:
        return _("at this pace until ≈ %(day)s") % {"day": day}, "ok"
    return _("runs out ≈ %(day)s") % {"day": day}, "warn"


def meter_of(said: Summary, tone: Tone) -> Meter | None:
    if said.kind not in ("counted", "over") or said.percent_used is None:
        return None
    used = min(100.0, max(0.0, said.percent_used))
    label = _("%(percent)s %% used, %(outlook)s") % {
        "percent": f"{said.percent_used:.0f}",
        "outlook": outlook_of(said)[0],
    }
    return Meter(f"{used:.2f}%", tone or "ok", pace_of(said.reset_at), label)


def pace_of(reset_at: datetime | None) -> str:
    """How far the billing cycle has gone, in percent; empty when the reset is unknown."""
    if reset_at is None or reset_at <= now():
        return ""
    start = cycle_start(reset_at)
    return f"{(now() - start) / (reset_at - start) * 100:.2f}%"


def window_of(reading: QuotaReading) -> Window:
    left = reading.percent_remaining if reading.percent_remaining is not None else 100.0
    used = min(100.0, max(0.0, 100.0 - left))
    tone: Tone = "bad" if used >= 95 else "warn" if used >= 80 else "ok"
    name = _("five-hour limit") if reading.quota_id == "session" else _("weekly limit")
    label = _("%(name)s: %(percent)s %% used") % {"name": name, "percent": f"{used:.0f}"}
    return Window(name, Meter(f"{used:.2f}%", tone, "", label), reading.reset_at)


# Budgets of keys.


@dataclass(frozen=True, slots=True)
class Budget:
    text: str
    meter: Meter


def budget_of(key: ApiKey, use: KeyUse | None) -> Budget | None:
    """The nearer of a key's budgets, day or month, by what process and rollups know."""
    from usage.spend import spent_this_month, spent_today

    choices = []
    if key.budget_day_nano_aiu:
        spent = max(spent_today(key.pk), use.days[-1] if use else 0)
        choices.append((spent, key.budget_day_nano_aiu, _("today")))
    if key.budget_month_nano_aiu:
        spent = max(spent_this_month(key.pk), _week_part_of_month(use))
        choices.append((spent, key.budget_month_nano_aiu, _("this month")))
    if not choices:
        return None
    spent, limit, when = max(choices, key=lambda c: c[0] / c[1])
    share = spent * 100 / limit
    tone: Tone = "bad" if share >= 100 else "warn" if share >= 80 else "ok"
    words = {
        "spent": credit_number(spent / 1e9),
        "limit": credit_number(limit / 1e9),
        "when": when,
    }
    text = _("%(spent)s of %(limit)s %(when)s") % words
    return Budget(text, Meter(f"{min(100.0, share):.2f}%", tone, "", text))


def _week_part_of_month(use: KeyUse | None) -> int:
    """The days of the last seven that lie in this UTC month: a floor until memory has the sum."""
    if use is None:
        return 0
    return sum(use.days[-min(7, now().day) :])


# What is in flight.


def in_flight(scope: int | None) -> list[dict[str, Any]]:
    """Exchanges that have begun and not ended, newest first, here and in the other processes."""
    found = [live.describe(r) | {"outcome": "in_flight"} for r in recorder.in_flight()]
    found += [row | {"outcome": "in_flight"} for row in live.in_flight_elsewhere()]
    if scope is not None:
        found = [row for row in found if row["member_id"] == scope]
    return sorted(found, key=lambda row: str(row["started_at"]), reverse=True)[:500]
