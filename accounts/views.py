"""Pages of people and their sign-ins: in and out, preferences, connecting a GitHub account."""

import hashlib
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import audit, devices
from accounts.access import (
    address_of,
    is_fragment,
    member_of,
    page,
    scope_of,
)
from accounts.access import sign_in as begin_session
from accounts.forms import ConnectForm, PreferencesForm, SignInForm, ThemeForm
from accounts.hosts import is_local_request
from accounts.members import solo_member
from accounts.models import Account, DeviceLogin, Member

HOME = "/dashboard/"
TRIES = 10
TRIES_WINDOW_S = 15 * 60


def sign_in(request: HttpRequest) -> HttpResponseBase:
    """The sign-in form. Wrong name and wrong password get the same words and the same time."""
    target = _local(request, request.POST.get("next") or request.GET.get("next"))
    if (
        isinstance(request.user, Member)
        and target.startswith("/admin/")
        and not request.user.is_staff
    ):
        # The admin sends whom it does not know back here: the two would play ping-pong.
        raise Http404
    if request.GET.get("signin") is not None or request.user.is_authenticated:
        return page(lambda _request: redirect(target))(request)
    if request.method == "POST" and "demo" in request.POST:
        return _enter_demo(request, target)
    form = SignInForm(request.POST or None)
    status, problem = 200, ""
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["username"]
        if _too_many(request, name):
            status, problem = 429, _("Too many tries. Wait a quarter of an hour, then try again.")
        else:
            found = authenticate(request, **form.cleaned_data)
            if isinstance(found, Member):
                begin_session(request, found)
                cache.delete(_counter(request, name))
                audit.record(
                    found, "member.signed_in", found, {"by": "password"}, address_of(request)
                )
                return redirect(target)
            _count_try(request, name)
            status, problem = 401, _("Name or password is wrong.")
    context = {
        "form": form,
        "problem": problem,
        "next": target,
        "link_ended": request.GET.get("link") == "ended",
        "waiting": _waiting_for_github(request),
    }
    return render(request, "pages/sign_in.html", context, status=status)


def _enter_demo(request: HttpRequest, target: str) -> HttpResponseBase:
    """The demo's data are simulated: whoever sits at the machine may look, without a password."""
    if not settings.DEMO or not is_local_request(request.META):
        raise Http404
    begin_session(request, solo_member())
    return redirect(target)


def _waiting_for_github(request: HttpRequest) -> DeviceLogin | None:
    """The sign-in to GitHub that `start` began because nobody has signed in yet.

    Shown on this machine only: who enters the code gives the gateway an account.
    """
    if not is_local_request(request.META) or Account.objects.exists():
        return None
    pending = DeviceLogin.objects.filter(state=DeviceLogin.State.PENDING, expires_at__gt=now())
    return pending.order_by("-created_at").first()


def _local(request: HttpRequest, target: str | None) -> str:
    is_ours = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return target if target and is_ours else HOME


def _counter(request: HttpRequest, name: str) -> str:
    # A digest, because names may hold what cache keys may not.
    text = f"{name.lower()}\n{address_of(request)}".encode("utf-8", "replace")
    return f"sign-in:{hashlib.sha256(text).hexdigest()}"


def _too_many(request: HttpRequest, name: str) -> bool:
    return int(cache.get(_counter(request, name), 0)) >= TRIES


def _count_try(request: HttpRequest, name: str) -> None:
    counter = _counter(request, name)
    cache.add(counter, 0, TRIES_WINDOW_S)
    try:
        cache.incr(counter)
    except ValueError:
        cache.set(counter, 1, TRIES_WINDOW_S)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    if isinstance(request.user, Member):
        audit.record(request.user, "member.signed_out", request.user, address=address_of(request))
    logout(request)
    return redirect("sign-in")


