"""The time of the host: what the engine's process does between two steps, and what of it the device hides.

A step needs ``step_s`` of the host, and ``request_s`` for each request in it: scheduling, input preparation,
sampling, output processing. With synchronous scheduling the device waits for all of it. With asynchronous
scheduling it is done while the device runs the step before, so that a step lasts as long as the longer of the
two; the device still idles ``gap_s`` between two steps (launch, copy of the sampled tokens).
"""

from __future__ import annotations

from dataclasses import dataclass

GAP_S = 0.0
"""With asynchronous scheduling the next step is queued on the device before this one ends: steps of single
streams last what their operators take, within the error of these (H100 under vLLM 0.23: 1 %)."""

STEP_S = 1.0e-3
"""Scheduling, input preparation and output processing of a step: 0.2 to 1 ms were found on vLLM V1 beyond the
operators (H100 and RTX 4090); the high end, as all of it counts where nothing hides it."""

REQUEST_S = 10e-6
"""The same for each request: Python work on a row of the batch (block table, sampling metadata, output)."""


@dataclass(frozen=True, slots=True)
class Host:
    """Seconds of host time of one instance."""

    gap_s: float
    step_s: float
    request_s: float
    asynchronous: bool

    def busy_s(self, requests: int) -> float:
        """What the host does for a step of ``requests`` (decodes and chunks)."""
        return self.step_s + self.request_s * requests

    def step(self, device_s: float, requests: int) -> float:
        """Seconds of a step that keeps the device busy for ``device_s``."""
        busy = self.step_s + self.request_s * requests
        if self.asynchronous:
            return (device_s if device_s > busy else busy) + self.gap_s
        return device_s + busy + self.gap_s


def at_least(first: float, growth: float, steps: int, least: float) -> tuple[float, float, int]:
    """A run whose steps would last ``first``, each later one ``growth`` longer, if none can last less than
    ``least``: (seconds of the first, growth, for how many of the ``steps`` that holds)."""
    if first >= least:
        if growth < 0.0 and first + growth * steps < least:
            steps = min(steps, int((first - least) / -growth) + 1)
        return first, growth, steps
    if growth > 0.0 and first + growth * steps > least:
        steps = min(steps, int((least - first) / growth) + 1)
    return least, 0.0, steps
