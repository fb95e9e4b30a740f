"""The errors of many cases at a glance: a dot for each case and metric, over what is good and fair.

Few cases have a row each. Of more, each metric has a row, in which the dots of all cases are spread out.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import category
from tokensim.report.figures.study import Words
from tokensim.report.series.base import Columns

ROWS = 40
"""Cases that have a row each, at most."""

STEP, STRIP = 36, 64
"""Heights of a row of a case and of a metric, pixels."""

FAR = 0.5
"""An error beyond this is drawn on an axis that grows ever more slowly, so that small ones stay visible."""

TICKS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Ticks of such an axis, on both sides of zero."""

GOLDEN = 0.6180339887498949
"""Multiples of it, less their whole parts, spread evenly however many there are (Weyl)."""

ABOVE: Spec = {
    **{"labelAlign": "left", "labelPadding": -4, "labelBaseline": "bottom", "labelOffset": -7},
    **{"labelLimit": 300, "labelOverlap": False, "grid": True},
}
"""The name of a case stands above its row, inside of the figure: that fits a phone."""

SHAPES = ("circle", "diamond", "square", "triangle-up")


def error_figure(words: Words, table: Columns, bands: Sequence[float], numbers: Columns) -> Figure:
    """``table``: ``case``, ``metric``, ``error`` (0.1: 10 % more), and what a tooltip tells as it is read,
    ``error_told``. ``bands``: the sizes of errors that are shaded, ascending. A click on a dot chooses its
    case."""
    cases, metrics = list(dict.fromkeys(table["case"])), list(dict.fromkeys(table["metric"]))
    rows = len(cases) <= ROWS
    if not rows:
        place = {case: round(number * GOLDEN % 1, 3) for number, case in enumerate(cases)}
        table = {**table, "spread": [place[case] for case in table["case"]]}
    x = _across(table)
    y: Spec = {
        "field": "case" if rows else "metric",
        "type": "nominal",
        "sort": cases if rows else metrics,
        "title": None,
        "axis": ABOVE if rows else {"labelOverlap": False},
    }
    shaded: list[Spec] = [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rect", "style": "shade", "opacity": 0.13, "tooltip": None, "aria": False},
            "encoding": {
                "x": {**{k: v for k, v in x.items() if k != "field"}, "datum": -band},
                "x2": {"datum": band},
            },
        }
        for band in reversed(bands)
    ]
    colour = category("metric", metrics)
    dots: Spec = {
        "mark": {
            "type": "point",
            "filled": True,
            "size": 75 if rows else 60,
            "opacity": 0.9 if rows else 0.6,
            "cursor": "pointer",
        },
        "encoding": {
            "x": x,
            "y": y,
            **({} if rows else {"yOffset": {"field": "spread", "type": "quantitative"}}),
            "color": colour if rows else {**colour, "legend": None},
            "shape": {
                **colour,
                "scale": {"domain": metrics, "range": list(SHAPES)},
                **({} if rows else {"legend": None}),
            },
            "tooltip": [
                {"field": "case", "title": "case"},
                {"field": "metric", "title": "mean of"},
                {"field": "error_told", "title": "error"},
            ],
        },
    }
    zero: Spec = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "aria": False},
        "encoding": {"x": {"datum": 0}},
    }
    return Figure(
        name=words.name,
        title=words.title,
        description=words.description,
        spec={
            "data": {"name": "errors"},
            "height": STEP * len(cases) if rows else STRIP * len(metrics),
            "layer": [*shaded, zero, dots],
        },
        datasets={"errors": table},
        numbers=numbers,
        note=words.note,
        size="wide",
        chooses="case",
    )


def _across(table: Columns) -> Spec:
    """The errors, with zero in sight."""
    most = max((abs(error) for error in table["error"]), default=0.0)
    axis: Spec = {"format": "+.1~%", "grid": True}
    scale: Spec = {"zero": True}
    if most > FAR:
        ticks = [tick for tick in TICKS if tick <= most]
        axis |= {"values": [*(-tick for tick in ticks if tick < 1), 0, *ticks], "format": "+,.0~%"}
        scale = {"type": "symlog", "constant": 0.1}
    return {
        "field": "error",
        "type": "quantitative",
        "title": "error of the mean",
        "scale": scale,
        "axis": axis,
    }
