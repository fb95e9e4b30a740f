"""Figures of studies, by the question they answer: lines by group, heat maps, bars; each in panels if asked.

A table has one row a point; which of its columns stand where is said with ``Axis``. Panels are small
multiples, one for each value of a column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokensim.report.figures.base import FILE_WIDTH, Figure, Size, Spec, thinned
from tokensim.report.figures.parts import MEDIUM, SECONDS, SECONDS_IN_SHORT, category, log_axis
from tokensim.report.series.base import Columns

PANEL_GAP = 90
"""Pixels between panels, for the axis of the next one."""

TICK = ",.6~r"
"""The format of ticks of our choice; without a precision, Vega rounds to what sets round values apart."""

CELL = 44
"""Height of a row of a heat map, pixels."""

BAR = 22
"""Height of a bar with the room around it, pixels."""


@dataclass(frozen=True, slots=True)
class Axis:
    """What stands along an axis: a column of the table, its title, whether it is logarithmic, whether it is a
    duration in seconds (labelled ``50ms``), whether it starts at zero, its ticks (default: round
    values), and whether a logarithmic one follows what is drawn where that changes (it then ends near the
    extremes, and has no ticks of our choice)."""

    field: str
    title: str
    log: bool = False
    seconds: bool = False
    zero: bool = False
    ticks: tuple[float, ...] = ()
    follows: bool = False


Spread = tuple[str, str]
"""The columns of the lower and the upper end of an interval around a value."""


@dataclass(frozen=True, slots=True)
class Words:
    """The name (of the file), title and description of a figure, and what to mind."""

    name: str
    title: str
    description: str
    note: str = ""

    def figure(
        self,
        spec: Spec,
        datasets: dict[str, Columns],
        numbers: Columns,
        *,
        size: Size = "wide",
        numbered: str = "",
    ) -> Figure:
        """The figure with these words; see ``Figure`` for the rest of it."""
        return Figure(
            name=self.name,
            title=self.title,
            description=self.description,
            spec=spec,
            datasets=datasets,
            numbers=numbers,
            note=self.note,
            size=size,
            numbered=numbered,
        )


def line_figure(
    words: Words,
    table: Columns,
    x: Axis,
    y: Axis,
    group: str,
    *,
    panel: str | None = None,
    bound: float | None = None,
    ceiling: float | None = None,
    spread: Spread | None = None,
    legend: str = "",
) -> Figure:
    """``y`` over ``x``, a line with its points for each value of ``group``, in the order of the table. Points
    without a value are left out. ``legend``: what the groups are, where their names do not say it.
    ``bound``: a dashed line at this height; ``ceiling``: no ``y`` above it is drawn, for curves that leave
    for the sky; ``spread``: how far the value is uncertain."""
    groups = [str(value) for value in dict.fromkeys(table[group])]
    upright = quantitative(y, _reached(table, y, spread))
    if ceiling is not None:
        upright["scale"] |= {"domainMax": ceiling, "nice": False}
    colour = category(group, groups, line=True)
    if legend and colour["legend"]:
        colour["legend"] |= {"title": legend, "labelLimit": 280}
    mark = {"type": "line", "point": {"size": 36, "opacity": 1}, "clip": ceiling is not None}
    layers: list[Spec] = [
        {
            "mark": mark,
            "transform": [{"filter": f"isValid(datum['{y.field}'])"}],
            "encoding": {
                "x": quantitative(x, table),
                "y": upright,
                "color": colour,
                "tooltip": tooltip(group, x, y),
            },
        }
    ]
    if spread is not None:
        placed = {"x": quantitative(x, table), "color": colour}
        layers.append(_whiskers(spread, placed, "y", upright))
    if bound is not None:
        layers.append({"mark": {"type": "rule", "style": "slo"}, "encoding": {"y": {"datum": bound}}})
    return _figure(words, table, layers, MEDIUM, panel)


def heat_map(
    words: Words,
    table: Columns,
    x: Axis,
    y: Axis,
    value: Axis,
    *,
    label: str | None = None,
    panel: str | None = None,
) -> Figure:
    """A cell for each pair of ``x`` and ``y``, coloured by ``value``; ``label``: the column whose text stands
    in it (default: the value). Numbers ascend upwards and to the right, texts stand in the order in which
    they come, from the top."""
    across = {
        "field": x.field,
        "type": "ordinal",
        "title": x.title,
        "axis": {"labelAngle": 0, "labelFlush": False},
        "sort": "ascending" if _numbers(table[x.field]) else None,
    }
    up = {
        "field": y.field,
        "type": "ordinal",
        "title": y.title,
        "sort": "descending" if _numbers(table[y.field]) else None,
    }
    colour: Spec = {
        "field": value.field,
        "type": "quantitative",
        "title": value.title,
        "legend": {
            "gradientLength": 160,
            **({"labelExpr": SECONDS_IN_SHORT} if value.seconds else {"format": ",.2~r"}),
        },
    }
    there = [cell for cell in table[value.field] if cell is not None]
    if there:
        colour["scale"] = {"domain": [min(there), max(there)]}
    if value.log:
        colour["scale"] = {"type": "log", **colour.get("scale", {})}
    text: Spec = (
        {"field": label} if label else {"field": value.field, "type": "quantitative", "format": ",.3~r"}
    )
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "stroke": None},
            "encoding": {"x": across, "y": up, "color": colour, "tooltip": tooltip(label, x, y, value)},
        },
        {
            "mark": {"type": "text", "fontSize": 12, "baseline": "middle", "aria": False},
            "encoding": {"x": across, "y": up, "text": text, "color": _readable(value, table)},
        },
    ]
    return _figure(words, table, layers, CELL * len(set(table[y.field])), panel)


def bar_figure(
    words: Words,
    table: Columns,
    bars: Axis,
    value: Axis,
    *,
    group: str | None = None,
    panel: str | None = None,
    spread: Spread | None = None,
) -> Figure:
    """A horizontal bar for each row, by ``bars`` in the order of the table; of each ``group`` one beside the
    others, in its colour. The value stands at its end, or at that of its ``spread``."""
    groups = [str(v) for v in dict.fromkeys(table[group])] if group else []
    y: Spec = {
        "field": bars.field,
        "type": "nominal",
        "sort": None,
        "title": bars.title or None,
        "axis": {"labelLimit": 240},
    }
    x: Spec = quantitative(value, _reached(table, value, spread))
    placed: Spec = {"x": x, "y": y}
    if group:
        placed["yOffset"] = {"field": group, "type": "nominal", "sort": groups}
    colour = {"color": category(group, groups)} if group else {}
    ends = placed if spread is None else {**placed, "x": {**x, "field": spread[1]}}
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "cornerRadiusEnd": 2},
            "encoding": {**placed, **colour, "tooltip": tooltip(group, bars, value)},
        },
        *([] if spread is None else [_whiskers(spread, placed, "x", x)]),
        {
            "mark": {"type": "text", "style": "value-label", "align": "left", "dx": 4, "aria": False},
            "encoding": {
                **ends,
                "text": {"field": value.field, "type": "quantitative", "format": ".3~r"},
            },
        },
    ]
    names = set(table[bars.field])
    return _figure(words, table, layers, BAR * len(names) * max(1, len(groups)), panel)


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _whiskers(spread: Spread, placed: Spec, channel: Literal["x", "y"], along: Spec) -> Spec:
    """Lines from the lower to the upper column of ``spread``, where ``placed`` says, over bars in the colour
    of text."""
    low, high = spread
    mark: Spec = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.75, "aria": False}
    if "color" not in placed:
        mark["style"] = "whisker"
    ends = {channel: {**along, "field": low}, f"{channel}2": {"field": high}}
    return {"mark": mark, "encoding": {**placed, **ends}}


def _reached(table: Columns, axis: Axis, spread: Spread | None) -> Columns:
    """The values that the scale of ``axis`` must hold."""
    return {axis.field: [cell for name in (axis.field, *(spread or ())) for cell in table[name]]}


def _readable(value: Axis, table: Columns) -> Spec:
    """The colour of text on a cell: the scale goes from dark to bright, in both themes."""
    there = [v for v in table[value.field] if v is not None] or [1.0]
    low, high = min(there), max(there)
    middle = math.sqrt(low * high) if value.log else (low + high) / 2
    test = f"datum['{value.field}'] <= {middle}"
    return {"condition": {"test": test, "value": "#FFFFFF"}, "value": "#1B2430"}


def quantitative(axis: Axis, table: Columns) -> Spec:
    """The encoding of a number along ``axis``."""
    drawn: Spec = {"labelExpr": SECONDS} if axis.seconds else {}
    scale: Spec = {"zero": axis.zero}
    if axis.log and axis.follows:
        scale = {"type": "log", "nice": False, "padding": 8}
        drawn |= {"tickCount": 6}
    elif axis.log:
        there = [v for v in table[axis.field] if v is not None and v > 0] or [1.0]
        low, high = min(there), max(there)
        scale = {"type": "log", "domain": [low * 0.9, high * 1.1], "nice": False}
        drawn |= log_axis(low * 0.9, high * 1.1)
    if axis.ticks:
        drawn |= {"values": list(axis.ticks), "tickCount": len(axis.ticks) + 1, "format": TICK}
    return {
        "field": axis.field,
        "type": "quantitative",
        "title": axis.title,
        "scale": scale,
        "axis": drawn,
    }


def tooltip(group: str | None, *axes: Axis) -> list[Spec]:
    """What a mark says when pointed at."""
    named = [{"field": group, "title": group}] if group else []
    return named + [{"field": axis.field, "title": axis.title} for axis in axes]


def _figure(words: Words, table: Columns, layers: Sequence[Spec], height: int, panel: str | None) -> Figure:
    data = {"name": "study"}
    spec: Spec = {"data": data, "height": height, "layer": list(layers)}
    if panel is not None:
        panels = list(dict.fromkeys(table[panel]))
        width = (FILE_WIDTH + PANEL_GAP) // len(panels) - PANEL_GAP // 2
        spec = {
            "data": data,
            "facet": {
                "field": panel,
                "type": "nominal",
                "sort": panels,
                "title": None,
                "header": {"labelFontWeight": 600, "labelFontSize": 12, "labelAnchor": "start"},
            },
            "columns": len(panels),
            "spec": {"width": width, "height": height, "layer": list(layers)},
        }
    return words.figure(spec, {"study": table}, thinned(table))


def columns_of(frame: Any, *names: str) -> Columns:
    """The columns ``names`` of a polars frame, as figures take them."""
    return {name: frame[name].to_list() for name in names}
