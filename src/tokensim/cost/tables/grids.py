"""Grids of decode and prefill attention: one measured shape, its holes filled, ready for interpolation.

Where a long context of a large batch did not fit in memory, the line of that batch goes on: decode attention
is linear in context once it is bound by memory.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tokensim.cost.tables.heads import Shape
from tokensim.workload.base import Floats


def filled(axis: Floats, values: Floats) -> Floats:
    """``values`` [rows, len(axis)] with NaN replaced: interpolated along the axis, beyond the last known one
    the line through the last two goes on; a row with a single known value is the row above it, scaled. Every
    row has a known value."""
    out = values.copy()
    for i, row in enumerate(out):
        known = np.flatnonzero(np.isfinite(row))
        if len(known) == len(row):
            continue
        x, y = axis[known], row[known]
        if len(known) >= 2:
            slope = max(0.0, (y[-1] - y[-2]) / (x[-1] - x[-2]))
            out[i] = np.interp(axis, x, y) + slope * np.maximum(axis - x[-1], 0.0)
        elif i:
            out[i] = out[i - 1] * (y[0] / out[i - 1][known[0]])
        else:
            out[i] = y[0]
    return out


class DecodeGrid:
    """Seconds of one layer of decode attention by batch and context; ``scale`` multiplies the batch (work of
    one request here, over that of one request in the table)."""

    def __init__(self, points: tuple[Floats, Floats, Floats], scale: float = 1.0) -> None:
        batch, context, seconds = points
        self.batches, b = np.unique(batch, return_inverse=True)
        self.contexts, c = np.unique(context, return_inverse=True)
        grid = np.full((len(self.batches), len(self.contexts)), np.nan)
        grid[b, c] = seconds
        self.longest = [float(self.contexts[np.isfinite(row)].max()) for row in grid]
        self.grid = filled(self.contexts, grid)
        self.scale = scale

    def line(self, requests: int) -> Floats:
        """Seconds at every context of the grid, for ``requests``; linear between batches, and beyond."""
        batch = requests * self.scale
        if len(self.batches) == 1 or batch <= self.batches[0]:
            return np.asarray(self.grid[0], float)
        i = min(bisect_left(self.batches, batch), len(self.batches) - 1)
        low, high = self.batches[i - 1], self.batches[i]
        share = (batch - low) / (high - low)
        step = self.grid[i] - self.grid[i - 1]
        if share > 1.0:
            step = np.maximum(step, 0.0)  # beyond the largest batch no noise may lead below it
        return np.asarray(self.grid[i - 1] + share * step, float)

    def covers(self, requests: int, context: float) -> bool:
        """Whether the point lies within what was measured."""
        batch = requests * self.scale
        if not self.batches[0] <= batch <= self.batches[-1] or context < self.contexts[0]:
            return False
        return context <= self.longest[bisect_left(self.batches, batch)]

    def has(self, requests: int, context: float) -> bool:
        """Whether this very point was measured."""
        return (
            self.covers(requests, context)
            and requests * self.scale in self.batches
            and context in self.contexts
        )

    def left_out_error(self) -> float | None:
        """Median relative error when a measured batch or context is left out and interpolated."""
        errors: list[Floats] = []
        for axis, grid in ((self.contexts, self.grid), (self.batches, self.grid.T)):
            if len(axis) > 2:
                share = (axis[1:-1] - axis[:-2]) / (axis[2:] - axis[:-2])
                guess = grid[:, :-2] + share * (grid[:, 2:] - grid[:, :-2])
                errors.append(np.abs(guess / grid[:, 1:-1] - 1.0).ravel())
        return float(np.median(np.concatenate(errors))) if errors else None


class PrefillGrid:
    """Work of prefill attention, from full prefills of ``tokens`` in batches of ``batch``.

    The time of a call is taken apart: ``launch`` seconds that every call pays; ``work(t)``, the seconds by
    which one more prefill of t tokens lengthens a call that fills the device; ``fill``, by how much a call of
    few rows takes longer than its work, because it does not fill the device. A query at position p costs
    what p keys cost, so t tokens after c cached ones have the work of c + t tokens less that of c. Work per
    token is linear between measured lengths, hence exact for a quadratic.
    """

    def __init__(
        self, points: tuple[Floats, Floats, Floats], scale: float = 1.0, cap: int | None = None
    ) -> None:
        times = {(int(b), int(t)): float(s) for b, t, s in zip(*points, strict=True)}
        lengths = sorted({t for _, t in times})
        self.launch = LAUNCH_SHARE * min(times.values())
        work = {t: min((s - self.launch) / b for (b, u), s in times.items() if u == t) for t in lengths}
        for shorter, longer in pairwise(lengths):
            work[longer] = max(work[longer], work[shorter])
        rates = [work[t] / t * scale for t in lengths]
        self.tokens = [0.0, *map(float, lengths)]
        self.rates = [rates[min(1, len(rates) - 1)], *rates]
        self._cap = float(cap) if cap else float("inf")
        self._slopes = [
            (b - a) / (y - x)
            for x, y, a, b in zip(self.tokens, self.tokens[1:], self.rates, self.rates[1:], strict=False)
        ]
        single = [(t, (times[1, t] - self.launch) / work[t]) for t in lengths if (1, t) in times]
        if len(single) > 1 and single[0][0] == 1:  # one token has next to no work: its share is noise
            single[0] = (1, single[1][1])
        self.fill_rows = [t / scale for t, _ in single]
        self.fill = [max(1.0, share) for _, share in single]

    # HOT PATH: the next two run for every prefill chunk of a step.

    def work(self, tokens: float) -> float:
        """Seconds of work of ``tokens`` from the start of a sequence (a query's cost never falls)."""
        x, cap = self.tokens, self._cap
        at = tokens if tokens < cap else cap
        i = bisect_left(x, at) - 1
        if i >= len(self._slopes):
            i = len(self._slopes) - 1
        elif i < 0:
            return 0.0
        slope = self._slopes[i]
        rate = self.rates[i] + slope * (at - x[i])
        work = at * rate
        if tokens > cap:  # beyond a window every query costs what the one at its end does
            work += (tokens - cap) * (rate + cap * slope)
        return work

    def slowdown(self, rows: float) -> float:
        """Time over work of a call with ``rows`` new tokens in all."""
        x, y = self.fill_rows, self.fill
        if not x or rows >= x[-1]:
            return y[-1] if y else 1.0
        if rows <= x[0]:
            return y[0]
        i = bisect_left(x, rows)
        return y[i - 1] + (y[i] - y[i - 1]) * (rows - x[i - 1]) / (x[i] - x[i - 1])


LAUNCH_SHARE = 0.9
"""Of the shortest call, the share taken as launch: the rest is the work of its one token. The median error
of the decomposition on H100's grid hardly depends on it (3.2 to 3.4 % for 0.8 to 0.95)."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Blocks of queries that walk along a context one key at a time: ``key_s`` seconds a key, ``blocks`` at a
    time on the device."""

    key_s: float
    blocks: float

    @staticmethod
    def of(single: Shape, many: Shape) -> Walk | None:
        """From prefills on a single head, which leave most of the device idle, so that their time is that of
        the last block, and from the longest prefill on ``many`` heads, which fills it."""
        path = {
            int(t): s for b, t, s in zip(*single.columns("batch", "tokens", "seconds"), strict=True) if b == 1
        }
        known = [t for t in WALKED if t in path]
        full = [(b * t, t, b, s) for b, t, s in zip(*many.columns("batch", "tokens", "seconds"), strict=True)]
        if len(known) < 2 or single.heads != 1:
            return None
        key_s = (path[known[-1]] - path[known[0]]) / (known[-1] - known[0])
        _, tokens, batch, seconds = max(full)
        walked = batch * many.heads * (tokens / BLOCK) * tokens / 2 * key_s
        return Walk(float(key_s), float(walked / seconds))


WALKED = (1024, 4096)
"""Lengths between which the walk is measured: 8 and 32 blocks, fewer than any device runs at a time."""

BLOCK = 128
"""Queries of a block (FlashAttention 2, head size 128: flash_fwd_launch_template.h)."""
