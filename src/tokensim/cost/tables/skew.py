"""What unequal contexts add to a call of attention: one coefficient a number of decodes, fitted."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Skew:
    """``alpha`` at the measured numbers of decodes (linear between them); ``error`` is the median relative
    error of the corrected times, ``uncorrected`` that of the times at the mean context; None without data."""

    decodes: tuple[float, ...]
    alphas: tuple[float, ...]
    error: float | None = None
    uncorrected: float | None = None

    def alpha(self, requests: int) -> float:
        """The coefficient for ``requests`` decodes; a single one has no skew."""
        x = self.decodes
        if not x or requests < 2:
            return 0.0
        i = bisect_left(x, requests)
        if i == 0:
            return self.alphas[0]
        if i == len(x):
            return self.alphas[-1]
        y = self.alphas
        return y[i - 1] + (y[i] - y[i - 1]) * (requests - x[i - 1]) / (x[i] - x[i - 1])

    @staticmethod
    def fit(skewed: pl.DataFrame | None, *, mixed: bool) -> Skew:
        """Least squares of relative errors, over calls with chunks (``mixed``) or over those without."""
        if skewed is None:
            return Skew((), ())
        part = skewed.filter(skewed["tokens"] > 0 if mixed else skewed["tokens"] == 0)
        if part.is_empty():
            return Skew((), ())
        n = part["decodes"].to_numpy()
        mean, longest, seconds = (
            np.asarray(part[name].to_numpy(), float)
            for name in ("mean_seconds", "longest_seconds", "seconds")
        )
        span, excess = (longest - mean) / seconds, (seconds - mean) / seconds
        counts = np.unique(n)
        alphas = []
        for count in counts:
            here = n == count
            square = float(np.sum(span[here] ** 2))
            alpha = float(np.sum(span[here] * excess[here])) / square if square else 0.0
            alphas.append(min(max(alpha, 0.0), 1.0))
        corrected = np.interp(n, counts, alphas) * span - excess
        return Skew(
            tuple(float(count) for count in counts),
            tuple(alphas),
            float(np.median(np.abs(corrected))),
            float(np.median(np.abs(excess))),
        )
