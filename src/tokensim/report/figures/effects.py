"""Relative effects around zero: dots with whiskers, or the bars of a tornado, by what they are worth.

A table has one row an effect: ``what`` (the label), ``effect`` (0.1: 10 % more), ``low`` and ``high`` (None:
not known) and ``worth`` (of ``theme.WORTH``).
"""

from __future__ import annotations

from typing import Any

from tokensim.report.figures.base import Figure, Size, Spec
from tokensim.report.figures.study import Words
from tokensim.report.figures.theme import NOISE, WORTH
from tokensim.report.numbers import NOTHING
from tokensim.report.series.base import Columns

STEP = 26
"""Height of a row, pixels."""

FAR = 1.5
"""An effect beyond this is drawn on an axis that grows ever more slowly, so that small ones stay visible."""

ROUND = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Ticks of such an axis, on both sides of zero."""

SHAPES = ("circle", "diamond", "square", "circle")
"""What a dot looks like by its worth; one of what is noise is hollow."""

NOT_SURE = f"datum.worth == '{NOISE}'"


def whisker_figure(words: Words, table: Columns, title: str) -> Figure:
    """A dot for each effect, with its interval; the axis is called ``title``."""
    x, y = _across(table, title), _rows(table)
    worth = _worth(table)
    layers: list[Spec] = [
        _zero(x),
        _interval(x, y, {"color": worth}),
        {
            "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1, "strokeWidth": 1.5},
            "encoding": {
                "x": x,
                "y": y,
                "color": worth,
                "stroke": worth,
                "fillOpacity": {"condition": {"test": NOT_SURE, "value": 0}, "value": 1},
                "shape": {**worth, "scale": {"domain": list(WORTH), "range": list(SHAPES)}},
                "tooltip": _told(title),
            },
        },
    ]
    return _figure(words, table, layers, "wide")


def tornado_figure(words: Words, table: Columns, title: str, size: Size = "wide") -> Figure:
    """A bar from zero for each effect, the longest above, with its interval; the axis is called ``title``."""
    order = sorted(range(len(table["what"])), key=lambda row: -abs(table["effect"][row] or 0.0))
    table = {name: [cells[row] for row in order] for name, cells in table.items()}
    x, y = _across(table, title, centred=True), _rows(table)
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "cornerRadiusEnd": 2},
            "encoding": {
                "x": x,
                "y": y,
                "color": _worth(table),
                "opacity": {
                    "condition": {"test": NOT_SURE, "value": 0.5},
                    "value": 1,
                },
                "tooltip": _told(title),
            },
        },
        _zero(x),
        _interval(x, y, {}),
    ]
    return _figure(words, table, layers, size)


def _figure(words: Words, table: Columns, layers: list[Spec], size: Size) -> Figure:
    numbers: Columns = {
        "": table["what"],
        "effect": [_percent(cell) for cell in table["effect"]],
        "interval": [
            NOTHING if low is None else f"{_percent(low)} to {_percent(high)}"
            for low, high in zip(table["low"], table["high"], strict=True)
        ],
        "worth": table["worth"],
    }
    return words.figure(
        {"data": {"name": "effects"}, "height": STEP * len(table["what"]), "layer": layers},
        {"effects": table},
        numbers,
        size=size,
    )


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.1%}"


def _across(table: Columns, title: str, *, centred: bool = False) -> Spec:
    """The effects, with zero in sight; ``centred``: in the middle."""
    reached = [abs(cell) for name in ("effect", "low", "high") for cell in table[name] if cell is not None]
    axis: dict[str, Any] = {"format": "+.1~%", "grid": True}
    scale: Spec = {"zero": True}
    most = max(reached, default=0.0)
    if most > FAR:
        ticks = [tick for tick in ROUND if 0.1 <= tick <= most]
        axis |= {"values": [*(-tick for tick in ticks if tick < 1), 0, *ticks], "format": "+,.0~%"}
        scale = {"type": "symlog", "constant": 0.1}
    if centred and most:
        scale["domain"] = [-1.05 * most, 1.05 * most]
    return {"field": "effect", "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _rows(table: Columns) -> Spec:
    return {
        "field": "what",
        "type": "nominal",
        "sort": list(table["what"]),
        "title": None,
        "axis": {"labelLimit": 200, "labelOverlap": False},
    }


def _worth(table: Columns) -> Spec:
    """Colour by worth, in words where there are several."""
    shown = [name for name in WORTH if name in table["worth"]]
    return {
        "field": "worth",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(WORTH), "range": "worth"},
        "legend": {"values": shown, "columns": len(shown)} if len(shown) > 1 else None,
    }


def _zero(x: Spec) -> Spec:
    at = {key: value for key, value in x.items() if key != "field"}
    return {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "style": "roof"},
        "encoding": {"x": {**at, "datum": 0}},
    }


def _interval(x: Spec, y: Spec, colour: Spec) -> Spec:
    mark: Spec = {"type": "rule", "strokeWidth": 1.5, "aria": False}
    if not colour:
        mark["style"] = "whisker"
    return {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": mark,
        "encoding": {**colour, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
    }


def _told(title: str) -> list[Spec]:
    return [
        {"field": "what", "title": "of"},
        {"field": "effect", "title": title, "format": "+.2%"},
        {"field": "low", "title": "from", "format": "+.2%"},
        {"field": "high", "title": "to", "format": "+.2%"},
        {"field": "worth"},
    ]
