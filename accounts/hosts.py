"""Which host a credential may be sent to, and where an account's GitHub is.

Pure rules over settings, the account and what GitHub's answers name.
Source: docs/upstream.md#copilot-hosts, #github-enterprise.
"""

import ipaddress
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from django.conf import settings

from accounts.errors import GitHubRefused

logger = logging.getLogger(__name__)

DOTCOM: Final = "github.com"
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_GHE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.ghe\.com")


# What proxies and tunnels add, by its name in META: who comes by one is not on this machine.
FORWARDING: Final = {
    name: f"HTTP_{name.upper().replace('-', '_')}"
    for name in (
        "x-forwarded-for",
        "forwarded",
        "via",
        "x-real-ip",
        "x-forwarded-host",
        "x-forwarded-proto",
        "cf-connecting-ip",
        "true-client-ip",
    )
}


class Seat(Protocol):
    """What of an account decides its hosts; `Account` and `AccountView` both fit."""

    @property
    def login(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def account_type(self) -> str: ...


def is_loopback(host: str) -> bool:
    if host in LOOPBACK or host.endswith(".localhost"):
        return True
    # Numbers only: `127.evil.example` is a name of somebody's.
    return host.startswith("127.") and host.replace(".", "").isdecimal()


def client_address(meta: Mapping[str, Any]) -> str:
    """Where a request comes from, for the audit log and for counting tries.

    Behind the team's proxy (GATEWAY_HTTPS, GATEWAY_PROXIES) its own header counts, which it
    overwrites; elsewhere anybody could write that header, so only the connection does.
    """
    peer = str(meta.get("REMOTE_ADDR", ""))
    forwarded = ""
    if settings.HTTPS and is_proxy(peer):
        forwarded = str(meta.get("HTTP_X_FORWARDED_FOR", ""))
    return (forwarded.rpartition(",")[2].strip() or peer)[:64]


def is_proxy(peer: str) -> bool:
    """Whether the peer of a connection is in GATEWAY_PROXIES; a local socket has no address."""
    if not peer:
        return True
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    # A listener on `::` sees IPv4 peers inside of IPv6.
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in _networks(tuple(settings.GATEWAY_PROXIES)))


@lru_cache(maxsize=4)
def _networks(
    texts: tuple[str, ...],
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_local_request(meta: Mapping[str, Any]) -> bool:
    """Does a request (its `META`) come from this machine? Not when a proxy has passed it on."""
    if not is_loopback(str(meta.get("REMOTE_ADDR", ""))):
        return False
    return not any(name in meta for name in FORWARDING.values())


def github_url(host: str) -> str:
    """Where people sign in."""
    if stand_in := _stand_in(host):
        return stand_in
    return settings.GITHUB_URL if _is_configured(host) else f"https://{known_host(host)}"


def api_url(host: str) -> str:
    """GitHub's REST API."""
    if stand_in := _stand_in(host):
        return stand_in
    return settings.GITHUB_API_URL if _is_configured(host) else f"https://api.{known_host(host)}"


def _stand_in(host: str) -> str:
    """The address that plays a tenant of ghe.com, by `GITHUB_STAND_INS`; empty for real ones."""
    return str(settings.GITHUB_STAND_INS.get(host, ""))


def _is_configured(host: str) -> bool:
    # With GitHub on this machine (simulator, demo) nothing may leave it, whatever the host says.
    return host == DOTCOM or is_loopback(name_of(settings.GITHUB_API_URL))


def known_host(host: str) -> str:
    """`host` in lower case. Raises `GitHubRefused` unless github.com or a tenant of ghe.com."""
    name = host.strip().lower()
    if name == DOTCOM or _GHE.fullmatch(name):
        return name
    raise GitHubRefused(
        f"{host[:80]!r} is not a GitHub host that has Copilot. "
        "Use github.com, or your enterprise's address such as example.ghe.com.",
        status=0,
        reason="unknown_host",
    )


def copilot_host(answer: Mapping[str, Any], seat: Seat) -> str:
    """The base URL for requests with the credential that `answer` is about.

    `answer` is the token exchange's or the account document. In order: COPILOT_API_URL,
    `endpoints.api`, the token's `proxy-ep`, the plan's host. What GitHub names is followed to
    allowed hosts only; anything else is logged and the plan's host taken.
    """
    if settings.COPILOT_API_URL:
        return str(settings.COPILOT_API_URL)
    endpoints = answer.get("endpoints")
    named = endpoints.get("api") if isinstance(endpoints, Mapping) else None
    if isinstance(named, str) and named:
        if base := allowed(named, seat):
            return base
        logger.warning("account %s: refused Copilot host %r", seat.login, named[:200])
    token = answer.get("token")
    if isinstance(token, str) and (host := _from_proxy_ep(token)):
        if base := allowed(f"https://{host}", seat):
            return base
        logger.warning("account %s: refused Copilot host %r", seat.login, host[:200])
    return plan_host(seat)


def plan_host(seat: Seat) -> str:
    """The host by the plan that the operator named. Source: docs/upstream.md#copilot-hosts."""
    if stand_in := _stand_in(seat.host):
        return stand_in
    if is_loopback(name_of(settings.GITHUB_API_URL)):
        return str(settings.GITHUB_API_URL)
    if seat.host != DOTCOM:
        return f"https://copilot-api.{known_host(seat.host)}"
    if seat.account_type in ("business", "enterprise"):
        return f"https://api.{seat.account_type}.githubcopilot.com"
    return "https://api.githubcopilot.com"


def allowed(url: str, seat: Seat) -> str | None:
    """`url` as scheme and host if a credential of `seat` may go there, else None."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    has_more = parts.username or parts.password or parts.query or parts.fragment
    if not host or has_more or parts.path not in ("", "/"):
        return None
    if parts.scheme == "https" and port in (None, 443) and _is_copilot(host, seat):
        return f"https://{host}"
    if _plays_github(parts.scheme, host, seat):
        return f"{parts.scheme}://{parts.netloc.lower()}"
    return None


def _is_copilot(host: str, seat: Seat) -> bool:
    if host.endswith(".ghe.com"):
        # A tenant's token goes to that tenant only.
        return seat.host != DOTCOM and host.endswith(f".{seat.host}")
    return any(
        host.endswith(suffix) if suffix.startswith(".") else host == suffix
        for suffix in settings.COPILOT_HOST_SUFFIXES
    )


def _plays_github(scheme: str, host: str, seat: Seat) -> bool:
    """A stand-in for GitHub names itself: this machine, or the very host that was configured."""
    url = _stand_in(seat.host) or settings.GITHUB_API_URL
    configured = name_of(url)
    plain = "http" if url.startswith("http:") else "https"
    if configured == "api.github.com" or scheme not in ("https", plain):
        return False
    return host == configured or (is_loopback(configured) and is_loopback(host))


def _from_proxy_ep(token: str) -> str:
    """`api.…` from the token text's `proxy-ep=proxy.…`; empty when there is none."""
    fields = token.partition(":")[0].split(";")
    for field in fields:
        key, _, value = field.partition("=")
        if key == "proxy-ep" and value.startswith("proxy."):
            return "api." + value.removeprefix("proxy.")
    return ""


def name_of(url: str) -> str:
    """The host that an address names, in lower case."""
    return (urlsplit(url).hostname or "").lower()
