"""Many rounds of a pipeline at once, while each round goes as the one before.

When a step is scheduled, prepared, and taken by each stage is the later one of two moments (``ahead.py``).
In a steady state it is the same one in every round: the stage that sets the pace is never idle, the others
wait for it. Supposing that, every moment is one earlier moment plus a few durations, so that along a round
there are sums but no maxima, and a column of rounds is a running sum. What was supposed is then checked, for
all rounds: they count up to the first one in which some other moment was later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tokensim.workload.base import Floats

Add = float | Floats


@dataclass(frozen=True, slots=True)
class Link:
    """A moment is the moment number ``node`` of ``back`` rounds before, and then ``adds``, in this order."""

    node: int
    back: int
    adds: tuple[Add, ...] = ()


@dataclass(slots=True)
class Round:
    """One round: each moment (by number) is the latest of its ``links``, the first of which is supposed to
    be that in all ``rounds``.

    ``before[n]`` are the values of moment ``n`` in the last rounds that are known, the last one last.
    """

    links: list[list[Link]]
    before: list[Sequence[float]]
    rounds: int
    _values: dict[int, Floats] = field(init=False, default_factory=dict)

    def solve(self) -> tuple[list[Floats], int] | None:
        """The values of all moments by round, and for how many rounds they hold; None: what sets the pace is
        not found within one round."""
        for node in range(len(self.links)):
            if not self._reach(node):
                return None
        good = np.ones(self.rounds, bool)
        for node, (_, *others) in enumerate(self.links):
            for other in others:
                good &= self._values[node] >= self.after(other)
        holds = self.rounds if good.all() else int(np.argmin(good))
        return [self._values[node] for node in range(len(self.links))], holds

    def after(self, link: Link) -> Floats:
        """The moments that ``link`` leads to."""
        values = self._values[link.node]
        if link.back:
            values = np.concatenate([self.before[link.node][-link.back :], values])[: self.rounds]
        for add in link.adds:
            values = values + add
        return values

    def _reach(self, node: int) -> bool:
        """Find the values of ``node``, by way of those that it follows."""
        path: list[int] = []
        while node not in self._values:
            if node in path:
                circle = path[path.index(node) :]
                crossings = [at for at, n in enumerate(circle) if self.links[n][0].back]
                if len(crossings) != 1 or self.links[circle[crossings[0]]][0].back != 1:
                    return False
                last = crossings[0] + 1
                self._go_around(circle[last:] + circle[:last])
                return self._reach(path[0])
            path.append(node)
            node = self.links[node][0].node
        for known in reversed(path):
            self._values[known] = self.after(self.links[known][0])
        return True

    def _go_around(self, circle: list[int]) -> None:
        """Find the first moment of ``circle``, each of which follows the next one, and the last one the first
        of the round before: a running sum, added up in the order in which it comes to be."""
        adds = [add for node in reversed(circle) for add in self.links[node][0].adds]
        table = np.empty((self.rounds, len(adds)))
        for number, add in enumerate(adds):
            table[:, number] = add
        sums = np.cumsum(np.concatenate([self.before[circle[0]][-1:], table.ravel()]))
        self._values[circle[0]] = sums[len(adds) :: len(adds)]
