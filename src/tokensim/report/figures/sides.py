"""Measured and simulated laid over each other: distributions, and request against request.

Each figure draws a small table with the columns ``measured`` and ``simulated``. What differs from case to
case (the ends of the axes) are values of parameters, so that the figures of many cases share their
specifications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import (
    SECONDS,
    SMALL,
    as_seconds,
    category,
    log_ticks,
)
from tokensim.report.figures.study import Words
from tokensim.report.series.base import Columns, cells

SIDES = MEASURED, SIMULATED = ("measured", "simulated")
"""In the order of the colours."""

Shown = Literal["duration", "count", "share"]

SQUARE = 250
"""Height of a scatter: about its width on a page, so that the diagonal is one."""

LOG_FROM = 20.0
"""An axis is logarithmic when its ends are further apart than this factor."""

DASHES: Spec = {"domain": list(SIDES), "range": [[1, 0], [5, 3]]}
WIDTH: Spec = {"condition": {"test": f"datum.side === '{MEASURED}'", "value": 3.4}, "value": 1.8}
"""Of the lines of both sides: the second is seen on the first where they are one."""

ERROR: Spec = {
    "calculate": "datum.measured > 0 && isValid(datum.simulated)"
    " ? format(datum.simulated / datum.measured - 1, '+.1%') : '-'",
    "as": "error",
}


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of an axis of both sides, seconds."""

    low: float
    high: float

    @property
    def log(self) -> bool:
        """Whether it is logarithmic."""
        return 0 < LOG_FROM * self.low < self.high

    def values(self) -> dict[str, Any]:
        """The parameters of a specification that is drawn with it."""
        ends: dict[str, Any] = dict(zip(("low", "high"), cells([self.low, self.high]), strict=True))
        return ends | ({"ticks": log_ticks(self.low, self.high, 5)} if self.log else {})

    def axis(self, field: str, title: str) -> Spec:
        """The encoding of ``field``; what is outside stands on the edge."""
        axis: Spec = {"labelExpr": SECONDS, "tickCount": 5}
        if self.log:
            axis["values"] = {"expr": "ticks"}
        return {
            "field": field,
            "type": "quantitative",
            "title": title,
            "scale": {
                **({"type": "log"} if self.log else {"type": "linear", "zero": False}),
                "domain": [{"expr": "low"}, {"expr": "high"}],
                "nice": False,
                "clamp": True,
            },
            "axis": axis,
        }


def distribution_figure(words: Words, table: Columns, ends: Ends, short: str, numbers: Columns) -> Figure:
    """The ``share`` of requests (y) within a time (x) called ``short``, both sides; a row of ``table`` is a
    share."""
    y: Spec = {
        "field": "share",
        "type": "quantitative",
        "title": "share of requests",
        "scale": {"domain": [0, 1], "nice": False},
        "axis": {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1]},
    }
    line: Spec = {
        "transform": [{"fold": list(SIDES), "as": ["side", "seconds"]}],
        "mark": {"type": "line"},
        "encoding": {"x": ends.axis("seconds", short), "y": y, "order": {"field": "share"}, **by_side()},
    }
    between: Spec = {
        "mark": {"type": "rule", "strokeWidth": 5, "style": "whisker", "tooltip": None, "aria": False},
        "encoding": {
            "x": ends.axis(MEASURED, short),
            "x2": {"field": SIMULATED},
            "y": y,
            "opacity": when_hovered(0.55),
        },
    }
    within: Spec = {"field": "share", "title": "requests within", "format": ".1%"}
    layers = [line, bands("y", "share", y, "duration", within, 0), between]
    half = 0.5 / max(len(table["share"]) - 1, 1)
    spec = {"height": SMALL, "layer": layers}
    return _figure(words, spec, {"shares": table}, ends, numbers, half=half)


def scatter_figure(words: Words, table: Columns, ends: Ends, short: str, numbers: Columns) -> Figure:
    """A dot a request (a row of ``table``): ``short`` measured (x) and simulated (y), and the diagonal on
    which they would be equal."""
    x, y = ends.axis(MEASURED, f"{short} measured"), ends.axis(SIMULATED, f"{short} simulated")
    diagonal: Spec = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "style": "roof", "strokeDash": [5, 3], "tooltip": None, "aria": False},
        "encoding": {
            "x": {**_without_field(x), "datum": {"expr": "low"}},
            "x2": {"datum": {"expr": "high"}},
            "y": {**_without_field(y), "datum": {"expr": "low"}},
            "y2": {"datum": {"expr": "high"}},
        },
    }
    dots: Spec = {
        "transform": [*in_words("duration"), ERROR],
        "mark": {"type": "circle", "size": 16, "opacity": 0.45, "aria": False},
        "encoding": {
            "x": x,
            "y": y,
            "color": {
                "datum": SIMULATED,
                "type": "nominal",
                "scale": {"domain": list(SIDES)},
                "legend": None,
            },
            "tooltip": _both_told(),
        },
    }
    spec = {"height": SQUARE, "layer": [dots, diagonal]}
    return _figure(words, spec, {"requests": table}, ends, numbers)


def _figure(
    words: Words, spec: Spec, datasets: dict[str, Columns], ends: Ends, numbers: Columns, **values: float
) -> Figure:
    (name,) = datasets
    return Figure(
        name=words.name,
        title=words.title,
        description=words.description,
        spec={"data": {"name": name}, **spec},
        datasets=datasets,
        numbers=numbers,
        note=words.note,
        size="small",
        values={**ends.values(), **values},
    )


def _without_field(encoding: Spec) -> Spec:
    return {name: value for name, value in encoding.items() if name != "field"}


def by_side() -> Spec:
    """Colour, dash and width by ``side``, in one legend."""
    colour = category("side", SIDES, line=True)
    return {"color": colour, "strokeDash": {**colour, "scale": DASHES}, "strokeWidth": WIDTH}


def bands(
    channel: Literal["x", "y"], field: str, axis: Spec, shown: Shown, told: Spec, opacity: float
) -> Spec:
    """A band across the figure for each row, ``half`` to both sides of its ``field``, which tells the row
    under the pointer, and is seen there with ``opacity``. It makes the parameter ``hover``."""
    edges = {"from": "-", "to": "+"}
    select = {"type": "point", "fields": [field], "on": "pointerover", "clear": "pointerout"}
    return {
        "transform": [
            *in_words(shown),
            ERROR,
            *({"calculate": f"datum.{field} {sign} half", "as": end} for end, sign in edges.items()),
        ],
        "params": [{"name": "hover", "select": select}],
        "mark": {"type": "rect", "clip": True, "style": "shade", "aria": False},
        "encoding": {
            channel: {**axis, "field": "from"},
            f"{channel}2": {"field": "to"},
            "opacity": when_hovered(opacity),
            "tooltip": [told, *_both_told()],
        },
    }


def when_hovered(opacity: float) -> Spec:
    """``opacity`` of the row under the pointer; the others are not seen."""
    return {"condition": {"param": "hover", "empty": False, "value": opacity}, "value": 0}


def in_words(shown: Shown) -> Sequence[Spec]:
    """Both sides as text."""
    if shown == "duration":
        return [as_seconds(side, f"{side}_told") for side in SIDES]
    form = ".1%" if shown == "share" else ",.3~r"
    return [
        {
            "calculate": f"isValid(datum.{side}) ? format(datum.{side}, '{form}') : '-'",
            "as": f"{side}_told",
        }
        for side in SIDES
    ]


def _both_told() -> list[Spec]:
    told = [{"field": f"{side}_told", "title": side} for side in SIDES]
    return [*told, {"field": "error", "title": "error"}]
