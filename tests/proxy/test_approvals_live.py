"""The approvals page's socket, and the terminal's prompt: the same queue, in either order."""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from simulator.testing import SimulatorThread
from tests.conftest import OURS, ROOT, Gateway
from tests.proxy.approving import Queue, signed_in

PATH = "/v1/chat/completions"
BODY = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "the prompt's own words"}]}


@pytest.fixture(scope="module")
def manual_gateway(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    gateway = Gateway(
        tmp_path_factory.mktemp("manual"),
        shared_simulator.url,
        ("--github-token", "ghu_octocat", "--manual"),
        {"GATEWAY_APPROVAL_TIMEOUT_S": "20", "GATEWAY_DRAIN_S": "2"},
    )
    gateway.wait_signed_in()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def person(manual_gateway: Gateway) -> Iterator[Queue]:
    with signed_in(manual_gateway) as queue:
        yield queue


def socket_of(gateway: Gateway, person: Queue | None, origin: str = "") -> ClientConnection:
    cookies = {} if person is None else dict(person.client.cookies)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return connect(
        f"ws://127.0.0.1:{gateway.port}/ws/approvals/",
        origin=origin or gateway.url,  # type: ignore[arg-type]
        additional_headers={"Cookie": cookie} if cookie else None,
        proxy=None,
    )


def frame_of(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        raw = socket.recv(timeout=5)
        frame: dict[str, Any] = json.loads(raw)
        if frame["t"] == kind:
            assert kind == "hello" or len(raw) < 1024
            return frame


def test_the_socket_says_what_waits_and_how_it_ended(
    manual_gateway: Gateway, person: Queue, simulator: SimulatorThread
) -> None:
    with (
        socket_of(manual_gateway, person) as socket,
        manual_gateway.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        assert frame_of(socket, "hello")["waiting"] == []
        answer = pool.submit(client.post, PATH, json=BODY)
        opened = frame_of(socket, "approval.opened")
        assert opened["waiting"] == 1
        assert opened["model"] == "gpt-4.1"
        assert opened["rule"] == "--manual"
        assert "own words" not in json.dumps(opened)
        with socket_of(manual_gateway, person) as late:
            shown = frame_of(late, "hello")["waiting"]
            assert [one["approval"] for one in shown] == [opened["approval"]]

        person.decide("approve")
        closed = frame_of(socket, "approval.closed")
        assert closed["approval"] == opened["approval"]
        assert closed["state"] == "approved"
        assert closed["decided_by"]
        assert closed["waiting"] == 0
        assert answer.result().status_code == 200


def test_nothing_that_is_sent_into_the_socket_decides(
    manual_gateway: Gateway, person: Queue, simulator: SimulatorThread
) -> None:
    with (
        socket_of(manual_gateway, person) as socket,
        manual_gateway.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.post, PATH, json=BODY)
        opened = frame_of(socket, "approval.opened")
        socket.send(json.dumps({"t": "approve", "approval": opened["approval"]}))
        socket.send("no JSON at all")
        assert not answer.done()
        person.decide("refuse")
        assert frame_of(socket, "approval.closed")["state"] == "refused"
        assert answer.result().status_code == 403


def test_strangers_and_foreign_pages_hear_nothing(manual_gateway: Gateway, person: Queue) -> None:
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        socket_of(manual_gateway, person, origin="https://evil.example").recv(timeout=5)
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        socket_of(manual_gateway, None).recv(timeout=5)


# The terminal.


class Terminal:
    """`start --manual` as a person sits before it."""

    def __init__(self, simulator: SimulatorThread, folder: Path) -> None:
        self.output = ""
        self._master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(OURS)},
            "COPILOT_DATA_DIR": str(folder),
            "GITHUB_URL": simulator.url,
            "GITHUB_API_URL": simulator.url,
            "HOME": str(folder),
            "NO_COLOR": "1",
            "PYTHONIOENCODING": "utf-8",
            "GATEWAY_DRAIN_S": "1",
            "GATEWAY_APPROVAL_TIMEOUT_S": "25",
        }
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "start", "--port", "0", "--manual",
             "--github-token", "ghu_octocat"],
            cwd=ROOT, env=environment, stdin=slave, stdout=subprocess.DEVNULL, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for(r"Signed in as octocat", 40)
            self.port = int(self.wait_for(r"OpenAI API\s+http://\S+?:(\d+)/v1")[1])
            link = self.wait_for(r"Dashboard\s+(http://\S+)")[1]
        except AssertionError:
            self.close()
            raise
        self.sign_in_link = link.replace("localhost", "127.0.0.1")

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                if select.select([self._master], [], [], 0.2)[0]:
                    self.output += os.read(self._master, 65536).decode("utf-8", "replace")

    def client(self, **options: Any) -> httpx.Client:
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, timeout=30, trust_env=False, **options)

    def wait_for(self, pattern: str, seconds: float = 10) -> "re.Match[str]":
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.output)) is None:
            assert time.monotonic() < deadline, f"{pattern} is not in:\n{self.output}"
            time.sleep(0.02)
        return found

    def type(self, text: str) -> None:
        self.output = ""
        os.write(self._master, text.encode())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self._master)
        self._reader.join(2)


