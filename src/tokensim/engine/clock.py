"""Clocks that drop under sustained compute load: a device at its power limit slows down in its own time.

``heat`` is the share of time that the device spent in compute-bound GEMMs, smoothed exponentially over
``time_constant_s``; compute-bound work then takes ``1 / (1 - slowdown · heat)`` times as long. The state
moves at decisions only, at most ten times a time constant, so that step runs stay closed forms: a run ends
where the next update is due. What memory binds is not affected: its clock is its own.
"""

from __future__ import annotations

from math import exp

UPDATES = 10
"""Updates in a time constant: the smoothing is off by less than a percent of the slowdown."""


class Clock:
    """The clock of one instance's devices; ``share`` is how much longer compute-bound work takes now."""

    def __init__(self, slowdown: float, time_constant_s: float) -> None:
        self.slowdown = slowdown
        self.time_constant_s = time_constant_s
        self.share = 0.0
        self.heat = 0.0
        self.next_s = 0.0
        self._since_s = 0.0
        self._busy_s = 0.0

    def count(self, compute_s: float) -> None:
        """The device was, or will be by the next decision, bound by arithmetic for what takes ``compute_s``
        at the full clock."""
        self._busy_s += compute_s * (1.0 + self.share)

    def look(self, now: float) -> None:
        """A decision is taken at ``now``: move the state if an update is due."""
        if now < self.next_s:
            return
        elapsed = now - self._since_s
        if elapsed > 0.0:
            load = min(1.0, self._busy_s / elapsed)
            self.heat = load + (self.heat - load) * exp(-elapsed / self.time_constant_s)
            self.share = 1.0 / (1.0 - self.slowdown * self.heat) - 1.0
        self._since_s = now
        self._busy_s = 0.0
        self.next_s = now + self.time_constant_s / UPDATES
