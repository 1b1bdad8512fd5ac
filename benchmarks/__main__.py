"""Measure: every target does every scenario, in turns; prints medians and ratios to nginx.

    python -m benchmarks [--quick] [--only NAME ...] [--peers peers.toml] [--repeat 3]

Turns are interleaved (scenario by scenario, target by target, again), so that whatever else the
machine does meets all of them alike. Only ratios within one run mean something.
"""

import argparse
import contextlib
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

from benchmarks import targets
from benchmarks.load import LoadFailed
from benchmarks.scenarios import SCENARIOS, Figure, Scenario, measure
from benchmarks.targets import Target

Results = dict[tuple[str, str], list[Figure]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of scenario names")
    parser.add_argument("--peers", type=Path, help="TOML file, see benchmarks/targets.py")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each turn (3, with --quick 1)")
    parser.add_argument(
        "--team", type=int, nargs="*", default=[], help="also teams of so many processes: 1 2 4"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of benchmarks.fill: also a gateway that has been used long",
    )
    options = parser.parse_args()
    seconds = options.seconds or (1.0 if options.quick else 3.0)
    chosen = [s for s in SCENARIOS if s.in_quick or not options.quick]
    if options.only:
        chosen = [s for s in SCENARIOS if s.name.startswith(tuple(options.only))]
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(targets.upstream())
        limit = stack.enter_context(targets.nginx(mock))
        running = [limit] if limit else []
        running.append(stack.enter_context(targets.gateway(mock)))
        if options.data:
            full = targets.gateway(mock, data=options.data.resolve())
            running.append(stack.enter_context(full))
        for config in targets.read_peers(options.peers):
            running.append(stack.enter_context(targets.peer(config, mock)))
        for processes in options.team:
            running.append(stack.enter_context(targets.team(mock, processes)))
        results = run(chosen, running, repeat=options.repeat, seconds=seconds)
    print(table(chosen, running, results))
    for line in (*beside(chosen, running, results), *grown(chosen, results)):
        print(line)


def run(chosen: list[Scenario], running: list[Target], *, repeat: int, seconds: float) -> Results:
    results: Results = defaultdict(list)
    for scenario in chosen:
        # Memory does not vary; every further turn would open a thousand streams again.
        for _ in range(1 if scenario.way == "held" else repeat):
            for target in running:
                if scenario.name in target.skip:
                    continue
                try:
                    figure = measure(scenario, target, seconds=seconds)
                except LoadFailed as error:
                    print(f"! {scenario.name} {target.name}: {error}", file=sys.stderr)
                    continue
                results[scenario.name, target.name].append(figure)
                # What the target still has to write must not count for the next one.
                time.sleep(0.3)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def table(chosen: list[Scenario], running: list[Target], results: Results) -> str:
    """Markdown: per target the median and the CPU time per answer, then ratios to nginx."""
    limit = next((t.name for t in running if t.is_limit), None)
    others = [t.name for t in running if not t.is_limit]
    head = ["scenario", "unit", *(t.name for t in running)]
    head += [f"CPU µs {t.name}" for t in running]
    if limit:
        head += [*(f"{name} ÷ nginx" for name in others), "must / goal"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for scenario in chosen:
        values = {t.name: _median(results.get((scenario.name, t.name)), "value") for t in running}
        cells = [scenario.name, scenario.unit, *(_number(values[t.name]) for t in running)]
        cells += [_number(_median(results.get((scenario.name, t.name)), "cpu_us")) for t in running]
        if limit:
            cells += [_ratio(scenario, values[name], values[limit]) for name in others]
            cells.append("" if scenario.must is None else f"{scenario.must:g} / {scenario.goal:g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def beside(chosen: list[Scenario], running: list[Target], results: Results) -> list[str]:
    """What the servers beside a team cost it, in CPU microseconds an answer."""
    lines = []
    for scenario in chosen:
        for target in running:
            figures = results.get((scenario.name, target.name), [])
            costs = {
                name: statistics.median(f.beside_us[name] for f in figures)
                for name in target.beside
                if figures and figures[0].beside_us
            }
            if costs:
                words = ", ".join(f"{name} {cost:.0f} µs" for name, cost in costs.items())
                lines.append(f"- {scenario.name}, {target.name}: {words} an answer")
    return lines


def grown(chosen: list[Scenario], results: Results) -> list[str]:
    """What a full data folder costs beside an empty one: CPU time, or the value where there is none."""
    lines = []
    for scenario in chosen:
        empty, full = (results.get((scenario.name, n)) for n in ("gateway", "gateway-full"))
        for name in ("cpu_us", "value"):
            one, other = _median(empty, name), _median(full, name)
            if one and other:
                lines.append(f"- {scenario.name}: {name} full ÷ empty {other / one:.2f}")
                break
    return lines


def _median(figures: list[Figure] | None, name: str) -> float | None:
    values = [value for f in figures or [] if (value := getattr(f, name)) is not None]
    return statistics.median(values) if values else None


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.1f}"


def _ratio(scenario: Scenario, value: float | None, limit: float | None) -> str:
    """The ratio, and whether it is the goal (✓), the must (·) or neither (✗)."""
    if not value or not limit:
        return "–"
    ratio = value / limit
    if scenario.must is None or scenario.goal is None:
        return f"{ratio:.2f}"
    more_is_better = scenario.unit == "/s"

    def reaches(bound: float) -> bool:
        return ratio >= bound if more_is_better else ratio <= bound

    sign = "✓" if reaches(scenario.goal) else "·" if reaches(scenario.must) else "✗"
    return f"{ratio:.2f} {sign}"


if __name__ == "__main__":
    main()