@pytest.fixture(scope="module")
def terminal(
    shared_simulator: SimulatorThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    terminal = Terminal(shared_simulator, tmp_path_factory.mktemp("terminal"))
    yield terminal
    terminal.close()


QUESTION = r"\S+ gpt-4\.1 \d+ ≈\S+ cr +approve\? \[y\]es \[n\]o \[a\]ll this conversation +0:2\d: "


def test_the_terminal_asks_and_its_answer_counts(
    terminal: Terminal, simulator: SimulatorThread
) -> None:
    with terminal.client() as client, ThreadPoolExecutor(1) as pool:
        for typed, status in (("y\n", 200), ("n\n", 403), ("a\n", 200)):
            answer = pool.submit(client.post, PATH, json=BODY)
            terminal.wait_for(QUESTION)
            assert "own words" not in terminal.output
            terminal.type(typed)
            assert answer.result(10).status_code == status
        # All this conversation: not asked again.
        assert client.post(PATH, json=BODY).status_code == 200


def test_the_page_may_answer_what_the_terminal_asks_and_the_next_question_is_clean(
    terminal: Terminal, simulator: SimulatorThread
) -> None:
    other = {**BODY, "messages": [{"role": "user", "content": "Another conversation"}]}
    with terminal.client(follow_redirects=True) as person, ThreadPoolExecutor(1) as pool:
        assert person.get(terminal.sign_in_link).status_code == 200
        page = Queue(person)
        with terminal.client() as client:
            terminal.type("")
            answer = pool.submit(client.post, PATH, json=other)
            terminal.wait_for(QUESTION)
            # Typed half, for a question that somebody else answers meanwhile.
            os.write(terminal._master, b"y")
            page.decide("refuse")
            assert answer.result(10).status_code == 403
            terminal.wait_for(r"(?i)refused by \w+")

            terminal.type("")
            answer = pool.submit(client.post, PATH, json=other)
            terminal.wait_for(QUESTION)
            terminal.type("\n")
            terminal.wait_for(QUESTION)
            assert not answer.done()
            terminal.type("n\n")
            assert answer.result(10).status_code == 403


def test_a_client_that_leaves_takes_its_question_off_the_terminal(
    terminal: Terminal, simulator: SimulatorThread
) -> None:
    terminal.type("")
    other = {**BODY, "messages": [{"role": "user", "content": "Of one who leaves"}]}
    with terminal.client() as client, contextlib.suppress(httpx.TimeoutException):
        client.post(PATH, json=other, timeout=2)
    terminal.wait_for(r"(?i)the client has gone", 5)
