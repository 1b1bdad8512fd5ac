"""What is measured, as data: a name, what is sent, how it is repeated, and the goal of each line."""

import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from benchmarks import bodies, load, processes
from benchmarks.canned import EVENTS
from benchmarks.load import Call
from benchmarks.targets import Target

Way = Literal["count", "paced", "mixed", "waiting", "held"]
CHAT, MESSAGES, RESPONSES = "/chat/completions", "/messages", "/responses"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`must` and `goal` are ratios to nginx (of rates: at least; of the rest: at most)."""

    name: str
    way: Way
    path: str
    body: bytes
    connections: int = 1
    must: float | None = None
    goal: float | None = None
    unit: str = "/s"
    in_quick: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: the value, and CPU microseconds of the target's process tree per `unit`."""

    value: float
    cpu_us: float | None = None
    memory_mib: float | None = None
    # CPU microseconds of the servers beside the target.
    beside_us: dict[str, float] = field(default_factory=dict)


SMALL = "Say hello."
SCENARIOS: tuple[Scenario, ...] = (
    Scenario("small-chat-1", "count", CHAT, bodies.chat(SMALL, stream=False), 1),
    Scenario("small-chat-16", "count", CHAT, bodies.chat(SMALL, stream=False), 16, 0.12, 0.35),
    Scenario("small-chat-64", "count", CHAT, bodies.chat(SMALL, stream=False), 64, 0.12, 0.35),
    Scenario("chat-205k", "count", CHAT, bodies.large_chat(stream=False), 8, 0.35, 0.65),
    Scenario("chat-205k-streamed", "count", CHAT, bodies.large_chat(stream=True), 8, 0.5, 0.85),
    Scenario("streams-16", "count", CHAT, bodies.chat(SMALL, stream=True), 16, 0.6, 1.0),
    Scenario("streams-64", "count", CHAT, bodies.chat(SMALL, stream=True), 64, 0.6, 1.0),
    Scenario(
        "messages-chat-16", "count", MESSAGES, bodies.messages(SMALL, stream=False), 16, 0.12, 0.35
    ),
    Scenario(
        "messages-chat-streamed",
        "count",
        MESSAGES,
        bodies.messages(SMALL, stream=True),
        16,
        0.75,
        1.0,
    ),
    Scenario(
        "messages-chat-195k", "count", MESSAGES, bodies.large_messages(stream=False), 8, 0.25, 0.45
    ),
    Scenario(
        "messages-chat-195k-streamed",
        "count",
        MESSAGES,
        bodies.large_messages(stream=True),
        8,
        0.3,
        0.5,
    ),
    Scenario(
        "messages-200k-streamed",
        "count",
        MESSAGES,
        bodies.passthrough_messages(stream=True),
        8,
        0.5,
        0.85,
    ),
    Scenario(
        "responses-200k-streamed",
        "count",
        RESPONSES,
        bodies.large_responses(stream=True),
        8,
        0.5,
        0.85,
    ),
    Scenario(
        "paced-cpu", "paced", CHAT, bodies.chat("[[pace 20]]", stream=True), 64, 2.8, 1.8, "us/event"
    ),
    Scenario(
        "mixed-lateness-p99", "mixed", CHAT, bodies.chat("[[pace 20]]", stream=True), 64, 7, 2, "ms"
    ),
    Scenario(
        "waiting-256-p99", "waiting", CHAT, bodies.chat("[[wait 200]]", stream=False), 256, 1.15, 1.0,
        "ms",
    ),
    Scenario(
        "held-100", "held", CHAT, bodies.chat("[[pace 1000]]", stream=True), 100, unit="MiB",
        in_quick=False,
    ),
    Scenario(
        "held-500", "held", CHAT, bodies.chat("[[pace 1000]]", stream=True), 500, unit="MiB",
        in_quick=False,
    ),
    Scenario("held-1000", "held", CHAT, bodies.chat("[[pace 1000]]", stream=True), 1000, unit="MiB"),
)  # fmt: skip


def measure(scenario: Scenario, target: Target, *, seconds: float) -> Figure:
    """One run of one scenario against one target. Raises `LoadFailed`."""
    call = call_of(scenario, target)
    cpu = _cpu_s(target)
    beside = {name: processes.cpu_s(pid) for name, pid in target.beside.items()}
    match scenario.way:
        case "count":
            counted = load.count(call, connections=scenario.connections, seconds=seconds)
            beside_us = {
                name: (processes.cpu_s(pid) - beside[name]) / counted.count * 1e6
                for name, pid in target.beside.items()
            }
            used = _per(target, cpu, counted.count)
            return Figure(counted.per_s, used, beside_us=beside_us)
        case "waiting":
            counted = load.count(call, connections=scenario.connections, seconds=max(seconds, 1.0))
            return Figure(counted.p99_ms, _per(target, cpu, counted.count))
        case "paced":
            rounds = max(1, round(seconds))
            load.paced(call, streams=scenario.connections, rounds=rounds)
            used = _per(target, cpu, scenario.connections * rounds * EVENTS)
            return Figure(used if used is not None else float("nan"))
        case "mixed":
            return Figure(_mixed(call, target, scenario, seconds))
        case "held":
            return _held(call, target, scenario)


def call_of(scenario: Scenario, target: Target) -> Call:
    headers = {"content-type": "application/json", **target.headers}
    if scenario.path == MESSAGES:
        headers["anthropic-version"] = "2023-06-01"
    return Call(target.url, "/v1" + scenario.path, scenario.body, headers)


def _per(target: Target, before_s: float | None, count: int) -> float | None:
    """CPU microseconds for each of `count`."""
    after_s = _cpu_s(target)
    if before_s is None or after_s is None:
        return None
    return (after_s - before_s) / count * 1e6


def _cpu_s(target: Target) -> float | None:
    return sum(map(processes.cpu_s, target.pids)) if target.pids else None


def _mixed(call: Call, target: Target, scenario: Scenario, seconds: float) -> float:
    """How late the events of paced streams are while large bodies are worked on beside them."""
    large = next(s for s in SCENARIOS if s.name == "chat-205k")
    rounds = max(1, round(seconds))
    beside = threading.Thread(
        target=load.count,
        args=(call_of(large, target),),
        kwargs={"connections": 2, "seconds": rounds * 1.2 + 0.5},
    )
    beside.start()
    time.sleep(0.3)
    try:
        return load.paced(call, streams=scenario.connections, rounds=rounds).p99_ms()
    finally:
        beside.join()


def _held(call: Call, target: Target, scenario: Scenario) -> Figure:
    held = load.Held(call, scenario.connections)
    try:
        if held.opened < scenario.connections:
            raise load.LoadFailed(f"only {held.opened} of {scenario.connections} streams opened")
        memory = sum(map(processes.memory_mib, target.pids)) if target.pids else float("nan")
    finally:
        held.end()
    return Figure(memory, memory_mib=memory)
