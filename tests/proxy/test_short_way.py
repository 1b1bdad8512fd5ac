"""The short way of plain POSTs and the server's usual way give the same answers, on one connection."""

import socket
import time
from typing import Any

import orjson
import pytest

from proxy.formats.chat_completions import ordinary
from tests.conftest import Gateway

PATH = "/v1/chat/completions"


def body(text: str, *, stream: bool = False) -> bytes:
    message = {"role": "user", "content": text}
    return orjson.dumps({"model": "gpt-4.1", "stream": stream, "messages": [message]})


def head(gateway: Gateway, *lines: str) -> bytes:
    host = f"127.0.0.1:{gateway.port}"
    fixed = [f"POST {PATH} HTTP/1.1", f"host: {host}", "content-type: application/json"]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def plain(gateway: Gateway, content: bytes, *lines: str) -> bytes:
    return head(gateway, f"content-length: {len(content)}", *lines) + content


def in_pieces(gateway: Gateway, content: bytes) -> bytes:
    """As an upload in chunks, which goes the usual way."""
    half = len(content) // 2
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:half], content[half:])
    )
    return head(gateway, "transfer-encoding: chunked") + chunks + b"0\r\n\r\n"


class Line:
    """One connection; `read` gives one answer: its head and its whole body."""

    def __init__(self, gateway: Gateway) -> None:
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), 10)
        self.file = self.socket.makefile("rb")

    def read(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" in headers:
            return status, headers, self.file.read(int(headers["content-length"]))
        content = b""
        while size := int(self.file.readline(), 16):
            content += self.file.read(size)
            self.file.readline()
        self.file.readline()
        return status, headers, content

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def line(gateway: Gateway) -> Any:
    opened = Line(gateway)
    yield opened
    opened.close()


def said(content: bytes) -> Any:
    return orjson.loads(content)["choices"][0]["message"]["content"]


def test_both_ways_alternate_on_one_connection(gateway: Gateway, line: Line) -> None:
    known: set[str] = set()
    for request in (plain, in_pieces, plain, plain, in_pieces):
        line.socket.sendall(request(gateway, body("[[text say=hello]]")))
        status, headers, content = line.read()

        assert status == 200
        assert said(content)
        known.add(headers["x-gateway-route"] + headers["content-type"])
    assert len(known) == 1, "the same headers either way"


def test_streams_are_the_same_either_way(gateway: Gateway, line: Line) -> None:
    ends = []
    for request in (plain, in_pieces, plain):
        line.socket.sendall(request(gateway, body("hello", stream=True)))
        status, headers, content = line.read()

        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        ends.append(content.rpartition(b"\n\ndata: ")[2])
    assert ends == [b"[DONE]\n\n"] * 3


def test_requests_sent_together_are_answered_in_their_order(gateway: Gateway, line: Line) -> None:
    line.socket.sendall(
        plain(gateway, body("hello", stream=True))
        + plain(gateway, body("hello"))
        + plain(gateway, b"{")
    )

    first, second, third = line.read(), line.read(), line.read()

    assert [one[0] for one in (first, second, third)] == [200, 200, 400]
    assert first[2].endswith(b"data: [DONE]\n\n")
    assert said(second[2])


def test_a_client_that_wants_no_more_is_let_go(gateway: Gateway, line: Line) -> None:
    line.socket.sendall(plain(gateway, body("hello")))
    line.read()
    line.socket.sendall(plain(gateway, body("hello"), "connection: close"))

    status, headers, _ = line.read()

    assert (status, headers["connection"]) == (200, "close")
    assert line.file.read() == b""


def answer(**changes: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "hello"},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4.1",
        "choices": [choice],
        "usage": usage,
    }
    return {**whole, **changes}


def test_an_ordinary_answer_tells_its_usage_and_end() -> None:
    found = ordinary.read(orjson.dumps(answer()))

    assert found is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (3, 2)
    assert found.stop_reason == "end_turn"


