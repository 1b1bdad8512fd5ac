"""Pages of the organisation's seats: pools with who uses them, GitHub Apps with their installations."""

from collections import Counter
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit, installations, pools
from accounts.access import address_of, admin_page, member_of, overseer_page
from accounts.errors import GitHubRefused
from accounts.installations import UnusableKey
from accounts.models import Account, GitHubApp, Pool
from accounts.pools import NotPooled
from accounts.seat_forms import (
    AppForm,
    InstallationForm,
    NewPoolForm,
    PoolForm,
    SeatForm,
    WeightForm,
)
from usage import cards

# Pools.


@overseer_page
def pool_list(request: HttpRequest) -> HttpResponse:
    form = NewPoolForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = Pool.objects.create(name=form.cleaned_data["name"])
        audit.record(member_of(request), "pool.added", made, {}, address_of(request))
        pools.refresh()
        return redirect("pool", made.pk)
    rows = Pool.objects.prefetch_related("accounts", "teams", "api_keys")
    load = loads()
    lines = [
        {
            "pool": pool,
            "load": sum(load[a.login] for a in pool.accounts.all()),
            "states": Counter(cards.state_word(a.state) for a in pool.accounts.all()).items(),
        }
        for pool in rows
    ]
    unpooled = Account.objects.filter(owner=None, pool=None).order_by("login")
    context = {"lines": lines, "form": form, "unpooled": unpooled}
    return render(request, "pages/pools.html", context, status=400 if form.errors else 200)


def loads() -> Counter[str]:
    """Requests in flight of each account, over all processes."""
    return Counter(str(row["account"]) for row in cards.in_flight(None))


@overseer_page
def pool(request: HttpRequest, pool_id: int) -> HttpResponse:
    """One pool: its seats, its rules, who uses it. Each form says what to do."""
    found = get_object_or_404(Pool, pk=pool_id)
    forms: dict[str, Any] = {}
    if request.method == "POST":
        done = _POOL_FORMS.get(request.POST.get("do", ""))
        if done is None:
            raise Http404
        answer = done(request, found, forms)
        if answer is not None:
            return answer
    load = loads()
    member = member_of(request)
    seats = found.accounts.select_related("owner", "pool").order_by("login")
    context = {
        "pool": found,
        "rows": [{"card": cards.card(a, member), "load": load[a.login]} for a in seats],
        "form": forms.get("save") or PoolForm(pool=found),
        "seat_form": forms.get("add") or SeatForm(pool=found),
    }
    return render(request, "pages/pool.html", context, status=400 if forms else 200)


def _save_pool(request: HttpRequest, found: Pool, forms: dict[str, Any]) -> HttpResponse | None:
    form = PoolForm(request.POST, pool=found)
    if not form.is_valid():
        forms["save"] = form
        return None
    data, member, address = form.cleaned_data, member_of(request), address_of(request)
    changed = {
        name: data[name]
        for name in ("name", "note", "failover")
        if data[name] != getattr(found, name)
    }
    if changed:
        for name, value in changed.items():
            setattr(found, name, value)
        found.save()
        audit.record(member, "pool.changed", found, changed, address)
    pools.use(found, keys=data["keys"], teams=data["teams"], actor=member, address=address)
    messages.success(request, _("Saved."))
    return redirect("pool", found.pk)


def _add_seat(request: HttpRequest, found: Pool, forms: dict[str, Any]) -> HttpResponse | None:
    form = SeatForm(request.POST, pool=found)
    if form.is_valid():
        account, weight = form.cleaned_data["account"], form.cleaned_data["weight"]
        try:
            pools.put(
                account,
                found,
                weight=weight,
                actor=member_of(request),
                address=address_of(request),
            )
        except NotPooled as error:
            form.add_error("account", str(error))
        else:
            words = {"login": account.login, "pool": found.name}
            messages.success(request, _("%(login)s serves %(pool)s from now on.") % words)
            return redirect("pool", found.pk)
    forms["add"] = form
    return None


def _seat_of(request: HttpRequest, found: Pool) -> Account:
    number = request.POST.get("account", "")
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        raise Http404
    return get_object_or_404(found.accounts, pk=int(number))


