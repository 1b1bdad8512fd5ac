"""What a page on the internet can do with a gateway on its visitor's machine: nothing.

Solo mode takes any key from this machine, and browsers are on this machine. Each test says what a
browser would send, against the gateway as `start` runs it without options.
"""

import json
import re
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_socket

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

CHAT = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}
MESSAGES = {"model": "claude-sonnet-4.6", "max_tokens": 10, "messages": CHAT["messages"]}
EFFECTS: list[tuple[str, Any]] = [
    ("/v1/chat/completions", CHAT),
    ("/chat/completions", CHAT),
    ("/v1/messages", MESSAGES),
    ("/v1/messages/count_tokens", MESSAGES),
    ("/v1/responses", {"model": "gpt-5.5", "input": "hello"}),
    ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hello"}),
    ("/v1beta/models/gpt-4.1:generateContent", {"contents": [{"parts": [{"text": "hello"}]}]}),
    ("/api/translate", {"format": "messages", "body": MESSAGES}),
    ("/api/approvals/000000000000000000000000", {"decision": "approve"}),
    ("/api/admin/keys", {"name": "stolen", "owner_id": 1}),
]
READS = ["/v1/models", "/models", "/v1beta/models", "/usage", "/token", "/api/limits"]
FOREIGN = [
    {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    # Browsers before Sec-Fetch-Site.
    {"origin": "https://evil.example"},
    # A sandboxed frame, a data: page, a file.
    {"origin": "null", "sec-fetch-site": "cross-site"},
    {"origin": "null"},
    # Another program's page on this machine: the same site for a browser.
    {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
    {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"},
    # Our address as the beginning, the end or the user of another.
    {"origin": "http://127.0.0.1.evil.example"},
    {"origin": "http://evil.example#127.0.0.1"},
    # What needs no Origin: images, scripts, links, forms of old browsers.
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
]


def called(simulator: SimulatorThread) -> int:
    return len(simulator.generations)


@pytest.mark.parametrize("page", FOREIGN, ids=lambda page: " ".join(page.values()))
@pytest.mark.parametrize(("path", "body"), EFFECTS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_d01_d16_a_foreign_page_spends_nothing(
    gateway: Gateway,
    simulator: SimulatorThread,
    page: dict[str, str],
    path: str,
    body: Any,
    content_type: str,
) -> None:
    """`text/plain` is what a page may send to anybody without asking first."""
    headers = {**page, "content-type": content_type, "authorization": "Bearer anything"}
    with gateway.client() as client:
        answer = client.post(path, content=json.dumps(body), headers=headers)

    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in answer.headers
    assert not called(simulator)


@pytest.mark.parametrize("page", FOREIGN, ids=lambda page: " ".join(page.values()))
@pytest.mark.parametrize("path", READS)
def test_a_foreign_page_reads_nothing(gateway: Gateway, page: dict[str, str], path: str) -> None:
    with gateway.client() as client:
        answer = client.get(path, headers=page)

    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "Web pages may not call this gateway."


@pytest.mark.parametrize("scheme", ["Basic", "Token", "x", "bearer x"])
def test_a_word_that_is_no_bearer_is_no_key_of_a_page(
    gateway: Gateway, simulator: SimulatorThread, scheme: str
) -> None:
    headers = {"origin": "https://evil.example", "authorization": f"{scheme} cgw_made-up"}
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)

    assert answer.status_code in (401, 403)
    assert not called(simulator)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:{port}",
        "127.0.0.1@evil.example",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/dashboard/sign-in/", "/api/admin/keys", "/"])
def test_d16_a_name_that_was_pointed_at_us_is_refused(
    gateway: Gateway, host: str, path: str
) -> None:
    """DNS rebinding: the page's own name now leads here, so that its Origin fits its Host."""
    name = host.format(port=gateway.port)
    with gateway.client() as client:
        headers = {"host": name, "origin": f"http://{name}", "accept": "text/html"}
        answer = client.get(path, headers=headers, follow_redirects=False)

    # Only the way to the dashboard is told to anybody; it leads nowhere under another name.
    assert answer.status_code in (400, 403) or answer.headers.get("location") == "/dashboard/"
    assert "gpt" not in answer.text


def test_our_own_pages_and_tools_are_served(gateway: Gateway) -> None:
    own = [
        {},
        {"origin": gateway.url},
        {"origin": gateway.url, "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-mode": "cors"},
    ]
    with gateway.client() as client:
        for headers in own:
            answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)
            assert answer.status_code == 200, headers


def test_a16_preflights_get_no_permission(gateway: Gateway) -> None:
    with gateway.client() as client:
        for path, _body in EFFECTS:
            answer = client.options(
                path,
                headers={
                    "origin": "https://evil.example",
                    "access-control-request-method": "POST",
                    "access-control-request-headers": "authorization, content-type",
                    "access-control-request-private-network": "true",
                },
            )
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a16_named_origins_may_ask_with_a_key_and_no_cookie(
    new_gateway: Callable[..., Gateway],
) -> None:
    page = "https://tools.example.org"
    gateway = new_gateway("--require-keys", GATEWAY_CORS_ORIGINS=page)
    key = gateway.manage("create-key", "page").stdout.strip()
    with gateway.client() as client:
        preflight = client.options(
            "/v1/chat/completions",
            headers={
                "origin": page,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type,bad name",
            },
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == page
        assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
        assert "access-control-allow-credentials" not in preflight.headers
        for stream in (False, True):
            answer = client.post(
                "/v1/chat/completions",
                json={**CHAT, "stream": stream},
                headers={"origin": page, "authorization": f"Bearer {key}"},
            )
            assert answer.status_code == 200, gateway.text
            assert answer.headers["access-control-allow-origin"] == page
            assert "Origin" in answer.headers["vary"]
        refused = client.post("/v1/chat/completions", json=CHAT, headers={"origin": page})
        assert refused.status_code == 401
        # The page may read why.
        assert refused.headers["access-control-allow-origin"] == page
        for other in ("https://tools.example.org.evil.example", "http://tools.example.org", "null"):
            answer = client.get("/v1/models", headers={"origin": other})
            assert "access-control-allow-origin" not in answer.headers
        pages = client.get("/dashboard/sign-in/", headers={"origin": page})
        assert "access-control-allow-origin" not in pages.headers


@pytest.fixture(scope="module")
def cookie(shared_gateway: Gateway) -> str:
    """The session of the owner, whose browser also visits other pages."""
    made = shared_gateway.manage(
        "shell", "--no-imports", "-c",
        "from accounts import links; from accounts.members import solo_member; "
        "print('link:' + links.make(solo_member()))",
    )  # fmt: skip
    token = re.search(r"link:(\S+)", made.stdout)
    assert token is not None
    with shared_gateway.client() as client:
        client.get("/dashboard/", params={"signin": token[1]})
        return str(client.cookies["gateway_session"])


@pytest.mark.parametrize("path", ["/ws/live/", "/ws/approvals/"])
def test_d12_sockets_open_to_our_own_pages_only(gateway: Gateway, cookie: str, path: str) -> None:
    """Cookies do not tell ports apart: a page on localhost:3000 brings our session along."""

    def dial(origin: str | None) -> Any:
        return open_socket(
            f"ws://127.0.0.1:{gateway.port}{path}",
            origin=origin,  # type: ignore[arg-type]
            additional_headers={"Cookie": f"gateway_session={cookie}"},
            proxy=None,
        )

    with dial(gateway.url) as live:
        assert json.loads(live.recv(timeout=10))["t"] == "hello"
    for origin in (
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:3000",
        f"http://localhost:{gateway.port}",
        f"https://127.0.0.1:{gateway.port}",
        f"http://127.0.0.1.evil.example:{gateway.port}",
        "null",
        "",
        None,
    ):
        with pytest.raises(InvalidStatus) as refused:
            pytest.fail(f"opened to {origin!r}: {dial(origin)}")
        assert refused.value.response.status_code == 403


def test_d01_a_session_is_no_key(gateway: Gateway, cookie: str, simulator: SimulatorThread) -> None:
    with gateway.client(cookies={"gateway_session": cookie}) as client:
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            answer = client.post("/v1/chat/completions", json=CHAT, headers=headers)
            assert answer.status_code == 403
        assert client.get("/api/admin/keys").status_code == 401
        assert client.post("/dashboard/keys/new/", data={"name": "x"}).status_code == 403
    assert not called(simulator)


@pytest.mark.parametrize("how", ["length", "chunks"])
def test_i10_i11_nobody_fills_the_disk_by_a_form(gateway: Gateway, how: str) -> None:
    """Django would write the body to a temporary file before it looks at anything."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        framing = "Content-Length: 99999999" if how == "length" else "Transfer-Encoding: chunked"
        connection.sendall(
            f"POST /dashboard/sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\n{framing}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode()
        )
        part = b"10000\r\n" + b"a" * 65536 + b"\r\n" if how == "chunks" else b"a" * 65536
        sent, answer = 0, b""
        connection.settimeout(0.05)
        while not answer and sent < 8_000_000:
            try:
                sent += connection.send(part)
            except TimeoutError:
                pass
            except OSError:
                break
            try:
                answer = connection.recv(65536)
            except (TimeoutError, OSError):
                continue
    assert sent < 8_000_000
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")


def test_c07_a_form_that_stops_is_given_up(gateway: Gateway) -> None:
    from copilot_site import door

    assert door.FORM_IDLE_S <= 70
    with gateway.client() as client:
        answer = client.post(
            "/dashboard/sign-in/", content=b"a" * 2_000_000, headers={"content-type": "text/plain"}
        )
        assert answer.status_code == 413
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert httpx.get(f"{gateway.url}/healthz", trust_env=False).status_code == 200
