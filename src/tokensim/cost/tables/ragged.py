"""A grid of mixed attention calls: chunk tokens x cached tokens x decodes x mean context, with ragged edges.

Every level of an axis has its own points of the next axis, as profiles sample several families of grids.
Interpolation is linear along each axis; beyond the last point the last piece goes on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Row = tuple[int, int, int, int, float]
"""tokens, cached, decodes, context, seconds"""


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds at ascending contexts; without decodes a single point stands for all contexts."""

    contexts: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """One (tokens, cached): a line for each number of decodes, ascending, 0 the first."""

    decodes: tuple[float, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Slab:
    """One number of chunk tokens: a level for each number of cached tokens, ascending."""

    cached: tuple[float, ...]
    levels: tuple[Level, ...]


class Ragged:
    """The grid of mixed calls, ``tokens`` ascending with a slab each; ``completed`` counts the levels whose
    decodes were taken over from their neighbours."""

    def __init__(self, rows: Iterable[Row]) -> None:
        tree: dict[int, dict[int, dict[int, dict[int, float]]]] = {}
        for tokens, cached, decodes, context, seconds in rows:
            points = tree.setdefault(tokens, {}).setdefault(cached, {}).setdefault(decodes, {})
            points[context if decodes else 0] = seconds
        self.completed = 0
        shared: dict[tuple[float, ...], tuple[float, ...]] = {}
        slabs: list[Slab] = []
        for tokens in sorted(tree):
            by_cached = tree[tokens]
            self._complete(by_cached)
            levels = []
            for cached in sorted(by_cached):
                by_decodes = by_cached[cached]
                lines = []
                alone = by_decodes[0][0]
                for decodes in sorted(by_decodes):
                    points = _from_zero(by_decodes[decodes], alone) if decodes else by_decodes[decodes]
                    axis = tuple(float(x) for x in points)
                    lines.append(Line(shared.setdefault(axis, axis), tuple(points.values())))
                levels.append(Level(tuple(float(n) for n in sorted(by_decodes)), tuple(lines)))
            slabs.append(Slab(tuple(float(c) for c in sorted(by_cached)), tuple(levels)))
        self.tokens = tuple(float(t) for t in sorted(tree))
        self.slabs = tuple(slabs)

    def _complete(self, by_cached: dict[int, dict[int, dict[int, float]]]) -> None:
        """Give levels that were measured without (some) decodes what the nearest complete level adds for
        them; drop levels without a time for no decodes, on which nothing can be added."""
        full = max((len(by_decodes) for by_decodes in by_cached.values()), default=0)
        complete = [c for c, by_decodes in by_cached.items() if len(by_decodes) == full and 0 in by_decodes]
        for cached in [c for c, by_decodes in by_cached.items() if 0 not in by_decodes]:
            del by_cached[cached]
        for cached, by_decodes in by_cached.items():
            if len(by_decodes) == full or not complete:
                continue
            near = by_cached[min(complete, key=lambda c: (abs(c - cached), c))]
            for decodes, points in near.items():
                if decodes not in by_decodes:
                    added = by_decodes[0][0] - near[0][0]
                    by_decodes[decodes] = {x: max(s + added, by_decodes[0][0]) for x, s in points.items()}
            self.completed += 1

    # HOT PATH: a step with a prefill chunk comes here.

    def at(self, tokens: float, cached: float, decodes: float, context: float) -> float:
        """Seconds of a call."""
        axis = self.tokens
        i = bisect_left(axis, tokens)
        if i < len(axis) and axis[i] == tokens:
            return self._slab(self.slabs[i], cached, decodes, context)
        if i == 0 or len(axis) == 1:
            return self._slab(self.slabs[0], cached, decodes, context)
        if i == len(axis):
            i -= 1
        low = self._slab(self.slabs[i - 1], cached, decodes, context)
        high = self._slab(self.slabs[i], cached, decodes, context)
        return low + (high - low) * (tokens - axis[i - 1]) / (axis[i] - axis[i - 1])

    def _slab(self, slab: Slab, cached: float, decodes: float, context: float) -> float:
        axis = slab.cached
        i = bisect_left(axis, cached)
        if i < len(axis) and axis[i] == cached:
            return _level(slab.levels[i], decodes, context)
        if i == 0 or len(axis) == 1:
            return _level(slab.levels[0], decodes, context)
        if i == len(axis):
            i -= 1
        low = _level(slab.levels[i - 1], decodes, context)
        high = _level(slab.levels[i], decodes, context)
        return low + (high - low) * (cached - axis[i - 1]) / (axis[i] - axis[i - 1])


def _from_zero(points: dict[int, float], alone: float) -> dict[int, float]:
    """``points`` by ascending context, from context 0: there the first piece ends, but not below ``alone``,
    the time without decodes (some families of grids begin at contexts of 512)."""
    ascending = {x: points[x] for x in sorted(points)}
    contexts, seconds = list(ascending), list(ascending.values())
    if contexts[0] <= 0 or len(contexts) < 2:
        return ascending
    slope = (seconds[1] - seconds[0]) / (contexts[1] - contexts[0])
    start = min(max(seconds[0] - slope * contexts[0], alone), seconds[0])
    return {0: start, **ascending}


def _level(level: Level, decodes: float, context: float) -> float:
    axis = level.decodes
    i = bisect_left(axis, decodes)
    if i < len(axis) and axis[i] == decodes:
        line = level.lines[i]
        return along(line.contexts, line.seconds, context)
    if i == 0 or len(axis) == 1:
        line = level.lines[0]
        return along(line.contexts, line.seconds, context)
    if i == len(axis):
        i -= 1
    one, other = level.lines[i - 1], level.lines[i]
    low = along(one.contexts, one.seconds, context)
    high = along(other.contexts, other.seconds, context)
    return low + (high - low) * (decodes - axis[i - 1]) / (axis[i] - axis[i - 1])


def along(x: Sequence[float], y: Sequence[float], at: float) -> float:
    """Linear between ascending ``x``; the first value before them, the last piece beyond them."""
    last = len(x) - 1
    i = bisect_left(x, at)
    if i == 0 or last == 0:
        return y[0]
    if i > last:
        i = last
    low, x0 = y[i - 1], x[i - 1]
    return low + (y[i] - low) * (at - x0) / (x[i] - x0)
