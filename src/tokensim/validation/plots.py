"""Small plots as inline SVG: distributions laid over each other, measured against simulated, both over time.

No script and no fonts of its own: colours come from the page (classes ``measured``, ``simulated``, ``axis``),
so that it follows light and dark, prints, and opens anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokensim.report.numbers import count, duration
from tokensim.validation.over_time import Shown
from tokensim.workload.base import Floats

WIDTH, HEIGHT = 340, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 26, 30
POINTS = 1500
"""A scatter shows at most so many requests, evenly picked."""
QUANTILES = 200
"""Corners of a distribution's line."""
LOG_FROM = 20.0
"""An axis is logarithmic when its ends are further apart than this factor."""


GAP = 4
"""A line over time goes over up to so many intervals without a value less one (a poll that was missed, a
pause in the arrivals)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, values: Floats) -> Floats:
        """Pixels of ``values``, those outside on the edge."""
        inside = np.clip(values, self.low, self.high)
        if self.log:
            share = np.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """A few round values on the axis."""
        if self.log:
            low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            mantissas = (1,) if high - low > 3 else (1, 3) if high - low > 1 else (1, 2, 5)
            values = [m * 10.0**e for e in range(low, high + 1) for m in mantissas]
        else:
            raw = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(raw))
            step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
            first = math.ceil(self.low / step)
            values = [k * step for k in range(first, math.floor(self.high / step) + 1)]
        return [value for value in values if self.low <= value <= self.high]


def distribution_plot(title: str, measured: Floats, simulated: Floats) -> str:
    """The share of requests (y) at or below a time (x), both sides; the axis ends at the 99.5th
    percentile."""
    x = _axis((measured, simulated), LEFT, WIDTH - RIGHT)
    y = Axis(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    shares = np.linspace(0.0, 1.0, QUANTILES + 1)
    lines = [
        f'<path class="line {name}" d="{_line(x.at(np.quantile(values, shares)), y.at(shares))}"/>'
        for name, values in (("measured", measured), ("simulated", simulated))
    ]
    return _svg(title, x, y, lines, lambda value: f"{value:.0%}")


def scatter_plot(title: str, measured: Floats, simulated: Floats) -> str:
    """A dot a request: measured (x) against simulated (y), and the diagonal on which they would be equal."""
    both = (measured, simulated)
    x, y = _axis(both, LEFT, WIDTH - RIGHT), _axis(both, HEIGHT - BOTTOM, TOP)
    inside = (x.low <= measured) & (measured <= x.high) & (y.low <= simulated) & (simulated <= y.high)
    measured, simulated = measured[inside], simulated[inside]
    picked = np.linspace(0, len(measured) - 1, min(len(measured), POINTS)).astype(int)
    dots = "".join(
        f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.at(measured[picked]), y.at(simulated[picked]), strict=True)
    )
    parts = [
        f'<path class="dots simulated" d="{dots}"/>',
        f'<path class="diagonal" d="M{x.start} {y.start}L{x.end} {y.end}"/>',
    ]
    return _svg(title, x, y, parts, duration)


def time_plot(title: str, time_s: Floats, measured: Floats, simulated: Floats, shown: Shown) -> str:
    """Both sides (y) over time (x, seconds from the first arrival); a line ends where a side says nothing."""
    sides = [side[~np.isnan(side)] for side in (measured, simulated)]
    most = max((float(side.max()) for side in sides if len(side)), default=0.0)
    x = Axis(0.0, float(time_s[-1] + time_s[0]), LEFT, WIDTH - RIGHT)
    y = Axis(0.0, most * 1.05 or 1.0, HEIGHT - BOTTOM, TOP)
    lines = [
        f'<path class="line {name}" d="{_broken(x.at(time_s), y.at(side), np.isnan(side))}"/>'
        for name, side in (("measured", measured), ("simulated", simulated))
    ]
    return _svg(title, x, y, lines, WRITTEN[shown])


WRITTEN: Mapping[Shown, Callable[[float], str]] = {
    "duration": duration,
    "count": count,
    "share": lambda value: f"{value:.0%}",
}
"""How a value of the y axis is written."""


def _broken(xs: Floats, ys: Floats, missing: npt.NDArray[np.bool_]) -> str:
    """A line through what is there; over a gap of several points it is not drawn."""
    there = np.flatnonzero(~missing)
    parts, before = [], -GAP - 1
    for i in there.tolist():
        near = i - before <= GAP
        parts.append(f"{'L' if near else 'M'}{xs[i]:.1f} {ys[i]:.1f}" + ("" if near else "h0.01"))
        before = i
    return "".join(parts)


def _axis(sides: Sequence[Floats], start: float, end: float) -> Axis:
    """One axis for both sides, without the outermost half per cent."""
    together = np.concatenate(sides)
    low, high = (float(v) for v in np.quantile(together, (0.005, 0.995)))
    if high <= 0 or low == high:
        low, high = 0.0, max(high, 1e-9) * 1.1
    log = low > 0 and high / low > LOG_FROM
    if not log:
        low = 0.0 if low < high / 2 else low - (high - low) * 0.05
    return Axis(low, high, start, end, log)


def _line(xs: Floats, ys: Floats) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))


def _svg(title: str, x: Axis, y: Axis, parts: Sequence[str], shown: Callable[[float], str]) -> str:
    """The drawing with its axes; ``shown`` writes a value of the y axis."""
    frame = [f'<path class="axis" d="M{x.start} {y.end}V{y.start}H{x.end}"/>']
    for value, pixel in zip(x.ticks(), x.at(np.array(x.ticks())), strict=True):
        frame.append(f'<path class="grid" d="M{pixel:.1f} {y.start}V{y.end}"/>')
        frame.append(
            f'<text x="{pixel:.1f}" y="{y.start + 16}" text-anchor="middle">{duration(value)}</text>'
        )
    for value, pixel in zip(y.ticks(), y.at(np.array(y.ticks())), strict=True):
        frame.append(f'<path class="grid" d="M{x.start} {pixel:.1f}H{x.end}"/>')
        frame.append(f'<text x="{x.start - 6}" y="{pixel + 4:.1f}" text-anchor="end">{shown(value)}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f'<text class="title" x="{LEFT}" y="15">{title}</text>{"".join(frame)}{"".join(parts)}</svg>'
    )
