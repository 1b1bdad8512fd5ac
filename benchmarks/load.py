"""Load: wrk (compiled) for everything that is counted, an asyncio reader for what is timed.

wrk opens its connections, repeats one request on each as fast as it is answered, and reads whole
answers, streams included. Paced and held streams are read by `Reader`, which does nothing but note
when each stamped piece arrived.
"""

import asyncio
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

STAMP = re.compile(rb"@(\d{16})@")
END = b"0\r\n\r\n"
SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body, wrk.path = "POST", file:read("*a"), "{path}"
{headers}
function done(summary, latency, requests)
  local bad = summary.errors
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests, summary.duration,
    bad.connect + bad.read + bad.write + bad.status + bad.timeout, latency:percentile(99)))
end
"""


class LoadFailed(Exception):
    """The target did not answer as it must; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to repeat. `url` is scheme, host and port."""

    url: str
    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.partition("://")[2].partition(":")
        return host, int(port)

    def render(self) -> bytes:
        host, port = self.address
        lines = [f"POST {self.path} HTTP/1.1", f"host: {host}:{port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Counted:
    """What wrk saw: answers per second, how many, the 99th percentile of latency in ms."""

    per_s: float
    count: int
    p99_ms: float


def count(call: Call, *, connections: int, seconds: float) -> Counted:
    """Repeat `call` on so many connections. Raises `LoadFailed`."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadFailed("wrk is not installed (apt install wrk).")
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "load.lua")
        body.write_bytes(call.body)
        headers = "\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in call.headers.items())
        script.write_text(SCRIPT.format(body=body, path=call.path, headers=headers))
        done = subprocess.run(
            # wrk reads whole seconds only.
            [wrk, "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", "10s"]
            + ["-s", str(script), call.url],
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            check=False,
        )
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if found is None or not int(found[1]):
        raise LoadFailed(f"wrk: {done.stdout}{done.stderr}")
    requests, micros, errors, p99 = map(int, found.groups())
    if errors > requests / 100:
        raise LoadFailed(f"{errors} of {requests} answers were errors")
    return Counted(requests / (micros / 1e6), requests, p99 / 1000)


@dataclass(slots=True)
class Timed:
    """Pieces that arrived and how late each was, in ms; `ended` counts whole streams."""

    lateness_ms: list[float] = field(default_factory=list)
    ended: int = 0
    failed: int = 0

    def p99_ms(self) -> float:
        late = sorted(self.lateness_ms)
        return late[int(len(late) * 0.99)] if late else float("nan")


class Reader(asyncio.Protocol):
    """One stream: sends the request, notes arrivals, tells when it has begun and ended."""

    def __init__(self, request: bytes, timed: Timed) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._timed = timed
        self._tail = b""
        self.begun: asyncio.Future[bool] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        at = time.monotonic_ns() // 1000
        if not self.begun.done():
            self.begun.set_result(data.startswith(b"HTTP/1.1 200"))
        for stamp in STAMP.findall(data):
            self._timed.lateness_ms.append((at - int(stamp)) / 1000)
        self._tail = (self._tail + data)[-len(END) :]
        if self._tail == END and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_result(False)
        if not self.ended.done():
            self.ended.set_result(None)
            self._timed.failed += 1


async def _open(call: Call, timed: Timed) -> Reader:
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: Reader(call.render(), timed), *call.address)
    return reader


async def _paced(call: Call, streams: int, rounds: int, timed: Timed) -> None:
    async def one(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for _ in range(rounds):
            reader = await _open(call, timed)
            await reader.ended
            timed.ended += 1
            reader.transport.close()

    # Spread over one pace, as streams of different people are.
    await asyncio.gather(*(one(i * 0.02 / streams) for i in range(streams)))


def paced(call: Call, *, streams: int, rounds: int) -> Timed:
    """Read so many paced streams at once, `rounds` times one after the other."""
    timed = Timed()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_paced(call, streams, rounds, timed))
    if timed.failed or not timed.lateness_ms:
        raise LoadFailed(f"{timed.failed} of {streams * rounds} streams broke")
    return timed


class Held:
    """So many streams open at once, in a process of their own, until it is told to end."""

    def __init__(self, call: Call, count: int) -> None:
        read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(read)
            code = 1
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(self._hold(call, count, write))
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        with os.fdopen(read) as told:
            self.opened = int(told.readline() or 0)

    async def _hold(self, call: Call, count: int, write: int) -> None:
        timed = Timed()
        readers = []
        for _ in range(count):
            readers.append(await _open(call, timed))
        begun = await asyncio.gather(*(reader.begun for reader in readers))
        os.write(write, b"%d\n" % sum(begun))
        await asyncio.sleep(120)

    def end(self) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