@page
def me(request: HttpRequest) -> HttpResponse:
    member = member_of(request)
    form = PreferencesForm(request.POST or None, instance=member)
    if request.method == "POST":
        if form.is_valid():
            form.save()
            messages.success(request, _("Saved."))
            return redirect("me")
        # The form has written into the instance; the shell must not show what was refused.
        member.refresh_from_db()
    context = {"form": form, "password_form": _password_form(request, None)}
    return render(request, "pages/me.html", context, status=400 if form.errors else 200)


def _password_form(request: HttpRequest, data: Any) -> Any:
    member = member_of(request)
    kind = PasswordChangeForm if member.has_usable_password() else SetPasswordForm
    form = kind(member, data)
    for field in form.fields.values():
        # The password is not the first thing on the page; the focus stays where the page begins.
        field.widget.attrs.pop("autofocus", None)
    return form


@page
@require_POST
def password(request: HttpRequest) -> HttpResponse:
    form = _password_form(request, request.POST)
    if form.is_valid():
        form.save()
        # Every other session of this member ends; this one goes on.
        update_session_auth_hash(request, form.user)
        member = member_of(request)
        audit.record(member, "member.password_changed", member, address=address_of(request))
        messages.success(request, _("The password is changed. Other sessions have ended."))
        return redirect("me")
    context = {"form": PreferencesForm(instance=member_of(request)), "password_form": form}
    return render(request, "pages/me.html", context, status=400)


@page
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    form = ThemeForm(request.POST, instance=member_of(request))
    if form.is_valid():
        form.save()
    if request.headers.get("X-Requested-With") == "fetch":
        return HttpResponse(status=204)
    return redirect(_local(request, request.POST.get("next")))


# Connecting a GitHub account by GitHub's device flow.


@page
def connect(request: HttpRequest) -> HttpResponse:
    """Where a sign-in to GitHub begins; a running one of this person is shown instead."""
    member = member_of(request)
    if request.method == "POST":
        form = ConnectForm(request.POST)
        if form.is_valid():
            started = devices.start(**form.cleaned_data, member=member, address=address_of(request))
            if isinstance(started, DeviceLogin):
                return redirect("connect-login", started.pk)
            return render(
                request, "pages/connect.html", {"form": form, "problem": started}, status=502
            )
        return render(request, "pages/connect.html", {"form": form}, status=400)
    running = DeviceLogin.objects.filter(
        started_by=member, state=DeviceLogin.State.PENDING, expires_at__gt=now()
    ).first()
    if running is not None and "new" not in request.GET:
        return redirect("connect-login", running.pk)
    initial = {"account_type": request.GET.get("type", DeviceLogin().account_type)}
    return render(request, "pages/connect.html", {"form": ConnectForm(initial=initial)})


def _device_login(request: HttpRequest, login_id: UUID) -> DeviceLogin:
    rows = DeviceLogin.objects.select_related("account").filter(pk=login_id)
    if scope_of(request) is not None:
        rows = rows.filter(started_by=member_of(request))
    found = rows.first()
    if found is None:
        raise Http404
    return found


@page
def connect_login(request: HttpRequest, login_id: UUID) -> HttpResponse:
    """One run of the device flow. The page asks again every few seconds; we ask GitHub."""
    device = _device_login(request, login_id)
    if is_fragment(request):
        device = devices.step(device)
        if device.state == request.GET.get("seen"):
            # Nothing new: the page keeps what it shows, and the focus where it is.
            return HttpResponse(status=204)
    context = {
        "device": device,
        "steps": devices.steps_of(device),
        "qr": devices.qr(device.verification_uri),
        "is_running": device.state in devices.RUNNING,
        "form": ConnectForm(initial={"account_type": device.account_type}),
    }
    template = "parts/device.html" if is_fragment(request) else "pages/connect_login.html"
    return render(request, template, context)


@page
@require_POST
def connect_cancel(request: HttpRequest, login_id: UUID) -> HttpResponse:
    devices.cancel(_device_login(request, login_id), member_of(request))
    messages.info(request, _("The sign-in to GitHub was cancelled."))
    return redirect("accounts")
