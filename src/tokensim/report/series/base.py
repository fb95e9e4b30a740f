"""Tidy tables as plain columns: what figures are drawn from and what ``figures.json`` holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Cell = float | int | str | None
Columns = dict[str, list[Any]]
"""Name of a column → its cells (``Cell``), all columns of one length."""

DIGITS = 6
"""Significant digits of a number in a table: more than a figure shows, and the same on every machine."""


def columns(**named: Iterable[Any]) -> Columns:
    """A table from numpy arrays or lists; numbers are rounded, what is not finite becomes None."""
    return {name: cells(values) for name, values in named.items()}


def cells(values: Iterable[Any]) -> list[Any]:
    """One column, ready for JSON."""
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [_rounded(value) if isinstance(value, float) else value for value in plain]


def joined(tables: Iterable[Mapping[str, list[Any]]]) -> Columns:
    """Tables of the same columns, one under the other."""
    whole: Columns = {}
    for table in tables:
        for name, values in table.items():
            whole.setdefault(name, []).extend(values)
    return whole


def length(table: Mapping[str, list[Any]]) -> int:
    """The number of rows."""
    return len(next(iter(table.values()), []))


def rows(table: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The table row by row, as Vega-Lite wants it."""
    names = list(table)
    return [dict(zip(names, row, strict=True)) for row in zip(*table.values(), strict=True)]


def where(table: Mapping[str, list[Any]], **equal: Cell) -> Columns:
    """The rows whose cells equal those given."""
    keep = [i for i in range(length(table)) if all(table[name][i] == value for name, value in equal.items())]
    return {name: [values[i] for i in keep] for name, values in table.items()}


def _rounded(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short
