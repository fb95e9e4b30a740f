"""Lines of measurements along one axis, and how far off interpolation between them can be.

Between two neighbouring points a time that bends one way lies between the chord, which is what the tables
take, and the chords on both sides prolonged into the interval: the sandwich bound for convex functions
(Rote, "The convergence rate of the sandwich algorithm", Computing 48, 1992). Where the prolonged chords meet
the bound is largest, and there the next point is measured, so that a corner (memory-bound below,
compute-bound above) is found in two points. A larger call never takes less time, which bounds the error as
well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from tokensim.profiling.shapes import Shape

Form = Literal["time", "work"]
"""What the tables interpolate linearly: the ``time`` itself, or the ``work``: time per unit of the axis, as
for the lengths of prefills (``cost.tables.grids.PrefillGrid``)."""

CLOSEST = 1.1
"""Points nearer to each other than this ratio are not parted: what happens between them is a kernel's
quantisation or noise."""

MARGIN = 0.2
"""A new point keeps this share of the interval (of its logarithm) from both ends."""

BELOW_MIDDLE = 0.382
"""Where a check lies in an interval (of its logarithm): the golden section, which no power of two hits."""

NOISE = 2.0
"""Errors below this many standard errors of the measurements around are noise."""


def _nothing(_: int) -> tuple[Shape, ...]:
    return ()


@dataclass(frozen=True, eq=False)
class Line:
    """Measurements of ``shape`` along ``axis``, of which ``shape`` has no value; ``coarse`` are those that
    are always made, ascending. ``beside`` are further shapes that a point needs, for the table to be used.
    ``refined``: whether points may be added."""

    shape: Shape
    axis: str
    coarse: tuple[int, ...]
    form: Form = "time"
    beside: Callable[[int], tuple[Shape, ...]] = field(default=_nothing, repr=False)
    refined: bool = True

    def at(self, x: int) -> Shape:
        """The shape at ``x``."""
        return self.shape.at(**{self.axis: x})

    def shapes(self, x: int) -> tuple[Shape, ...]:
        """Everything to measure for the point at ``x``, the line's own shape first."""
        return (self.at(x), *self.beside(x))

    @property
    def key(self) -> str:
        """Names the line."""
        return f"{self.shape} along {self.axis}"


@dataclass(frozen=True, slots=True)
class Point:
    """A measured point: ``noise`` is the standard error of ``seconds``, relative."""

    x: int
    seconds: float
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Gap:
    """An interval between neighbouring points: the relative ``error`` that interpolation in it may have, and
    where to measure next."""

    error: float
    x: int
    most: float
    """The error that no time between those of the ends exceeds."""


def interpolated(points: Sequence[Point], x: int, form: Form) -> float:
    """Seconds at ``x`` between ascending ``points``, as the tables take them."""
    right = next(i for i, point in enumerate(points) if point.x >= x)
    if points[right].x == x:
        return points[right].seconds
    low, high = points[right - 1], points[right]
    a, b = _value(low, form), _value(high, form)
    value = a + (b - a) * (x - low.x) / (high.x - low.x)
    return value * x if form == "work" else value


def gaps(points: Sequence[Point], form: Form) -> list[Gap]:
    """The intervals between ascending ``points`` that can be parted."""
    values = [_value(point, form) for point in points]
    slopes = [(b - a) / (q.x - p.x) for (p, a), (q, b) in pairwise(zip(points, values, strict=True))]
    found = []
    for i, slope in enumerate(slopes):
        low, high = points[i], points[i + 1]
        if high.x - low.x < 2 or high.x / low.x < CLOSEST:
            continue
        left = abs(slope - slopes[i - 1]) if i else abs(slope) if form == "time" else None
        right = abs(slope - slopes[i + 1]) if i + 1 < len(slopes) else None
        if left is None or right is None:  # at an end: as on the other side
            left = right = left if left is not None else right if right is not None else abs(slope)
        share = right / (left + right) if left + right else 0.5
        width = high.x - low.x
        off = left * share * width  # where both prolonged chords are as far from this one
        chord = values[i] + slope * share * width
        small, large = sorted((low.seconds, high.seconds))
        most = large / small - 1.0
        if form == "work":  # time per unit does not move out of its ends by more than the time does
            a, b = sorted((values[i], values[i + 1]))
            most = min(most, b / a - 1.0)
        noise = NOISE * max(point.noise for point in points[max(0, i - 1) : i + 3])
        error = max(0.0, min(off / max(chord - off, min(values[i], values[i + 1])), most) - noise)
        found.append(Gap(error, _inside(low.x + share * width, low.x, high.x), max(0.0, most - noise)))
    return found


def odd_middle(low: int, high: int) -> int:
    """A whole number strictly between both, below the geometric mean, odd where there is an odd one near."""
    x = _inside(low * (high / low) ** BELOW_MIDDLE, low, high)
    return x if x % 2 or x + 1 >= high else x + 1


def _value(point: Point, form: Form) -> float:
    return point.seconds / point.x if form == "work" else point.seconds


def _inside(wanted: float, low: int, high: int) -> int:
    """A whole number near ``wanted``, at some distance from both ends."""
    margin = (high / low) ** MARGIN
    least, most = low * margin, high / margin
    return int(min(max(round(min(max(wanted, least), most)), low + 1), high - 1))
