"""The outputs that a batch is still expected to produce, as a sum that costs nothing to keep.

A row that may produce ``r`` more counts with ``min(r, clip)``; ``r`` falls by one a decode step. With
``r = total − k`` after ``k`` decode steps the sum over those at or below the clip is linear in ``k``; a row
above it gets there at a step that is known.
"""

from __future__ import annotations

from heapq import heappop, heappush


class Remaining:
    """Sum of ``min(total − k, clip)`` over rows that come and go, for a ``k`` that never falls."""

    def __init__(self, clip: int) -> None:
        self.clip = clip
        self.n = 0
        self._k = 0
        self._below = 0
        self._below_sum = 0
        self._above: dict[int, int] = {}  # step from which on they are not above the clip → rows
        self._steps: list[int] = []  # a heap of these steps

    def add(self, total: int) -> None:
        """A row comes."""
        self.n += 1
        step = total - self.clip
        if step <= self._k:
            self._below += 1
            self._below_sum += total
            return
        rows = self._above.get(step)
        if rows is None:
            heappush(self._steps, step)
            rows = 0
        self._above[step] = rows + 1

    def remove(self, total: int) -> None:
        """A row goes."""
        self.n -= 1
        step = total - self.clip
        if step <= self._k:
            self._below -= 1
            self._below_sum -= total
        else:
            self._above[step] -= 1

    def sum_at(self, k: int) -> int:
        """The sum after ``k`` decode steps."""
        self._k = max(self._k, k)
        while self._steps and self._steps[0] <= k:
            step = heappop(self._steps)
            rows = self._above.pop(step)
            self._below += rows
            self._below_sum += rows * (step + self.clip)
        return self._below_sum - self._below * k + (self.n - self._below) * self.clip
