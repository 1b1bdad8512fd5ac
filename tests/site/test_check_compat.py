"""`manage.py check-compat` against good and bad gateways."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.conftest import Gateway


def test_a_good_gateway_passes_every_scenario(gateway: Gateway) -> None:
    done = gateway.manage("check-compat", "--url", gateway.url, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.endswith(" ms")]
    assert len(rows) > 40
    assert all(" ok " in row for row in rows), done.stdout
    assert "a few AI credits" in done.stderr
    assert "0 failed, 0 skipped" in done.stderr


def test_the_address_may_end_with_v1(gateway: Gateway, simulator: SimulatorThread) -> None:
    simulator.play("status", code=500)
    done = gateway.manage("check-compat", "--url", f"{gateway.url}/v1", check=False)
    assert done.returncode == 1
    assert "common: models" in done.stdout
    failed = [line for line in done.stdout.splitlines() if " failed " in line]
    assert any(line.startswith("openai: chat text") for line in failed)
    assert not any(line.startswith("common:") for line in failed)


def test_nobody_there_is_told_in_two_lines(gateway: Gateway) -> None:
    done = gateway.manage("check-compat", "--url", "http://127.0.0.1:9", check=False)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "--url" in done.stderr
    assert "Traceback" not in done.stderr


class Careless(BaseHTTPRequestHandler):
    """A gateway that lists a model and passes Copilot's odd shapes through."""

    def do_GET(self) -> None:
        entry = {"id": "gpt-4.1", "supported_endpoints": ["/chat/completions"]}
        self._answer({"object": "list", "data": [entry]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "pong"}
        self._answer({"id": "1", "choices": [{"message": message, "finish_reason": "stop"}]})

    def _answer(self, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def careless() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Careless) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(timeout=5)


def test_a_careless_gateway_fails_with_reasons(gateway: Gateway, careless: str) -> None:
    done = gateway.manage("check-compat", "--url", careless, check=False)
    assert done.returncode == 1
    assert "object is None, not 'chat.completion'" in done.stdout
    assert "no model for messages" in done.stdout
    assert " ok " not in done.stdout.partition("openai: chat text")[2].splitlines()[0]
