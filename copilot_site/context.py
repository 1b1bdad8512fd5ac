"""What every page's shell shows: version, mode, demo banner, notes, what waits for a decision."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import acceptable_use
from accounts.access import oversees, zone_of
from accounts.models import Account, Member, Team
from copilot_site import __version__
from proxy import approval
from usage import cards

MAX_NOTES = 2


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence on top of the page, with one action. `weight` puts the worst first."""

    tone: str
    text: str
    action: str
    url: str
    weight: int


def shell(request: HttpRequest) -> dict[str, Any]:
    """Lazy, so that a fragment and the sign-in page pay for nothing they do not show."""
    context: dict[str, Any] = {
        "version": __version__,
        "demo": settings.DEMO,
        "team_mode": settings.TEAM_MODE,
        "theme": "system",
    }
    member = getattr(request, "user", None)
    if not isinstance(member, Member):
        return context
    # The rail and the notes ask: one query.
    waiting = cache(approval.waiting_count)
    return context | {
        "theme": member.theme,
        "zone": str(zone_of(request)),
        "notes": SimpleLazyObject(lambda: notes(member, waiting)),
        "waiting_count": SimpleLazyObject(waiting) if oversees(member) else 0,
        "admin_url": _admin_url("admin:index") if oversees(member) else "",
        "oversees": oversees(member),
        "may_change": not member.is_auditor,
        "led_teams": SimpleLazyObject(lambda: _led(member)),
    }


def _admin_url(name: str) -> str:
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""


def _led(member: Member) -> list[Team]:
    """The teams whose sums the member sees as their lead; who sees all has the list of teams."""
    return [] if oversees(member) else list(Team.objects.filter(lead=member))


def notes(member: Member, waiting: Callable[[], int]) -> list[Note]:
    """At most two, worst first."""
    accounts = list(Account.objects.select_related("owner"))
    own = [a for a in accounts if oversees(member) or a.owner_id == member.pk]
    found = [note for account in own for note in _of_account(account, member)]
    has_none = not accounts or (not own and not any(a.owner_id is None for a in accounts))
    if has_none and not member.is_auditor:
        text = _("No GitHub account is connected, so no request can be served.")
        found.append(Note("warn", text, _("Connect an account"), reverse("connect"), 80))
    if member.is_superuser and (count := waiting()):
        text = ngettext(
            "%(count)d request waits for approval.",
            "%(count)d requests wait for approval.",
            count,
        )
        found.append(Note("warn", text % {"count": count}, _("Decide"), reverse("approvals"), 90))
    if acceptable_use.owed_by(member) is not None:
        text = _("Agree to the notice of acceptable use; until then your API keys are refused.")
        found.append(Note("warn", text, _("Read it"), reverse("notice"), 99))
    return sorted(found, key=lambda note: -note.weight)[:MAX_NOTES]


def _of_account(account: Account, member: Member) -> list[Note]:
    """What of an account needs a person, from its row alone: no query."""
    url = reverse("account", args=[cards.slug_of(account)])
    words = {"login": account.login}
    state = Account.State
    match account.state:
        case state.FROZEN:
            text = _("%(login)s is frozen: GitHub's answer spoke of abuse or terms.") % words
            return [Note("bad", text, _("Open"), url, 100)]
        case state.NEEDS_SIGN_IN:
            text = _("%(login)s is signed out of GitHub.") % words
            return [Note("bad", text, _("Sign in again"), reverse("connect"), 95)]
        case state.NO_SEAT:
            text = _("%(login)s has no Copilot seat any more.") % words
            return [Note("bad", text, _("Open"), url, 94)]
    if account.refresh_failures >= 3:
        text = _("The Copilot token of %(login)s cannot be refreshed.") % words
        return [Note("bad", text, _("Open"), url, 92)]
    return _of_quota(account, member, url)


def _of_quota(account: Account, member: Member, url: str) -> list[Note]:
    if account.quota_polled_at is None or account.state != Account.State.ACTIVE:
        return []
    card = cards.card(account, member)
    left = card.summary.left
    words = {"login": account.login, "left": f"{left or 0:,.0f}", "unit": card.unit}
    if card.summary.kind == "over":
        if card.summary.overage_permitted:
            return []
        text = _("%(login)s has used up its %(unit)s.") % words
        return [Note("bad", text, _("Open"), url, 91)]
    if card.outlook_tone != "bad" or left is None:
        return []
    ends_at = card.summary.forecast.runs_out_at if card.summary.forecast else None
    if not left or ends_at is None:
        text = _("%(login)s has used up its %(unit)s.") % words
    elif ends_at - now() < timedelta(hours=24):
        text = _("%(login)s has %(left)s %(unit)s left and runs out today.") % words
    else:
        return []
    return [Note("warn" if left else "bad", text, _("Open"), url, 85)]
