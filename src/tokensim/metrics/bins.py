"""Step functions of time, told by equal intervals: the mean and the greatest value in each.

A function is given by rows that neither overlap nor go back in time: it is ``value[i]`` on
``[start[i], end[i])`` and zero elsewhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tokensim.workload.base import Floats


def interval_means(edges: Floats, start: Floats, end: Floats, value: npt.ArrayLike) -> Floats:
    """The mean over each interval between two ``edges``.

    The integral is linear between the borders of the rows, so it is read off at the edges and differenced.
    """
    if not len(start):
        return np.zeros(len(edges) - 1)
    borders = np.column_stack([start, end]).ravel()
    area = np.cumsum((end - start) * np.asarray(value, dtype=np.float64))
    integral = np.column_stack([np.concatenate([[0.0], area[:-1]]), area]).ravel()
    means: Floats = np.diff(np.interp(edges, borders, integral)) / np.diff(edges)
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
