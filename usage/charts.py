"""Charts as figures for inline SVG: places in percent, so that text is never stretched.

Pure functions: buckets in, rectangles and labels out. Templates draw them without computing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from usage.figures import short_tokens

GAP: Final = 0.18  # Share of a bucket that stays empty between two bars.
MAX_LABELS: Final = 8
MAX_SPARK: Final = 30
LAST_START: Final = 90  # Percent of the width from where a label would be cut off.


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a stack: `style` is its class (s1, s2, …)."""

    name: str
    style: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Rect:
    x: str
    y: str
    width: str
    height: str
    style: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """One column: its rectangles, and what the pointer is told."""

    x: str
    width: str
    label: str
    rects: list[Rect]
    said: list[tuple[str, str]]
    is_unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    place: str
    label: str
    anchor: str = "middle"


@dataclass(frozen=True, slots=True)
class Stack:
    """Stacked bars over time. Empty when every value is zero."""

    buckets: list[Bucket]
    series: list[Series]
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    peak: float
    peak_label: str
    rows: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return self.peak == 0


def nice_top(value: float) -> float:
    """The next round number at or above `value` that divides well by four."""
    if value <= 0:
        return 1
    scale = 1.0
    while value / scale > 10:
        scale *= 10
    while value / scale <= 1:
        scale /= 10
    for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10):
        if value / scale <= step + 1e-9:
            return step * scale
    return 10 * scale


def pct(value: float) -> str:
    return f"{value:.3f}%"


def stacked(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    x_labels: Sequence[tuple[int, str]],
    last_is_unfinished: bool = False,
) -> Stack:
    """Bars for each label, `series` from the bottom up; `x_labels` are (bucket, text)."""
    count = len(labels)
    totals = [sum(s.values[i] for s in series) for i in range(count)]
    peak = max(totals, default=0)
    top = nice_top(peak)
    width = 100 / max(count, 1)
    buckets = []
    for i, label in enumerate(labels):
        floor = 100.0
        rects = []
        for one in series:
            height = one.values[i] / top * 100
            if height <= 0:
                continue
            floor -= height
            rects.append(
                Rect(
                    pct(i * width + width * GAP / 2),
                    pct(floor),
                    pct(width * (1 - GAP)),
                    pct(height),
                    one.style,
                )
            )
        said = [(one.name, short_tokens(one.values[i])) for one in series]
        buckets.append(
            Bucket(
                pct(i * width),
                pct(width),
                label,
                rects,
                said,
                is_unfinished=last_is_unfinished and i == count - 1,
            )
        )
    return Stack(
        buckets,
        list(series),
        [Tick(pct(100 - part * 25), short_tokens(top * part / 4)) for part in range(5)],
        [_x_tick(place * width, text) for place, text in thin(x_labels)],
        peak,
        labels[totals.index(peak)] if peak else "",
        [(label, [f"{s.values[i]:,.0f}" for s in series]) for i, label in enumerate(labels)],
    )


def _x_tick(place: float, text: str) -> Tick:
    """A label beside its mark; near the end of the axis it stands before it."""
    return Tick(pct(place), text, "end" if place > LAST_START else "start")


def thin(labels: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Every n-th label, so that at most `MAX_LABELS` stand beside each other."""
    step = -(-len(labels) // MAX_LABELS) or 1
    return list(labels[::step])


def spark(values: Sequence[float]) -> dict[str, str] | None:
    """Points of a line and of its ground in a 100 x 32 box. None when it is flat zero."""
    if len(values) < 2 or not any(values):
        return None
    each = -(-len(values) // MAX_SPARK)
    values = [sum(values[i : i + each]) for i in range(0, len(values), each)]
    top = max(values)
    step = 100 / (len(values) - 1)
    line = " ".join(f"{i * step:.1f},{31 - v / top * 29:.1f}" for i, v in enumerate(values))
    return {"line": line, "area": f"0,32 {line} 100,32"}


@dataclass(frozen=True, slots=True)
class BurnDown:
    """The credits of a cycle in a 100 x 100 box that is stretched: used, ideal pace, forecast."""

    used: str
    pace: str
    forecast: str
    y_ticks: list[Tick]
    x_ticks: list[Tick]
    today: str


def burn_down(
    points: Sequence[tuple[float, float]],
    *,
    entitlement: float,
    days: int,
    forecast_to: tuple[float, float] | None,
) -> BurnDown:
    """`points` are (day of the cycle, credits used) in order of time."""
    top = nice_top(max([entitlement, *(used for _, used in points)], default=1))

    def place(day: float, used: float) -> str:
        return f"{day / days * 100:.2f},{100 - used / top * 100:.2f}"

    steps = [place(*points[0])] if points else []
    steps += [place(*there) for _here, there in pairwise(points)]
    last = points[-1] if points else (0.0, 0.0)
    return BurnDown(
        " ".join(steps),
        f"{place(0, 0)} {place(days, entitlement)}",
        f"{place(*last)} {place(*forecast_to)}" if forecast_to else "",
        [Tick(pct(100 - part * 25), short_tokens(top * part / 4)) for part in range(5)],
        [Tick(pct((d - 1) / days * 100), str(d), "start") for d in range(1, days + 1, 5)],
        pct(last[0] / days * 100),
    )