CHOICE = answer()["choices"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": []},
        {"choices": [CHOICE, CHOICE]},
        {"choices": [{**CHOICE, "index": None}]},
        {"choices": [{**CHOICE, "finish_reason": "tool_calls"}]},
        {"choices": [{**CHOICE, "finish_reason": "content_filter"}]},
        {"choices": [{**CHOICE, "message": {"role": "assistant", "content": None}}]},
        {"choices": [{**CHOICE, "message": {**CHOICE["message"], "tool_calls": []}}]},
        {"choices": [{**CHOICE, "message": {**CHOICE["message"], "reasoning_text": "so"}}]},
        {"choices": [{**CHOICE, "message": {**CHOICE["message"], "refusal": "no"}}]},
        {"usage": None},
        {"usage": {"prompt_tokens": "3", "completion_tokens": 2, "total_tokens": 5}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        {"model": "Claude Opus 5"},
        {"id": ""},
        {"object": "list"},
        {"error": {"message": "no"}},
    ],
)
def test_what_may_need_repair_is_not_ordinary(changes: dict[str, Any]) -> None:
    assert ordinary.read(orjson.dumps(answer(**changes))) is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"id": "\xff"}', b"data: {}\n\n"])
def test_what_is_no_answer_is_not_ordinary(raw: bytes) -> None:
    assert ordinary.read(raw) is None


def test_bytes_that_are_no_text_are_not_ordinary() -> None:
    raw = orjson.dumps(answer(system_fingerprint="~")).replace(b"~", b"\xff")

    assert ordinary.read(raw) is None


# A head that has come before is known by its bytes (`copilot_site.heads`).


def test_a_known_head_serves_bodies_of_every_length(gateway: Gateway, line: Line) -> None:
    for length in (1, 700, 3, 9_000, 1):
        line.socket.sendall(plain(gateway, body("x" * length)))
        assert line.read()[0] == 200


def test_a_known_head_with_a_body_that_comes_in_parts(gateway: Gateway, line: Line) -> None:
    line.socket.sendall(plain(gateway, body("hello")))
    assert line.read()[0] == 200
    request = plain(gateway, body("hello " * 50))
    for at in range(0, len(request), 97):
        line.socket.sendall(request[at : at + 97])
        time.sleep(0.002)

    assert line.read()[0] == 200


@pytest.mark.parametrize(
    ("line_more", "status"),
    [
        ("origin: https://elsewhere.example", 403),
        ("content-encoding: gzip", 415),
        ("transfer-encoding: chunked", 400),
        ("content-length: 3", 400),
    ],
)
def test_a_head_that_differs_is_read_again(
    gateway: Gateway, line: Line, line_more: str, status: int
) -> None:
    line.socket.sendall(plain(gateway, body("hello")))
    assert line.read()[0] == 200

    line.socket.sendall(plain(gateway, body("hello"), line_more))

    assert line.read()[0] == status


def test_the_host_of_a_known_head_is_checked_each_time(gateway: Gateway, line: Line) -> None:
    wrong = plain(gateway, body("hello")).replace(b"host: 127.0.0.1", b"host: evil.example")
    for _ in range(3):
        line.socket.sendall(wrong)
        assert line.read()[0] == 400


def test_a_known_head_and_a_request_behind_it(gateway: Gateway, line: Line) -> None:
    line.socket.sendall(plain(gateway, body("hello")))
    line.read()

    line.socket.sendall(plain(gateway, body("hello")) + plain(gateway, b"{"))

    assert [line.read()[0], line.read()[0]] == [200, 400]


def test_a_length_that_is_not_the_bodys_waits_for_the_rest(gateway: Gateway, line: Line) -> None:
    content = body("hello")
    line.socket.sendall(plain(gateway, content))
    line.read()
    request = plain(gateway, content)

    line.socket.sendall(request[:-1])
    line.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        line.socket.recv(1)
    line.socket.settimeout(10)
    line.socket.sendall(request[-1:])

    assert line.read()[0] == 200
