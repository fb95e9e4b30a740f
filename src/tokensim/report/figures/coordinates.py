"""Parallel coordinates: a line for each point of a study through its parameters and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.study import Axis, Words
from tokensim.report.numbers import count, duration
from tokensim.report.series.base import Columns

MOST = 500
"""Lines that are drawn."""


def coordinates_figure(words: Words, table: Columns, axes: Sequence[Axis], colour: str) -> Figure:
    """``axes``, from left to right, are columns of ``table``; each runs from its lowest value (below) to its
    highest; texts stand in the order in which they come. Lines are coloured by the column ``colour``."""
    drawn = thinned(table, MOST)
    x: Spec = {
        "field": "axis",
        "type": "nominal",
        "sort": [axis.title for axis in axes],
        "title": None,
        "scale": {"type": "point", "padding": 0.3},
        "axis": {"labels": False, "domain": False, "ticks": False},
    }
    y: Spec = {"field": "at", "type": "quantitative", "axis": None, "scale": {"domain": [0, 1]}}
    heat: Spec = {"field": "heat", "type": "quantitative", "legend": None, "scale": {"scheme": "viridis"}}
    told = [{"field": "axis", "title": "figure"}, {"field": "value", "title": "value"}]
    ends: Spec = {"name": "ends"}
    low, high = ({"filter": f"datum.at == {at}"} for at in (0, 1))
    label: Spec = {"type": "text", "style": "mark-label"}
    layers: list[Spec] = [
        {
            "data": ends,
            "transform": [high],
            "mark": {"type": "rule", "opacity": 0.4},
            "encoding": {"x": x, "y": y, "y2": {"datum": 0}},
        },
        {
            "data": {"name": "study"},
            "mark": {"type": "line", "opacity": 0.5, "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y, "detail": {"field": "point"}, "color": heat, "tooltip": told},
        },
        _text(ends, high, {**label, "dy": -10}, "text", x, y),
        _text(ends, low, {**label, "dy": 12}, "text", x, y),
        _text(
            ends,
            low,
            {"type": "text", "style": "guide-label", "dy": 26, "baseline": "top", "lineBreak": " "},
            "title",
            x,
            y,
        ),
    ]
    title = next((axis.title for axis in axes if axis.field == colour), colour)
    size, whole = len(drawn[colour]), len(table[colour])
    note = f"Coloured by {title}: dark is low." + (f" {size:,} lines are drawn." if size < whole else "")
    return Figure(
        name=words.name,
        title=words.title,
        description=words.description,
        spec={"height": 260, "layer": layers},
        datasets={"study": _lines(drawn, axes, colour), "ends": _ends(drawn, axes)},
        numbers=thinned({axis.title: table[axis.field] for axis in axes}),
        note=note,
        size="wide",
    )


def _text(data: Spec, chosen: Spec, mark: Spec, field: str, x: Spec, y: Spec) -> Spec:
    encoding = {"x": x, "y": y, "text": {"field": field}}
    return {"data": data, "transform": [chosen], "mark": mark, "encoding": encoding}


def _lines(table: Columns, axes: Sequence[Axis], colour: str) -> Columns:
    """Where the line of each row crosses each axis."""
    places = {axis.field: _places(table[axis.field]) for axis in axes}
    heat = _places(table[colour])
    lines: Columns = {"point": [], "axis": [], "at": [], "value": [], "heat": []}
    for row, warmth in enumerate(heat):
        for axis in axes:
            if places[axis.field][row] is None:
                continue
            lines["point"].append(row)
            lines["axis"].append(axis.title)
            lines["at"].append(places[axis.field][row])
            lines["value"].append(_told(table[axis.field][row], axis))
            lines["heat"].append(warmth)
    return lines


def _ends(table: Columns, axes: Sequence[Axis]) -> Columns:
    """What stands at the lower and the upper end of each axis, and under it."""
    ends: Columns = {"axis": [], "at": [], "text": [], "title": []}
    for axis in axes:
        there = [value for value in table[axis.field] if value is not None]
        if there and all(_number(value) for value in there):
            there = [min(there), max(there)]
        names = list(dict.fromkeys(there)) or [""]
        for at, value in ((0, names[0]), (1, names[-1])):
            ends["axis"].append(axis.title)
            ends["at"].append(at)
            ends["text"].append(_told(value, axis))
            ends["title"].append(axis.title.replace("_", " "))
    return ends


def _places(values: Sequence[Any]) -> list[float | None]:
    """Where values stand between the lowest (0) and the highest (1)."""
    there = [value for value in values if value is not None]
    if all(_number(value) for value in there):
        low, high = min(there, default=0), max(there, default=0)
        return [None if v is None else (v - low) / (high - low) if high > low else 0.5 for v in values]
    names = list(dict.fromkeys(there))
    most = max(1, len(names) - 1)
    return [None if v is None else names.index(v) / most for v in values]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(value: Any, axis: Axis) -> str:
    if axis.seconds and _number(value):
        return duration(value)
    return count(value) if isinstance(value, float) else str(value)
