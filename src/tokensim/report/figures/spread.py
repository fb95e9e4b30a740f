"""Many configurations over one parameter: a thin line for each setting of all others, and the median."""

from __future__ import annotations

import json

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import MEDIUM
from tokensim.report.figures.study import Axis, Words, quantitative, tooltip
from tokensim.report.series.base import Columns, length

ENOUGH = 3
"""Rows at each value of ``x`` on average, from which on a median tells something."""


def spread_figure(words: Words, table: Columns, x: Axis, y: Axis, line: str, label: str) -> Figure:
    """``y`` over ``x``: a dot for each row, named by the column ``label``; those of one ``line`` are joined,
    and so are the medians at each ``x``."""
    across, up = quantitative(x, table), quantitative(y, table)
    known: Spec = {"filter": f"isValid(datum[{json.dumps(y.field)}])"}
    layers: list[Spec] = [
        {
            "transform": [known],
            "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.16, "tooltip": None, "aria": False},
            "encoding": {"x": across, "y": up, "detail": {"field": line}},
        },
        {
            "transform": [known],
            "mark": {"type": "point", "filled": True, "size": 26, "opacity": 0.4},
            "encoding": {"x": across, "y": up, "tooltip": tooltip(label, x, y)},
        },
    ]
    if length(table) >= ENOUGH * len(set(table[x.field])):
        middle = {"op": "median", "field": y.field, "as": y.field}
        layers.append(
            {
                "transform": [known, {"aggregate": [middle], "groupby": [x.field]}],
                "mark": {"type": "line", "style": "median"},
                "encoding": {"x": across, "y": up, "tooltip": [{"field": y.field, "title": "median"}]},
            }
        )
        words = Words(words.name, words.title, f"{words.description} The thick line joins the medians.")
    return words.figure(
        {"data": {"name": "study"}, "height": MEDIUM + 60, "layer": layers},
        {"study": table},
        thinned({name: table[name] for name in (label, x.field, y.field)}),
    )
