"""A running simulator, and a client that speaks to it over a socket like an editor would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from simulator.testing import SimulatorThread

EDITOR = {
    "editor-version": "vscode/1.140.0",
    "editor-plugin-version": "copilot-chat/0.68.0",
    "user-agent": "GitHubCopilotChat/0.68.0",
    "copilot-integration-id": "vscode-chat",
    "x-github-api-version": "2026-08-01",
}
REST = {"user-agent": "GitHubCopilotChat/0.68.0", "accept": "application/json"}


@dataclass
class Event:
    """One event of a stream; `data` is None for `[DONE]`."""

    name: str | None
    data: Any


class Copilot:
    """A plain client: it adds a bearer and an editor's headers, nothing else."""

    def __init__(self, base_url: str, bearer: str = "ghu_octocat") -> None:
        self.bearer = bearer
        self.http = httpx.Client(base_url=base_url, timeout=5.0, trust_env=False)

    def headers(self, **more: str) -> dict[str, str]:
        extra = {name.replace("_", "-"): value for name, value in more.items()}
        return {"authorization": f"Bearer {self.bearer}", **EDITOR, **extra}

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=self.headers(**headers))

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.http.post(path, json=body, headers=self.headers(**headers))

    def rest(self, path: str, token: str = "ghu_octocat", **headers: str) -> httpx.Response:
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.get(path, headers={"authorization": f"token {token}", **REST, **extra})

    def control(self, name: str, body: Any = None) -> Any:
        return self.http.post(f"/_sim/{name}", json=body or {})

    def exchange(self, token: str = "ghu_octocat") -> str:
        return str(self.rest("/copilot_internal/v2/token", token).json()["token"])

    def chat(self, text: str = "hello", model: str = "gpt-5-mini", **more: Any) -> httpx.Response:
        messages = [{"role": "user", "content": text}]
        return self.post("/chat/completions", {"model": model, "messages": messages} | more)

    def responses(self, text: str = "hello", model: str = "gpt-5.5", **more: Any) -> httpx.Response:
        return self.post("/responses", {"model": model, "input": text} | more)

    def messages(
        self,
        text: str = "hello",
        model: str = "claude-opus-5",
        betas: str | None = None,
        **more: Any,
    ) -> httpx.Response:
        body = {
            "model": model,
            "max_tokens": 1000,
            "messages": [{"role": "user", "content": text}],
        } | more
        headers = {} if betas is None else {"anthropic_beta": betas}
        return self.post("/v1/messages", body, **headers)


def events_of(response: httpx.Response) -> list[Event]:
    found = []
    for block in response.content.decode().split("\n\n"):
        name, data = None, None
        for line in block.split("\n"):
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: ") and line != "data: [DONE]":
                data = json.loads(line[6:])
        if block:
            found.append(Event(name, data))
    return found


@pytest.fixture(scope="session")
def simulator_thread() -> Iterator[SimulatorThread]:
    with SimulatorThread(seed=7) as running:
        yield running


@pytest.fixture
def simulator(simulator_thread: SimulatorThread) -> SimulatorThread:
    simulator_thread.reset()
    return simulator_thread


@pytest.fixture
def copilot(simulator: SimulatorThread) -> Iterator[Copilot]:
    client = Copilot(simulator.url)
    yield client
    client.http.close()


@pytest.fixture
def events() -> Any:
    return events_of
