"""What is measured: nginx as the limit, the gateway as people start it, peers by configuration.

A peer is a table of a TOML file (`--peers`):

    [[peer]]
    name = "copilot-api"
    base_url = "http://127.0.0.1:4142"
    # Optional: started and ended here. {upstream} and {port} are filled in.
    command = ["bun", "run", "dist/main.js", "start", "--port", "4142"]
    ready = "/models"                    # asked until it answers, 30 s at most
    skip = ["responses-200k-streamed"]   # scenarios that it cannot do
    [peer.environment]
    GITHUB_API_URL = "{upstream}"
    [peer.headers]
    authorization = "Bearer x"
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_S = 60.0
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  client_max_body_size 64m; client_body_buffer_size 1m; keepalive_requests 100000000;
  upstream mock {{ server {mock}; keepalive 2048; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 300s;
    }}
  }}
}}
"""


@dataclass
class Target:
    """A running server. `headers` go with every request, `pid` is the root of its process tree."""

    name: str
    url: str
    pid: int | None
    headers: dict[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    # nginx passes paths on as they are; the gateways have theirs.
    is_limit: bool = False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def upstream(processes: int = 2) -> Iterator[str]:
    """The mock; gives its URL."""
    with _process(
        [sys.executable, "-m", "benchmarks.upstream", "--processes", str(processes)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@contextlib.contextmanager
def nginx(mock: str) -> Iterator[Target | None]:
    """nginx before the mock, one worker; None where it is not installed."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        config = Path(folder, "nginx.conf")
        address = mock.removeprefix("http://")
        config.write_text(NGINX.format(folder=folder, mock=address, port=port))
        with _process([program, "-p", folder, "-c", str(config), "-e", f"{folder}/e"]) as process:
            url = f"http://127.0.0.1:{port}"
            _wait_for(f"{url}/models", {}, process)
            yield Target("nginx", url, process.pid, is_limit=True)


@contextlib.contextmanager
def gateway(mock: str, arguments: tuple[str, ...] = ()) -> Iterator[Target]:
    """`manage.py start` with keys required, limits on the key, journal, records, metrics."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GH_"))},
            "COPILOT_DATA_DIR": folder,
            "GITHUB_URL": mock,
            "GITHUB_API_URL": mock,
            "HOME": folder,
            "GATEWAY_MAX_IN_FLIGHT": "2000",
        }
        python = sys.executable
        log = Path(folder, "stderr.log")
        with (
            log.open("w") as told,
            _process(
                [python, "manage.py", "start", "--port", "0", "--require-keys"]
                + ["--github-token", "ghu_bench", *arguments],
                cwd=ROOT,
                env=environment,
                stderr=told,
                stdin=subprocess.DEVNULL,
            ) as process,
        ):
            url = _gateway_url(log, process)
            key = subprocess.run(
                [python, "manage.py", "create-key", "bench"]
                + ["--rpm", "1000000", "--concurrency", "5000", "--budget-day", "1000000"],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            headers = {"authorization": f"Bearer {key}"}
            _wait_for(f"{url}/v1/models", headers, process)
            yield Target("gateway", url, process.pid, headers)


def _gateway_url(log: Path, process: "subprocess.Popen[Any]") -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text()
        found = re.search(r"OpenAI API\s+http://\S+?:(\d+)/v1", text)
        if found and "Signed in" in text:
            return f"http://127.0.0.1:{found[1]}"
        time.sleep(0.1)
    raise RuntimeError(f"the gateway did not start:\n{log.read_text()}")


@contextlib.contextmanager
def peer(config: dict[str, Any], mock: str) -> Iterator[Target]:
    """One `[[peer]]` table of the configuration."""
    url: str = config["base_url"]
    fill = {"upstream": mock, "port": url.rpartition(":")[2]}
    headers = dict(config.get("headers", {}))
    with contextlib.ExitStack() as stack:
        process = None
        if command := config.get("command"):
            given = {k: v.format(**fill) for k, v in config.get("environment", {}).items()}
            process = stack.enter_context(
                _process(
                    [part.format(**fill) for part in command],
                    cwd=config.get("folder"),
                    env={**os.environ, **given},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        _wait_for(url + config.get("ready", "/v1/models"), headers, process)
        pid = process.pid if process else config.get("pid")
        yield Target(config["name"], url, pid, headers, tuple(config.get("skip", ())))


def read_peers(path: Path | None) -> list[dict[str, Any]]:
    return [] if path is None else list(tomllib.loads(path.read_text()).get("peer", []))


@contextlib.contextmanager
def _process(command: list[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A child with its own session, ended with all its children."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(url: str, headers: dict[str, str], process: "subprocess.Popen[Any] | None") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")
