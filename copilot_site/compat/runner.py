"""Plays the scenarios one after the other and keeps what came of each."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from copilot_site.compat.scenarios import Models, Scenario, Skipped, all_scenarios, choose
from copilot_site.compat.wire import Client, Mismatch


@dataclass(frozen=True, slots=True)
class Result:
    """`outcome` is ok, failed or skipped; `detail` says what was wrong or why."""

    name: str
    outcome: str
    ms: int
    detail: str = ""


def models_of(client: Client) -> Models:
    """Cheap models of the gateway. Raises `Mismatch` when it lists none."""
    data = client.get("/v1/models").ok().json().get("data")
    if not isinstance(data, list) or not data:
        raise Mismatch("GET /v1/models lists no model")
    return choose([entry for entry in data if isinstance(entry, dict)])


def play_all(client: Client, models: Models) -> Iterator[Result]:
    for scenario in all_scenarios():
        yield play(client, models, scenario)


def play(client: Client, models: Models, scenario: Scenario) -> Result:
    began = time.monotonic()
    outcome, detail = "ok", ""
    try:
        scenario.run(client, models)
    except Skipped as reason:
        outcome, detail = "skipped", str(reason)
    except Mismatch as wrong:
        outcome, detail = "failed", str(wrong)
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError) as error:
        # A shape so wrong that reading it failed: the SDK would have raised, too.
        outcome, detail = "failed", f"unreadable answer: {type(error).__name__} {error}"
    return Result(scenario.name, outcome, int((time.monotonic() - began) * 1000), detail)
