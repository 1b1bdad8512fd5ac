"""The ways to sign in beside the password: a button for each provider that is configured, and the
door to it, which says when the provider is away.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.github.views import oauth2_login as github_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from requests import RequestException

from accounts import oidc, tries
from accounts.access import address_of

logger = logging.getLogger(__name__)
# What a link may say of a sign-in. allauth would take scopes and parameters for the provider, too:
# a link of anybody's could then ask people to agree to more than this gateway wants.
MAY_SAY = ("process", "next")
PROCESSES = ("login", "connect")


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    url: str


def ways(request: HttpRequest, target: str, *, process: str = "login") -> list[Way]:
    """One for each provider; `process` is login or connect, `target` where one goes afterwards."""
    return [
        Way(each.name, each.get_login_url(request, process=process, next=target))
        for each in get_adapter().list_providers(request)
    ]


def from_our_pages(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Adding an identity to the person who is signed in begins on a page of ours only.

    A foreign page that could begin it would add whoever the visitor is at the provider: another's, if
    that page has signed the visitor in there.
    """

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if request.GET.get("process") == "connect" and site not in ("same-origin", "none"):
            raise PermissionDenied
        address = address_of(request)
        if tries.PROVIDER.count(address) > tries.PROVIDER.most:
            words = _("Too many tries. Wait a quarter of an hour, then try again.")
            return HttpResponse(words, status=429, content_type="text/plain; charset=utf-8")
        request.GET = _as_asked(request.GET)  # type: ignore[assignment]
        return view(request, *args, **kwargs)

    return inner


def _as_asked(query: QueryDict) -> QueryDict:
    kept = QueryDict(mutable=True)
    for name in MAY_SAY:
        if name in query and (name != "process" or query[name] in PROCESSES):
            kept[name] = str(query[name])
    return kept


to_github = from_our_pages(github_login)


@from_our_pages
def to_oidc(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """To the provider. Its discovery document is read first, which may fail."""
    try:
        return oidc.login(request, provider_id)
    except (RequestException, KeyError, ValueError) as error:
        logger.warning("the identity provider cannot be asked: %r", error)
        return redirect("/dashboard/sign-in/?sso=away")
