"""The short way of plain POSTs and the server's usual way give the same answers, on one connection."""

import socket
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
    found = ordinary.read(answer())

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
    assert ordinary.read(answer(**changes)) is None
