"""GEMMs from measured tables: a shape off the grid is interpolated through efficiency, never through time.

Time grows with n·k by orders of magnitude between two grid lines, the share of the roofline that a kernel
reaches hardly changes: that share is interpolated, linearly over log n and log k, for every measured number
of rows. Between those, time is linear in rows, so that the plateau of a memory-bound GEMM stays one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tokensim.cost.base import How, Setting
from tokensim.cost.tables.curves import RowCurve
from tokensim.cost.tables.formats import table_formats
from tokensim.cost.tables.library import Library
from tokensim.cost.work import compute_dtype
from tokensim.model import dtypes
from tokensim.model.operators import Gemm
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl

SIXTEEN_BIT = ("bfloat16", "float16")

UNUSUAL = 0.1
"""How far beyond both its neighbours a grid point counts when a shape is interpolated (any value from 0 to
0.1 lowers the mean left-out error on H100's bfloat16 grid, from 5.6 to 5.3-5.4 %; 0.1 leaves fp8 as it
is)."""


HOST_BOUND = 16.0
"""A dtype whose fastest GEMM takes this many times that of the fastest dtype was timed while the host
launched it, which a CUDA graph hides: it is left out (block-scaled fp8 under vLLM 0.24 never takes less than
55 µs on H100, 22 times as long as bfloat16; where kernels alone were timed the ratio is 7 at most)."""


class GemmTable:
    """The GEMMs of one profile; ``table`` has the columns of ``gemm``, ``elsewhere`` those of
    ``gemm_elsewhere``."""

    def __init__(
        self, table: pl.DataFrame, setting: Setting, source: str, elsewhere: pl.DataFrame | None = None
    ) -> None:
        self.setting = setting
        self._elsewhere = elsewhere
        self.source = source
        parts = {str(key[0]): part for key, part in table.partition_by("dtype", as_dict=True).items()}
        fastest = {name: float(np.min(part["seconds"].to_numpy())) for name, part in parts.items()}
        limit = HOST_BOUND * min(fastest.values())
        self._by_dtype = {name: part for name, part in parts.items() if fastest[name] < limit}
        self._libraries: dict[str, Library] = {}

    def price(self, op: Gemm) -> RowCurve | None:
        """The time of ``op``; None where its dtype was not measured."""
        dtype = dtypes.weight_dtype(op.weight_dtype)
        name = next((n for n in table_formats(dtype) if n in self._by_dtype), None)
        if name is None:
            return None
        if name not in self._libraries:
            self._libraries[name] = self._library(name, dtype)
        points, seconds, how, error = self._libraries[name].curve(op.n, op.k)
        return RowCurve(points, seconds, self.source, float(op.count), shape=how, error=error)

    def _library(self, name: str, dtype: str) -> Library:
        """The measurements of the table's dtype ``name``: this engine's, and the others' of a library."""
        tables = {"": self._by_dtype[name]}
        if self._elsewhere is not None and name in SIXTEEN_BIT:
            own = self._elsewhere.filter(self._elsewhere["dtype"].is_in(SIXTEEN_BIT))
            parts = own.partition_by("engine", as_dict=True)
            tables.update({str(key[0]): part for key, part in parts.items()})
        rates = self._rates(dtype)
        return Library({engine: _Grid(part, rates) for engine, part in tables.items()}, tables)

    def _rates(self, dtype: str) -> tuple[float, float, float]:
        """FLOP/s, bytes/s and bytes of a weight of the ideal that efficiency refers to."""
        device = self.setting.device
        flops = device.flops[compute_dtype(device, dtype, self.setting.activation_dtype)]
        return flops, device.memory_bandwidth_bytes_per_s, dtypes.BYTES[dtype]


