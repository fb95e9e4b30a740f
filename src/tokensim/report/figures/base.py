"""A figure: a Vega-Lite specification, the data it draws, and the words and numbers that go with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tokensim.report.figures.theme import config
from tokensim.report.series.base import Columns, rows

Spec = dict[str, Any]
"""Vega-Lite 6, as plain dicts."""

Size = Literal["small", "normal", "wide"]

VEGA_LITE = "6.4"
"""The version of Vega-Lite that specifications are written for, as ``vl_convert`` names it."""

FILE_WIDTH = 640
"""Pixels of the plotting area in a file; in a page it is as wide as there is room."""

NUMBER_ROWS = 48
"""Rows of the numbers behind a figure that a page lists."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    ``name`` is its file name and anchor (lower case, hyphens). ``description`` says what is drawn and how to
    read it; screen readers get it, and so does the caption. ``spec`` is Vega-Lite without data, width and
    configuration: it refers to the ``datasets`` by name. ``numbers`` are what a table beside it lists, as
    text or numbers. ``note`` is what to mind (that a sample is drawn, say). ``timed``: x is simulated time
    under a parameter ``time`` that pans and zooms; ``by_instance``: a parameter ``shown`` picks the instance
    (null: all). ``filtered``: the datasets whose rows the filters of a page choose among; the numbers are
    then those of the rows that are drawn by the layer ``numbered`` (default: of all that are chosen).
    """

    name: str
    title: str
    description: str
    spec: Spec
    datasets: dict[str, Columns]
    numbers: Columns
    note: str = ""
    timed: bool = False
    by_instance: bool = False
    size: Size = "normal"
    """The room that it wants on a page: a third, a half or the whole of its width."""
    filtered: tuple[str, ...] = ()
    numbered: str = ""
    least_width: int = 0
    """Pixels that it needs to be readable; on a narrower page it scrolls sideways."""
    values: dict[str, Any] = field(default_factory=dict)
    """Parameters of ``spec`` by name, kept apart from it: figures of the same kind then share one."""
    chooses: str = ""
    """The field of a mark that names a choice of the page, which a click on it chooses."""

    def complete(self, *, dark: bool = False, width: int = FILE_WIDTH) -> Spec:
        """The specification with data, title and theme, as it is written to files."""
        given = [{"name": name, "value": value} for name, value in self.values.items()]
        return {
            "title": {"text": self.title},
            "description": self.description,
            "width": width,
            **self.spec,
            **({"params": [*given, *self.spec.get("params", ())]} if given else {}),
            "config": config(dark, whole=True),
            "padding": 16,
            "datasets": {name: rows(table) for name, table in self.datasets.items()},
        }


def thinned(table: Columns, limit: int = NUMBER_ROWS) -> Columns:
    """Every n-th row, so that ``limit`` are left at most."""
    size = len(next(iter(table.values()), []))
    step = max(1, -(-size // limit))
    return {name: values[::step] for name, values in table.items()}
