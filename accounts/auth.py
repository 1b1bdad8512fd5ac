"""Who calls: a request's key becomes a `Caller`, from memory, in constant time.

One SHA-256 and one dict lookup, whatever the key; every refusal reads the same and never says
which key was sent.
"""

from collections.abc import Mapping
from typing import Final

from django.conf import settings
from django.db import Error

from accounts.clock import now
from accounts.keys import MARK, NOT_AGREED, Caller, KeyRing, digest_of, ring
from accounts.models import ApiKey

__all__ = ["Caller", "NotAgreed", "Refused", "Unavailable", "authenticate", "learn"]

MAX_KEY_CHARS: Final = 512
# Of a hash of 256 random bits: enough to tell keys apart, nothing to find one by.
SHOWN_CHARS: Final = 8
# How long known keys are served while the database is away.
MAX_AGE_S: Final = 60.0


class Refused(Exception):
    """No valid key. `message` is always the same; `reason` is for logs and metrics only.

    `caller` is set when the key is known but may not call any more, `digest` when memory does not
    know it: it may have been made a moment ago (`learn`). `shown` names a key of ours in the log: its
    prefix, or the beginning of its hash. What is no key of ours may be a password: nothing of it.
    """

    message = "Invalid API key. Send a valid key as Authorization: Bearer or x-api-key."

    def __init__(
        self, reason: str, caller: Caller | None = None, *, digest: bytes | None = None
    ) -> None:
        super().__init__(self.message)
        self.reason = reason
        self.caller = caller
        self.digest = digest
        self.shown = ""
        if caller is not None:
            # Without its mark: whatever looks like a key is taken out of the log.
            self.shown = f"prefix:{caller.key_prefix.removeprefix(MARK)}"
        elif digest is not None:
            self.shown = f"sha256:{digest.hex()[:SHOWN_CHARS]}"


class NotAgreed(Refused):
    """The key is valid; its owner has not agreed to the newest notice of acceptable use."""

    code = "notice_not_acknowledged"
    page = "/dashboard/notice/"

    def __init__(self, caller: Caller) -> None:
        super().__init__(NOT_AGREED, caller)

    def words(self, base_url: str) -> str:
        """What the client is told. `base_url` is this gateway's as the client knows it."""
        return (
            "Read the notice of acceptable use and agree to it in the browser, "
            f"at {base_url}{self.page}; then the key works."
        )


class Unavailable(Exception):
    """Keys cannot be checked: the database has been away for too long."""

    message = "API keys cannot be checked at the moment. Try again in a few seconds."
    retry_after_s = 5.0

    def __init__(self) -> None:
        super().__init__(self.message)


def authenticate(
    headers: Mapping[str, str], query_key: str | None, *, allow_query: bool, loopback: bool
) -> Caller:
    """Name the caller. `headers` are lower-case; the key may be in any of three on any surface.

    `allow_query` is true on Gemini's own paths only. `loopback` says that the peer is on this
    machine: only such a peer may call without a valid key, and only when REQUIRE_KEYS is off.
    Raises `Refused` or `Unavailable`.
    """
    given = _given(
        headers.get("authorization", ""),
        headers.get("x-api-key", ""),
        headers.get("x-goog-api-key", ""),
        query_key if allow_query and query_key else "",
    )
    if ring.age_s > MAX_AGE_S:
        raise Unavailable
    keys = ring.value
    if not loopback or settings.REQUIRE_KEYS:
        return _by_key(keys, given)
    return _solo(keys, given)


def learn(digest: bytes) -> bool:
    """Look up a key that memory does not know: one indexed query; True when it is there now.

    A key made by another process is in memory a second later at most; its owner need not wait.
    """
    try:
        if not ApiKey.objects.filter(digest=digest).exists():
            return False
        ring.refresh(force=True)
    except Error:
        return False
    return True


def _given(authorization: str, *others: str) -> set[str]:
    """The different values sent as a key; empty ones are none."""
    scheme, _, bearer = authorization.strip().partition(" ")
    values = (bearer if scheme.lower() == "bearer" else "", *others)
    return {stripped for value in values if (stripped := value.strip())}


def _by_key(keys: KeyRing, given: set[str]) -> Caller:
    if not given:
        raise Refused("missing")
    if len(given) > 1:
        raise Refused("conflict")
    return _valid(keys, *given)


def _solo(keys: KeyRing, given: set[str]) -> Caller:
    """Any value is the solo person's, for tools that insist on one, but ours must be valid."""
    if any(value.startswith(MARK) for value in given):
        return _by_key(keys, given)
    if keys.solo is None:
        raise Refused("inactive")
    return keys.solo


def _valid(keys: KeyRing, value: str) -> Caller:
    if len(value) > MAX_KEY_CHARS:
        raise Refused("hostile")
    digest = digest_of(value)
    entry = keys.entries.get(digest)
    if entry is None:
        raise Refused("unknown", digest=digest if value.startswith(MARK) else None)
    caller = entry.caller
    if entry.refusal not in ("", NOT_AGREED):
        raise Refused(entry.refusal, caller)
    if caller.expires_at is not None and caller.expires_at <= now():
        raise Refused("expired", caller)
    if entry.refusal:
        raise NotAgreed(caller)
    return caller
