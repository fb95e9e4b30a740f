"""The recorder's clock, and how true it is: how late it sent, and how long its event loop let things wait.

A step of an engine gives a token to every stream at once, and reading a thousand of them takes tens of
milliseconds. A time taken when a stream's turn has come would charge the server for that. So times are those
at which the system said that bytes are there, for all streams together (``Stamps``).
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tokensim.selector import FineSelector
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
"""Lateness that nobody is warned of: without any load a timer is late by 0.8 ms at the 99th percentile (two
virtual cores, November 2026)."""


class Stamps(FineSelector):
    """A selector that notes when bytes were found to be there.

    What a task reads when it wakes up came with the selection before the latest: the loop hands bytes over in
    one turn, and runs those who wait for them in the next.
    """

    def __init__(self) -> None:
        super().__init__()
        self.came_s = self._latest_s = time.monotonic()
        """When the bytes came that tasks of this turn read (``time.monotonic``, as ``loop.time``)."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See ``selectors.BaseSelector``."""
        ready = super().select(timeout)
        self.came_s, self._latest_s = self._latest_s, time.monotonic()
        return ready


def runner(stamps: Stamps) -> asyncio.Runner:
    """A runner whose event loop selects with ``stamps``."""
    return asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(stamps))


@contextmanager
def no_pauses() -> Iterator[None]:
    """Keep the garbage collector from walking over all that was prepared while times are taken."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def sample_lag(clock: Callable[[], float], into: array[float]) -> None:
    """Put into ``into``, every 20 ms until cancelled, how late a timer was."""
    while True:
        due = clock() + EVERY_S
        await asyncio.sleep(EVERY_S)
        into.append(max(clock() - due, 0.0))
