"""`python -m simulator --port 8787`: play GitHub and Copilot until interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys

from simulator.app import Simulator


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8787, help="0 picks a free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=int, default=None, help="makes ids and tokens repeatable")
    parser.add_argument("--public-url", default=None, help="base URL that account documents name")
    parser.add_argument(
        "--demo", action="store_true", help="approve device sign-ins by itself after 3 seconds"
    )
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    simulator = Simulator(
        host=arguments.host,
        port=arguments.port,
        seed=arguments.seed,
        public_url=arguments.public_url,
    )
    if arguments.demo:
        simulator.state.initial_config["device_auto_approve_s"] = 3
        simulator.state.reset()
        # A month that is under way, so that quota pages have something to show.
        simulator.state.account("octocat").credits_used_nano = 2_130_400_000_000
    await simulator.start()
    sys.stderr.write(f"simulator listening on {simulator.url}\n")
    sys.stderr.flush()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    await simulator.close()


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
