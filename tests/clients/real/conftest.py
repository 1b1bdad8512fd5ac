"""Real programs against the gateway: installed once, each run in a home of its own, on loopback.

`make test-clients` runs this suite; no other run does, because it downloads and takes minutes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.snippets import CLIENTS, fill
from simulator.testing import SimulatorThread
from tests.clients.real.outside import Outside
from tests.conftest import ROOT, Gateway

HERE = Path(__file__).resolve().parent
NODE = HERE / "node_modules"
PYTHON = ROOT / ".venv-clients"
RUN_TIMEOUT_S = 120
INSTALL_TIMEOUT_S = 600
# What no test may mistake for an echo of its prompt.
SECRET = "the-heron-waits-at-dawn"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark this folder's tests, and leave them out unless they are asked for by the mark."""
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    for item in mine:
        item.add_marker(pytest.mark.real_clients)
        item.add_marker(pytest.mark.timeout(INSTALL_TIMEOUT_S + 2 * RUN_TIMEOUT_S))
    if mine and "real_clients" not in config.option.markexpr:
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if item not in mine]


def install(folder: Path, pins: Path, *commands: list[str | Path]) -> None:
    """Run the commands, unless `folder` already holds what `pins` says."""
    stamp = folder / ".installed"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return
    shutil.rmtree(folder, ignore_errors=True)
    for command in commands:
        done = subprocess.run(
            command,
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}")
    stamp.write_text(pins.read_text())


@pytest.fixture(scope="session")
def node_programs() -> Path:
    """`node_modules` with the pinned programs, bought from npm at the first run."""
    if shutil.which("npm") is None:
        pytest.fail("npm is not there: this suite needs Node.js 20 or newer")
    install(
        NODE,
        HERE / "package.json",
        ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"],
    )
    return NODE


@pytest.fixture(scope="session")
def python_programs() -> Path:
    """`.venv-clients/bin` with the pinned libraries, apart from the gateway's own."""
    pins = HERE / "requirements-clients.txt"
    pip = [PYTHON / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes"]
    install(
        PYTHON,
        pins,
        [sys.executable, "-m", "venv", PYTHON],
        [*pip, "--disable-pip-version-check", "--only-binary", ":all:", "-r", pins],
    )
    return PYTHON / "bin"


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    with Outside() as proxy:
        yield proxy


@dataclass
class Desk:
    """Where one program works: its home, a folder with a note to read, and what the run did."""

    home: Path
    gateway: Gateway
    simulator: SimulatorThread
    outside: Outside
    environment: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        (self.home / "tmp").mkdir()
        self.note.write_text(SECRET + "\n")
        self.seen = {record["id"] for record in self.gateway.records()}
        proxy = self.outside.url
        # Nothing of this machine's own settings reaches a program; what leaves loopback is noticed.
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.home / "tmp"),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "HTTP_PROXY": proxy,
            "HTTPS_PROXY": proxy,
            "http_proxy": proxy,
            "https_proxy": proxy,
            "NODE_USE_ENV_PROXY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "GATEWAY": self.gateway.url,
            "NOTE": str(self.note),
            "MADE": str(self.made),
        }

    @property
    def folder(self) -> Path:
        return self.home / "work"

    @property
    def note(self) -> Path:
        """A file that is there, for the program to read."""
        return self.folder / "note.txt"

    @property
    def made(self) -> Path:
        """A file that is not there yet, for the program to write."""
        return self.folder / "made.txt"

    def point(self, slug: str, model: str, small: str = "claude-haiku-4.5") -> None:
        """Set the program up exactly as the connect page tells people to."""
        values = {"base": self.gateway.url, "key": "any-key", "model": model, "small": small}
        forms = next(client.forms for client in CLIENTS if client.slug == slug)
        for form in forms:
            text = "".join(piece.text for piece in fill(form.text, values))
            title = str(form.title)
            if title.startswith("~/") and slug != "claude-code":
                self.write(self.home / title.removeprefix("~/"), text)
            elif title == f"{slug}.json":
                self.write(self.folder / title, text)
            elif text.startswith("export "):
                lines = [
                    line.removeprefix("export ") for line in text.split("\n") if "export" in line
                ]
                self.environment |= dict(line.split("=", 1) for line in lines)

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(
        self, *command: str | Path, typed: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the program to its end, in the folder; fails when it takes too long or ends badly."""
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(typed, timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"{command} took over {RUN_TIMEOUT_S} s\n{self.story()}\n{out}\n{err}")
        if process.returncode:
            pytest.fail(
                f"{command} exited {process.returncode}\n{self.story()}\n{out[-4000:]}\n{err[-4000:]}"
            )
        return subprocess.CompletedProcess(command, 0, out, err)

    def story(self) -> str:
        """What reached the upstream and what was recorded, for a failure's text."""
        lines = [f"upstream {r.path} {r.model} {r.status}" for r in self.simulator.generations]
        lines += [
            "record " + " ".join(str(r[k]) for k in ("path", "outcome", "status", "error_message"))
            for r in self.new_records()
        ]
        return "\n".join(lines)

    def new_records(self) -> list[dict[str, Any]]:
        return [record for record in self.gateway.records() if record["id"] not in self.seen]

    def assert_served(
        self,
        model: str | set[str],
        initiators: tuple[str, ...] = ("user", "agent"),
        *,
        side_requests: int = 0,
    ) -> None:
        """Every request was let through at the first try, counted, and billed as what it was.

        `initiators` is what the requests were declared as, in their order: a person's turn, then
        the program's own follow-ups. Side requests are those without tools, an agent's too.
        """
        calls = self.simulator.generations
        assert [call.status for call in calls] == [200] * len(calls), self.story()
        self.gateway.wait_for(lambda: len(self.new_records()) >= len(calls))
        records = self.new_records()
        assert [record["outcome"] for record in records] == ["completed"] * len(calls), self.story()
        attempts = [len(json.loads(record["attempts"])) for record in records]
        assert attempts == [1] * len(calls), self.story()
        side = [record for record in records if side_requests and not record["tools_sent"]]
        assert [record["initiator"] for record in side] == ["agent"] * side_requests, self.story()
        declared = [record["initiator"] for record in records if record not in side]
        assert declared == list(initiators), self.story()
        headers = sorted(call.headers["x-initiator"] for call in calls)
        assert headers == sorted([*initiators, *["agent"] * side_requests])
        models = {model} if isinstance(model, str) else model
        assert {record["model_used"] for record in records} == models
        for record in records:
            assert record["input_tokens"] > 0
            assert record["output_tokens"] > 0
            assert not record["usage_estimated"]

    def assert_written(self, text: str = "hello") -> None:
        assert self.made.exists(), self.story()
        assert self.made.read_text().strip() == text


@pytest.fixture
def desk(
    gateway: Gateway, simulator: SimulatorThread, outside: Outside, tmp_path: Path
) -> Iterator[Desk]:
    outside.asked.clear()
    yield Desk(tmp_path / "home", gateway, simulator, outside)
    assert outside.asked == [], "the program wanted to leave loopback"
