"""A heat map of numbers around zero: two colours, as strong as the number is far from it."""

from __future__ import annotations

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.study import CELL, Axis, Words, tooltip
from tokensim.report.series.base import Columns

STRONG = 0.55
"""From this share of the largest number on, a cell is so dark that its text is white."""


def diverging_map(words: Words, table: Columns, x: Axis, y: Axis, value: Axis) -> Figure:
    """A cell for each pair of ``x`` and ``y``, in the order of ``table``, coloured by ``value`` on a scale
    that is as wide below zero as above, and labelled with it."""
    most = max((abs(cell) for cell in table[value.field] if cell is not None), default=0.0) or 1.0
    placed: Spec = {
        "x": {
            "field": x.field,
            "type": "nominal",
            "sort": None,
            "title": x.title or None,
            "axis": {"labelAngle": 0, "orient": "top", "labelLimit": 110},
        },
        "y": {
            "field": y.field,
            "type": "nominal",
            "sort": None,
            "title": y.title or None,
            "axis": {"labelLimit": 160},
        },
    }
    strong = f"abs(datum['{value.field}']) > {STRONG * most}"
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "stroke": None, "cornerRadius": 2},
            "encoding": {
                **placed,
                "color": {
                    "field": value.field,
                    "type": "quantitative",
                    "title": value.title,
                    "scale": {"domain": [-most, most], "domainMid": 0, "range": "diverging"},
                    "legend": {"gradientLength": 160, "format": "+.2~r"},
                },
                "tooltip": tooltip(None, x, y, value),
            },
        },
        {
            "mark": {"type": "text", "fontSize": 12, "baseline": "middle", "aria": False},
            "encoding": {
                **placed,
                "text": {"field": value.field, "type": "quantitative", "format": "+.2f"},
                "color": {"condition": {"test": strong, "value": "#FFFFFF"}, "value": "#1B2430"},
            },
        },
    ]
    return words.figure(
        {"data": {"name": "cells"}, "height": CELL * len(set(table[y.field])), "layer": layers},
        {"cells": table},
        thinned(table, len(table[value.field])),
    )
