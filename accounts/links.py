"""Sign-in links: good once, for minutes, stored as SHA-256.

The terminal's stands for everything: who reads it there has the database, too. An administrator's stands
for a lost password; a second factor is still asked.
"""

import hashlib
import secrets
from datetime import timedelta

from django.utils.timezone import now

from accounts.models import Member, SignInLink

MAX_TOKEN_CHARS = 100


def make(member: Member, minutes: float = 10, *, asks_factor: bool = False) -> str:
    """Give the token of a new link for `member`; links that have ended are cleared away."""
    SignInLink.objects.filter(expires_at__lt=now() - timedelta(days=1)).delete()
    token = secrets.token_urlsafe(32)
    SignInLink.objects.create(
        digest=_digest(token),
        member=member,
        expires_at=now() + timedelta(minutes=minutes),
        asks_factor=asks_factor,
    )
    return token


def redeem(token: str) -> SignInLink | None:
    """Use the link up and give it. None when it is unknown, used, too old or its member is inactive.

    Of two who come at once one wins: the update counts only while `used_at` is empty.
    """
    if not token or len(token) > MAX_TOKEN_CHARS:
        return None
    digest = _digest(token)
    won = SignInLink.objects.filter(
        digest=digest, used_at=None, expires_at__gt=now(), member__is_active=True
    ).update(used_at=now())
    if not won:
        return None
    return SignInLink.objects.select_related("member").get(digest=digest)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
