"""Pieces that figures share: axes with units, the pannable time axis, the choice of an instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokensim.report.figures.base import Spec

SECONDS = "format(datum.value, '~s') + 's'"
"""Labels of durations: 20ms, 1.5s (a label needs no other unit then)."""

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
        "axis": {"format": ",", "tickCount": 8},
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


def shown_param() -> Spec:
    """The name of the one instance to draw; null: all."""
    return {"name": "shown", "value": None}


SHOWN = {"filter": "shown == null || datum.instance == shown"}


def category(field: str, domain: Sequence[str], title: str | None = None, **legend: Any) -> Spec:
    """Colour by ``field``, each of ``domain`` always in its own; no legend for a single one."""
    return {
        "field": field,
        "type": "nominal",
        "title": title,
        "scale": {"domain": list(domain)},
        "legend": None if len(domain) < 2 else {"columns": min(len(domain), 4), **legend},
    }


def slo_of(summary: Any, metric: str) -> tuple[float, float, bool | None] | None:
    """(bound in seconds, percentile, met) of the SLO on ``metric`` in a ``summary.json`` tree, if there is
    one."""
    slo = summary.get("slo") or {}
    for bound in slo.get("bounds", ()):
        if bound["metric"] == metric:
            return bound["bound_s"], slo["percentile"], bound["met"]
    return None
