"""What runs at different loads say of a capacity: a figure over the load, every run of every seed a point.

A table has one row a point: ``load``, ``seed``, ``series``, ``verdict`` (of ``VERDICTS``) and the value. Runs
of one seed are joined by a thin line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokensim.report.figures.base import Figure, Size, Spec, thinned
from tokensim.report.figures.parts import MEDIUM, bound_rule, category, labelled
from tokensim.report.figures.study import Axis, Words, quantitative, tooltip
from tokensim.report.series.base import Columns, columns

VERDICTS = ("met", "missed")
SHAPES = ("circle", "cross")
"""Of a run that met the SLO, and of one that missed it."""

DECADES = 4.0
"""From this ratio of the highest to the lowest value on, an axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is shaded: the loads from ``low`` to ``high``; a rule at ``value`` with a ``label``."""

    low: float
    high: float
    value: float
    label: str


def wide(values: Sequence[Any]) -> bool:
    """Whether ``values`` are spread so far that a logarithmic axis shows more."""
    there = [value for value in values if value is not None]
    return bool(there) and min(there) > 0 and max(there) > DECADES * min(there)


def curve_figure(
    words: Words,
    table: Columns,
    x: Axis,
    y: Axis,
    *,
    found: Found | None = None,
    bound: float | None = None,
    bound_label: str = "SLO",
    size: Size = "normal",
) -> Figure:
    """``y`` over the load ``x``. ``found`` is shaded; ``bound`` is a dashed rule at this height, which counts
    among the values where the axis is logarithmic."""
    series = list(dict.fromkeys(table["series"]))
    ends: Columns = {
        x.field: [*table[x.field], *((found.low, found.high) if found else ())],
        y.field: [*table[y.field], *([bound] if bound else [])],
    }
    across, up = quantitative(x, ends), quantitative(y, ends)
    colour = category("series", series)
    layers: list[Spec] = []
    sets: dict[str, Columns] = {"runs": table}
    if found is not None:
        sets["found"] = columns(low=[found.low], high=[found.high], value=[found.value], label=[found.label])
        layers += _shade(across)
    if bound is not None:
        layers += bound_rule(bound, bound_label, up)
    layers += [
        {
            "data": {"name": "runs"},
            "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.35},
            "encoding": {
                "x": across,
                "y": up,
                "color": colour,
                "detail": {"field": "seed"},
                "order": {"field": x.field},
            },
        },
        {
            "data": {"name": "runs"},
            "mark": {"type": "point", "filled": True, "size": 64, "opacity": 0.85},
            "encoding": {
                "x": across,
                "y": up,
                "color": colour,
                "shape": verdict_shape(table["verdict"]),
                "tooltip": tooltip("series", x, y) + [{"field": name} for name in ("seed", "verdict")],
            },
        },
    ]
    return words.figure(
        {"height": MEDIUM + (60 if size == "wide" else 0), "layer": layers},
        sets,
        thinned(table, 120),
        size=size,
    )


def verdict_shape(verdicts: Sequence[str]) -> Spec:
    """A circle for what met the SLO, a cross for what missed it; a legend if there are both."""
    both = len(set(verdicts)) > 1
    return {
        "field": "verdict",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(VERDICTS), "range": list(SHAPES)},
        "legend": {"symbolFillColor": "transparent"} if both else None,
    }


def _shade(across: Spec) -> list[Spec]:
    data = {"name": "found"}
    at = {**across, "field": "value"}
    label: Spec = {"type": "text", "style": "roof-label", "align": "right", "baseline": "bottom"}
    label |= {"dx": -5, "dy": -4}
    return [
        {
            "data": data,
            "mark": {"type": "rect", "opacity": 0.13, "style": "shade"},
            "encoding": {"x": {**across, "field": "low"}, "x2": {"field": "high"}},
        },
        {"data": data, "mark": {"type": "rule", "style": "roof"}, "encoding": {"x": at}},
        *labelled(
            {
                "data": data,
                "mark": label,
                "encoding": {"x": at, "y": {"value": {"expr": "height"}}, "text": {"field": "label"}},
            }
        ),
    ]
