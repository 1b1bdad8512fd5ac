"""Pages of people and their sign-ins: in and out, preferences, connecting a GitHub account."""

from typing import Any
from uuid import UUID

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.internal.stagekit import clear_login
from allauth.account.models import Login
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.timezone import now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import acceptable_use, audit, devices, second_factor, sessions, tries
from accounts.access import (
    address_of,
    doing_page,
    is_fragment,
    may_change,
    member_of,
    own_page,
    page,
    scope_of,
)
from accounts.access import sign_in as begin_session
from accounts.forms import ConnectForm, PreferencesForm, SignInForm, ThemeForm
from accounts.hosts import is_local_request
from accounts.members import solo_member
from accounts.models import Account, DeviceLogin, Member
from accounts.sign_in_ways import ways

HOME = "/dashboard/"


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
        if tries.passwords_are_used_up(name, address_of(request)):
            status, problem = 429, _("Too many tries. Wait a quarter of an hour, then try again.")
        else:
            found = authenticate(request, **form.cleaned_data)
            if isinstance(found, Member):
                tries.SIGN_IN.forget(name.lower(), address_of(request))
                # Asks for the second factor, if there is one, and only then begins the session.
                opened: HttpResponseBase = perform_password_login(
                    request, {"username": name}, Login(user=found, redirect_url=target)
                )
                return opened
            tries.count_password(name, address_of(request))
            status, problem = 401, _("Name or password is wrong.")
    context = {
        "form": form,
        "problem": problem,
        "next": target,
        "link_ended": request.GET.get("link") == "ended",
        "provider_is_away": request.GET.get("sso") == "away",
        "provider_only": request.GET.get("sso") == "only",
        "ways": ways(request, target),
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


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    if isinstance(request.user, Member):
        audit.record(request.user, "member.signed_out", request.user, address=address_of(request))
    # Also a sign-in that still waited for its second factor.
    clear_login(request)
    logout(request)
    response = redirect("sign-in")
    # The way back must not show what was seen; pages are not stored anyway (`no-store`).
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@own_page
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
    return _me_page(request, form, _password_form(request, None), 400 if form.errors else 200)


def _me_page(request: HttpRequest, form: Any, password_form: Any, status: int) -> HttpResponse:
    member = member_of(request)
    context = {
        "form": form,
        "password_form": password_form,
        "visits": sessions.visits(member, request.session.session_key),
        "has_second_factor": second_factor.has_one(member),
        "notice": acceptable_use.current(),
        "owes_notice": acceptable_use.owed_by(member) is not None,
        "ways": ways(request, reverse("me"), process="connect"),
        "languages": settings.LANGUAGES,
    }
    return render(request, "pages/me.html", context, status=status)


def _password_form(request: HttpRequest, data: Any) -> Any:
    member = member_of(request)
    kind = PasswordChangeForm if member.has_usable_password() else SetPasswordForm
    form = kind(member, data)
    for field in form.fields.values():
        # The password is not the first thing on the page; the focus stays where the page begins.
        field.widget.attrs.pop("autofocus", None)
    return form


@own_page
@require_POST
def password(request: HttpRequest) -> HttpResponse:
    if member_of(request).is_managed:
        # A password would let in whom the provider lets in no more.
        raise Http404
    name, address = member_of(request).get_username(), address_of(request)
    form = _password_form(request, request.POST)
    if tries.passwords_are_used_up(name, address):
        # Who found a session open must not find out the password, too.
        words = _("Too many tries. Wait a quarter of an hour, then try again.")
        messages.error(request, words)
        return _me_page(request, PreferencesForm(instance=member_of(request)), form, 429)
    if "old_password" in form.errors:
        tries.count_password(name, address, where="password, to change it")
    if form.is_valid():
        form.save()
        # Every other session of this member ends; this one goes on under a new id.
        update_session_auth_hash(request, form.user)
        sessions.end_all(member_of(request), keep=request.session.session_key)
        member = member_of(request)
        audit.record(member, "member.password_changed", member, address=address_of(request))
        messages.success(request, _("The password is changed. Other sessions have ended."))
        return redirect("me")
    return _me_page(request, PreferencesForm(instance=member_of(request)), form, 400)


@own_page
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    form = ThemeForm(request.POST, instance=member_of(request))
    if form.is_valid():
        form.save()
    if request.headers.get("X-Requested-With") == "fetch":
        return HttpResponse(status=204)
    return redirect(_local(request, request.POST.get("next")))


# Connecting a GitHub account by GitHub's device flow.


@doing_page
def connect(request: HttpRequest) -> HttpResponse:
    """Where a sign-in to GitHub begins; a running one of this person is shown instead."""
    member = member_of(request)
    if request.method == "POST":
        form = ConnectForm(request.POST)
        if form.is_valid():
            if tries.DEVICE_FLOW.count(str(member.pk)) > tries.DEVICE_FLOW.most:
                context = {"form": form, "problem": _("Too many codes. Wait a quarter of an hour.")}
                return render(request, "pages/connect.html", context, status=429)
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
    # An auditor only looks: the page of who began it asks GitHub.
    if is_fragment(request) and may_change(request):
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
