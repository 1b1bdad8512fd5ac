"""`manage.py demo`: the same program against the bundled simulator, without a seat."""

import os
import signal
import subprocess
import sys
from typing import Any

from django.conf import settings

from copilot_site.terminal import Failure, GatewayCommand, say


class Command(GatewayCommand):
    help = (
        "Serve a demo: simulated GitHub and Copilot, two accounts, an hour of history. "
        "Further options are those of `start`."
    )

    def run_from_argv(self, argv: list[str]) -> None:
        """Everything after `demo` is for `start`, which knows what it takes."""
        if {"-h", "--help"} & set(argv[2:]):
            super().run_from_argv(argv)
            return
        self.handle(start_arguments=without_data_dir(argv[2:]))

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
            self._start(url, options.get("start_arguments") or [])
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
        # The terminal tells both about Ctrl-C; a TERM comes to us alone.
        signal.signal(signal.SIGTERM, lambda number, _: gateway.send_signal(number))
        while True:
            try:
                code = gateway.wait()
                break
            except KeyboardInterrupt:
                # The terminal has told the gateway too: it drains and ends by itself.
                continue
        sys.exit(code)


def without_data_dir(arguments: list[str]) -> list[str]:
    """`manage.py` has taken --data-dir already; the demo's own folder lies inside it."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--data-dir":
            skip = True
        elif not argument.startswith("--data-dir="):
            kept.append(argument)
    return kept
