"""Scenarios: how one is written, found and chosen for a request.

A scenario is a function that changes a request's Script. It is asked for in the last text of the
user (`[[drip chunks=40]]`), through `POST /_sim/play`, or by a model entry's `scenario` key.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.journal import GENERATION_PATHS
from simulator.script import Call, Script
from simulator.state import Json, Play

Change = Callable[..., None]

EXCHANGE = "/copilot_internal/v2/token"
GENERATION = "generation"

_DIRECTIVE = re.compile(r"\[\[\s*([a-z0-9_]+)((?:\s[^\]]*)?)\]\]")


@dataclass(frozen=True, slots=True)
class Scenario:
    """`path` is where a play without a path of its own applies; `about` is one line for people."""

    name: str
    change: Change
    path: str
    about: str


SCENARIOS: dict[str, Scenario] = {}


class UnknownScenario(Exception):
    """No scenario has that name, or it does not take those arguments."""


def scenario(name: str, *, path: str = GENERATION) -> Callable[[Change], Change]:
    """Register a function `change(script, **args)` as the scenario of that name."""

    def register(change: Change) -> Change:
        about = (change.__doc__ or "").strip().splitlines()[0]
        SCENARIOS[name] = Scenario(name, change, path, about)
        return change

    return register


def apply(script: Script, name: str, args: Json) -> None:
    """Let the scenario change the script; positional arguments come as `args["*"]`."""
    known = SCENARIOS.get(name)
    if known is None:
        raise UnknownScenario(name)
    named = {key: value for key, value in args.items() if key != "*"}
    script.is_fast = False
    script.names.append(name)
    try:
        known.change(script, *args.get("*", []), **named)
    except (TypeError, ValueError) as error:
        raise UnknownScenario(f"{name}: {error}") from error


def parse_directives(text: str) -> list[tuple[str, Json]]:
    """Return the scenarios that a text asks for, in order."""
    if "[[" not in text:
        return []
    return [(match[1], parse_args(match[2])) for match in _DIRECTIVE.finditer(text)]


def parse_args(text: str) -> Json:
    """Read `429 retry_after=3 body="a b"` into named and (under `*`) positional arguments."""
    args: Json = {}
    try:
        words = shlex.split(text)
    except ValueError:
        # A lone quotation mark; take the words as they stand.
        words = text.split()
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            args[name] = _value(value)
        else:
            args.setdefault("*", []).append(_value(word))
    return args


def _value(word: str) -> Any:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.lower() in ("none", "null"):
        return None
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def choose(call: Call, user_text: str, model_scenario: str | None) -> Script:
    """Return the script of a request: what its text asks for, else its model, else the plays."""
    script = Script()
    directives = parse_directives(user_text)
    if not directives and model_scenario:
        directives = parse_directives(f"[[{model_scenario}]]")
    for name, args in directives:
        if _may_repeat(call, user_text, name, args):
            args = {key: value for key, value in args.items() if key != "times"}
            try:
                apply(script, name, args)
            except UnknownScenario:
                # A text may hold brackets by chance; only the control endpoint complains.
                continue
    if not script.names:
        play = _take_play(call)
        if play is not None:
            apply(script, play.scenario, play.args)
    return script


def _may_repeat(call: Call, user_text: str, name: str, args: Json) -> bool:
    """Count a directive's uses by its whole text, so that `times=1` spares the retry."""
    times = args.get("times")
    if not isinstance(times, int):
        return True
    key = f"{name}|{user_text}"
    used = call.state.directive_uses.get(key, 0)
    call.state.directive_uses[key] = used + 1
    return used < times


def _take_play(call: Call) -> Play | None:
    """Take the play for this request: counted plays in their order, then the newest lasting one."""
    plays = call.state.plays
    if not plays:
        return None
    counted = [play for play in plays if play.times is not None]
    lasting = [play for play in reversed(plays) if play.times is None]
    for play in counted + lasting:
        if not _matches(call, play) or call.state.random.random() >= play.probability:
            continue
        if play.times is not None:
            play.times -= 1
            if play.times <= 0:
                plays.remove(play)
        return play
    return None


def _matches(call: Call, play: Play) -> bool:
    # A stale connection is one that served before; the first request on it does not count.
    if play.scenario == "stale_connection" and call.request.number_on_connection < 2:
        return False
    path = play.path or SCENARIOS[play.scenario].path
    if path == GENERATION:
        fits = call.request.path in GENERATION_PATHS
    elif path.endswith("*"):
        fits = call.request.path.startswith(path[:-1])
    else:
        fits = call.request.path == path
    if not fits or (play.login is not None and call.received.login != play.login):
        return False
    return play.model is None or call.received.model == play.model


def make_play(document: Json) -> Play:
    """Read `{"scenario", "args", "times", "match", "probability"}`; raises UnknownScenario."""
    name = str(document.get("scenario", ""))
    args = dict(document.get("args") or {})
    apply(Script(), name, args)
    match = document.get("match") or {}
    unknown = set(match) - {"path", "login", "model"}
    if unknown:
        raise UnknownScenario(f"match: {', '.join(sorted(unknown))}")
    times = document.get("times")
    return Play(
        scenario=name,
        args=args,
        times=None if times is None else int(times),
        path=match.get("path"),
        login=match.get("login"),
        model=match.get("model"),
        probability=float(document.get("probability", 1.0)),
    )
