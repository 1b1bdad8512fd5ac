"""The mock upstream: plays GitHub and Copilot, never the bottleneck.

One or more processes on one port (SO_REUSEPORT), each a bare epoll loop without any framework: about
15 microseconds for a small answer, most of them the kernel's. What is asked is read from the path,
from `"stream": true`, and from a mark in the text of a small body: `[[wait 200]]` answers after so
many milliseconds, `[[pace 20]]` sends a stream's pieces so many milliseconds apart.

    python -m benchmarks.upstream --port 4200 --processes 2
"""

import argparse
import heapq
import os
import re
import select
import signal
import socket
import sys
import time
from typing import Final

from benchmarks import canned

STREAM = re.compile(rb'"stream" ?: ?true')
MARK = re.compile(rb"\[\[(wait|pace) (\d+)\]\]")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SMALL_BYTES: Final = 8192
READ_BYTES: Final = 1 << 20


class Connection:
    __slots__ = ("buffer", "needed", "out", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.buffer = b""
        self.needed = 0
        self.out = b""


class Upstream:
    """One process: accepts, reads whole requests, answers from `canned`."""

    def __init__(self, listener: socket.socket, url: str) -> None:
        self._epoll = select.epoll()
        self._listener = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        # When to send what to whom: due, number (for a stable order), connection, pieces, next.
        self._due: list[tuple[float, int, Connection, list[bytes], int, float]] = []
        self._number = 0
        self._documents = canned.documents(url)
        self._plain = {
            b"/chat/completions": canned.response(canned.chat_body()),
            b"/v1/messages": canned.response(canned.messages_body()),
            b"/responses": canned.response(canned.responses_body()),
        }
        makers = {
            b"/chat/completions": canned.chat_pieces,
            b"/v1/messages": canned.messages_pieces,
            b"/responses": canned.responses_pieces,
        }
        self._streams = {path: canned.chunked(make()) for path, make in makers.items()}
        self._stamped = {path: canned.chunked(make(stamped=True)) for path, make in makers.items()}

    def run(self) -> None:
        while True:
            timeout = -1.0
            if self._due:
                timeout = max(0.0, self._due[0][0] - time.monotonic())
            for descriptor, happened in self._epoll.poll(timeout):
                if descriptor == self._listener.fileno():
                    self._accept()
                elif happened & select.EPOLLOUT:
                    self._flush(self._connections[descriptor])
                else:
                    self._read(self._connections[descriptor])
            self._send_due()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[accepted.fileno()] = Connection(accepted)
            self._epoll.register(accepted.fileno(), select.EPOLLIN)

    def _close(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        if descriptor >= 0:
            self._connections.pop(descriptor, None)
            self._epoll.unregister(descriptor)
            connection.socket.close()

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.buffer = buffer = connection.buffer + data if connection.buffer else data
        if len(buffer) < connection.needed:
            return
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = LENGTH.search(buffer, 0, end + 2)
        connection.needed = end + 4 + (int(length[1]) if length else 0)
        if len(buffer) < connection.needed:
            return
        connection.buffer = buffer[connection.needed :]
        connection.needed = 0
        self._answer(connection, buffer, end + 4)

    def _answer(self, connection: Connection, request: bytes, body_at: int) -> None:
        path = request.split(b" ", 2)[1]
        path = path.removeprefix(b"/v1") if path.startswith(b"/v1/chat") else path
        plain = self._plain.get(path) or self._plain.get(path.removeprefix(b"/v1"))
        if plain is None:
            self._send(connection, self._documents.get(path) or self._documents[b"/models"])
            return
        path = path if path in self._plain else path.removeprefix(b"/v1")
        streams = is_stream(request, body_at)
        mark = MARK.search(request, body_at) if len(request) < SMALL_BYTES else None
        if mark is None:
            for piece in self._streams[path] if streams else (plain,):
                # One system call each: pieces arrive as a model sends them, not in one lump.
                self._send(connection, piece)
            return
        wait_s = int(mark[2]) / 1000
        pieces = self._stamped[path] if streams else [plain]
        at = time.monotonic() + (wait_s if mark[1] == b"wait" else 0.0)
        self._later(at, connection, pieces, 0, wait_s)

    def _later(
        self, at: float, connection: Connection, pieces: list[bytes], number: int, every_s: float
    ) -> None:
        self._number += 1
        heapq.heappush(self._due, (at, self._number, connection, pieces, number, every_s))

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            at, _, connection, pieces, number, every_s = heapq.heappop(self._due)
            if connection.socket.fileno() < 0:
                continue
            stamp = b"@%016d@" % (time.monotonic_ns() // 1000)
            self._send(connection, pieces[number].replace(canned.STAMP, stamp))
            if number + 1 < len(pieces):
                self._later(at + every_s, connection, pieces, number + 1, every_s)

    def _send(self, connection: Connection, data: bytes) -> None:
        if connection.out:
            connection.out += data
            return
        try:
            sent = connection.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        if sent < len(data):
            connection.out = data[sent:]
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, connection: Connection) -> None:
        data, connection.out = connection.out, b""
        self._send(connection, data)
        if not connection.out and connection.socket.fileno() >= 0:
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)


def is_stream(request: bytes, body_at: int) -> bool:
    """Most clients say it first or last: the middle of a large body is searched only then."""
    for start, end in ((body_at, body_at + 400), (max(body_at, len(request) - 400), len(request))):
        if STREAM.search(request, start, end):
            return True
    return len(request) - body_at > 800 and STREAM.search(request, body_at) is not None


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4096)
    listener.setblocking(False)
    return listener


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    first = listen(options.port)
    port = first.getsockname()[1]
    for _ in range(options.processes - 1):
        if os.fork() == 0:
            first.close()
            first = listen(port)
            break
    else:
        print(f"http://127.0.0.1:{port}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Upstream(first, f"http://127.0.0.1:{port}").run()


if __name__ == "__main__":
    main()
