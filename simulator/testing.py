"""The simulator in a thread of its own, for tests that are not written around its event loop.

    with SimulatorThread() as simulator:
        simulator.play("status", code=429, retry_after=3, times=1)
        ...
        assert simulator.received[-1].headers["x-initiator"] == "user"

Every method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from simulator import control, metering
from simulator.app import Simulator
from simulator.journal import Received
from simulator.state import Account, Json, State

T = TypeVar("T")

CALL_TIMEOUT_S = 10.0


class SimulatorThread:
    """A running simulator. `url` is the base of all its hosts; `other_url` a second host name."""

    def __init__(self, *, port: int = 0, seed: int | None = 1, **config: Any) -> None:
        self._simulator = Simulator(port=port, seed=seed)
        self._simulator.state.initial_config = dict(config)
        self._simulator.state.reset()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        self._thread.start()
        self._await(self._simulator.start)

    def close(self) -> None:
        """Break what is open, stop listening and end the thread."""
        self._await(self._simulator.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _await(self, make: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await make()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_TIMEOUT_S)

    def _call(self, read: Callable[[State], T]) -> T:
        """Run a function of the state inside the simulator's own thread."""

        async def run() -> T:
            return read(self._simulator.state)

        return self._await(run)

    @property
    def url(self) -> str:
        return self._simulator.url

    @property
    def port(self) -> int:
        return self._simulator.port

    @property
    def other_url(self) -> str:
        """Return a second host name of the same server, for accounts that live elsewhere."""
        return f"http://localhost:{self.port}"

    # What is played.

    def play(
        self,
        name: str,
        *,
        times: int | None = None,
        match: Json | None = None,
        probability: float = 1.0,
        **args: Any,
    ) -> None:
        """Play a scenario on matching requests, until cleared or `times` times.

        `match` may name `path`, `login` and `model`. Raises UnknownScenario.
        """
        document = {
            "scenario": name,
            "args": args,
            "times": times,
            "match": match,
            "probability": probability,
        }
        self._call(lambda state: control.play(state, document))

    def soak(self, factor: float = 1.0) -> None:
        """Play faults as rare as in reality, or `factor` times as often, until cleared."""
        self._call(lambda state: control.soak(state, {"factor": factor}))

    def clear(self) -> None:
        self._call(lambda state: control.clear(state, {}))

    def reset(self, *, keep_tokens: bool = False) -> None:
        """Put everything back to the start, the settings given at construction included.

        `keep_tokens` leaves Copilot tokens valid, so that who signed in stays signed in.
        """
        self._call(lambda state: control.reset(state, {"keep_tokens": keep_tokens}))

    def config(self, **values: Any) -> None:
        self._call(lambda state: state.config.change(values))

    def add_model(self, entry: Json) -> None:
        self._call(lambda state: state.add_model(entry))

    def remove_model(self, model_id: str) -> None:
        self._call(lambda state: state.remove_model(model_id))

    def add_account(self, login: str, **values: Any) -> Account:
        """Add or change an account; `token` gives it a GitHub token, `host` a host of its own."""
        return self._call(lambda state: state.add_account({"login": login} | values))

    def add_app(self, issuer: str, public_key: str, installations: Json) -> None:
        """Register a GitHub App: `installations` maps numbers to `{"login": ...}`."""
        given = {"issuer": issuer, "public_key": public_key, "installations": installations}
        self._call(lambda state: control.apps(state, given))

    def approve_device(self, login: str | None = None, user_code: str | None = None) -> Json:
        """Approve the newest waiting sign-in (or that of `user_code`) as `login`."""
        given = {"login": login, "user_code": user_code}
        return self._call(lambda state: control.device_approve(state, given))

    def deny_device(self, user_code: str | None = None) -> Json:
        return self._call(lambda state: control.device_deny(state, {"user_code": user_code}))

    def expire_devices(self) -> None:
        self._call(lambda state: control.device_expire(state, {}))

    def revoke_copilot_tokens(self, login: str | None = None) -> int:
        given = {"login": login} if login else {}
        return int(self._call(lambda state: control.revoke_copilot_tokens(state, given))["revoked"])

    def revoke_github_tokens(self, login: str) -> int:
        return int(
            self._call(lambda state: control.revoke_github_tokens(state, {"login": login}))[
                "revoked"
            ]
        )

    def refuse_connections(self) -> None:
        """Stop listening and drop open connections, as a host that is down."""

        async def run() -> None:
            self._simulator.server.stop_listening()
            for connection in tuple(self._simulator.server.connections):
                connection.reset()

        self._await(run)

    def accept_connections(self) -> None:
        self._await(self._simulator.server.resume)

    # What was seen.

    @property
    def received(self) -> list[Received]:
        """Return every request received, newest last; control requests are not among them."""
        return self._call(lambda state: state.journal.since())

    @property
    def generations(self) -> list[Received]:
        """Return the requests to the generation endpoints and embeddings, newest last."""
        return [item for item in self.received if item.is_generation]

    def received_on(self, path: str) -> list[Received]:
        return [item for item in self.received if item.path == path]

    def ledger(self) -> Json:
        """Return `{"accounts": {login: {model: sums}}, "requests": [...], "total_nano_aiu"}`."""
        return self._call(metering.ledger_document)

    def account(self, login: str) -> Account:
        return self._call(lambda state: state.account(login))

    def exchanges(self, login: str) -> int:
        """Return how often the account's GitHub token was exchanged."""
        return self.account(login).exchanges

    def open_streams(self) -> int:
        return self._call(lambda state: state.journal.open_generations())

    def wait_received(self, count: int, *, path: str | None = None, seconds: float = 5.0) -> bool:
        """Wait until at least `count` requests (to `path`) arrived; tell whether they did."""
        return self._wait(
            lambda: len(self.received if path is None else self.received_on(path)) >= count, seconds
        )

    def wait_closed(self, seconds: float = 5.0) -> bool:
        """Wait until no generation request is running; tell whether that came true in time."""
        return self._wait(lambda: self.open_streams() == 0, seconds)

    def closed_within(self, seconds: float = 1.0) -> bool:
        """Tell whether, within that time from now, the client has left the newest generation."""

        def is_left() -> bool:
            generations = self.generations
            return bool(generations) and generations[-1].finished == "client_closed"

        return self._wait(is_left, seconds)

    def _wait(self, is_true: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not is_true():
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True
