"""Inter-token latency (ITL) over every gap of a run, without a list of tokens.

A step of duration d that decodes n requests makes n gaps of d, so a row of the step log stands for an
arithmetic progression of gaps, each of weight n; the log's corrections add and remove single gaps. Counting
the gaps that are ≤ x is then one formula a row, and a quantile is found by bisecting x over the
floating-point numbers themselves: the bits of non-negative doubles, read as integers, are in the same order
as the numbers. At most 64 counts reach the exact value, and rows that the interval has left behind are
dropped on the way.

The q-quantile is the smallest gap with at least q of all gaps at or below it (numpy's ``inverted_cdf``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokensim.metrics.latency import PERCENTILES, Distribution
from tokensim.metrics.log import RunLog
from tokensim.workload.base import Floats, Ints

EQUAL_STEPS = 1e-12
"""Rows whose successive steps differ by less than this share of a step count as equal steps: a few thousand
times the spacing of doubles, so that rank and value within a row determine each other."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """All gaps of a run: ``count`` of them, ``total_s`` seconds together.

    ``point_s`` are single durations in ascending order, ``point_count`` the number of gaps up to and
    including each. ``low_s``, ``high_s``, ``steps``, ``weight`` are the progressions: ``steps`` ≥ 2 evenly
    spaced durations from low to high, each standing for ``weight`` gaps.
    """

    count: int
    total_s: float
    point_s: Floats
    point_count: Ints
    low_s: Floats
    high_s: Floats
    steps: Ints
    weight: Ints

    def quantile(self, q: float) -> float | None:
        """The smallest gap with at least ``q`` (0 to 1) of all gaps at or below it; None if there are no
        gaps.
        """
        if self.count <= 0:
            return None
        # The factor forgives q·count for rounding up past an integer (0.07·100 is 7.000000000000001).
        needed = max(1, math.ceil(q * self.count * (1 - 1e-12)))
        low_s, high_s, steps, weight = self.low_s, self.high_s, self.steps, self.weight
        ends = [a for a in (self.point_s[:1], self.point_s[-1:], low_s, high_s) if len(a)]
        below = _bits(min(float(a.min()) for a in ends)) - 1  # fewer than needed are at or below it
        above = _bits(max(float(a.max()) for a in ends))  # enough are at or below it
        passed = 0  # gaps of progressions that lie at or below `below` as a whole
        while above - below > 1:
            middle = (below + above) // 2
            x = _value(middle)
            count = passed + self._points_within(x)
            count += _progressions_within(x, low_s, high_s, steps, weight)
            if count >= needed:
                above = middle
                keep = low_s <= x
            else:
                below = middle
                keep = high_s > x
                passed += int((steps[~keep] * weight[~keep]).sum())
            if not keep.all():
                low_s, high_s, steps, weight = low_s[keep], high_s[keep], steps[keep], weight[keep]
        return _value(above)

    def within(self, seconds: float) -> int:
        """The number of gaps of at most ``seconds``."""
        return self._points_within(seconds) + _progressions_within(
            seconds, self.low_s, self.high_s, self.steps, self.weight
        )

    def distribution(self) -> Distribution:
        """The gaps in six figures."""
        if self.count <= 0:
            return Distribution(0, None, None, None, None, None, None)
        p50, p90, p95, p99 = (self.quantile(p / 100) for p in PERCENTILES)
        return Distribution(self.count, self.total_s / self.count, p50, p90, p95, p99, self.quantile(1.0))

    def _points_within(self, seconds: float) -> int:
        at = int(np.searchsorted(self.point_s, seconds, side="right"))
        return int(self.point_count[at - 1]) if at else 0


def gaps_of(log: RunLog) -> Gaps:
    """All gaps between two tokens of a request in ``log``."""
    rows = log.steps
    decode, steps = rows.what.decode, rows.what.steps
    if rows.idle is not None:
        decode = decode - rows.idle
    if log.explicit_gaps:
        decode = np.where(np.isin(rows.instance, sorted(log.explicit_gaps)), 0, decode)
    low = np.minimum(rows.first_step_s, rows.last_step_s)
    high = np.maximum(rows.first_step_s, rows.last_step_s)
    is_run = (decode > 0) & (steps > 1) & (high - low > EQUAL_STEPS * high * (steps - 1))
    is_point = (decode > 0) & ~is_run
    point_s = np.concatenate([high[is_point], log.gap_s])
    point_weight = np.concatenate([(steps * decode)[is_point], log.gap_weight])
    order = np.argsort(point_s, kind="stable")
    low, high, steps, decode = low[is_run], high[is_run], steps[is_run], decode[is_run]
    return Gaps(
        count=int(point_weight.sum() + (steps * decode).sum()),
        total_s=float((point_s * point_weight).sum() + ((low + high) * (steps * decode)).sum() / 2),
        point_s=point_s[order],
        point_count=np.cumsum(point_weight[order]),
        low_s=low,
        high_s=high,
        steps=steps,
        weight=decode,
    )


def _progressions_within(x: float, low_s: Floats, high_s: Floats, steps: Ints, weight: Ints) -> int:
    """The number of gaps ≤ ``x`` in the progressions."""
    whole = high_s <= x
    count = int((steps[whole] * weight[whole]).sum())
    part = (low_s <= x) & ~whole
    if part.any():
        low, last, weight = low_s[part], steps[part] - 1, weight[part]
        stride = (high_s[part] - low) / last
        rank = np.floor((x - low) / stride)
        rank += low + (rank + 1) * stride <= x  # the division may round past an element on either side
        rank -= low + rank * stride > x
        count += int(((np.minimum(rank.astype(np.int64), last - 1) + 1) * weight).sum())
    return count


def _bits(value: float) -> int:
    return int(np.float64(value + 0.0).view(np.int64))


def _value(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
