"""Commands as people run them: a process each, with a data folder of the test's own."""

import os
import pty
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class

from simulator.testing import SimulatorThread
from tests.prepared import prepare

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60
# Makes the terminal the process's own, as a shell does; then becomes the command.
AS_A_SHELL = (
    # Whoever runs tests in the background may have Ctrl-C ignored, which children inherit.
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.default_int_handler); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def environment(data_dir: Path, github_url: str) -> dict[str, str]:
    """Nothing of the developer's own settings, and a home without anybody's files."""
    ours = ("GATEWAY_", "GH_", "GITHUB_", "COPILOT_", "DATABASE_", "REDIS_", "DJANGO_")
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(ours)},
        "COPILOT_DATA_DIR": str(data_dir),
        "GITHUB_URL": github_url,
        "GITHUB_API_URL": github_url,
        "HOME": str(data_dir),
        "PYTHONIOENCODING": "utf-8",
        "TERM": "xterm",
        "NO_COLOR": "",
    }


class Commands:
    """`manage.py COMMAND …` on one data folder."""

    def __init__(self, data_dir: Path, github_url: str) -> None:
        self.data_dir = data_dir
        self.environment = environment(data_dir, github_url)

    def __call__(
        self, *arguments: str, stdout: Any = subprocess.PIPE, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the database, without the second that another process takes."""
        connection = sqlite3.connect(self.data_dir / "gateway.sqlite3", timeout=10)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def python(self, code: str) -> str:
        """What a line of Python inside Django prints."""
        program = f"import django; django.setup()\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=self.environment | {"DJANGO_SETTINGS_MODULE": "copilot_site.settings"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return done.stdout.strip()


def _as_python(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """`-c CODE` runs as it is, anything else is a command of manage.py."""
    return arguments if arguments[0] == "-c" else ("manage.py", *arguments)


class Terminal:
    """A command whose stdin and stderr are a terminal of its own."""

    def __init__(self, commands: Commands, *arguments: str, **variables: str) -> None:
        self.fd, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_A_SHELL, *_as_python(arguments)],
            cwd=ROOT,
            env=commands.environment | variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                return
            if not data:
                return
            self._seen += data

    @property
    def text(self) -> str:
        return self._seen.decode("utf-8", "replace")

    def wait_for(self, text: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text:
            if time.monotonic() > deadline:
                pytest.fail(f"{text!r} did not come; there is:\n{self.text}")
            time.sleep(0.02)

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def end(self) -> int:
        """Wait for the command's own end; its exit code."""
        code = self.process.wait(timeout=TIMEOUT_S)
        self._reader.join(timeout=5)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5)
        os.close(self.fd)


def told(name: str, *arguments: str) -> int:
    """The exit code of a command whose options alone decide, without a process of its own."""
    command = load_command_class("copilot_site", name)
    with pytest.raises(SystemExit) as ended:
        command.run_from_argv(["manage.py", name, *arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def parse() -> Callable[..., int]:
    return told


@pytest.fixture
def manage(tmp_path: Path, simulator: SimulatorThread) -> Commands:
    commands = Commands(tmp_path / "data", simulator.url)
    prepare(commands.data_dir, commands.environment)
    return commands


@pytest.fixture
def terminal(manage: Commands) -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*arguments: str, **variables: str) -> Terminal:
        started.append(Terminal(manage, *arguments, **variables))
        return started[-1]

    yield start
    for one in started:
        one.close()
