"""Pages of accounts, with their quota: cards, one account, and what can be done with it."""

from datetime import datetime, timedelta
from typing import Final

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit, book, pools, states, tokens
from accounts.access import address_of, member_of, page, scope_of
from accounts.book import ModelLimit
from accounts.errors import AccountUnavailable
from accounts.models import Account, Member
from accounts.pools import NotPooled
from usage import cards, charts, quota, reconciliation, reports
from usage.forecasts import MAIN_QUOTAS, cycle_start
from usage.models import QuotaSnapshot
from usage.quota_summary import Summary

ACTIONS: Final = ("poll", "refresh", "pause", "resume", "unfreeze", "disconnect", "release")
FOR_ADMINS: Final = frozenset({"unfreeze", "release"})
MAX_POINTS: Final = 720


@page
def accounts(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/accounts.html", {"cards": cards.cards(member_of(request))})


def account_of(request: HttpRequest, slug: str) -> Account:
    """The account of that name, if the person may see all of it: its owner or an administrator."""
    login, _at, host = slug[:300].replace("\x00", "").partition("@")
    rows = Account.objects.select_related("owner", "pool", "app").filter(
        login=login, host=host or cards.PUBLIC_HOST
    )
    scope = scope_of(request)
    if scope is not None:
        rows = rows.filter(owner_id=scope)
    found: Account | None = rows.first()
    if found is None:
        raise Http404
    return found


@page
def account(request: HttpRequest, slug: str) -> HttpResponse:
    found = account_of(request, slug)
    card = cards.cards(member_of(request), [found])[0]
    context = {
        "card": card,
        "account": found,
        "burn": burn_down(found, card.summary),
        "errors": reports.last_errors(found.pk),
        "token_expires_at": token_expires_at(found),
        "models": catalog_size(found),
        "limits": limits_of(found),
        "reconciled": reconciliation.of_account(found.pk),
    }
    return render(request, "pages/account.html", context)


def token_expires_at(account: Account) -> datetime | None:
    """When the Copilot token ends, by our own clock; None for credentials sent as they are."""
    if account.token_fetched_at is None or not account.token_lifetime_s:
        return None
    return account.token_fetched_at + timedelta(seconds=account.token_lifetime_s)


def limits_of(account: Account) -> list[tuple[str, ModelLimit]]:
    """The models that the account cannot serve now, with what ends that."""
    limits = book.view_of(account).limits.items()
    return sorted((name, limit) for name, limit in limits if limit.until > now())


def catalog_size(account: Account) -> int | None:
    """How many models the account offers; None before its list was read."""
    catalog = getattr(account, "catalog", None)
    return len(catalog.entries) if catalog is not None else None


def burn_down(account: Account, said: Summary) -> charts.BurnDown | None:
    """The credits used over the billing cycle, by GitHub's own figures."""
    if said.kind not in ("counted", "over") or not said.entitlement or said.reset_at is None:
        return None
    start = cycle_start(said.reset_at)
    days = max(1, (said.reset_at - start).days)
    rows = QuotaSnapshot.objects.filter(
        account_id=account.pk, quota_id__in=MAIN_QUOTAS, source="poll", at__gte=start
    ).order_by("at")
    points = [
        ((at - start).total_seconds() / 86400, said.entitlement - remaining)
        for at, remaining in rows.values_list("at", "remaining")
        if remaining is not None
    ]
    if len(points) < 2:
        return None
    points = points[:: -(-len(points) // MAX_POINTS)]
    target = None
    line = said.forecast
    if line is not None and line.runs_out_at is not None and line.per_day > 0:
        end = min(line.runs_out_at, said.reset_at)
        rest = (end - now()).total_seconds() / 86400
        if rest > 0:
            day, used = points[-1]
            target = (min(float(days), day + rest), used + line.per_day * rest)
    return charts.burn_down(points, entitlement=said.entitlement, days=days, forecast_to=target)


@page
@require_POST
def act(request: HttpRequest, slug: str, action: str) -> HttpResponse:
    """One of the buttons. What one may not do is not there."""
    found = account_of(request, slug)
    member = member_of(request)
    if action not in ACTIONS or (action in FOR_ADMINS and not member.is_superuser):
        raise Http404
    if action == "disconnect":
        return _disconnect(request, found, slug)
    doors = {"poll": _poll, "refresh": _refresh, "release": _release}
    doors.get(action, _change)(request, found, action)
    target = request.POST.get("back")
    return redirect("account", slug) if target == "account" else redirect("accounts")


def _poll(request: HttpRequest, account: Account, action: str) -> None:
    if account.state == Account.State.FROZEN:
        messages.error(request, _("A frozen account is released by an administrator only."))
        return
    done = async_to_sync(quota.poll_account)(account)
    if done:
        messages.success(request, _("The quota of %(login)s is fresh.") % {"login": account.login})
    else:
        account.refresh_from_db(fields=["quota_error"])
        messages.error(
            request,
            _("The quota of %(login)s could not be read: %(reason)s")
            % {"login": account.login, "reason": account.quota_error},
        )
    audit.record(member_of(request), "account.polled", account, {}, address_of(request))


def _refresh(request: HttpRequest, account: Account, action: str) -> None:
    audit.record(member_of(request), "account.token_refreshed", account, {}, address_of(request))
    try:
        tokens.refresh_now(account.pk)
    except AccountUnavailable as error:
        messages.error(request, error.message)
    else:
        messages.success(
            request, _("%(login)s has a fresh Copilot token.") % {"login": account.login}
        )


def _release(request: HttpRequest, account: Account, action: str) -> None:
    """The owner gives the seat to the organisation, so that it can be pooled."""
    try:
        pools.release(account, actor=member_of(request), address=address_of(request))
    except NotPooled as error:
        messages.error(request, str(error))
    else:
        words = {"login": account.login}
        messages.success(request, _("%(login)s is a seat of the organisation now.") % words)


def _disconnect(request: HttpRequest, account: Account, slug: str) -> HttpResponse:
    """Forget the account and its tokens. Running streams end by themselves, no new ones begin."""
    member = member_of(request)
    if account.state == Account.State.FROZEN and not member.is_superuser:
        # Connected again it would serve at once, past the person who must look at it first.
        messages.error(request, _("A frozen account is released by an administrator only."))
        return redirect("account", slug)
    if request.POST.get("login", "").strip() != account.login:
        messages.error(request, _("Type the account's name to disconnect it."))
        return redirect("account", slug)
    detail = {"owner": str(account.owner or ""), "pool": str(account.pool or "")}
    audit.record(member, "account.removed", account, detail, address_of(request))
    number = account.pk
    account.delete()
    tokens.forget(number)
    pools.refresh()
    messages.success(request, _("%(login)s is disconnected.") % {"login": account.login})
    return redirect("accounts")


def _may_resume(account: Account, member: Member) -> bool:
    """Members undo their own pause, not an administrator's."""
    return member.is_superuser or states.paused_by(account) == member.get_username()


def _change(request: HttpRequest, account: Account, action: str) -> None:
    member = member_of(request)
    if action == "resume" and account.state == Account.State.PAUSED:
        if not _may_resume(account, member):
            messages.error(request, _("An administrator has paused it, and resumes it."))
            return
    elif action == "resume":
        # Nothing to take back: what GitHub said of the account is not a person's to change.
        return
    is_frozen = account.state == Account.State.FROZEN
    if is_frozen and action != "unfreeze":
        messages.error(request, _("A frozen account is released by an administrator only."))
        return
    if action == "unfreeze" and not is_frozen:
        return
    state, words = {
        "pause": (Account.State.PAUSED, _("%(login)s is paused.")),
        "resume": (Account.State.ACTIVE, _("%(login)s serves again.")),
        "unfreeze": (Account.State.ACTIVE, _("%(login)s is released and serves again.")),
    }[action]
    reason = _("paused by %(who)s") % {"who": member.display_name} if action == "pause" else ""
    states.set_state(account, state, reason, actor=member, address=address_of(request))
    messages.success(request, words % {"login": account.login})
