"""What can be had together: two figures against each other, and the points that nothing beats in both.

The front is found by the figure itself, among the rows that it is given: a page that leaves some of them out
shows the front of those that are left.
"""

from __future__ import annotations

import json

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import MEDIUM
from tokensim.report.figures.study import Axis, Words, quantitative, tooltip
from tokensim.report.series.base import Columns

FRONT = "front"
"""The layer that draws the points on the front."""


def front_figure(
    words: Words, table: Columns, x: Axis, y: Axis, label: str, *, more_x: bool = False
) -> Figure:
    """A dot for each row of ``table`` at ``x`` and ``y``, of which less is better (of ``x`` more, with
    ``more_x``); those on the Pareto front are joined, and named by the column ``label``."""
    across, up = quantitative(x, table), quantitative(y, table)
    told = tooltip(label, x, y)
    on_it = unbeaten(x.field, y.field, more_x=more_x)
    layers: list[Spec] = [
        {
            "transform": [_known(x.field, y.field)],
            "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.35},
            "encoding": {"x": across, "y": up, "tooltip": told},
        },
        {
            "transform": on_it,
            "mark": {
                "type": "line",
                "interpolate": "step-before" if more_x else "step-after",
                "opacity": 0.6,
            },
            "encoding": {"x": across, "y": up, "order": {"field": x.field}},
        },
        {
            "name": FRONT,
            "transform": on_it,
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"x": across, "y": up, "tooltip": told},
        },
    ]
    best = sorted(pareto(table[x.field], table[y.field], more_x=more_x))
    front = {name: [table[name][row] for row in best] for name in (label, x.field, y.field)}
    return words.figure(
        {"data": {"name": "study"}, "height": MEDIUM + 60, "layer": layers},
        {"study": table},
        thinned(front),
        numbered=FRONT,
    )


def unbeaten(x: str, y: str, *, more_x: bool) -> list[Spec]:
    """Transforms that leave the rows that no other beats: among those with as good an ``x``, none has less
    ``y``; and of those with as little ``y``, none has a better ``x``."""
    lowest, farthest = "lowest so far", "best at this height"
    ordered = [{"field": x, "order": "descending" if more_x else "ascending"}, {"field": y}]
    best = {"op": "max" if more_x else "min", "field": x, "as": farthest}
    at_x, at_y = (f"datum[{json.dumps(name)}]" for name in (x, y))
    return [
        _known(x, y),
        {
            "window": [{"op": "min", "field": y, "as": lowest}],
            "sort": ordered,
            "frame": [None, 0],
            "ignorePeers": True,
        },
        {"joinaggregate": [best], "groupby": [y]},
        {"filter": f"{at_y} <= datum['{lowest}'] && {at_x} == datum['{farthest}']"},
    ]


def _known(*fields: str) -> Spec:
    return {"filter": " && ".join(f"isValid(datum[{json.dumps(name)}])" for name in fields)}


def pareto(x: list[float | None], y: list[float | None], *, more_x: bool = False) -> set[int]:
    """The rows that no other row beats: none has as good an ``x`` and ``y``, and one of them better."""
    sign = -1.0 if more_x else 1.0
    there = sorted(
        (sign * a, b, row)
        for row, (a, b) in enumerate(zip(x, y, strict=True))
        if a is not None and b is not None
    )
    best: set[int] = set()
    lowest, at = float("inf"), None
    for a, b, row in there:
        if b < lowest or (b == lowest and a == at):
            best.add(row)
            lowest, at = b, a
    return best
