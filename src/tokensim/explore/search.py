"""The edge of what is served well: the highest load that keeps the SLO, in few runs.

A search is a generator: it asks for loads, is told a ``Verdict`` on each, and returns what it found. So it
does not know what a run is, and many searches go on at once (``together``), their runs wherever there is
room.

From a first guess the load grows or shrinks by ever larger factors until one load is met and a higher one
missed. Then the gap is narrowed by false position on the logarithms of load and of the worst figure over its
bound, and halved whenever that has moved the same side twice. **Where runs are noisy**, met and missed loads
may alternate near the edge: what is returned is the highest load met below the lowest load missed, of the
loads that were run.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

Ask = TypeVar("Ask")
Told = TypeVar("Told")
Found = TypeVar("Found")

Search: TypeAlias = Generator[Sequence[Ask], Sequence[Told], Found]
"""Asks for several runs at a time, is told what became of each, and returns what it found."""

GROWTH = 1.4
"""The first factor by which a load grows or shrinks; each later one is the square of the one before."""

LARGEST_GROWTH = 8.0

FAR = 1.0
"""Margins beyond (a factor of e from the bound) count as this: a queue without end says no more than that."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a load was ``met``. ``margin``: the logarithm of the worst figure over its bound, above 0 where
    missed (inf: no figure says how far). ``idle``: there was so little to do that no lower load does better.
    """

    met: bool
    margin: float
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """``low``: the highest load met (None: none is); ``high``: the lowest one missed (None: none was, up to
    the most that was asked for)."""

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Terms:
    """How close the two sides of the edge must come (``tolerance``, relative), among ``whole`` numbers or
    not, from ``least`` to ``most``."""

    tolerance: float = 0.02
    whole: bool = False
    least: float = 0.0
    most: float = math.inf

    def close(self, low: float, high: float) -> bool:
        """Whether nothing is left to find between the two."""
        return high <= low * (1 + self.tolerance) or (self.whole and high - low <= 1)

    def fit(self, load: float) -> float:
        """``load`` within the limits, and whole if it must be."""
        load = min(max(load, self.least), self.most)
        return float(round(load)) if self.whole else load


def find_edge(
    start: Sequence[float],
    terms: Terms,
    known: Mapping[float, Verdict] | None = None,
    growth: float = GROWTH,
) -> Search[float, Verdict, Edge]:
    """Search for the edge; the first loads are those of ``start``, all at once, unless they are ``known``.
    ``growth``: the first factor by which the load grows or shrinks."""
    seen = dict(known or {})
    first = [load for load in dict.fromkeys(map(terms.fit, start)) if load not in seen]
    if first:
        seen.update(zip(first, (yield first), strict=True))
    same_side = 0
    while True:
        low, high = _sides(seen)
        if high is not None and low is None:
            if seen[high].idle or high <= terms.least:
                return Edge(None, high)
            load, growth = terms.fit(high / growth), min(growth**2, LARGEST_GROWTH)
            load = min(load, high - 1) if terms.whole else load
        elif low is not None and high is None:
            if low >= terms.most:
                return Edge(low, None)
            load, growth = terms.fit(low * growth), min(growth**2, LARGEST_GROWTH)
            load = max(load, low + 1) if terms.whole else load
        else:
            assert low is not None and high is not None
            if terms.close(low, high):
                return Edge(low, high)
            load = _between(low, high, seen, halve=abs(same_side) >= 2, whole=terms.whole)
        (verdict,) = yield (load,)
        seen[load] = verdict
        step = 1 if verdict.met else -1
        same_side = same_side + step if same_side * step > 0 else step


def _sides(seen: Mapping[float, Verdict]) -> tuple[float | None, float | None]:
    """The highest load met below the lowest one missed, and that one."""
    high = min((load for load, verdict in seen.items() if not verdict.met), default=None)
    met = [load for load, verdict in seen.items() if verdict.met and (high is None or load < high)]
    return max(met, default=None), high


def _between(low: float, high: float, seen: Mapping[float, Verdict], *, halve: bool, whole: bool) -> float:
    """The next load to try."""
    share = 0.5
    under, over = (min(max(seen[load].margin, -FAR), FAR) for load in (low, high))
    if not halve and over > under:
        share = min(max(-under / (over - under), 0.1), 0.9)
    load = low * (high / low) ** share
    return min(max(float(round(load)), low + 1), high - 1) if whole else load


def together(searches: Sequence[Search[Ask, Told, Found]]) -> Search[Ask, Told, list[Found]]:
    """All ``searches`` at once: what they ask for is asked for together. Returns what each found."""
    found: dict[int, Found] = {}
    asked: dict[int, Sequence[Ask]] = {}
    for index, search in enumerate(searches):
        try:
            asked[index] = next(search)
        except StopIteration as end:
            found[index] = end.value
    while asked:
        told = iter((yield [ask for asks in asked.values() for ask in asks]))
        answers = {index: [next(told) for _ in asks] for index, asks in asked.items()}
        for index, answer in answers.items():
            try:
                asked[index] = searches[index].send(answer)
            except StopIteration as end:
                found[index] = end.value
                del asked[index]
    return [found[index] for index in range(len(searches))]
