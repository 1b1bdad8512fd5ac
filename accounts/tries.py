"""How often somebody may try: passwords, links, codes. Counted in the cache, so over all processes.

While Redis is away each process counts for itself: nobody is locked out by that, and nobody gets
endless tries. What is counted is a digest, because names and links must not stand in a cache.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from redis.exceptions import RedisError

from accounts import audit
from accounts.models import Member

logger = logging.getLogger(__name__)
WINDOW_S: Final = 15 * 60


@dataclass(frozen=True, slots=True)
class Tries:
    """At most `most` tries of a `kind` within the window, for each of what they are counted by."""

    kind: str
    most: int
    window_s: int = WINDOW_S

    def are_used_up(self, *by: str) -> bool:
        return _in_cache(lambda cache: int(cache.get(self._name(by), 0))) >= self.most

    def count(self, *by: str) -> int:
        """One more; how many there are now."""
        name = self._name(by)
        found = _in_cache(lambda cache: self._add(cache, name))
        if found == self.most:
            logger.warning("%s: %d tries, no more for now", self.kind, found)
        return found

    def forget(self, *by: str) -> None:
        _in_cache(lambda cache: int(cache.delete(self._name(by))))

    def _add(self, cache: BaseCache, name: str) -> int:
        cache.add(name, 0, self.window_s)
        try:
            return int(cache.incr(name))
        except ValueError:
            # It ended between the two calls.
            cache.set(name, 1, self.window_s)
            return 1

    def _name(self, by: tuple[str, ...]) -> str:
        text = "\n".join(by).encode("utf-8", "replace")
        return f"tries:{self.kind}:{hashlib.sha256(text).hexdigest()}"


def _in_cache(work: Callable[[BaseCache], int]) -> int:
    try:
        return work(caches["default"])
    except (RedisError, OSError):
        return work(caches["process"])


# A person who has forgotten; one name from many places; one place with many names. The second lets
# somebody keep a name from its password for a while, never from passkey, provider or link.
SIGN_IN: Final = Tries("sign-in", 10)
SIGN_IN_NAME: Final = Tries("sign-in-name", 60)
SIGN_IN_ADDRESS: Final = Tries("sign-in-address", 100)
# Links that nobody has made: invites and sign-in links.
LINK: Final = Tries("link", 20)
# Ways to a provider: each asks it for its document and leaves a session row.
PROVIDER: Final = Tries("provider", 200)
# Codes asked of GitHub for one member.
DEVICE_FLOW: Final = Tries("device-flow", 10)


def passwords_are_used_up(name: str, address: str) -> bool:
    """By this name from this address, by this name from anywhere, or by any name from here."""
    name = name.lower()
    return (
        SIGN_IN.are_used_up(name, address)
        or SIGN_IN_NAME.are_used_up(name)
        or SIGN_IN_ADDRESS.are_used_up(address)
    )


def count_password(name: str, address: str, *, where: str = "password") -> None:
    """Count a wrong password, and note it: for a member in the audit log, else in the log.

    A name that nobody has is not written down: people type passwords into the wrong field.
    """
    SIGN_IN.count(name.lower(), address)
    SIGN_IN_NAME.count(name.lower())
    SIGN_IN_ADDRESS.count(address)
    member = Member.objects.filter(username__iexact=name).first()
    if member is None:
        logger.warning("sign-in by an unknown name from %s", address)
    else:
        audit.record(audit.GATEWAY, "member.sign_in_failed", member, {"by": where}, address)
