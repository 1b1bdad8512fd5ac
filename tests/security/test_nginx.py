"""Rows N of the faults: the gateway behind the real nginx, by the file that we ship."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_socket

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.security.front import NAME, Front

CHAT = "/v1/chat/completions"


def body(text: str, *, stream: bool = False) -> dict[str, Any]:
    return {"model": "gpt-4.1", "stream": stream, "messages": [{"role": "user", "content": text}]}


@pytest.fixture(scope="module")
def behind(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that knows that it stands behind a proxy with TLS."""
    gateway = Gateway(
        tmp_path_factory.mktemp("behind"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat"),
        {"GATEWAY_HTTPS": "true", "ALLOWED_HOSTS": NAME, "GATEWAY_HEARTBEAT_S": "60"},
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def front(behind: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(tmp_path_factory.mktemp("nginx"), behind.port, behind.port)
    yield front
    front.close()


@pytest.fixture(scope="module")
def key(behind: Gateway) -> str:
    return behind.manage("create-key", "front").stdout.strip()


@pytest.fixture
def client(front: Front, key: str) -> Iterator[httpx.Client]:
    with front.client(headers={"authorization": f"Bearer {key}"}) as client:
        yield client


@pytest.fixture
def new_front(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    started: list[Front] = []

    def make(port: int, *more: tuple[str, str]) -> Front:
        folder = tmp_path / f"nginx{len(started)}"
        folder.mkdir()
        started.append(Front(folder, port, port, more))
        return started[-1]

    yield make
    for front in started:
        front.close()


def test_n01_a_stream_comes_piece_by_piece_as_it_is_made(
    client: httpx.Client, simulator: SimulatorThread
) -> None:
    arrivals: list[float] = []
    wish = body("[[drip chunks=8 delay=0.15]] tell", stream=True)
    with client.stream("POST", CHAT, json=wish) as answer:
        assert answer.status_code == 200
        assert "gzip" not in answer.headers.get("content-encoding", "")
        for _piece in answer.iter_raw():
            arrivals.append(time.monotonic())

    assert len(arrivals) >= 6
    # Buffered, all would come in one moment at the end.
    assert arrivals[-1] - arrivals[0] > 0.6


def test_n02_silence_is_waited_out(
    client: httpx.Client, simulator: SimulatorThread, front: Front
) -> None:
    """No test waits ten minutes: a silence of seconds passes, and the file says 600."""
    simulator.play("slow", seconds=4, times=1)

    answer = client.post(CHAT, json=body("patience"))

    assert answer.status_code == 200
    text = (front.folder / "nginx.conf").read_text()
    api = text[text.index("location ~ ^/(v1|v1beta|chat") :]
    assert "proxy_read_timeout 600s;" in text
    assert "proxy_buffering off;" in api


def test_n03_who_hangs_up_ends_the_call_upstream_within_a_second(
    front: Front, key: str, simulator: SimulatorThread
) -> None:
    raw = json.dumps(body("[[drip chunks=200 delay=0.1]] go on", stream=True)).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n"
    )
    connection = front.connect()
    connection.sendall(head.encode() + raw)
    seen = b""
    while b"data:" not in seen:
        seen += connection.recv(65536)
    assert simulator.open_streams() == 1

    connection.close()

    assert simulator.closed_within(seconds=1.5)


class Deaf:
    """A gateway that takes requests and hangs up without an answer."""

    def __init__(self) -> None:
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                if connection.recv(65536):
                    self.requests += 1

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    found = Deaf()
    yield found
    found.close()


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/dashboard/sign-in/"])
def test_n06_n12_a_post_is_never_sent_twice_and_its_failure_is_json(
    new_front: Callable[..., Front], deaf: Deaf, path: str
) -> None:
    front = new_front(deaf.port)

    with front.client() as client:
        answer = client.post(path, json=body("once"))

    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "gateway_away"
    assert deaf.requests == 1


def test_n12_a_restart_of_the_gateway_is_a_502_in_json_and_then_over(
    new_gateway: Callable[..., Gateway], new_front: Callable[..., Front]
) -> None:
    gateway = new_gateway(token=None, GATEWAY_HTTPS="true", ALLOWED_HOSTS=NAME)
    front = new_front(gateway.port)
    with front.client() as client:
        assert client.get("/healthz").status_code == 200
        gateway.kill()

        away = client.get("/healthz")
        assert away.status_code == 502
        assert away.json()["error"]["code"] == "gateway_away"
        assert away.headers["retry-after"] == "5"

        gateway.start()
        assert client.get("/healthz").status_code == 200


def test_n04_a_body_that_is_too_large_is_refused_in_json(front: Front, key: str) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Length: 99999999\r\nConnection: close\r\n\r\n"
    )

    answer = front.ask(head.encode())

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"application/json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_too_large"


def test_n05_d22_what_a_client_says_of_its_way_does_not_count(
    front: Front, behind: Gateway, key: str
) -> None:
    lies = {
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "evil.example",
        "forwarded": "for=203.0.113.9;host=evil.example",
        "x-real-ip": "203.0.113.9",
    }
    with front.client(headers=lies) as client:
        page = client.get("/dashboard/sign-in/")
        # `http` would have been sent to https, and the other host refused.
        assert page.status_code == 200
        token = page.text.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        answer = client.post(
            "/dashboard/sign-in/",
            data={"csrfmiddlewaretoken": token, "username": "owner", "password": "wrong"},
            headers={"origin": f"https://{NAME}"},
        )
        assert answer.status_code == 401, answer.text

    rows = behind.query("SELECT * FROM accounts_auditentry WHERE action = 'member.sign_in_failed'")
    assert [row["address"] for row in rows] == ["127.0.0.1"]


def test_n05_behind_the_proxy_nobody_is_local(front: Front) -> None:
    with front.client() as client:
        for path in ("/v1/models", "/usage", "/api/limits"):
            assert client.get(path).status_code == 401
        assert client.post(CHAT, json=body("hello")).status_code == 401


def test_n05_other_names_are_hung_up_on(front: Front) -> None:
    with pytest.raises(ssl.SSLError):
        front.connect(name="evil.example")
    with socket.create_connection(("127.0.0.1", front.plain), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    # The right name in the handshake and another one in the request.
    answer = front.ask(b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert b"200 OK" not in answer
    assert b"status" not in answer.partition(b"\r\n\r\n")[2]


def test_n07_a_websocket_of_our_own_page_is_opened_and_a_foreign_one_is_not(
    front: Front, behind: Gateway
) -> None:
    with front.client(follow_redirects=True) as client:
        link = behind.sign_in_link.partition("/dashboard")[2]
        assert client.get(f"/dashboard{link}").status_code == 200
        cookie = client.cookies["__Host-gateway_session"]

    def dial(origin: str) -> Any:
        plain = socket.create_connection(("127.0.0.1", front.tls), timeout=10)
        return open_socket(
            f"wss://{NAME}/ws/live/",
            sock=plain,
            ssl=ssl.create_default_context(cafile=str(front.certificate)),
            server_hostname=NAME,
            origin=origin,  # type: ignore[arg-type]
            additional_headers={"Cookie": f"__Host-gateway_session={cookie}"},
            proxy=None,
        )

    with dial(f"https://{NAME}") as live:
        assert json.loads(live.recv(timeout=10))["t"] == "hello"
    with pytest.raises(InvalidStatus) as refused:
        dial("https://evil.example")
    assert refused.value.response.status_code == 403


def test_n08_slow_clients_are_let_go(new_front: Callable[..., Front], behind: Gateway) -> None:
    front = new_front(
        behind.port,
        ("client_header_timeout 30s", "client_header_timeout 1s"),
        ("client_body_timeout 60s", "client_body_timeout 1s"),
    )
    began = time.monotonic()

    head = front.ask(f"GET /healthz HTTP/1.1\r\nHost: {NAME}\r\nX-Slow: ".encode(), timeout=10)
    part = front.ask(
        f"POST {CHAT} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 100\r\n\r\n{{".encode(),
        timeout=10,
    )

    assert time.monotonic() - began < 8
    assert b" 200 " not in head
    assert b" 200 " not in part


def test_n09_the_log_holds_no_key_no_query_and_no_link(front: Front, key: str) -> None:
    with front.client() as client:
        client.get(f"/v1beta/models?key={key}")
        client.get("/v1beta/models?key=AIzaSyCanaryCanary")
        client.get("/dashboard/?signin=canary-link", headers={"referer": "https://x/?canary-ref"})
        client.get("/dashboard/join/canary-invite/")
        client.post(CHAT, json=body("canary-prompt"), headers={"authorization": f"Bearer {key}"})
        client.get("/nowhere", headers={"user-agent": "canary-agent", "x-api-key": key})

    assert "/v1beta/models" in front.log
    assert "canary" not in front.log.lower()
    assert key not in front.log
    assert "?" not in front.log


def test_n10_the_api_is_never_redirected_and_pages_are(front: Front, key: str) -> None:
    base = f"http://127.0.0.1:{front.plain}"
    with httpx.Client(base_url=base, headers={"host": NAME}, trust_env=False) as client:
        for path in (CHAT, "/v1/messages", "/v1beta/models", "/models", "/api/admin/keys"):
            answer = client.post(path, json={}, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "https_required"
        page = client.get("/dashboard/")
        assert page.status_code == 308
        assert page.headers["location"] == f"https://{NAME}/dashboard/"


def test_n10_old_protocols_are_not_spoken(front: Front) -> None:
    with front.connect() as connection:
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    # Without forward secrecy nothing is agreed upon.
    old.set_ciphers("AES128-SHA:@SECLEVEL=0")
    plain = socket.create_connection(("127.0.0.1", front.tls), timeout=10)
    with plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname=NAME)


def test_n11_the_admin_can_be_kept_to_a_network(
    new_front: Callable[..., Front], behind: Gateway
) -> None:
    front = new_front(behind.port, ("# location /admin/", "location /admin/"))

    with front.client() as client:
        assert client.get("/admin/").status_code == 403
        assert client.get("/dashboard/sign-in/").status_code == 200


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Content-Length: 6\r\nContent-Length: 7",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Content-Length: six",
    ],
)
def test_n13_two_lengths_are_refused_and_nothing_hidden_runs(
    front: Front, simulator: SimulatorThread, key: str, framing: str
) -> None:
    hidden = f"GET /v1/models HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {key}\r\n\r\n"
    raw = f"POST {CHAT} HTTP/1.1\r\nHost: {NAME}\r\n{framing}\r\n\r\n0\r\n\r\n{hidden}"

    answer = front.ask(raw.encode(), timeout=10)

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer
    assert answer.count(b"HTTP/1.1") == 1
    assert b"application/json" in answer
    assert not simulator.generations


def test_what_nginx_itself_refuses_is_json(front: Front) -> None:
    for raw, status in (
        ("NO REQUEST AT ALL\r\n\r\n", b"400"),
        ("GET http://[ HTTP/1.1\r\n\r\n", b"400"),
        (f"TRACE / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n", b"405"),
        (f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: {NAME}\r\n\r\n", b"4"),
        (f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX-A: {'a' * 20_000}\r\n\r\n", b"4"),
    ):
        answer = front.ask(raw.encode())
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:100]
        assert b"application/json" in answer
        assert b"<html" not in answer.lower()
        assert b"nginx/" not in answer.lower()
