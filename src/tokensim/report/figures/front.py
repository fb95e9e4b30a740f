"""What can be had together: two figures against each other, and the points that nothing beats in both."""

from __future__ import annotations

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import MEDIUM
from tokensim.report.figures.study import Axis, Words, quantitative, tooltip
from tokensim.report.series.base import Columns


def front_figure(
    words: Words, table: Columns, x: Axis, y: Axis, label: str, *, more_x: bool = False
) -> Figure:
    """A dot for each row of ``table`` at ``x`` and ``y``, of which less is better (of ``x`` more, with
    ``more_x``); those on the Pareto front are joined, and named by the column ``label``."""
    best = pareto(table[x.field], table[y.field], more_x=more_x)
    table = {**table, "on the front": ["yes" if row in best else "no" for row in range(len(table[label]))]}
    across, up = quantitative(x, table), quantitative(y, table)
    told = tooltip(label, x, y)
    chosen: Spec = {"filter": "datum['on the front'] == 'yes'"}
    steps = "step-before" if more_x else "step-after"
    layers: list[Spec] = [
        {
            "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.35},
            "encoding": {"x": across, "y": up, "tooltip": told},
        },
        {
            "transform": [chosen],
            "mark": {
                "type": "line",
                "interpolate": steps,
                "opacity": 0.6,
            },
            "encoding": {"x": across, "y": up, "order": {"field": x.field}},
        },
        {
            "transform": [chosen],
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"x": across, "y": up, "tooltip": told},
        },
    ]
    front = {name: [cells[row] for row in sorted(best)] for name, cells in table.items()}
    return Figure(
        name=words.name,
        title=words.title,
        description=words.description,
        spec={"data": {"name": "study"}, "height": MEDIUM + 60, "layer": layers},
        datasets={"study": table},
        numbers=thinned(front),
        note=words.note,
        size="wide",
    )


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
