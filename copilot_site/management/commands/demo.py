"""`manage.py demo`: the same program against the bundled simulator, without a seat."""

import os
import subprocess
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings

from copilot_site.terminal import Failure, GatewayCommand, say


class Command(GatewayCommand):
    help = "Serve a demo: simulated GitHub and Copilot, two accounts, an hour of history."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("start", nargs="*", help="further options are those of `start`")

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        # `demo --port 8080` passes what it does not know to `start`.
        parser.parse_args = lambda args=None, namespace=None: self._lenient(parser, args, namespace)  # type: ignore[method-assign]
        return parser

    def _lenient(self, parser: Any, args: Any, namespace: Any) -> Any:
        options, rest = parser.parse_known_args(args, namespace)
        options.rest = [*options.start, *rest]
        return options

    def run(self, **options: Any) -> None:
        say("=" * 72)
        say("DEMO: GitHub and Copilot are simulated on this machine; nothing here is real.")
        say("Its data have a folder of their own and never mix with real data.")
        say("=" * 72)
        simulator = subprocess.Popen(
            [sys.executable, "-m", "simulator", "--port", "0", "--demo"],
            cwd=settings.BASE_DIR,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            url = self._url(simulator)
            self._start(url, options.get("rest") or [])
        finally:
            simulator.terminate()
            simulator.wait(timeout=10)

    def _url(self, simulator: "subprocess.Popen[str]") -> str:
        assert simulator.stderr is not None
        for line in simulator.stderr:
            if "listening on" in line:
                return line.rpartition(" ")[2].strip()
        raise Failure("The simulator did not start.", "Run `python -m simulator` to see why.")

    def _start(self, url: str, arguments: list[str]) -> None:
        environment = {
            **os.environ,
            "GATEWAY_DEMO": "true",
            "COPILOT_DATA_DIR": str(settings.DATA_DIR / "demo"),
            "GITHUB_URL": url,
            "GITHUB_API_URL": url,
            "DATABASE_URL": "",
            "REDIS_URL": "",
        }
        for name in ("GH_TOKEN", "GITHUB_TOKEN_FILE", "COPILOT_API_URL"):
            environment.pop(name, None)
        gateway = subprocess.Popen(
            [sys.executable, "manage.py", "start", *arguments],
            cwd=settings.BASE_DIR,
            env=environment,
        )
        while True:
            try:
                code = gateway.wait()
                break
            except KeyboardInterrupt:
                # The terminal has told the gateway too: it drains and ends by itself.
                continue
        sys.exit(code)
