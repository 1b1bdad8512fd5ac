"""Clients that ask slowly, by halves, in a pipeline, by the hundred: rows C of the faults."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect as websocket
from websockets.typing import Origin

from simulator.testing import SimulatorThread
from tests.conftest import Gateway
from tests.proxy.asking import ENDPOINTS, Endpoint, RawAnswer, error_message, first_answer
from tests.proxy.conftest import ROUTES, WIRES

CHAT, MESSAGES = ENDPOINTS["chat"], ENDPOINTS["messages"]
every_route = pytest.mark.parametrize(("wire_name", "model"), ROUTES)
UPLOAD_S = 1.0
STALL_S = 1.2


@pytest.fixture(scope="module")
def impatient_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that waits seconds where others wait minutes, and serves eight at once."""
    gateway = Gateway(
        tmp_path_factory.mktemp("impatient"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat"),
        {
            "GATEWAY_UPLOAD_TIMEOUT_S": str(UPLOAD_S),
            "GATEWAY_CLIENT_STALL_S": str(STALL_S),
            "GATEWAY_HEARTBEAT_S": "0.5",
            "GATEWAY_MAX_IN_FLIGHT": "8",
            "GATEWAY_MAX_BODY_BYTES": "1000000",
        },
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture
def impatient(impatient_gateway: Gateway, simulator: SimulatorThread) -> Gateway:
    return impatient_gateway


def connect(gateway: Gateway, **options: int) -> socket.socket:
    connection = socket.socket()
    for name, value in options.items():
        connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", gateway.port))
    return connection


def request(
    endpoint: Endpoint, body: dict[str, Any] | None = None, *lines: str, version: str = "1.1"
) -> bytes:
    raw = json.dumps(body or endpoint.good).encode()
    head = [
        f"POST {endpoint.path} HTTP/{version}",
        "Host: 127.0.0.1",
        f"Content-Length: {len(raw)}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + raw


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def read_answers(connection: socket.socket, count: int) -> list[RawAnswer]:
    """Whole answers of one connection, in their order."""
    answers: list[RawAnswer] = []
    left = b""
    while len(answers) < count:
        head, found, rest = left.partition(b"\r\n\r\n")
        if found:
            length = re.search(rb"(?i)content-length: (\d+)", head)
            end = rest.find(b"0\r\n\r\n") + 5 if length is None else int(length[1])
            if (end > 4 or length is not None) and len(rest) >= end:
                answers.append(first_answer(head + found + rest[:end]))
                left = rest[end:]
                continue
        chunk = connection.recv(65536)
        assert chunk, left
        left += chunk
    assert left == b""
    return answers


def now() -> str:
    """As the database writes it. An earlier test's row may come later than it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def calls(simulator: SimulatorThread) -> int:
    return len([r for r in simulator.received if r.method == "POST" and r.is_generation])


# Heads and bodies that stop.

HALVES = {
    "half a line": (b"POST /v1/mess", None),
    "a line": (b"POST /v1/messages HTTP/1.1\r\n", MESSAGES),
    "half a head": (b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Odd: 1", MESSAGES),
    "chat": (b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n", CHAT),
}


@pytest.mark.parametrize(("sent", "endpoint"), HALVES.values(), ids=HALVES)
def test_c07_a_head_that_stops_is_a_408(
    impatient: Gateway, simulator: SimulatorThread, sent: bytes, endpoint: Endpoint | None
) -> None:
    began = time.monotonic()
    with connect(impatient) as connection:
        connection.sendall(sent)
        answer = first_answer(read_to_end(connection))
    assert UPLOAD_S * 0.9 < time.monotonic() - began < UPLOAD_S + 3
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert "head" in error_message(endpoint, answer)
    assert calls(simulator) == 0


def test_c07_a_head_that_drips_has_no_longer_than_one_that_stops(impatient: Gateway) -> None:
    began = time.monotonic()
    with connect(impatient) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
        connection.settimeout(UPLOAD_S / 4)
        received = b""
        while time.monotonic() - began < UPLOAD_S + 3:
            try:
                connection.sendall(b"X-A: b\r\n")
                received += (chunk := connection.recv(65536))
                if not chunk:
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - began < UPLOAD_S + 3
    assert not received or first_answer(received).status == 408


def test_c07_who_says_nothing_or_stops_in_a_second_request_is_hung_up_on(
    impatient: Gateway,
) -> None:
    with connect(impatient) as silent, connect(impatient) as second:
        second.sendall(request(CHAT))
        (answer,) = read_answers(second, 1)
        assert answer.status == 200
        second.sendall(b"\r\n\r\nGET /v1/mod")
        assert read_to_end(silent) == b""
        assert first_answer(read_to_end(second)).status == 408


def test_c07_an_open_socket_of_a_page_is_no_request_that_stops(impatient: Gateway) -> None:
    with impatient.client(follow_redirects=True) as person:
        person.get(impatient.sign_in_link)
        cookies = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    with websocket(
        f"ws://127.0.0.1:{impatient.port}/ws/live/",
        additional_headers={"Cookie": cookies},
        origin=Origin(impatient.url),
    ) as live:
        time.sleep(UPLOAD_S * 2)
        live.ping().wait(2)
        assert live.close_code is None


@pytest.mark.parametrize("name", ["chat", "messages", "responses"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_c08_a_body_that_stops_is_a_408_and_leaves_nothing(
    impatient: Gateway, simulator: SimulatorThread, name: str, framing: str
) -> None:
    endpoint = ENDPOINTS[name]
    since = now()
    if framing == "length":
        sent = request(endpoint)[:-5]
    else:
        lines = "Host: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = f'POST {endpoint.path} HTTP/1.1\r\n{lines}5\r\n{{"mod\r\n'.encode()
    began = time.monotonic()
    with connect(impatient) as connection:
        connection.sendall(sent)
        answer = first_answer(read_to_end(connection))
    assert time.monotonic() - began < UPLOAD_S + 3
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert "body" in error_message(endpoint, answer)
    assert calls(simulator) == 0
    assert impatient.records("started_at >= ?", since) == []


def test_c08_a_page_whose_form_stops_is_not_waited_for_either(impatient: Gateway) -> None:
    began = time.monotonic()
    with connect(impatient) as connection:
        connection.sendall(
            b"POST /dashboard/sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nusername=a"
        )
        answer = first_answer(read_to_end(connection))
    assert time.monotonic() - began < UPLOAD_S + 3
    assert answer.status == 408


def test_c08_a_slow_upload_that_moves_is_served(impatient: Gateway) -> None:
    sent = request(CHAT)
    with connect(impatient) as connection:
        for start in range(0, len(sent), len(sent) // 6 + 1):
            connection.sendall(sent[start : start + len(sent) // 6 + 1])
            time.sleep(UPLOAD_S / 3 if start > 60 else 0)
        (answer,) = read_answers(connection, 1)
    assert answer.status == 200


def files_of(gateway: Gateway) -> set[str]:
    """What the process holds open on the disk, and what lies in its folder for passing things."""
    held = {str(f.readlink()) for f in Path(f"/proc/{gateway.process.pid}/fd").iterdir()}
    return {name for name in held if "tmp" in name and str(gateway.data_dir) not in name}


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_c19_a_reset_during_the_upload_is_recorded_nowhere_and_leaves_no_file(
    impatient: Gateway, simulator: SimulatorThread, framing: str
) -> None:
    files, since = files_of(impatient), now()
    head = "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for _ in range(20):
        with connect(impatient) as connection:
            if framing == "length":
                connection.sendall(f"{head}Content-Length: 900000\r\n\r\n".encode())
                connection.sendall(b"x" * 300_000)
            else:
                connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                connection.sendall(b"493e0\r\n" + b"x" * 300_000 + b"\r\n")
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    with impatient.client() as client:
        assert client.post(CHAT.path, json=CHAT.good).status_code == 200
    # That of the request behind them, and no other.
    assert len(impatient.wait_for_records(1, "started_at >= ?", since)) == 1
    assert calls(simulator) == 1
    assert files_of(impatient) == files
    assert "Traceback" not in impatient.text


def test_c19_who_uploads_too_much_in_chunks_hears_why_and_is_hung_up_on(
    impatient: Gateway, simulator: SimulatorThread
) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    lines = "Host: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(impatient) as connection:
        connection.sendall(f"POST /v1/messages HTTP/1.1\r\n{lines}".encode())
        for _ in range(60):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n" + request(CHAT))
        raw = read_to_end(connection)
    answer = first_answer(raw)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert error_message(MESSAGES, answer)
    # What came behind it is not served: the connection has ended.
    assert raw.count(b"HTTP/1.1 ") == 1
    assert calls(simulator) == 0


# Clients that do not read.


@every_route
def test_c05_c06_a_client_that_does_not_read_holds_the_upstream_back_and_is_hung_up_on(
    impatient: Gateway, simulator: SimulatorThread, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    endpoint = Endpoint("", wire.path, wire.body("hi [[endless delay=0]]", model), "")
    with connect(impatient, SO_RCVBUF=4096) as connection:
        connection.sendall(request(endpoint))
        assert connection.recv(100)
        simulator.wait_received(1)
        sizes = []
        for _ in range(3):
            time.sleep(0.4)
            sizes.append(simulator.generations[-1].bytes_sent)
        # Held back: what was sent is what fits into the buffers of the sockets on the way.
        assert sizes[2] - sizes[1] < 500_000
        assert sizes[2] < 16_000_000
        assert simulator.closed_within(STALL_S + 3)
    record = impatient.wait_for(
        lambda: next((r for r in impatient.records()[-1:] if r["outcome"] == "cancelled"), None)
    )
    assert record
    assert record["output_tokens"] > 0


def test_c06_an_unread_plain_answer_is_not_kept_for_ever(
    impatient: Gateway, simulator: SimulatorThread
) -> None:
    body = {**CHAT.good, "messages": [{"role": "user", "content": "[[long n=6000000]]"}]}
    with connect(impatient, SO_RCVBUF=4096) as connection:
        connection.sendall(request(CHAT, body))
        assert connection.recv(100)
        time.sleep(STALL_S + 1.5)
        # What was not sent yet is thrown away.
        size = 0
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                size += len(chunk)
        assert size < 5_000_000


# Many clients.


def test_c09_a_thousand_idle_connections_hold_nobody_up(gateway: Gateway) -> None:
    paths = ("/healthz", "/v1/models", "/dashboard/sign-in/")
    with ExitStack() as stack, gateway.client() as client:
        for path in paths:
            # The first of each kind reads templates and lists.
            client.get(path)
        for _ in range(1000):
            stack.enter_context(connect(gateway))
        with gateway.client() as client:
            for path in paths:
                began = time.monotonic()
                assert client.get(path).status_code in (200, 302)
                assert time.monotonic() - began < 1
            began = time.monotonic()
            assert client.post(CHAT.path, json=CHAT.good).status_code == 200
            assert time.monotonic() - began < 1


@pytest.mark.parametrize("endpoint", [CHAT, MESSAGES], ids=lambda e: e.name)
def test_c17_u35_beyond_the_limit_is_a_503_and_a_client_that_leaves_frees_its_slot(
    impatient: Gateway, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    simulator.play("hang")
    with ExitStack() as stack:
        holders = [stack.enter_context(connect(impatient)) for _ in range(8)]
        for holder in holders:
            holder.sendall(request(endpoint))
        assert impatient.wait_for(lambda: simulator.open_streams() == 8)
        with impatient.client() as client:
            began = time.monotonic()
            refused = client.post(endpoint.path, json=endpoint.good)
            assert refused.status_code == 503
            assert time.monotonic() - began < 12
            assert int(refused.headers["retry-after"]) >= 1
            assert error_message(endpoint, refused)
            for path in ("/healthz", "/readyz", "/dashboard/sign-in/"):
                assert client.get(path).status_code in (200, 302)
            simulator.clear()
            holders[0].close()
            served = impatient.wait_for(
                lambda: client.post(endpoint.path, json=endpoint.good).status_code == 200, 2
            )
            assert served


# Odd ways to ask.


def test_c10_requests_in_a_pipeline_are_answered_in_their_order(
    impatient: Gateway, simulator: SimulatorThread
) -> None:
    texts = ["[[slow seconds=0.4]] one", "two", "[[status 400]] three", "four"]
    sent = b""
    for text in texts:
        body = {**CHAT.good, "messages": [{"role": "user", "content": text}]}
        sent += request(CHAT, body)
    sent += b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connect(impatient) as connection:
        connection.sendall(sent)
        answers = read_answers(connection, 5)
    assert [a.status for a in answers] == [200, 200, 400, 200, 200]
    assert b"You said" in answers[0].body
    assert b"one" in answers[0].body
    assert b"two" in answers[1].body
    assert b"four" in answers[3].body


def test_c10_leaving_a_pipeline_ends_the_call_that_runs(
    impatient: Gateway, simulator: SimulatorThread
) -> None:
    # A query takes the first request off the short way.
    slow = Endpoint("", CHAT.path + "?a=b", CHAT.good, "")
    simulator.play("hang")
    with connect(impatient) as connection:
        connection.sendall(request(slow) + request(slow) + request(CHAT))
        assert simulator.wait_received(1, path="/chat/completions")
    assert simulator.closed_within(1)
    assert calls(simulator) == 1


def test_c12_half_a_close_ends_the_call_and_the_connection(
    impatient: Gateway, simulator: SimulatorThread
) -> None:
    # Who has shut down its side cannot be told from one that has gone: both end the call.
    simulator.play("hang")
    with connect(impatient) as connection:
        connection.sendall(request(CHAT))
        assert simulator.wait_received(1, path="/chat/completions")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""
    assert simulator.closed_within(1)
    assert impatient.wait_for(lambda: impatient.records()[-1]["outcome"] == "cancelled")


@pytest.mark.parametrize("endpoint", [CHAT, MESSAGES], ids=lambda e: e.name)
def test_c14_a_client_that_expects_a_100_gets_it_or_the_refusal_instead(
    impatient: Gateway, simulator: SimulatorThread, endpoint: Endpoint
) -> None:
    head, _, body = request(endpoint, None, "Expect: 100-continue").partition(b"\r\n\r\n")
    with connect(impatient) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        (answer,) = read_answers(connection, 1)
        assert answer.status == 200
    too_long = re.sub(rb"Content-Length: \d+", b"Content-Length: 2000000", head)
    with connect(impatient) as connection:
        connection.sendall(too_long + b"\r\n\r\n")
        refusal = first_answer(read_to_end(connection))
    assert refusal.status == 413
    assert error_message(endpoint, refusal)


@pytest.mark.parametrize("streamed", [True, False])
@every_route
def test_c15_http_1_0_gets_no_chunks_and_an_end(
    impatient: Gateway, wire_name: str, model: str, streamed: bool
) -> None:
    wire = WIRES[wire_name]
    endpoint = Endpoint("", wire.path, wire.body("hello", model, stream=streamed), "")
    with connect(impatient) as connection:
        connection.sendall(request(endpoint, None, "Connection: keep-alive", version="1.0"))
        raw = read_to_end(connection)
    answer = first_answer(raw)
    assert answer.status == 200
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    if streamed:
        assert wire.ends(answer.body.decode()) == 1
        assert answer.body.startswith((b"data: ", b"event: "))
    else:
        assert answer.json()


def test_c15_pages_and_errors_are_whole_in_http_1_0_too(impatient: Gateway) -> None:
    for path, status in (("/healthz", 200), ("/v1/nothing", 404), ("/dashboard/sign-in/", 200)):
        with connect(impatient) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            answer = first_answer(read_to_end(connection))
        assert answer.status == status
        assert "transfer-encoding" not in answer.headers
        assert answer.body


REFUSED = {
    "broken JSON": b'{"model"',
    "no model": b"{}",
    "unknown model": b'{"model": "no-such", "messages": []}',
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_c16_after_an_error_the_next_request_of_the_connection_is_served(
    impatient: Gateway, body: bytes
) -> None:
    head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(impatient) as connection:
        for _ in range(3):
            connection.sendall(head.encode() + body)
            (refused,) = read_answers(connection, 1)
            assert 400 <= refused.status < 500
            connection.sendall(request(CHAT))
            (served,) = read_answers(connection, 1)
            assert served.status == 200
            assert served.json()["object"] == "chat.completion"


def test_c16_what_is_no_http_is_refused_in_json_and_does_not_cut_into_an_answer(
    impatient: Gateway, simulator: SimulatorThread
) -> None:
    with connect(impatient) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 what is this\r\n\r\n")
        answer = first_answer(read_to_end(connection))
    assert answer.status == 400
    assert error_message(None, answer)

    body = {**CHAT.good, "stream": True}
    body["messages"] = [{"role": "user", "content": "[[drip chunks=5 delay=0.1]]"}]
    with connect(impatient) as connection:
        connection.sendall(request(CHAT, body) + b"\x16\x03 what is this\r\n\r\n")
        raw = read_to_end(connection)
    assert raw.count(b"HTTP/1.1 ") == 1
    assert raw.endswith(b"0\r\n\r\n")
    assert b"data: [DONE]" in raw


@every_route
def test_c18_the_first_token_comes_at_once_and_nothing_on_the_way_may_keep_it(
    gateway: Gateway, wire_name: str, model: str
) -> None:
    wire = WIRES[wire_name]
    headers = {"accept-encoding": "gzip, br, zstd"}
    body = wire.body("hi [[drip chunks=4 delay=0.6]]", model)
    with (
        gateway.client() as client,
        client.stream("POST", wire.path, json=body, headers=headers) as answer,
    ):
        assert "no-cache" in answer.headers["cache-control"]
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        came: list[float] = []
        for piece in answer.iter_raw():
            came += [time.monotonic()] * len(re.findall(rb"word\d", piece))
    # Word by word, not all at the end.
    assert came[-1] - came[0] > 1
