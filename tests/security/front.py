"""The real nginx with our `deploy/nginx.conf`, before a gateway of a test's own.

Only what belongs to the place is adapted: ports, names of hosts, the certificate, where logs go. What
does not match any more fails loudly, so that the file and its tests stay one.
"""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import ROOT
from tests.team import free_port

NAME = "gateway.example.com"
CONFIG = ROOT / "deploy" / "nginx.conf"


class Front:
    """nginx on two ports of this machine. `more` are further replacements in the file."""

    def __init__(
        self, folder: Path, gateway: int, pages: int, more: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.program = shutil.which("nginx") or "/usr/sbin/nginx"
        if not Path(self.program).exists():
            pytest.skip("nginx is not installed")
        self.folder = folder
        self.plain, self.tls = free_port(), free_port()
        self.certificate = make_certificate(folder)
        text = CONFIG.read_text()
        for old, new in (*self._places(gateway, pages), *more):
            assert old in text, f"deploy/nginx.conf has no {old!r} any more"
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(text)
        check = self._run("-t")
        assert check.returncode == 0, check.stderr
        self.process = subprocess.Popen(
            [self.program, "-p", str(folder), "-c", str(folder / "nginx.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _places(self, gateway: int, pages: int) -> tuple[tuple[str, str], ...]:
        user = "user root;\n" if os.geteuid() == 0 else ""
        here = self.folder
        temporary = "".join(
            f"    {kind}_temp_path {here}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return (
            ("worker_processes auto;", f"{user}worker_processes 1; daemon off; pid {here}/pid;"),
            ("    server_tokens off;", f"{temporary}    server_tokens off;"),
            ("access_log /dev/stdout", f"access_log {here}/access.log"),
            ("error_log /dev/stderr", f"error_log {here}/error.log"),
            ("listen 80", f"listen 127.0.0.1:{self.plain}"),
            ("listen 443", f"listen 127.0.0.1:{self.tls}"),
            ("server gateway:4141", f"server 127.0.0.1:{gateway}"),
            ("server pages:4142", f"server 127.0.0.1:{pages}"),
            ("/etc/nginx/tls/", f"{here}/"),
        )

    def _run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [
                self.program,
                "-p",
                str(self.folder),
                "-c",
                str(self.folder / "nginx.conf"),
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.tls), 1):
                return
            time.sleep(0.02)
        pytest.fail("nginx did not start: " + (self.folder / "error.log").read_text())

    @property
    def log(self) -> str:
        """Both logs."""
        return "".join((self.folder / f"{name}.log").read_text() for name in ("access", "error"))

    def client(self, **options: Any) -> httpx.Client:
        """A client that believes our certificate and asks by our name."""
        headers = {"host": NAME, **options.pop("headers", {})}
        return httpx.Client(
            base_url=f"https://{NAME}:{self.tls}",
            transport=_Here(self.certificate),
            headers=headers,
            timeout=30,
            trust_env=False,
            **options,
        )

    def connect(self, *, name: str = NAME, timeout: float = 30) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.certificate))
        plain = socket.create_connection(("127.0.0.1", self.tls), timeout=timeout)
        return context.wrap_socket(plain, server_hostname=name)

    def ask(self, raw: bytes, *, timeout: float = 30) -> bytes:
        """Send these very bytes; everything that comes back until the end."""
        answer = b""
        with self.connect(timeout=timeout) as connection:
            connection.sendall(raw)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while part := connection.recv(65536):
                    answer += part
        return answer

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


class _Here(httpx.HTTPTransport):
    """Goes to this machine, whatever the name; TLS still proves the name."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(verify=ssl.create_default_context(cafile=str(certificate)))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        here = httpx.Request(
            request.method,
            request.url.copy_with(host="127.0.0.1"),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": NAME},
        )
        return super().handle_request(here)


def make_certificate(folder: Path) -> Path:
    """A certificate of our own for `NAME`, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    at = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "fullchain.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
