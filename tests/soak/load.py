"""Mixed clients for as long as one likes: all formats, streamed and whole, leaving and slow ones."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

# Format, path, and how its body is made from a text.
WAYS: tuple[tuple[str, Callable[[str, bool], dict[str, Any]]], ...] = (
    (
        "/v1/chat/completions",
        lambda text, stream: {
            "model": "gpt-4.1",
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        },
    ),
    (
        "/v1/messages",
        lambda text, stream: {
            "model": "claude-sonnet-5",
            "max_tokens": 1000,
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        },
    ),
    (
        "/v1/messages",
        lambda text, stream: {
            "model": "gpt-4.1",
            "max_tokens": 1000,
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        },
    ),
    (
        "/v1/responses",
        lambda text, stream: {"model": "gpt-5.4", "stream": stream, "input": text},
    ),
)
WORDS = ("", "", "", " [[drip chunks=12 delay=0.03]]", " [[pace chunks=20 interval=0.02]]")


class Clients:
    """So many threads that ask, read, dawdle and leave, until `stop`."""

    def __init__(self, urls: Callable[[], list[str]], key: str, *, threads: int, seed: int) -> None:
        self._urls = urls
        self._key = key
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.statuses: Counter[str] = Counter()
        self.left = 0
        self.broken: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed + n),), daemon=True)
            for n in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    @property
    def total(self) -> int:
        return sum(self.statuses.values()) + sum(self.broken.values())

    def _run(self, rng: random.Random) -> None:
        while not self._stopping.is_set():
            url = rng.choice(self._urls())
            try:
                # Connections of their own and short lives: a process that dies takes few along.
                with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                    for _ in range(rng.randrange(1, 12)):
                        if self._stopping.is_set():
                            return
                        self._ask(client, rng)
            except httpx.HTTPError as error:
                with self._lock:
                    self.broken[type(error).__name__] += 1

    def _ask(self, client: httpx.Client, rng: random.Random) -> None:
        path, make = rng.choice(WAYS)
        text = f"question {rng.randrange(10**9)}{rng.choice(WORDS)}" + "x" * rng.choice(
            (0, 0, 5000)
        )
        stream = rng.random() < 0.7
        leaves = stream and rng.random() < 0.05
        dawdles = stream and rng.random() < 0.03
        headers = {"authorization": f"Bearer {self._key}"}
        body = make(text, stream)
        with client.stream("POST", path, json=body, headers=headers) as answer:
            seen = 0
            for piece in answer.iter_raw():
                seen += len(piece)
                if leaves and seen > 400:
                    break
                if dawdles:
                    time.sleep(0.02)
            with self._lock:
                self.statuses[str(answer.status_code)] += 1
                self.left += leaves
