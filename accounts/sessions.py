"""Sessions of people in browsers: where from, since when; ended one by one or all at once.

They are rows of Django's session table. A session names its member only inside, so a member's are
found by reading those that have not ended: a team's are few.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.timezone import now

from accounts.hosts import client_address
from accounts.models import Member
from accounts.session_store import stored

ORIGIN: Final = "came_from"
MAX_CLIENT_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Visit:
    """One session. `name` stands for its key, which is a secret and never shown."""

    name: str
    address: str
    client: str
    since: datetime | None
    ends_at: datetime
    is_this: bool


def remember_origin(sender: object, request: HttpRequest | None, **_: Any) -> None:
    """Note at sign-in where the session comes from."""
    if request is None:
        return
    request.session[ORIGIN] = {
        "address": client_address(request.META),
        "client": request.headers.get("User-Agent", "")[:MAX_CLIENT_CHARS],
        "since": now().isoformat(),
    }


user_logged_in.connect(remember_origin, dispatch_uid="sessions.remember_origin")


def visits(member: Member, this_key: str | None) -> list[Visit]:
    """The member's sessions, this one first, then the newest."""
    found = []
    for row, origin in _rows(member):
        since = parse_datetime(str(origin.get("since", "")))
        found.append(
            Visit(
                _name(row.session_key),
                str(origin.get("address", "")),
                str(origin.get("client", "")),
                since,
                row.expire_date,
                row.session_key == stored(this_key),
            )
        )
    return sorted(found, key=lambda v: (v.is_this, v.since or v.ends_at), reverse=True)


def end(member: Member, name: str) -> bool:
    """End the session of that name, if it is the member's."""
    keys = [row.session_key for row, _origin in _rows(member) if _name(row.session_key) == name]
    return bool(Session.objects.filter(session_key__in=keys).delete()[0])


def end_all(member: Member, *, keep: str | None = None) -> int:
    """End every session of the member but the one with the key `keep`; how many ended."""
    kept = stored(keep)
    keys = [row.session_key for row, _origin in _rows(member) if row.session_key != kept]
    return int(Session.objects.filter(session_key__in=keys).delete()[0])


def _rows(member: Member) -> Iterator[tuple[Session, dict[str, Any]]]:
    for row in Session.objects.filter(expire_date__gt=now()).iterator():
        data = row.get_decoded()
        if str(data.get(SESSION_KEY)) == str(member.pk):
            origin = data.get(ORIGIN)
            yield row, origin if isinstance(origin, dict) else {}


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
