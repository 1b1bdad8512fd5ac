"""The ways to sign in beside the password: a button for each provider that is configured, and the
door to it, which says when the provider is away.
"""

import logging
from dataclasses import dataclass

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.openid_connect.views import login
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from requests import RequestException

logger = logging.getLogger(__name__)


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


def to_oidc(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """To the provider. Its discovery document is read first, which may fail."""
    try:
        answer: HttpResponseBase = login(request, provider_id)
    except (RequestException, KeyError, ValueError) as error:
        logger.warning("the identity provider cannot be asked: %r", error)
        return redirect("/dashboard/sign-in/?sso=away")
    return answer
