"""Who brings no key of ours: leaves a line in the log, holds up nobody, fills neither memory nor log."""

import json
import logging
import pickle
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from accounts.auth import Refused
from copilot_site.logging import configure_logging
from copilot_site.shared_cache import SharedCache
from proxy.api.refused import MOST_LINES, Notes, Sieve
from tests.conftest import Gateway
from usage.redaction import redact

WRONG = "cgw_" + "wrongWrongWrong" * 3
CHAT = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def closed(new_gateway: Callable[..., Gateway]) -> Gateway:
    return new_gateway("--require-keys")


def lines_of(gateway: Gateway) -> list[str]:
    return [line for line in gateway.output if "API key refused" in line]


def test_a_key_that_nobody_has_is_in_the_log_and_cannot_be_read_there(closed: Gateway) -> None:
    with closed.client() as client:
        for _ in range(5):
            client.post("/v1/messages", json={}, headers={"x-api-key": WRONG})
        client.get("/v1/models", headers={"authorization": "Bearer my password, by mistake"})
        client.get("/v1/models")
    assert closed.wait_for(lambda: len(lines_of(closed)) >= 2)

    unknown, foreign = lines_of(closed)
    assert re.search(r"reason=unknown key=sha256:[0-9a-f]{8} from=127\.0\.0\.1", unknown)
    assert "reason=unknown key=- from=127.0.0.1" in foreign
    assert "wrongWrong" not in closed.text
    assert "by mistake" not in closed.text


def test_a_revoked_key_is_in_the_log_by_its_prefix(closed: Gateway) -> None:
    key = closed.manage("create-key", "laptop").stdout.strip()
    closed.manage("revoke-key", key[:12])
    with closed.client(headers={"authorization": f"Bearer {key}"}) as client:
        assert closed.wait_for(lambda: client.get("/v1/models").status_code == 401)

    assert closed.wait_for(lambda: f"key=prefix:{key[4:12]} " in closed.text)
    assert key not in closed.text


def test_a_flood_of_invented_keys_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()
    with caplog.at_level(logging.WARNING):
        for number in range(5000):
            notes.take(Refused("unknown", digest=number.to_bytes(32, "little")), "192.0.2.1")

    assert len(caplog.records) == MOST_LINES
    assert notes.lines.held_back == 5000 - MOST_LINES


def test_invented_keys_are_looked_up_only_so_often() -> None:
    """Each lookup takes the one thread that everybody's database work waits for."""
    sieve = Sieve(20, 1.0)

    assert sum(sieve.lets_through() for _ in range(1000)) == 20


def test_a_key_in_the_query_may_be_refused(new_gateway: Callable[..., Gateway]) -> None:
    """14.2.1: addresses are kept where headers are not."""
    strict = new_gateway("--require-keys", GATEWAY_KEYS_IN_QUERY="false")
    key = strict.manage("create-key", "laptop").stdout.strip()
    with strict.client() as client:
        known = {"x-goog-api-key": key}
        assert strict.wait_for(
            lambda: client.get("/v1beta/models", headers=known).status_code == 200
        )
        assert client.get(f"/v1beta/models?key={key}").status_code == 401


@pytest.mark.parametrize(
    "header",
    ["x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-proto", "cf-connecting-ip"],
)
def test_who_comes_by_a_proxy_or_a_tunnel_is_not_the_person_at_the_machine(
    gateway: Gateway, header: str
) -> None:
    with gateway.client() as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        by_proxy = client.post("/v1/chat/completions", json=CHAT, headers={header: "1.1 edge"})

    assert by_proxy.status_code == 401


def raw(gateway: Gateway, head: str, body: bytes = b"") -> bytes:
    """The answer to a request whose body is not sent further."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(f"POST /v1/messages HTTP/1.1\r\nHost: {host}:{port}\r\n{head}\r\n".encode())
        wire.sendall(body)
        # Head and body may come apart.
        answer = b""
        while not answer.partition(b"\r\n\r\n")[2] and (part := wire.recv(65536)):
            answer += part
        return answer


@pytest.mark.parametrize("key", ["", f"x-api-key: {WRONG}\r\n"], ids=["no key", "wrong key"])
def test_the_large_body_of_a_stranger_is_refused_before_it_is_sent(
    closed: Gateway, key: str
) -> None:
    """A thousand connections with 30 MB each would be the machine's memory."""
    head = f"{key}Content-Length: 30000000\r\nContent-Type: application/json\r\n"
    assert raw(closed, head).startswith(b"HTTP/1.1 401 ")
    # Once the address was served the short way, too.
    with closed.client() as client:
        assert client.post("/v1/messages", json={}).status_code == 401
    answer = raw(closed, head)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "error"


def test_a_body_in_chunks_is_held_as_far_as_a_stranger_may(closed: Gateway) -> None:
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"

    answer = raw(closed, "Transfer-Encoding: chunked\r\n", piece * 2)

    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_page_on_the_internet_sends_no_large_body_to_localhost(gateway: Gateway) -> None:
    head = "Origin: https://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 900000\r\n"

    assert raw(gateway, head).startswith(b"HTTP/1.1 403 ")


def test_large_bodies_of_those_we_know_are_served(closed: Gateway) -> None:
    key = closed.manage("create-key", "laptop").stdout.strip()
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello " * 50_000}]}
    with closed.client(headers={"authorization": f"Bearer {key}"}) as client:
        # The first may be a key that memory does not know yet.
        for _ in range(2):
            assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_no_text_of_others_begins_a_line_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    try:
        forged = "x\n2026-11-20T00:00:00Z [info] member.signed_in actor=ada \x1b[2J\u2028end"
        logging.getLogger("accounts").warning("the provider said %s", forged)
    finally:
        written = capfd.readouterr().err

    assert len(written.splitlines()) == 1
    assert "\x1b" not in written
    assert r"x\n2026" in written


def test_redaction_takes_no_time_for_what_is_almost_data() -> None:
    """Runs one character too short, from which each place could be tried anew."""
    text = ("A" * 999 + "-") * 256
    begin = time.perf_counter()

    assert redact(text) == text

    assert time.perf_counter() - begin < 0.25


def test_only_one_line_for_one_key_and_address(caplog: pytest.LogCaptureFixture) -> None:
    notes: Any = Notes()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            notes.take(Refused("unknown", digest=b"\x01" * 32), "192.0.2.1")
        notes.take(Refused("unknown", digest=b"\x02" * 32), "192.0.2.1")

    assert [record.getMessage().partition(" from=")[2] for record in caplog.records] == [
        "192.0.2.1",
        "192.0.2.1 and 2 more since the last line",
    ]


@pytest.mark.team
def test_who_can_write_to_redis_runs_no_code_in_the_gateway(
    new_redis: Callable[[], Any], tmp_path: Path
) -> None:
    """Django's own cache would unpickle whatever stands under its keys."""
    url = new_redis().url
    mark = tmp_path / "it-ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    cache = SharedCache(url, {})
    store = redis.Redis.from_url(url)
    store.set(cache.make_and_validate_key("health.report"), pickle.dumps(Evil()))
    assert cache.get("health.report") is None
    assert cache.get_many(["health.report"]) == {"health.report": None}
    assert not mark.exists()
    # What is kept comes back as it was, and nothing else is kept.
    for value in (1, 0.5, "text", None, True, [1, 0.5], {"a": [None]}):
        cache.set("value", value)
        assert cache.get("value") == value
    assert cache.incr("counter", 1) if cache.add("counter", 0) else False
    with pytest.raises(TypeError):
        cache.set("value", Evil())
    store.close()
