"""16-bit GEMMs, which every engine hands to the same vendor library: several measurements of one thing.

The tables of vLLM, SGLang and TensorRT-LLM on one device differ shape by shape by the kernel that the
library's heuristics happened to pick (its version differs too), and for long kernels by the matrices'
contents: a device at its power limit multiplies easy numbers faster than real ones. H100's tables reach 0.71,
0.74 and 0.84 of the peak on kernels of 3 ms and more; all are the same multiplication. Two things follow.

* For each number of rows the median of the engines' times is taken.
* No step multiplies faster than the device does for long: the step's kernels follow each other without a
  pause, so the rate of the long kernels (again the median of the engines) bounds the short ones too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tokensim.cost.base import How
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl

LONG_S = 3e-3
"""From this duration on a kernel counts as sustained: rates stop falling between 1 and 3 ms on H100, H200,
B200 and GB200 (aiconfigurator-core 0.12, medians by duration)."""

Curve = tuple[Floats, Floats, How, float | None]
"""Rows, seconds, how the shape is known, and the error of interpolating it."""


class Grid(Protocol):
    """The GEMMs of one measurement."""

    def curve(self, n: int, k: int) -> Curve:
        """The curve of one shape."""
        ...


class Library:
    """The GEMMs of several measurements of one library; ``tables`` by engine, ``grids`` the same."""

    def __init__(self, grids: Mapping[str, Grid], tables: Mapping[str, pl.DataFrame]) -> None:
        self._grids = grids
        rates = [rate for rate in map(sustained_rate, tables.values()) if rate is not None]
        self.rate = float(np.median(rates)) if len(rates) > 1 else None
        """FLOP/s that the device sustains; None where too little was measured to tell."""

    def curve(self, n: int, k: int) -> Curve:
        """The median curve of one shape, never above the sustained rate."""
        curves = [grid.curve(n, k) for grid in self._grids.values()]
        if len(curves) == 1:
            return curves[0]
        most = min(float(rows[-1]) for rows, *_ in curves)
        rows = np.unique(np.concatenate([rows for rows, *_ in curves]))
        rows = rows[rows <= most]
        seconds = np.median([np.interp(rows, own, values) for own, values, *_ in curves], axis=0)
        if self.rate is not None:
            seconds = np.maximum(seconds, 2.0 * n * k * rows / self.rate)
        ranks: dict[How, int] = {"exact": 0, "interpolated": 1, "extrapolated": 2}
        how = sorted((how for *_, how, _ in curves), key=lambda how: ranks[how])[len(curves) // 2]
        errors = [error for *_, error in curves if error is not None]
        return rows, seconds, how, float(np.median(errors)) if errors and how != "exact" else None


def sustained_rate(table: pl.DataFrame) -> float | None:
    """The median FLOP/s of the kernels of ``table`` that last ``LONG_S`` and more; None if it has none."""
    long = table.filter(table["seconds"] >= LONG_S)
    if long.is_empty():
        return None
    m, n, k = (long[name].to_numpy().astype(float) for name in ("m", "n", "k"))
    return float(np.median(2.0 * m * n * k / long["seconds"].to_numpy()))
