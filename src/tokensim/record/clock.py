"""How true the recorder's own clock is: how late it sent, and how long its event loop let things wait."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tokensim.workload.base import Floats

LATE_S = 0.005
"""Lateness at the 99th percentile above which the recorder warns. Ours: a step of a large model takes 5 to 50
ms."""

LATE_SHARE = 0.01
"""The same, as a share of the median TTFT."""

EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample of seconds: its median, 99th percentile and greatest value (0 where there is none)."""

    p50_s: float
    p99_s: float
    max_s: float

    @classmethod
    def of(cls, values: Floats | array[float]) -> Spread:
        """The spread of ``values``."""
        sample = np.asarray(values, dtype=np.float64)
        if not len(sample):
            return cls(0.0, 0.0, 0.0)
        return cls(*(float(value) for value in np.percentile(sample, (50, 99, 100))))

    def to_dict(self) -> dict[str, float]:
        """For a file; microseconds are kept."""
        return {"p50_s": round(self.p50_s, 6), "p99_s": round(self.p99_s, 6), "max_s": round(self.max_s, 6)}


@dataclass(frozen=True, slots=True)
class Trueness:
    """``lateness``: sent after it should have been; ``lag``: what the event loop let a timer wait."""

    lateness: Spread
    lag: Spread

    def warning(self, ttft_s: float | None) -> str | None:
        """What a reader must know if the recorder was too slow, else None; ``ttft_s`` is the median."""
        worst = max(self.lateness.p99_s, self.lag.p99_s)
        if worst <= LATE_S and (ttft_s is None or worst <= max(LATE_SHARE * ttft_s, TIMER_S)):
            return None
        return (
            f"the recorder was late: requests left up to {self.lateness.p99_s * 1e3:.1f} ms late (p99),"
            f" and its event loop waited up to {self.lag.p99_s * 1e3:.1f} ms (p99); give it an idle core or"
            " lower the load"
        )


TIMER_S = 0.002
"""What a timer of the event loop is late by without any load: epoll counts in milliseconds, and rounds up."""


async def sample_lag(clock: Callable[[], float], into: array[float]) -> None:
    """Put into ``into``, every 20 ms until cancelled, how late a timer was."""
    while True:
        due = clock() + EVERY_S
        await asyncio.sleep(EVERY_S)
        into.append(max(clock() - due, 0.0))
