"""Figures that hold configurations side by side: bars, and lines over a parameter, in panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokensim.report.figures.base import FILE_WIDTH, Figure, Spec
from tokensim.report.figures.front import pareto
from tokensim.report.figures.parts import category
from tokensim.report.figures.study import PANEL_GAP
from tokensim.report.series.base import Columns


def bars(
    name: str, title: str, description: str, table: Columns, *, value: str, form: str = ".3~g", note: str = ""
) -> Figure:
    """A bar for each row of ``table`` (columns ``panel``, ``bar``, ``value``), panels under each other with
    scales of their own, bars in the order of the rows. ``value`` is the title of the axis, ``form`` the d3
    format of the numbers at the bars."""
    names = _kinds(table["bar"])
    mark = {"data": {"name": name}, "height": {"step": 24}, "width": FILE_WIDTH - 220}
    axes: Spec = {
        "y": {
            "field": "bar",
            "type": "nominal",
            "sort": names,
            "title": None,
            "axis": {"grid": False, "labelLimit": 260, "labelOverlap": False},
        },
        "x": {"field": "value", "type": "quantitative", "title": value, "axis": {"tickCount": 5}},
    }
    panels = [
        {
            **mark,
            "title": {"text": panel, "fontSize": 12, "fontWeight": "normal", "offset": 4},
            "transform": [{"filter": {"field": "panel", "equal": panel}}],
            "layer": [
                {"mark": {"type": "bar", "cornerRadiusEnd": 2}, "encoding": axes},
                {
                    "mark": {"type": "text", "align": "left", "dx": 4, "style": "value-label"},
                    "encoding": {**axes, "text": {"field": "value", "type": "quantitative", "format": form}},
                },
            ],
        }
        for panel in _kinds(table["panel"])
    ]
    spec = {"vconcat": panels, "resolve": {"scale": {"x": "independent"}}}
    return Figure(name, title, description, spec, {name: table}, table, note)


def lines(
    name: str,
    title: str,
    description: str,
    table: Columns,
    *,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    zero: bool = True,
    note: str = "",
) -> Figure:
    """A line for each ``series`` through ``x`` and ``y`` (columns of ``table``, with ``panel``), panels side
    by side with a scale of y of their own. ``x`` and ``y`` are the axes' titles; ``log_x``: x is drawn to
    base 2, with a tick at every value; ``log_y``: y to base 10, else it begins at zero (with ``zero``)."""
    panels = _kinds(table["panel"])
    width = (FILE_WIDTH - PANEL_GAP * (len(panels) - 1)) // len(panels)
    ticks: dict[str, Any] = {"grid": False, "labelFlush": False}
    if log_x:
        ticks |= {"values": sorted(set(table["x"])), "format": "~r"}
    marks = [
        {
            "data": {"name": name},
            "width": width,
            "height": 220,
            "title": {"text": panel, "fontSize": 12, "fontWeight": "normal", "offset": 6},
            "transform": [{"filter": {"field": "panel", "equal": panel}}],
            "mark": {"type": "line", "point": {"filled": True, "size": 34}},
            "encoding": {
                "x": {
                    "field": "x",
                    "type": "quantitative",
                    "title": x,
                    "scale": {"type": "log", "base": 2, "nice": False} if log_x else {"zero": False},
                    "axis": ticks,
                },
                "y": {
                    "field": "y",
                    "type": "quantitative",
                    "title": y,
                    "scale": {"type": "log", "nice": False} if log_y else {"zero": zero},
                },
                "color": _colour(table, line=True),
            },
        }
        for panel in panels
    ]
    spec = {"hconcat": marks, "resolve": {"scale": {"y": "independent"}}}
    return Figure(name, title, description, spec, {name: table}, table, note)


def scatter(
    name: str, title: str, description: str, table: Columns, *, x: str, y: str, note: str = ""
) -> Figure:
    """A dot for each row of ``table`` (columns ``panel``, ``series``, ``x``, ``y``, ``label``), panels side
    by side. Dots on the front (no other of the panel has less of ``x`` and as much of ``y``) are joined.
    A dot whose ``label`` is not empty has it beside it."""
    panels = _kinds(table["panel"])
    width = (FILE_WIDTH - PANEL_GAP * (len(panels) - 1)) // len(panels)
    table = {**table, "front": _front(table)}
    axes: Spec = {
        "x": {"field": "x", "type": "quantitative", "title": x, "axis": {"grid": False}},
        "y": {"field": "y", "type": "quantitative", "title": y},
    }
    on_front: list[Spec] = [{"filter": "datum.front"}]
    label: Spec = {"type": "text", "align": "right", "dx": -6, "dy": -5, "style": "mark-label", "fontSize": 9}
    marks: list[Spec] = [
        {
            "data": {"name": name},
            "width": width,
            "height": 300,
            "title": {"text": panel, "fontSize": 12, "fontWeight": "normal", "offset": 6},
            "transform": [{"filter": {"field": "panel", "equal": panel}}],
            "layer": [
                {
                    "transform": on_front,
                    "mark": {"type": "line", "strokeWidth": 1, "strokeDash": [4, 3], "style": "roof"},
                    "encoding": axes,
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 46, "opacity": 0.9},
                    "encoding": {**axes, "color": _colour(table)},
                },
                {
                    "mark": label,
                    "encoding": {**axes, "text": {"field": "label"}},
                },
            ],
        }
        for panel in panels
    ]
    spec = {"hconcat": marks, "resolve": {"scale": {"y": "independent"}}}
    return Figure(name, title, description, spec, {name: table}, table, note)


def _front(table: Columns) -> list[bool]:
    """Which rows no other of their panel beats, with less of x and no less of y."""
    best: set[int] = set()
    for panel in _kinds(table["panel"]):
        rows = [row for row, own in enumerate(table["panel"]) if own == panel]
        found = pareto([table["x"][row] for row in rows], [-table["y"][row] for row in rows])
        best |= {rows[at] for at in found}
    return [row in best for row in range(len(table["x"]))]


def _colour(table: Columns, *, line: bool = False) -> Spec:
    """Colour by ``series``, with room for long names in the legend."""
    colour = category("series", _kinds(table["series"]), line=line)
    if colour["legend"] is not None:
        colour["legend"]["labelLimit"] = 280
    return colour


def _kinds(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
