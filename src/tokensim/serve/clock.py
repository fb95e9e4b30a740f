"""Simulated time that passes with real time, ``scale`` times as fast."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class Clock:
    """Zero when made; ``real`` counts real seconds."""

    def __init__(self, scale: float = 1.0, real: Callable[[], float] = perf_counter) -> None:
        self.scale = scale
        self._real = real
        self._began = real()

    def now(self) -> float:
        """Simulated seconds since the start."""
        return (self._real() - self._began) * self.scale

    def at(self, real_s: float) -> float:
        """The simulated time of a moment of the real clock."""
        return (real_s - self._began) * self.scale

    def until(self, time_s: float) -> float:
        """Real seconds until the simulated ``time_s``; negative: it is over."""
        return time_s / self.scale - (self._real() - self._began)
