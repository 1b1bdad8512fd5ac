"""Posting to addresses that people typed in: never to the inside of the network.

Only https, and only to public addresses: the name is resolved once, every answer is judged, and the
connection goes to the judged address, so that a name that changes between look and use gains nothing.
Redirects are not followed; ten seconds in all; no more than 64 kB of the answer is read. Hosts that
the operator names in GATEWAY_WEBHOOK_HOSTS may be plain http and inside. GATEWAY_PROXY_ENV does not
count here: a proxy would resolve the name itself.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

LIMIT_S: Final = 10.0
MAX_ANSWER: Final = 64 * 1024
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_resolver = ThreadPoolExecutor(max_workers=4, thread_name_prefix="webhook-names")


class Refused(Exception):
    """The address may not be posted to; nothing was sent. The message says why."""


class Undelivered(Exception):
    """It was not taken: no connection, no answer in time, or an answer other than 2xx."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address in its parts. `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def is_allowed_inside(self) -> bool:
        """The operator vouches for the host; `*.example.org` vouches for all below it."""
        names = [name.strip().lower() for name in settings.GATEWAY_WEBHOOK_HOSTS]
        return any(
            self.host == name or (name.startswith("*.") and self.host.endswith(name[1:]))
            for name in names
        )


def read_address(url: str) -> Address:
    """Raises `Refused` for what is no https address of a host. Resolves nothing."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode().lower()
    except (ValueError, UnicodeError):
        raise Refused("That is no address.") from None
    if not host or any(c.isspace() or not c.isprintable() for c in url.strip()):
        raise Refused("That is no address.")
    if parts.username is not None or parts.password is not None:
        raise Refused("Leave name and password out of the address.")
    address = Address(parts.scheme, host, port or _default_port(parts), _target(parts))
    if parts.scheme != "https" and not (parts.scheme == "http" and address.is_allowed_inside):
        raise Refused("The address must begin with https://.")
    with contextlib.suppress(ValueError):
        _judge(address, ipaddress.ip_address(host))
    return address


def _default_port(parts: SplitResult) -> int:
    return 443 if parts.scheme == "https" else 80


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    try:
        path.encode("ascii"), parts.query.encode("ascii")
    except UnicodeEncodeError:
        raise Refused("The address holds characters that must be percent-encoded.") from None
    return f"{path}?{parts.query}" if parts.query else path


def is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """True on the internet only; IPv4 inside of IPv6 is judged as what it leads to."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _judge(address: Address, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if not (is_public(ip) or address.is_allowed_inside):
        raise Refused(
            "The address leads inside the network. An operator may allow its host with "
            "GATEWAY_WEBHOOK_HOSTS."
        )


def _resolve(address: Address, within_s: float) -> list[str]:
    """The judged addresses of the host. One that is inside spoils them all."""
    looking = _resolver.submit(
        socket.getaddrinfo, address.host, address.port, type=socket.SOCK_STREAM
    )
    try:
        found = looking.result(within_s)
    except FutureTimeout:
        looking.cancel()
        raise Undelivered(f"The host was not found within {LIMIT_S:.0f} s.") from None
    except (OSError, UnicodeError):
        raise Undelivered("The host was not found.") from None
    ips = list(dict.fromkeys(str(row[4][0]) for row in found))
    for ip in ips:
        _judge(address, ipaddress.ip_address(ip.partition("%")[0]))
    return ips


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was judged; TLS still proves the name."""

    def __init__(self, address: Address, ips: list[str], deadline: float) -> None:
        super().__init__(address.host, address.port)
        self._address, self._ips, self._deadline = address, ips, deadline
        self._wire: socket.socket | None = None

    def connect(self) -> None:
        error: OSError = OSError("no address")
        for ip in self._ips:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                plain = socket.create_connection((ip, self._address.port), timeout=left)
            except OSError as failed:
                error = failed
                continue
            # `sock` is gone as soon as an answer says that it is the last one.
            self.sock = self._wire = self._secured(plain)
            return
        raise error

    def cut(self) -> None:
        """End it now, whoever reads; from another thread."""
        if self._wire is not None:
            with contextlib.suppress(OSError, ValueError):
                self._wire.shutdown(socket.SHUT_RDWR)

    def _secured(self, plain: socket.socket) -> socket.socket:
        plain.settimeout(max(0.1, self._deadline - time.monotonic()))
        if self._address.scheme == "http":
            return plain
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            return context.wrap_socket(plain, server_hostname=self._address.host)
        except BaseException:
            plain.close()
            raise


def post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """POST `body`; the answer's first 64 kB when its status is 2xx.

    Raises `Refused` when the address may not be asked, `Undelivered` when it did not take it. Blocks
    for at most ten seconds; not for an event loop. What is raised holds neither address nor answer.
    """
    address = read_address(url)
    deadline = time.monotonic() + LIMIT_S
    ips = _resolve(address, LIMIT_S)
    connection = _Pinned(address, ips, deadline)
    # A timeout of a socket counts each step anew: a host that drips would hold us for ever.
    end = threading.Timer(max(0.1, deadline - time.monotonic()), connection.cut)
    end.daemon = True
    end.start()
    try:
        connection.request("POST", address.target, body, dict(headers))
        with connection.getresponse() as answer:
            status, text = answer.status, answer.read(MAX_ANSWER)
    except TimeoutError:
        raise Undelivered(f"No answer within {LIMIT_S:.0f} s.") from None
    except ssl.SSLError:
        raise Undelivered("The host's certificate is not valid, or it speaks no TLS.") from None
    except (OSError, http.client.HTTPException, ValueError):
        if time.monotonic() >= deadline:
            raise Undelivered(f"No answer within {LIMIT_S:.0f} s.") from None
        raise Undelivered("The host could not be reached, or broke off.") from None
    finally:
        end.cancel()
        connection.close()
    if time.monotonic() >= deadline:
        raise Undelivered(f"No answer within {LIMIT_S:.0f} s.")
    if 300 <= status < 400:
        raise Undelivered(f"It answered {status}; redirects are not followed.")
    if not 200 <= status < 300:
        raise Undelivered(f"It answered {status}.")
    return text
