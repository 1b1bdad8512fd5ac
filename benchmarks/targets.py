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
      proxy_buffering off; proxy_read_timeout 300s; {more}
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
    # Roots of further process trees that count as the target's own, and of servers beside it.
    more_pids: tuple[int, ...] = ()
    beside: dict[str, int] = field(default_factory=dict)

    @property
    def pids(self) -> tuple[int, ...]:
        return (*([] if self.pid is None else [self.pid]), *self.more_pids)


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
    with _nginx([mock], {}) as running:
        yield running


@contextlib.contextmanager
def _nginx(servers: list[str], headers: dict[str, str]) -> Iterator[Target | None]:
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        config = Path(folder, "nginx.conf")
        # Several addresses are asked in turn.
        addresses = "; server ".join(server.removeprefix("http://") for server in servers)
        # A gateway serves its own names only.
        more = "proxy_set_header Host $http_host;" if headers else ""
        config.write_text(NGINX.format(folder=folder, mock=addresses, port=port, more=more))
        with _process([program, "-p", folder, "-c", str(config), "-e", f"{folder}/e"]) as process:
            url = f"http://127.0.0.1:{port}"
            _wait_for(f"{url}/models", headers, process)
            yield Target("nginx", url, process.pid, is_limit=True)


@contextlib.contextmanager
def team(mock: str, processes: int) -> Iterator[Target]:
    """So many gateways on one PostgreSQL and one Redis, nginx in front, which does not count."""
    # Servers of a team's own, as the tests start them.
    from tests.team import Postgres, Redis

    with contextlib.ExitStack() as stack:
        postgres, redis = Postgres(), Redis()
        stack.callback(postgres.close)
        stack.callback(redis.close)
        environment = {
            "DATABASE_URL": postgres.url(postgres.new_database()),
            "REDIS_URL": redis.url,
            "SECRET_KEY": "the same in every process of the team",
            "ENCRYPTION_KEYS": "kCV0pNmGm9HYT9X5rcEmdaG0Z6CewGiuqEMEUMFZNtY=",
        }
        first = stack.enter_context(gateway(mock, environment=environment))
        others = [
            stack.enter_context(gateway(mock, environment=environment, headers=first.headers))
            for _ in range(processes - 1)
        ]
        urls = [one.url for one in (first, *others)]
        front = stack.enter_context(_nginx(urls, first.headers))
        assert redis.process is not None
        assert postgres.process is not None
        yield Target(
            f"team-{processes}",
            first.url if front is None else front.url,
            first.pid,
            first.headers,
            more_pids=tuple(one.pid for one in others if one.pid is not None),
            beside={"redis": redis.process.pid, "postgres": postgres.process.pid},
        )


@contextlib.contextmanager
def gateway(
    mock: str,
    arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    data: Path | None = None,
) -> Iterator[Target]:
    """`manage.py start` with keys required, limits on the key, journal, records, metrics.

    One more process of a team gets the `headers` of the first: key and account are there. `data` is
    a folder that `benchmarks.fill` has filled; this run's records are added to it.
    """
    more, is_first = environment or {}, headers is None
    name = "gateway" if data is None else "gateway-full"
    with contextlib.ExitStack() as stack:
        folder = str(data) if data else stack.enter_context(tempfile.TemporaryDirectory())
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GH_"))},
            "COPILOT_DATA_DIR": folder,
            "GITHUB_URL": mock,
            "GITHUB_API_URL": mock,
            "HOME": folder,
            "GATEWAY_MAX_IN_FLIGHT": "2000",
            **more,
        }
        python = sys.executable
        log = Path(folder, "stderr.log")
        with (
            log.open("w") as told,
            _process(
                [python, "manage.py", "start", "--port", "0", "--require-keys"]
                + [*(["--github-token", "ghu_bench"] if is_first else []), *arguments],
                cwd=ROOT,
                env=environment,
                stderr=told,
                stdin=subprocess.DEVNULL,
            ) as process,
        ):
            url = _gateway_url(log, process, "Signed in" if is_first else "")
            if headers is not None:
                _wait_for(f"{url}/v1/models", headers, process)
                yield Target(name, url, process.pid, headers)
                return
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
            yield Target(name, url, process.pid, headers)


def _gateway_url(log: Path, process: "subprocess.Popen[Any]", sign: str) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text()
        found = re.search(r"OpenAI API\s+http://\S+?:(\d+)/v1", text)
        if found and sign in text:
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
