"""A histogram with fixed bounds: what is added to with every token, so it does nothing but count."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import inf


class Histogram:
    """Counts of values up to each of ``bounds``, and beyond the last."""

    __slots__ = ("bounds", "counts", "largest", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        self.largest = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """One more value, or several equal ones. HOT PATH."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times
        if value > self.largest:
            self.largest = value

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, values up to it), as Prometheus wants them."""
        rows: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            running += count
            rows.append(("+Inf" if bound == inf else repr(float(bound)), float(running)))
        return rows

    def quantile(self, share: float) -> float:
        """The least bound that at least this share of the values does not exceed; never above the largest."""
        wanted, running = share * self.count, 0
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            running += count
            if running >= wanted:
                return min(bound, self.largest)
        return self.largest
