"""Requests of real clients with one thing wrong in them, wherever it is."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from simulator.testing import SimulatorThread
from tests.clients.test_recorded_requests import RECORDED
from tests.conftest import Gateway

WRONG: tuple[Any, ...] = (
    *(None, 3, -1, 1.5, True, "x", "", "a" * 70_000),
    *([], {}, [None], [3], [[]], [{}], {"a": 1}),
)
# Each body is tried on a model that speaks its format and on those it is translated for.
MODELS = ("gpt-4.1", "claude-sonnet-5", "gpt-5.5")
TRIES = 4


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a body; of long lists only what begins them."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:4]):
            yield from places(inner, (*at, index))


def spoilt(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The body with a field left out, or of another type."""
    *way, last = rng.choice(list(places(body)))
    changed = copy.deepcopy(body)
    if "model" in changed:
        changed["model"] = rng.choice(MODELS)
    within: Any = changed
    for step in way:
        within = within[step]
    if rng.random() < 0.2:
        del within[last]
    else:
        within[last] = rng.choice(WRONG)
    return changed


def recorded() -> Iterator[Any]:
    for path in sorted(RECORDED.glob("*/*.json")):
        asked = json.loads(path.read_text())["request"]
        if asked["method"] == "POST" and isinstance(asked["body"], dict):
            yield pytest.param(asked, id=f"{path.parent.name}/{path.stem}")


@pytest.mark.parametrize("asked", list(recorded()))
def test_i05_one_wrong_field_anywhere_is_answered_and_never_a_500(
    gateway: Gateway, simulator: SimulatorThread, asked: dict[str, Any]
) -> None:
    rng = random.Random(json.dumps(asked["body"]))
    with gateway.client() as client:
        for _ in range(TRIES):
            body = spoilt(asked["body"], rng)
            answer = client.post(asked["path"], params=asked["query"], json=body)
            if answer.status_code == 200:
                continue
            # What passes through is refused by the upstream.
            assert answer.status_code in (400, 404, 413), (body, answer.text)
            assert answer.json()["error"]["message"]
