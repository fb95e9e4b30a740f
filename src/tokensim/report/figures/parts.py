"""Pieces that figures share: axes with units, the pannable time axis, the choice of an instance."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from tokensim.report.figures.base import Spec

SECONDS = "format(datum.value, '~s') + 's'"
"""Labels of durations: 20ms, 1.5s (a label needs no other unit then)."""

SECONDS_IN_SHORT = "format(datum.value, '.2~s') + 's'"
"""The same of values that are not round, in two digits."""

SMALL, MEDIUM = 180, 220
"""Heights of plotting areas, pixels."""


def seconds_axis(title: str, **more: Any) -> Spec:
    """An axis of durations in seconds, labelled ``50ms``."""
    return {"title": title, "labelExpr": SECONDS, **more}


def as_seconds(field: str, name: str) -> Spec:
    """A transform that gives ``field`` (s) as text with a unit, for tooltips."""
    return {
        "calculate": f"isValid(datum['{field}']) ? format(datum['{field}'], '.3s') + 's' : '-'",
        "as": name,
    }


def time_axis(end_s: float, field: str = "time_s") -> Spec:
    """The encoding of simulated time, from 0 to ``end_s``."""
    return {
        "field": field,
        "type": "quantitative",
        "title": "simulated time (s)",
        "scale": {"domain": [0, end_s], "nice": False},
        "axis": {"format": ",f", "tickCount": 6},
    }


def time_param() -> Spec:
    """Drag to pan; the wheel zooms with Ctrl or Command held, so that a page scrolls without them."""
    return {
        "name": "time",
        "select": {
            "type": "interval",
            "encodings": ["x"],
            "zoom": "wheel![event.ctrlKey || event.metaKey]",
        },
        "bind": "scales",
    }


def every_nth(limit: int) -> list[Spec]:
    """Transforms that leave every n-th row, so that ``limit`` are left at most; each with its number among
    all, ``place``."""
    return [
        {"window": [{"op": "row_number", "as": "place"}]},
        {"joinaggregate": [{"op": "count", "as": "places"}]},
        {"filter": f"(datum.place - 1) % ceil(datum.places / {limit}) == 0"},
    ]


def shown_param() -> Spec:
    """The name of the one instance to draw; null: all."""
    return {"name": "shown", "value": None}


SHOWN = {"filter": "shown == null || datum.instance == shown"}


def category(
    field: str, domain: Sequence[str], used: Collection[str] | None = None, *, line: bool = False
) -> Spec:
    """Colour by ``field``, each of ``domain`` always in its own; a legend for those ``used`` (default: all),
    if there is more than one. ``line``: the marks are lines."""
    shown = [name for name in domain if used is None or name in used]
    legend: Spec | None = None
    if len(shown) > 1:
        legend = {"values": shown, "symbolOpacity": 1, "columns": min(len(shown), 5)}
        if line:
            legend |= {"symbolType": "stroke", "symbolStrokeWidth": 3}
    return {
        "field": field,
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(domain)},
        "legend": legend,
    }


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values from ``low`` to ``high``: 1, 2 and 5 of each power of ten, or powers alone, or every
    n-th."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]


def log_axis(low: float, high: float, most: int = 7) -> Spec:
    """The ticks of a logarithmic axis, as properties of an axis (Vega thins out values beyond the count)."""
    ticks = log_ticks(low, high, most)
    return {"values": ticks, "tickCount": len(ticks) + 1}


def labelled(layer: Spec) -> list[Spec]:
    """A layer of text, and a halo in the colour of the ground under it, so that lines do not cross it."""
    mark = {**layer["mark"], "style": [layer["mark"]["style"], "halo"], "aria": False}
    return [{**layer, "mark": mark}, layer]


def bound_rule(bound: float, label: str, up: Spec) -> list[Spec]:
    """A dashed line at the height ``bound`` with its ``label`` at the left; ``up`` is the encoding of y."""
    once: Spec = {"values": [{}]}
    at: Spec = {"y": {**{key: value for key, value in up.items() if key != "field"}, "datum": bound}}
    mark = {"type": "text", "style": "slo-label", "align": "left", "baseline": "bottom", "dx": 4, "dy": -3}
    text: Spec = {"x": {"value": 0}, "text": {"value": label}}
    return [
        {"data": once, "mark": {"type": "rule", "style": "slo"}, "encoding": at},
        *labelled({"data": once, "mark": mark, "encoding": {**at, **text}}),
    ]


def slo_of(summary: Any, metric: str) -> tuple[float, float, bool | None] | None:
    """(bound in seconds, percentile, met) of the SLO on ``metric`` in a ``summary.json`` tree, if there is
    one."""
    slo = summary.get("slo") or {}
    for bound in slo.get("bounds", ()):
        if bound["metric"] == metric:
            return bound["bound_s"], slo["percentile"], bound["met"]
    return None