class _Grid:
    """Efficiencies of one dtype on the grid of n x k x m; what was not measured is NaN."""

    def __init__(self, table: pl.DataFrame, rates: tuple[float, float, float]) -> None:
        self.n, n = np.unique(table["n"].to_numpy(), return_inverse=True)
        self.k, k = np.unique(table["k"].to_numpy(), return_inverse=True)
        self.m, m = np.unique(table["m"].to_numpy(), return_inverse=True)
        self.rates = rates
        self.seconds = np.full((len(self.n), len(self.k), len(self.m)), np.nan)
        self.seconds[n, k, m] = table["seconds"].to_numpy()
        rows = self.m.astype(float)
        self.filled = _between(rows, self.seconds)
        self.efficiency = np.empty_like(self.seconds)
        for i, wide in enumerate(self.n):
            for j, deep in enumerate(self.k):
                self.efficiency[i, j] = self._ideal(float(wide), float(deep), rows) / self.filled[i, j]

    def curve(self, n: int, k: int) -> tuple[Floats, Floats, How, float | None]:
        """Rows, seconds, how the shape is known, and the error of interpolation around it."""
        i, j = np.searchsorted(self.n, n), np.searchsorted(self.k, k)
        if i < len(self.n) and j < len(self.k) and self.n[i] == n and self.k[j] == k:
            seconds = self.seconds[i, j]
            known = np.isfinite(seconds)
            if known.any():
                return self.m[known].astype(float), seconds[known], "exact", None
        inside = self.n[0] <= n <= self.n[-1] and self.k[0] <= k <= self.k[-1]
        efficiency = self._at(n, k)
        known = np.isfinite(efficiency)
        rows = self.m[known].astype(float)
        seconds = self._ideal(float(n), float(k), rows) / efficiency[known]
        return rows, seconds, "interpolated" if inside else "extrapolated", self._error(n, k)

    def _ideal(self, n: float, k: float, m: Floats) -> Floats:
        flops, bandwidth, weight_bytes = self.rates
        traffic = n * k * weight_bytes + (n + k) * m * 2.0  # activations of 16 bits in and out
        return np.asarray(np.maximum(2.0 * m * n * k / flops, traffic / bandwidth), float)

    def _at(self, n: int, k: int) -> Floats:
        """Efficiency at every m: bilinear over log n and log k, that of the border beyond the grid. A missing
        corner is left out and the others weigh more."""
        total, weight = np.zeros(len(self.m)), np.zeros(len(self.m))
        for i, wi in _around(self.n, n):
            for j, wj in _around(self.k, k):
                corner = self._usual(i, j)
                known = np.isfinite(corner)
                total[known] += wi * wj * corner[known]
                weight[known] += wi * wj
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(weight > 0, total / weight, np.nan), float)

    def _usual(self, i: int, j: int) -> Floats:
        """Efficiency of a grid point without outliers: now and then a library picks a kernel for one shape
        that is far from what both its neighbours in n get, and a shape between need not share it."""
        own = self.efficiency[i, j]
        if not 0 < i < len(self.n) - 1:
            return np.asarray(own, float)
        sides = self.efficiency[i - 1, j], self.efficiency[i + 1, j]
        low, high = np.fmin(*sides) * (1 - UNUSUAL), np.fmax(*sides) * (1 + UNUSUAL)
        return np.asarray(np.where(np.isnan(low), own, np.clip(own, low, high)), float)

    def _error(self, n: int, k: int) -> float | None:
        """Median error when the measured lines around (n, k) are each left out and interpolated."""
        errors: list[Floats] = []
        for axis, value, other in ((0, n, k), (1, k, n)):
            lines, others = (self.n, self.k) if axis == 0 else (self.k, self.n)
            if value in lines:
                continue
            middle = int(np.clip(np.searchsorted(lines, value), 1, len(lines) - 2)) if len(lines) > 2 else 0
            if not middle:
                continue
            o = int(np.argmin(np.abs(np.log(others / other))))
            grid = self.efficiency[:, o] if axis == 0 else self.efficiency[o]
            low, at, high = np.log(lines[middle - 1 : middle + 2].astype(float))
            share = (at - low) / (high - low)
            guess = grid[middle - 1] * (1 - share) + grid[middle + 1] * share
            errors.append(np.abs(grid[middle] / guess - 1.0))
        found = np.concatenate(errors) if errors else np.empty(0)
        found = found[np.isfinite(found)]
        return float(np.median(found)) if len(found) else None


def _between(rows: Floats, seconds: Floats) -> Floats:
    """``seconds`` with the numbers of rows that a shape lacks between two that it has: linear, as everywhere.
    Profiles refine each shape where it bends, so that shapes have few rows in common."""
    filled = seconds.copy()
    for line in filled.reshape(-1, len(rows)):
        known = np.flatnonzero(np.isfinite(line))
        if len(known) > 1 and len(known) <= known[-1] - known[0]:
            inside = slice(known[0], known[-1] + 1)
            line[inside] = np.interp(rows[inside], rows[known], line[known])
    return filled


def _around(lines: Floats, value: int) -> list[tuple[int, float]]:
    """The one or two grid lines around ``value`` and their weights (linear in the logarithm)."""
    i = int(np.searchsorted(lines, value))
    if i < len(lines) and lines[i] == value:
        return [(i, 1.0)]
    if i == 0 or i == len(lines):
        return [(min(i, len(lines) - 1), 1.0)]
    share = float(np.log(value / lines[i - 1]) / np.log(lines[i] / lines[i - 1]))
    return [(i - 1, 1.0 - share), (i, share)]
