"""Requests of every kind, streams that last, and what the kernel says of a process."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import Gateway

CHAT = "/v1/chat/completions"
MAKE_LINK = (
    "from accounts import links\n"
    "from accounts.members import solo_member\n"
    "print(links.make(solo_member()))\n"
)


def chat(text: str = "Hello", model: str = "gpt-4.1", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


# Path and body, for each client format, whole and streamed, on its own endpoint and on another.
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, chat()),
    (CHAT, chat(stream=True)),
    ("/v1/messages", {**chat(model="claude-sonnet-4.6"), "max_tokens": 100}),
    ("/v1/messages", {**chat(stream=True), "max_tokens": 100}),
    ("/v1/responses", {"model": "gpt-5.5", "input": "Hello"}),
    ("/v1/responses", {"model": "claude-sonnet-4.6", "input": "Hello", "stream": True}),
)


class Stream(threading.Thread):
    """A stream that somebody reads in the background. `text` grows; `error` is how it broke off."""

    def __init__(self, client: httpx.Client, text: str) -> None:
        super().__init__(daemon=True)
        self._client, self._asked = client, text
        self.text = self.request_id = ""
        self.status = 0
        self.error: Exception | None = None
        self.begun = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with self._client.stream(
                "POST", CHAT, json=chat(self._asked, stream=True), timeout=60
            ) as answer:
                self.status = answer.status_code
                self.request_id = answer.headers["x-request-id"]
                for piece in answer.iter_text():
                    self.text += piece
                    if "content" in self.text:
                        self.begun.set()
        except httpx.HTTPError as error:
            self.error = error
        self.begun.set()

    def __repr__(self) -> str:
        return f"<{self.status} {self.error!r} {self.text[-300:]}>"

    @property
    def is_whole(self) -> bool:
        """Ended, as streams that nothing disturbs end."""
        self.join(60)
        return (
            self.status == 200 and "data: [DONE]" in self.text and 'data: {"error"' not in self.text
        )


@contextmanager
def signed_in(gateway: Gateway) -> Iterator[httpx.Client]:
    """A browser of the administrator's."""
    made = gateway.manage("shell", "--no-imports", "-c", MAKE_LINK).stdout
    with gateway.client(follow_redirects=True) as browser:
        page = browser.get(f"/dashboard/?signin={made.strip().splitlines()[-1]}")
        assert page.status_code == 200
        assert "/sign-in/" not in str(page.url)
        yield browser


def private_mib(pid: int) -> float:
    """Memory that belongs to the process alone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.M)) / 1024


def files_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def loop_cpu_s(pid: int) -> float:
    """Processor time of the main thread, which is the event loop's."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def memory_kib(pid: int) -> int:
    """What the process holds of the machine's memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
