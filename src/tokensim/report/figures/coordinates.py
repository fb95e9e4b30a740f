"""Parallel coordinates: a line for each point of a study through its parameters and its figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import as_seconds, every_nth
from tokensim.report.figures.study import Axis, Words
from tokensim.report.numbers import count, duration
from tokensim.report.series.base import Columns, length

MOST = 500
"""Lines that are drawn, of the rows that there are."""

AXIS_WIDTH = 88
"""Pixels from an axis to the next, at least: room for their labels."""


def coordinates_figure(words: Words, table: Columns, axes: Sequence[Axis], colour: str) -> Figure:
    """``axes``, from left to right, are columns of ``table``; each runs from its lowest value (below) to its
    highest; texts stand in the order in which they come. Lines are coloured by their rank in the column
    ``colour``."""
    keys = [f"axis {at}" for at in range(len(axes))]
    x: Spec = {
        "field": "axis",
        "type": "nominal",
        "sort": keys,
        "title": None,
        "scale": {"type": "point", "padding": 0.3, "domain": keys},
        "axis": {"labels": False, "domain": False, "ticks": False},
    }
    y: Spec = {"field": "at", "type": "quantitative", "axis": None, "scale": {"domain": [0, 1]}}
    heat: Spec = {
        "field": "heat",
        "type": "quantitative",
        "legend": None,
        "scale": {"scheme": "viridis"},
    }
    told = [
        {"field": f"{axis.field} in s" if axis.seconds else axis.field, "title": axis.title} for axis in axes
    ]
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
            "transform": [
                *every_nth(MOST),
                *(as_seconds(axis.field, f"{axis.field} in s") for axis in axes if axis.seconds),
                {"window": [{"op": "rank", "as": "heat"}], "sort": [{"field": colour}]},
                *(
                    {"calculate": _place(table[axis.field], axis.field), "as": key}
                    for axis, key in zip(axes, keys, strict=True)
                ),
                {"fold": keys, "as": ["axis", "at"]},
                {"filter": "isValid(datum.at)"},
            ],
            "mark": {"type": "line", "opacity": 0.5, "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y, "detail": {"field": "place"}, "color": heat, "tooltip": told},
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
    many = length(table) > MOST
    return Figure(
        name=words.name,
        title=words.title,
        description=words.description,
        spec={"height": 260, "layer": layers},
        datasets={"study": table, "ends": _ends(table, axes, keys)},
        numbers=thinned({axis.title: table[axis.field] for axis in axes}),
        note=f"Coloured by rank of {title}: dark is low."
        + (f" At most {MOST} lines are drawn." if many else ""),
        size="wide",
        least_width=AXIS_WIDTH * len(axes),
    )


def _text(data: Spec, chosen: Spec, mark: Spec, field: str, x: Spec, y: Spec) -> Spec:
    encoding = {"x": x, "y": y, "text": {"field": field}}
    return {"data": data, "transform": [chosen], "mark": mark, "encoding": encoding}


def _place(values: Sequence[Any], field: str) -> str:
    """The expression of where a value of ``field`` stands between the lowest (0) and the highest (1)."""
    value = f"datum[{json.dumps(field)}]"
    there = [value for value in values if value is not None]
    if all(_number(value) for value in there):
        low, high = min(there, default=0), max(there, default=0)
        return f"isValid({value}) ? ({value} - {low!r}) / {high - low!r} : null" if high > low else "0.5"
    names = list(dict.fromkeys(there))
    listed = json.dumps(names)
    return f"isValid({value}) ? indexof({listed}, {value}) / {max(1, len(names) - 1)} : null"


def _ends(table: Columns, axes: Sequence[Axis], keys: Sequence[str]) -> Columns:
    """What stands at the lower and the upper end of each axis, and under it."""
    ends: Columns = {"axis": [], "at": [], "text": [], "title": []}
    for axis, key in zip(axes, keys, strict=True):
        there = [value for value in table[axis.field] if value is not None]
        if there and all(_number(value) for value in there):
            there = [min(there), max(there)]
        names = list(dict.fromkeys(there)) or [""]
        for at, value in ((0, names[0]), (1, names[-1])):
            ends["axis"].append(key)
            ends["at"].append(at)
            ends["text"].append(_told(value, axis))
            ends["title"].append(axis.title.replace("_", " "))
    return ends


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(value: Any, axis: Axis) -> str:
    if axis.seconds and _number(value):
        return duration(value)
    return count(value) if isinstance(value, float) else str(value)
