"""Requests as no library writes them: offers of other protocols, versions and methods nobody has."""

import json
import socket

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway

BODY = b'{"model":"gpt-4.1","messages":[{"role":"user","content":"offered"}]}'
OFFERS = {
    # What Java's client sends with the first request of a connection.
    "http2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "tls": b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
}


def asked(*extra: bytes, target: bytes = b"/v1/chat/completions", body: bytes = BODY) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\n%bContent-Length: %d\r\n\r\n"
    return head % (target, b"".join(extra), len(body)) + body


def exchange(gateway: Gateway, *sent: bytes, answers: int = 1) -> bytes:
    """What comes back on one connection, until so many answers are there or it is closed."""
    heard = b""
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        for piece in sent:
            connection.sendall(piece)
        while heard.count(b"HTTP/1.1 ") < answers or not heard.endswith((b"}", b"\n\n")):
            if not (piece := connection.recv(65536)):
                break
            heard += piece
    return heard


@pytest.mark.parametrize("offer", OFFERS)
def test_c16_an_offer_of_another_protocol_is_passed_over(
    gateway: Gateway, simulator: SimulatorThread, offer: str
) -> None:
    first = asked(OFFERS[offer])
    heard = exchange(gateway, first, asked(), asked(OFFERS[offer]), answers=3)
    assert heard.count(b"HTTP/1.1 200") == 3, heard
    assert heard.count(b"You said: offered") == 3
    # The head may end in another read than it began in.
    assert b"HTTP/1.1 200" in exchange(gateway, first[:50], first[50:-20], first[-20:])
    # As many as fit into one read.
    heard = exchange(gateway, asked(OFFERS[offer]) * 300, answers=300)
    assert heard.count(b"HTTP/1.1 200") == 300


def test_c16_a_websocket_without_its_key_is_told_426_in_json(gateway: Gateway) -> None:
    head = b"GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\n" + OFFERS["websocket"] + b"\r\n"
    heard = exchange(gateway, head)
    assert heard.startswith(b"HTTP/1.1 426 "), heard
    assert json.loads(heard.partition(b"\r\n\r\n")[2])["error"]["code"] == "upgrade_required"


@pytest.mark.parametrize(
    "head",
    [
        b"FOO /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /v1/messages HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["unknown method", "unknown version", "no host", "two hosts", "no length"],
)
def test_i23_what_no_http_allows_is_refused_in_the_callers_format(
    gateway: Gateway, simulator: SimulatorThread, head: bytes
) -> None:
    heard = exchange(gateway, head)
    assert heard.startswith(b"HTTP/1.1 400 "), heard
    body = json.loads(heard.partition(b"\r\n\r\n")[2])
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert not simulator.generations


def test_i23_a_tunnel_is_refused(gateway: Gateway) -> None:
    heard = exchange(gateway, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 400 "), heard
