"""Step functions of time, told by equal intervals: the mean and the greatest value in each.

A function is given by rows that neither overlap nor go back in time: it is ``value[i]`` on
``[start[i], end[i])``, or a line from ``first[i]`` to there, and zero elsewhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokensim.workload.base import Floats


def interval_means(
    edges: Floats, start: Floats, end: Floats, value: npt.ArrayLike, first: npt.ArrayLike | None = None
) -> Floats:
    """The mean over each interval between two ``edges``: the integral up to each, differenced."""
    if not len(start):
        return np.zeros(len(edges) - 1)
    last = np.asarray(value, dtype=np.float64)
    begin = last if first is None else np.asarray(first, dtype=np.float64)
    lasts = end - start
    area = np.concatenate([[0.0], np.cumsum(lasts * (begin + last) / 2)])
    row = np.maximum(np.searchsorted(start, edges, side="right") - 1, 0)  # the last that began by then
    passed = np.clip(edges - start[row], 0.0, lasts[row])
    share = np.divide(passed, lasts[row], out=np.zeros(len(edges)), where=lasts[row] > 0)
    integral = area[row] + passed * (begin[row] + share * (last - begin)[row] / 2)
    means: Floats = np.diff(integral) / np.diff(edges)
    return means


def interval_maxima(edges: Floats, start: Floats, end: Floats, value: npt.ArrayLike) -> Floats:
    """The greatest ``value`` (≥ 0) among the rows that reach into each interval; zero where none does."""
    maxima = np.zeros(len(edges) - 1)
    if not len(start):
        return maxima
    first = np.searchsorted(end, edges[:-1], side="right")
    after = np.searchsorted(start, edges[1:], side="left")
    some = np.flatnonzero(after > first)
    if len(some):
        padded = np.append(np.asarray(value, dtype=np.float64), 0.0)  # a border may lie one past the end
        borders = np.column_stack([first[some], after[some]]).ravel()
        maxima[some] = np.maximum.reduceat(padded, borders)[::2]
    return maxima
