"""The journal of received requests: what a test may ask about what reached the upstream."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson

from simulator.server import Request

GENERATION_PATHS = frozenset({"/chat/completions", "/responses", "/v1/messages", "/embeddings"})
BODY_BYTES_SHOWN = 256 * 1024


@dataclass(slots=True, eq=False)
class Received:
    """One request and how its answer ended.

    `finished` is `complete`, `client_closed` (the client left first), `cut` (we broke it on
    purpose) or empty while it runs; `closed_at` is the unix time of that end. `body` is the raw
    body, or empty when it was dropped for its size; `size` and `sha256` always tell of the whole.
    """

    n: int
    time: float
    method: str
    path: str
    query: dict[str, str]
    host: str
    headers: dict[str, str]
    body: bytes
    size: int
    connection_id: int
    login: str | None = None
    model: str | None = None
    scenario: str = ""
    status: int = 0
    bytes_sent: int = 0
    finished: str = ""
    closed_at: float | None = None
    _sha256: str = ""

    @property
    def json(self) -> Any:
        """Return the parsed body, or None when it is not JSON or no longer kept."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def sha256(self) -> str:
        return self._sha256 or hashlib.sha256(self.body).hexdigest()

    @property
    def duration_s(self) -> float:
        return (self.closed_at or time.time()) - self.time

    @property
    def is_generation(self) -> bool:
        return self.path in GENERATION_PATHS

    @property
    def bearer(self) -> str:
        """Return the credential without its scheme, or an empty string."""
        return self.headers.get("authorization", "").partition(" ")[2]

    def drop_body(self) -> None:
        self._sha256 = self.sha256
        self.body = b""

    def as_dict(self) -> dict[str, Any]:
        small = len(self.body) <= BODY_BYTES_SHOWN
        return {
            "n": self.n,
            "time": self.time,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "host": self.host,
            "headers": self.headers,
            "body": self.json if small else None,
            "body_text": None
            if not small or self.json is not None
            else self.body.decode("utf-8", "replace"),
            "sha256": self.sha256,
            "size": self.size,
            "login": self.login,
            "model": self.model,
            "scenario": self.scenario,
            "status": self.status,
            "bytes_sent": self.bytes_sent,
            "finished": self.finished,
            "closed_at": self.closed_at,
            "duration": self.duration_s,
        }


@dataclass(slots=True)
class Journal:
    """The newest requests, bounded in number and in bytes of bodies."""

    max_requests: int = 5000
    max_body_bytes: int = 64 * 1024 * 1024
    open: dict[int, Received] = field(default_factory=dict)
    _all: deque[Received] = field(default_factory=deque)
    _with_body: deque[Received] = field(default_factory=deque)
    _kept_bytes: int = 0
    _count: int = 0

    def begin(self, request: Request) -> Received:
        self._count += 1
        received = Received(
            n=self._count,
            time=request.arrived_at,
            method=request.method,
            path=request.path,
            query=request.query,
            host=request.headers.get("host", ""),
            headers=request.headers,
            body=request.body,
            size=len(request.body),
            connection_id=request.connection_id,
        )
        self._all.append(received)
        self.open[received.n] = received
        if request.body:
            self._with_body.append(received)
            self._kept_bytes += received.size
        self._forget()
        return received

    def finish(self, received: Received, how: str, status: int, bytes_sent: int) -> None:
        received.finished = how
        received.status = status
        received.bytes_sent = bytes_sent
        received.closed_at = time.time()
        self.open.pop(received.n, None)

    def since(self, n: int = 0) -> list[Received]:
        return [received for received in self._all if received.n > n]

    def open_generations(self) -> int:
        return sum(received.is_generation for received in self.open.values())

    def clear(self) -> None:
        """Forget what has ended; requests still running stay visible as open."""
        self._all.clear()
        self._with_body.clear()
        self._kept_bytes = 0

    def _forget(self) -> None:
        while len(self._all) > self.max_requests:
            self._all.popleft()
        while self._with_body and (
            self._kept_bytes > self.max_body_bytes or len(self._with_body) > self.max_requests
        ):
            oldest = self._with_body.popleft()
            self._kept_bytes -= oldest.size
            oldest.drop_body()