def _weigh_seat(request: HttpRequest, found: Pool, forms: dict[str, Any]) -> HttpResponse | None:
    seat, form = _seat_of(request, found), WeightForm(request.POST)
    if form.is_valid():
        weight = form.cleaned_data["weight"]
        pools.reweigh(seat, weight, actor=member_of(request), address=address_of(request))
        messages.success(request, _("Saved."))
    else:
        messages.error(request, _("A weight is a number from 0 to 100."))
    return redirect("pool", found.pk)


def _drop_seat(request: HttpRequest, found: Pool, forms: dict[str, Any]) -> HttpResponse | None:
    seat = _seat_of(request, found)
    pools.take_out(seat, actor=member_of(request), address=address_of(request))
    messages.success(request, _("%(login)s is in no pool any more.") % {"login": seat.login})
    return redirect("pool", found.pk)


def _remove_pool(request: HttpRequest, found: Pool, forms: dict[str, Any]) -> HttpResponse | None:
    try:
        pools.remove(found, actor=member_of(request), address=address_of(request))
    except NotPooled as error:
        messages.error(request, str(error))
        return redirect("pool", found.pk)
    messages.success(request, _("The pool %(name)s is removed.") % {"name": found.name})
    return redirect("pools")


_POOL_FORMS = {
    "save": _save_pool,
    "add": _add_seat,
    "weigh": _weigh_seat,
    "drop": _drop_seat,
    "remove": _remove_pool,
}


# GitHub Apps.


@overseer_page
def app_list(request: HttpRequest) -> HttpResponse:
    form = AppForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and (made := _save_app(request, form)):
        messages.success(request, _("The App is stored. Add its installation now."))
        return redirect("app", made.pk)
    rows = GitHubApp.objects.prefetch_related("accounts")
    context = {"apps": rows, "form": form}
    return render(request, "pages/apps.html", context, status=400 if form.errors else 200)


def _save_app(request: HttpRequest, form: AppForm) -> GitHubApp | None:
    data = form.cleaned_data
    try:
        return installations.save_app(
            data["name"],
            data["issuer"],
            data["key"],
            data["host"],
            app=form.app,
            actor=member_of(request),
            address=address_of(request),
        )
    except UnusableKey as error:
        form.add_error("key", str(error))
        return None


@overseer_page
def app(request: HttpRequest, app_id: int) -> HttpResponse:
    """One App: its key may be replaced, installations added."""
    found = get_object_or_404(GitHubApp, pk=app_id)
    form, new = AppForm(app=found), InstallationForm()
    is_refused = False
    if request.method == "POST" and request.POST.get("do") == "install":
        new = InstallationForm(request.POST)
        if new.is_valid() and _install(request, found, new):
            return redirect("app", found.pk)
        is_refused = True
    elif request.method == "POST":
        form = AppForm(request.POST, app=found)
        if form.is_valid() and _save_app(request, form):
            messages.success(request, _("Saved."))
            return redirect("app", found.pk)
        is_refused = True
    member = member_of(request)
    seats = found.accounts.select_related("owner", "pool").order_by("login")
    context = {
        "app": found,
        "form": form,
        "new": new,
        "rows": [cards.card(account, member) for account in seats],
    }
    return render(request, "pages/app.html", context, status=400 if is_refused else 200)


def _install(request: HttpRequest, found: GitHubApp, form: InstallationForm) -> bool:
    data, member, address = form.cleaned_data, member_of(request), address_of(request)
    try:
        account = async_to_sync(installations.add_account)(
            found,
            data["installation_id"],
            data["login"],
            account_type=data["account_type"],
            actor=member,
            address=address,
        )
        if data["pool"] is not None:
            pools.put(account, data["pool"], actor=member, address=address)
    except GitHubRefused as refused:
        form.add_error(None, refused.message)
        return False
    except NotPooled as error:
        form.add_error("pool", str(error))
        return False
    words = {"login": account.login}
    messages.success(request, _("%(login)s is a seat of the organisation now.") % words)
    return True


@admin_page
@require_POST
def remove_app(request: HttpRequest, app_id: int) -> HttpResponse:
    found = get_object_or_404(GitHubApp, pk=app_id)
    if installations.remove_app(found, actor=member_of(request), address=address_of(request)):
        messages.success(request, _("The App and its key are removed."))
        return redirect("apps")
    messages.error(request, _("Accounts still use this App. Disconnect them first."))
    return redirect("app", found.pk)
