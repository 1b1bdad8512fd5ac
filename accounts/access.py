"""Who may see a page: signed in, or come with a one-use link. What one may not see is not there.

An auditor sees what an administrator sees and changes nothing: whatever they send to a page is
refused here, in one place, except to what is their own (`own_page`).
"""

import zoneinfo
from collections.abc import Callable
from datetime import UTC, tzinfo
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.contrib.auth import login
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from accounts import audit
from accounts.hosts import client_address
from accounts.models import Member, SignInLink

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]
BACKEND = "django.contrib.auth.backends.ModelBackend"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def member_of(request: HttpRequest) -> Member:
    """The signed-in person; pages are only reached by one."""
    return cast(Member, request.user)


def oversees(member: Member) -> bool:
    """An administrator or an auditor: who sees what belongs to all."""
    return member.is_superuser or member.is_auditor


def sees_all(request: HttpRequest) -> bool:
    return oversees(member_of(request))


def may_change(request: HttpRequest) -> bool:
    """False for an auditor, who only reads."""
    return not member_of(request).is_auditor


def scope_of(request: HttpRequest) -> int | None:
    """The member whose rows may be seen, None for who may see all."""
    member = member_of(request)
    return None if oversees(member) else member.pk


def zone_of(request: HttpRequest) -> tzinfo:
    """The person's own zone, else the browser's (cookie `tz`), else UTC."""
    named = getattr(request.user, "time_zone", "") or request.COOKIES.get("tz", "")
    return read_zone(named) or UTC


def read_zone(name: str) -> tzinfo | None:
    """A zone of the IANA list; None for every other text."""
    try:
        return zoneinfo.ZoneInfo(name[:64])
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return None


def sign_in(request: HttpRequest, member: Member) -> None:
    """Begin a session under a new id, for who came by the terminal's link: it stands for every factor."""
    from allauth.account.internal.flows.login import record_authentication

    record_authentication(request, member, method="link")
    login(request, member, backend=BACKEND)


def _by_link(request: HttpRequest) -> HttpResponseBase | None:
    """Use up `?signin=…` and go to the clean address, so that the link is in no history."""
    token = request.GET.get("signin")
    if token is None:
        return None
    from accounts import links, tries

    query = request.GET.copy()
    del query["signin"]
    clean = f"{request.path}?{query.urlencode()}" if query else request.path
    address = address_of(request)
    link = None if tries.LINK.are_used_up(address) else links.redeem(token)
    if link is not None:
        return _arrive(request, link, clean, address)
    tries.LINK.count(address)
    if request.user.is_authenticated:
        return HttpResponseRedirect(clean)
    return redirect("/dashboard/sign-in/?link=ended")


def _arrive(request: HttpRequest, link: SignInLink, target: str, address: str) -> HttpResponseBase:
    if not link.asks_factor:
        audit.record(link.member, "member.signed_in", link.member, {"by": "link"}, address)
        sign_in(request, link.member)
        return HttpResponseRedirect(target)
    from allauth.account.internal.flows.login import perform_login, record_authentication
    from allauth.account.models import Login

    record_authentication(request, link.member, method="link")
    answer: HttpResponseBase = perform_login(request, Login(user=link.member, redirect_url=target))
    return answer


def own_page(view: View[P]) -> View[P]:
    """For signed-in people, rendered in their time zone: what is one's own, also an auditor's."""

    @wraps(view)
    def inner(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        arrived = _by_link(request)
        if arrived is not None:
            return arrived
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        with timezone.override(zone_of(request)):
            response = view(request, *args, **kwargs)
        patch_vary_headers(response, ["HX-Request"])
        return response

    return inner


def page(view: View[P]) -> View[P]:
    """For signed-in people. What an auditor sends is refused with 403."""

    @wraps(view)
    def inner(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.method not in SAFE_METHODS and not may_change(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return own_page(inner)


def doing_page(view: View[P]) -> View[P]:
    """For who may act: forms that make or change something. For an auditor they do not exist."""

    @wraps(view)
    def inner(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not may_change(request):
            raise Http404
        return view(request, *args, **kwargs)

    return page(inner)


def admin_page(view: View[P]) -> View[P]:
    """For administrators; for others the page does not exist."""

    @wraps(view)
    def inner(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not member_of(request).is_superuser:
            raise Http404
        return view(request, *args, **kwargs)

    return page(inner)


def overseer_page(view: View[P]) -> View[P]:
    """For administrators, and for auditors to read; for others the page does not exist."""

    @wraps(view)
    def inner(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not sees_all(request):
            raise Http404
        return view(request, *args, **kwargs)

    return page(inner)


def is_fragment(request: HttpRequest) -> bool:
    """True when the page's own script asks for a part of the page."""
    return request.headers.get("HX-Request") == "true"


def address_of(request: HttpRequest) -> str:
    return client_address(request.META)
