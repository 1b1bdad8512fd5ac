"""How long a session lasts: so many hours after its last page, and so many after its sign-in.

A page that asks by itself every few seconds does not keep a session alive; people do. Limits and their
reasons: docs/asvs.md (7.1.1).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.utils.dateparse import parse_datetime

from accounts.models import Member
from accounts.sessions import ORIGIN

SEEN: Final = "seen"
# Written at most so often: a write for each page would be one too many.
NOTE_EVERY_S: Final = 600


def began(session: Mapping[str, Any]) -> float | None:
    """When its sign-in was, in seconds since the epoch; None when that is not known."""
    origin = session.get(ORIGIN)
    since = parse_datetime(str(origin.get("since", ""))) if isinstance(origin, dict) else None
    return None if since is None else since.timestamp()


def is_over(session: Mapping[str, Any], member: Member) -> bool:
    """True when the session has lasted or rested too long, whatever its cookie says."""
    at, start = time.time(), began(session)
    if start is None:
        return False
    most_h = settings.GATEWAY_SESSION_MAX_H
    if member.is_managed:
        most_h = min(most_h, settings.GATEWAY_SSO_SESSION_H)
    seen = max(start, float(session.get(SEEN, 0)))
    return at - start > most_h * 3600 or at - seen > settings.GATEWAY_SESSION_IDLE_H * 3600


class SessionAges:
    """Ends sessions that are over, and notes when a session was used."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        has_cookie = settings.SESSION_COOKIE_NAME in request.COOKIES
        if has_cookie and isinstance(request.user, Member):
            self._look(request, request.user)
        return self.get_response(request)

    def _look(self, request: HttpRequest, member: Member) -> None:
        session = request.session
        if is_over(session, member):
            logout(request)
            return
        is_by_itself = request.method == "GET" and request.headers.get("HX-Request") == "true"
        seen = max(began(session) or 0.0, float(session.get(SEEN, 0)))
        if not is_by_itself and time.time() - seen > NOTE_EVERY_S:
            session[SEEN] = int(time.time())
