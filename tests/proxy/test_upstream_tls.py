"""The upstream's name and certificate: rows U02 and U03 of the faults, on this machine's own servers."""

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simulator.testing import SimulatorThread
from tests.conftest import ROOT, Gateway
from tests.proxy.conftest import WIRES

Key = ec.EllipticCurvePrivateKey
TODAY = datetime.now(UTC)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody knows but who is told of it."""

    key: Key
    certificate: x509.Certificate

    @classmethod
    def make(cls) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(TODAY - timedelta(days=1))
            .not_valid_after(TODAY + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    def issue(self, folder: Path, *, host: str = "127.0.0.1", expired: bool = False) -> Path:
        """A file with a certificate for `host` and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        ends = TODAY + timedelta(days=-1 if expired else 1)
        with contextlib.suppress(ValueError):
            names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(host))]
        if not host[0].isdigit():
            names = [x509.DNSName(host)]
        issuer = self.key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(TODAY - timedelta(days=2))
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        path = folder / f"{host}-{expired}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
        return path


class TlsDoor:
    """A door with a certificate before the simulator; `handshakes` counts who came through."""

    def __init__(self, certificate: Path, port: int) -> None:
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._behind = port
        self.handshakes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(plain,), daemon=True).start()

    def _pass_on(self, plain: socket.socket) -> None:
        try:
            outside = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        self.handshakes += 1
        with outside, socket.create_connection(("127.0.0.1", self._behind)) as inside:
            inside.settimeout(0.02)
            outside.settimeout(0.02)
            with contextlib.suppress(ConnectionError):
                while all(copy(*pair) for pair in ((outside, inside), (inside, outside))):
                    pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def copy(source: socket.socket, target: socket.socket) -> bool:
    """Pass on what there is; whether there may be more."""
    try:
        data = source.recv(65536)
    except TimeoutError:
        return True
    target.sendall(data)
    return bool(data)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture
def open_door(
    authority: Authority, simulator: SimulatorThread, tmp_path: Path
) -> Iterator[Callable[..., TlsDoor]]:
    doors: list[TlsDoor] = []

    def make(**how: object) -> TlsDoor:
        own = how.pop("authority", authority)
        assert isinstance(own, Authority)
        doors.append(TlsDoor(own.issue(tmp_path, **how), simulator.port))  # type: ignore[arg-type]
        return doors[-1]

    yield make
    for door in doors:
        door.close()


def settled(gateway: Gateway) -> None:
    """Its list of models is stored: what fails from here on is the call itself."""
    with gateway.client() as client:
        body = WIRES["messages"].body("hello", "gpt-4.1", stream=False)
        assert client.post("/v1/messages", json=body).status_code == 200


def sent_elsewhere(gateway: Gateway, url: str, **environment: str) -> None:
    """Start it again with another address of Copilot."""
    gateway.stop()
    gateway.output.clear()
    gateway.environment |= {"COPILOT_API_URL": url, **environment}
    gateway.start()


def ask(gateway: Gateway, *, stream: bool) -> tuple[int, str]:
    with gateway.client() as client:
        answer = client.post(
            "/v1/messages", json=WIRES["messages"].body("hello", "gpt-4.1", stream=stream)
        )
    return answer.status_code, answer.text


def test_u03_a_certificate_that_proves_nothing_is_a_502_and_gets_no_token(
    new_gateway: Callable[..., Gateway],
    simulator: SimulatorThread,
    authority: Authority,
    open_door: Callable[..., TlsDoor],
    tmp_path: Path,
) -> None:
    gateway = new_gateway()
    settled(gateway)
    known = tmp_path / "authority.pem"
    known.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    trust = {"SSL_CERT_FILE": str(known)}
    doors = {
        "good": open_door(),
        "expired": open_door(expired=True),
        "of another host": open_door(host="api.example.com"),
        "of an authority that nobody knows": open_door(authority=Authority.make()),
    }
    # Whoever trusts the authority is served: it is the certificate alone that decides below.
    sent_elsewhere(gateway, f"https://127.0.0.1:{doors['good'].port}", **trust)
    assert ask(gateway, stream=True)[0] == 200
    for name, door in doors.items():
        if name == "good":
            continue
        # What switches verification off elsewhere does nothing here.
        off = {"PYTHONHTTPSVERIFY": "0", "NODE_TLS_REJECT_UNAUTHORIZED": "0", "CURL_CA_BUNDLE": ""}
        sent_elsewhere(gateway, f"https://127.0.0.1:{door.port}", **trust, **off)
        received = len(simulator.generations)
        for stream in (True, False):
            status, text = ask(gateway, stream=stream)
            assert status == 502, name
            assert "127.0.0.1" not in text
            assert "certificate" not in text.lower()
        assert len(simulator.generations) == received
        assert door.handshakes == 0
        record = gateway.wait_for_records(1, "status = 502")[-1]
        assert record["outcome"] == "upstream_error"


def test_u03_no_setting_switches_verification_off() -> None:
    source = {
        path: path.read_text()
        for folder in ("accounts", "copilot_site", "proxy", "usage")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert len(source) > 100
    for path, text in source.items():
        for word in ("verify=False", "CERT_NONE", "check_hostname = False", "_create_unverified"):
            assert word not in text, path


def test_u02_a_name_that_does_not_resolve_is_a_502(
    new_gateway: Callable[..., Gateway], simulator: SimulatorThread
) -> None:
    gateway = new_gateway()
    settled(gateway)
    sent_elsewhere(gateway, "https://api.no-such-host.invalid")
    for stream in (True, False):
        status, text = ask(gateway, stream=stream)
        assert status == 502
        assert "no-such-host" not in text
    assert gateway.wait_for_records(2, "status = 502 AND outcome = 'upstream_error'")
    # Without that address it is again where GitHub says.
    sent_elsewhere(gateway, "")
    assert ask(gateway, stream=True)[0] == 200
