"""How one call is timed: warm-up until stable, repeats until the median is known, outliers left out.

A *sample* is a row of calls timed together, long enough for the clock. Samples are drawn until the confidence
interval of their median is narrow enough, or the cap is reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from statistics import median

from tokensim.profiling.bench import Measurement

Sample = Callable[[int], float]
"""Seconds that so many calls took together."""

MAD_TO_SD = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation."""

OUTLIER = 3.5
"""Modified z-score beyond which a sample is left out (Iglewicz and Hoaglin, "How to Detect and Handle
Outliers", 1993)."""

Z = 1.96
"""Of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When to stop: ``sample_s`` is the least length of a sample, ``width`` the relative half width of the
    median's confidence interval that is enough, from ``least`` samples on; at ``most`` samples or ``cap_s``
    seconds it ends in any case."""

    sample_s: float = 200e-6
    width: float = 0.01
    least: int = 5
    most: int = 60
    cap_s: float = 1.0
    warm_up_s: float = 0.3

    def expected_s(self, seconds: float) -> float:
        """What timing a call of ``seconds`` takes, about: warm-up and the least number of samples."""
        sample = max(self.sample_s, seconds)
        repeats = min(20, max(3, self.cap_s / sample))
        return (2.0 + repeats) * sample


def timed(sample: Sample, policy: Policy, clock: Callable[[], float] = time.perf_counter) -> Measurement:
    """The time of a call by ``policy``; at least three samples are drawn, however long they are."""
    began = clock()
    once = _warm(sample, policy, clock)
    calls = max(1, ceil(policy.sample_s / once))
    drawn: list[float] = []
    started = clock()
    while True:
        drawn.append(sample(calls) / calls)
        if len(drawn) < 3:
            continue
        enough = len(drawn) >= policy.least and half_width(drawn) <= policy.width
        if enough or len(drawn) >= policy.most or clock() - started >= policy.cap_s:
            break
    kept = without_outliers(drawn)
    middle = median(kept)
    return Measurement(
        seconds=middle,
        spread=spread(kept),
        noise=half_width(kept) / Z,
        samples=len(kept),
        rejected=len(drawn) - len(kept),
        cost_s=clock() - began,
    )


def _warm(sample: Sample, policy: Policy, clock: Callable[[], float]) -> float:
    """Call until two samples in a row differ by less than a tenth (or the time for it is up); the last."""
    began = clock()
    before = sample(1)
    while True:
        now = sample(1)
        if abs(now - before) <= 0.1 * before or clock() - began >= policy.warm_up_s:
            return max(now, 1e-9)
        before = now


def without_outliers(values: Sequence[float]) -> list[float]:
    """``values`` without those whose modified z-score is beyond ``OUTLIER``."""
    middle = median(values)
    deviation = MAD_TO_SD * median(abs(value - middle) for value in values)
    if deviation == 0.0:
        return [value for value in values if value == middle]
    return [value for value in values if abs(value - middle) <= OUTLIER * deviation]


def spread(values: Sequence[float]) -> float:
    """The relative standard deviation, from the median absolute deviation."""
    middle = median(values)
    return MAD_TO_SD * median(abs(value - middle) for value in values) / middle


def half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the median, relative to it; by order statistics
    (Conover, "Practical Nonparametric Statistics", 1999, section 3.2), which need no distribution."""
    ordered, count = sorted(values), len(values)
    low = max(0, floor((count - Z * sqrt(count)) / 2.0))
    high = min(count - 1, ceil((count + Z * sqrt(count)) / 2.0))
    return (ordered[high] - ordered[low]) / 2.0 / median(ordered)
