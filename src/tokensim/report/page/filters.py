"""Filters of a page: what is chosen restricts every figure and list that is made of the rows.

They are plain data; the script of the page applies them. A filter restricts each dataset that a figure calls
``filtered`` and that has its column; so one choice reaches all figures, and a figure needs to know of none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokensim.report.series.base import Cell, Columns, length

ROW = "row"
"""The column of ``Filters.table`` with the number of the row in ``Filters.texts``."""

FEW = 12
"""Numbers with more values than this are chosen from a range."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A choice among the ``values`` of the column ``field``, called ``label``; of a single value: a box to
    tick. Nothing chosen: all rows are shown."""

    label: str
    field: str
    values: tuple[Cell, ...]

    @property
    def kind(self) -> Literal["box", "boxes", "range"]:
        """One box; a box for each value; or the least and the greatest, of many numbers."""
        if len(self.values) == 1:
            return "box"
        return "range" if len(self.values) > FEW and all(map(is_number, self.values)) else "boxes"


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters ``by`` over the rows of ``table`` (raw values, with the column ``ROW``), which are ``what``
    (``configurations``). ``texts``: the same rows as people read them, for the numbers under figures."""

    what: str
    by: tuple[Filter, ...]
    table: Columns
    texts: Columns

    @property
    def size(self) -> int:
        """Rows in all."""
        return length(self.table)


def filter_of(label: str, field: str, column: Sequence[Any]) -> Filter | None:
    """The choice among the values of ``column``, numbers ascending, texts as they come; None if there is
    nothing to choose."""
    values = list(dict.fromkeys(column))
    if len(values) < 2:
        return None
    if all(map(is_number, values)):
        values.sort()
    return Filter(label, field, tuple(values))


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number (and no yes or no)."""
    return isinstance(value, int | float) and not isinstance(value, bool)
