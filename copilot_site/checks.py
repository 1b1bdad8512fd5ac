"""Settings that would make the gateway weak: told by `manage.py check`, and a reason not to start.

Every process of a team asks `refuse_weak_settings` before it serves: `start`, Daphne and Celery.
"""

import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

from accounts.hosts import is_loopback, name_of

MIN_SECRET_CHARS: Final = 32
MIN_SECRET_DIFFERENT: Final = 8
# Beginnings of texts that stand in examples; Django's own marks what its project template made.
WELL_KNOWN: Final = ("django-insecure-", "changeme", "change-me", "secret", "password", "example")
# What libpq calls a connection whose other end has proven its name.
VERIFIED: Final = ("verify-full", "verify-ca")
ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


def is_weak(secret: str) -> bool:
    """Too short, too even or out of a book; what we make ourselves has 64 characters."""
    return (
        len(secret) < MIN_SECRET_CHARS
        or len(set(secret)) < MIN_SECRET_DIFFERENT
        or secret.lower().startswith(WELL_KNOWN)
    )


@register(Tags.security)
def weak_settings(
    app_configs: Sequence[Any] | None = None, **options: object
) -> list[CheckMessage]:
    return [*_secrets(), *_reach(), *_addresses()]


@register(Tags.security, deploy=True)
def doubtful_settings(
    app_configs: Sequence[Any] | None = None, **options: object
) -> list[CheckMessage]:
    """What a laptop may do and a team should not."""
    found: list[CheckMessage] = []
    if settings.TEAM_MODE and not settings.HTTPS:
        found.append(
            Warning(
                "A team's pages are served without https: sessions can be read on their way.",
                hint="Put TLS before the gateway and set GATEWAY_HTTPS=true.",
                id="gateway.W001",
            )
        )
    if settings.TEAM_MODE:
        found += [
            Warning(
                f"{name} goes to {host!r} without TLS: passwords and tokens can be read on their way.",
                hint=hint,
                id="gateway.W002",
            )
            for name, host, hint in _plain_stores()
        ]
    return found


def _plain_stores() -> Iterator[tuple[str, str, str]]:
    """Database and Redis on other hosts; names without a dot are containers of this one."""
    redis = urlsplit(settings.REDIS_URL)
    if redis.scheme == "redis" and _is_elsewhere(redis.hostname or ""):
        yield "REDIS_URL", str(redis.hostname), "Write rediss://…?ssl_cert_reqs=required."
    database = settings.DATABASES["default"]
    host = str(database.get("HOST", ""))
    if _is_elsewhere(host) and database.get("OPTIONS", {}).get("sslmode") not in VERIFIED:
        yield "DATABASE_URL", host, "Append ?sslmode=verify-full, with sslrootcert if it needs one."


def _is_elsewhere(host: str) -> bool:
    return ("." in host or ":" in host) and not host.startswith("/") and not is_loopback(host)


def refuse_weak_settings() -> None:
    """Raises `ImproperlyConfigured` that names what is wrong."""
    found = [each for each in weak_settings() if each.is_serious()]
    if found:
        raise ImproperlyConfigured(" ".join(f"{each.msg} {each.hint}" for each in found))


def _secrets() -> Iterator[CheckMessage]:
    if is_weak(settings.SECRET_KEY):
        yield _error(
            1,
            "SECRET_KEY is weak: who guesses it signs sessions.",
            f"Set at least {MIN_SECRET_CHARS} random characters: `openssl rand -base64 48`.",
        )
    keys = [key.strip() for key in settings.ENCRYPTION_KEYS if key.strip()]
    if not keys or any(is_weak(key) for key in keys):
        yield _error(
            2,
            "A key of ENCRYPTION_KEYS is weak, or there is none: who guesses it reads GitHub tokens.",
            f"Set at least {MIN_SECRET_CHARS} random characters, then run rotate-keys.",
        )
    if settings.SECRET_KEY in keys:
        yield _error(
            3,
            "SECRET_KEY and ENCRYPTION_KEYS are the same.",
            "Use one secret for one thing: set another SECRET_KEY.",
        )
    if settings.TEAM_MODE and settings.SECRETS_IN_FILES:
        names = " and ".join(settings.SECRETS_IN_FILES)
        yield _error(
            4,
            f"{names} must be set in team mode: each host would make its own, and the others could "
            "not read what it stores.",
            f"Set {names} to the same value for every process.",
        )


def _reach() -> Iterator[CheckMessage]:
    public = [host for host in settings.ALLOWED_HOSTS if not is_loopback(host.strip("[]"))]
    if settings.DEBUG and (public or settings.TEAM_MODE or settings.HTTPS):
        yield _error(
            5,
            "DEBUG shows code and settings to whoever meets an error, and others reach this gateway.",
            "Leave DEBUG out.",
        )
    if any(host == "*" or host.startswith(".") for host in settings.ALLOWED_HOSTS):
        yield _error(
            6,
            "ALLOWED_HOSTS lets any name in: a web page could point its own name at this gateway.",
            "Name each host.",
        )
    if settings.TEAM_MODE and settings.DEMO:
        yield _error(
            7, "The demo has no password, and team mode is for others, too.", "Leave one out."
        )


def _addresses() -> Iterator[CheckMessage]:
    for origin in settings.GATEWAY_CORS_ORIGINS:
        if not ORIGIN.fullmatch(origin):
            yield _error(
                8,
                f"GATEWAY_CORS_ORIGINS: {origin!r} is no origin.",
                "Write each as https://host or https://host:port, in lower case and without a path.",
            )
    for network in settings.GATEWAY_PROXIES:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield _error(
                9,
                f"GATEWAY_PROXIES: {network!r} is no network.",
                "Write addresses or networks: 10.0.0.5, 10.0.0.0/8.",
            )
    named = ("GITHUB_URL", "GITHUB_API_URL", "COPILOT_API_URL", "GATEWAY_OIDC_ISSUER")
    addresses = [(name, str(getattr(settings, name))) for name in named]
    addresses += [("GITHUB_STAND_INS", each) for each in settings.GITHUB_STAND_INS.values()]
    for name, address in addresses:
        if address.startswith("http://") and not is_loopback(name_of(address)):
            yield _error(
                10, f"{name} would send secrets in clear to {address!r}.", "Begin it with https://."
            )
    breached = settings.GATEWAY_BREACHED_PASSWORDS
    if breached and not os.access(breached, os.R_OK):
        yield _error(
            11,
            f"GATEWAY_BREACHED_PASSWORDS: {breached!r} cannot be read.",
            "Name a file of sorted lines `<SHA-1>:<count>`, or leave it out.",
        )


def _error(number: int, message: str, hint: str) -> Error:
    return Error(message, hint=hint, id=f"gateway.E{number:03}")
