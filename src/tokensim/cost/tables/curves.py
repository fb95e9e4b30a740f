"""Times against the number of rows: measured points, straight lines between them.

Lines in time, not in logarithms: on grids that double, logarithmic interpolation of a time that is flat and
then grows is up to a tenth off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.cost.base import How, Origin
from tokensim.workload.base import Floats


@dataclass(frozen=True, slots=True)
class RowCurve:
    """A ``RowTime``: seconds at ascending ``points`` (numbers of rows), linear between them.

    Below the first point the first time holds. Beyond the last the line goes on that joins the last point
    with the one at half its rows, never falling (neighbouring points of a fine grid differ by noise alone).
    ``times`` multiplies the answer (runs of the operator in a step); ``rows_factor`` the rows before looking
    up (replicas whose tokens meet in one operator). ``shape`` says how the shape is known, ``error`` its
    error.
    """

    points: Floats
    seconds_at: Floats
    source: str
    times: float = 1.0
    rows_factor: float = 1.0
    shape: How = "exact"
    error: float | None = None

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        x = np.asarray(rows, float) * self.rows_factor
        known = np.interp(x, self.points, self.seconds_at)
        beyond = np.maximum(x - self.points[-1], 0.0) * self._last_slope()
        return np.asarray((known + beyond) * self.times, float)

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        x = rows * self.rows_factor
        if self.shape == "extrapolated" or not self.points[0] <= x <= self.points[-1]:
            return Origin("extrapolated", self.source, self.error)
        if self.shape == "exact" and x in self.points:
            return Origin("exact", self.source)
        error = self.error if self.shape != "exact" else left_out_error(self.points, self.seconds_at)
        return Origin("interpolated", self.source, error)

    def _last_slope(self) -> float:
        half = min(int(np.searchsorted(self.points, self.points[-1] / 2)), len(self.points) - 2)
        if half < 0:  # a single point: in proportion
            return float(self.seconds_at[-1] / self.points[-1])
        run = self.points[-1] - self.points[half]
        return max(0.0, float((self.seconds_at[-1] - self.seconds_at[half]) / run))


@dataclass(frozen=True, slots=True)
class Covered:
    """A ``RowTime`` of zero seconds: the operator was measured inside another one."""

    source: str

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        return np.zeros(np.shape(rows))

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``."""
        return Origin("exact", self.source)


@dataclass(frozen=True, slots=True)
class Sum:
    """A ``RowTime``: several curves, one after another (layers that were measured apart)."""

    parts: tuple[RowCurve, ...]

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``."""
        return np.asarray(sum(part.seconds(rows) for part in self.parts), float)

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``: of the part that is known worst."""
        origins = [part.origin(rows) for part in self.parts]
        return max(origins, key=lambda origin: WORST.index(origin.how))


WORST: Sequence[How] = ("exact", "interpolated", "extrapolated", "fitted", "roofline")
"""How a time may be known, the best first."""


def left_out_error(points: Floats, values: Floats) -> float | None:
    """Median relative error when each inner point is interpolated from its two neighbours; None for fewer
    than three points."""
    if len(points) < 3:
        return None
    share = (points[1:-1] - points[:-2]) / (points[2:] - points[:-2])
    guess = values[:-2] + share * (values[2:] - values[:-2])
    return float(np.median(np.abs(guess / values[1:-1] - 1.0)))
