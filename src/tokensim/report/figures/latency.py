"""Latencies as distribution functions, with percentiles and the bound of the SLO."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import (
    SMALL,
    as_seconds,
    labelled,
    log_axis,
    seconds_axis,
    slo_of,
)
from tokensim.report.numbers import duration, setting
from tokensim.report.series.base import Columns, length, where

METRICS = {
    "ttft": ("Time to first token", "TTFT"),
    "tpot": ("Time per output token", "TPOT"),
    "itl": ("Inter-token latency", "ITL"),
    "e2e": ("End-to-end latency", "E2E"),
    "queue": ("Time in the queue", "queue time"),
}
"""Metric → its name, and its short name."""

LONG_TAIL = 25
"""From this ratio of the greatest to the median on, an axis is logarithmic."""

LABEL_PLACES = (
    ("above right", "left", 0, -11),
    ("above left", "right", 0, -11),
    ("beside right", "left", 9, 5),
    ("beside left", "right", -9, -2),
)
"""Of the label of a percentile: place, alignment, and pixels from its dot."""

TOP = 1.2
"""Of the axis of shares: there is room for labels above 100 %."""

FAR_SLO = 4
"""A bound beyond so many times the greatest latency would squeeze the curve, and is only told in words."""


def latency_cdf(metric: str, cdfs: Columns, summary: Mapping[str, Any]) -> Figure | None:
    """The distribution function of one of ``METRICS``, with p50, p90 and p99 and the SLO's bound; None if
    nobody has the metric."""
    curve = where(cdfs, metric=metric)
    if not length(curve):
        return None
    name, short = METRICS[metric]
    told = summary["latency"][f"{metric}_s"]
    marks = [(f"p{p}", told[f"p{p}"], p / 100) for p in (50, 90, 99)]
    scale = _scale(curve["seconds"], told)
    slo = slo_of(summary, metric)
    what = "gaps" if metric == "itl" else "requests"
    note = ""
    if slo and slo[0] > FAR_SLO * told["max"]:
        note = f"The SLO's bound, {setting(slo[0])}, is far beyond the right edge."
    elif slo:
        scale = _reaching(scale, slo[0])
    ticks = log_axis(*scale["domain"]) if scale["type"] == "log" else {}
    x = {
        "field": "seconds",
        "type": "quantitative",
        "scale": scale,
        "axis": seconds_axis(short, **{"tickCount": 5, **ticks}),
    }
    y = {
        "field": "share",
        "type": "quantitative",
        "title": f"share of {what}",
        "scale": {"domain": [0, TOP], "nice": False},
        "axis": {"format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1]},
    }
    layers: list[Spec] = [
        {
            "data": {"name": "curve"},
            "transform": [as_seconds("seconds", "text")],
            "mark": {"type": "line", "clip": True, "interpolate": "linear"},
            "encoding": {
                "x": x,
                "y": y,
                "tooltip": [
                    {"field": "text", "title": short},
                    {"field": "share", "title": f"{what} within", "format": ".2%"},
                ],
            },
        }
    ]
    if slo and not note:
        bound, percentile, _ = slo
        within = [f for s, f in zip(curve["seconds"], curve["share"], strict=True) if s <= bound]
        layers += _slo_rule(bound, percentile, scale, low=(within or [0])[-1] >= 0.5)
    layers += _marks([m for m in marks if m[1] is not None], scale, x, y)
    verdict = ""
    if slo:
        met = {True: "met", False: "missed", None: "not judged"}[slo[2]]
        verdict = f" The SLO wants {setting(slo[0])} at p{slo[1]:g}: {met}."
    return Figure(
        name=f"{metric}-cdf",
        title=name,
        description=(
            f"Share of {what} whose {short} is at most x: half have {duration(told['p50'])}, 99 % are"
            f" within {duration(told['p99'])}.{verdict}"
        ),
        spec={"height": SMALL, "layer": layers},
        datasets={"curve": {k: curve[k] for k in ("seconds", "share")}},
        numbers={
            "figure": ["mean", "p50", "p90", "p95", "p99", "max", f"{what} counted"],
            short: [duration(told[k]) for k in ("mean", "p50", "p90", "p95", "p99", "max")]
            + [f"{told['count']:,}"],
        },
        note=note,
        size="small",
    )


def _scale(seconds: Sequence[float], told: Mapping[str, float]) -> Spec:
    """Linear from zero, or logarithmic where the tail is long."""
    positive = [s for s in seconds if s > 0]
    if not positive:
        return {"type": "linear", "domain": [0, 1e-3], "nice": False}
    high, middle = max(positive), told["p50"]
    if middle > 0 and high > LONG_TAIL * middle:
        low = max(min(positive), middle / 100)
        return {"type": "log", "domain": [low * 0.9, high * 1.1], "nice": False}
    return {"type": "linear", "domain": [0, high * 1.04], "nice": False}


def _reaching(scale: Spec, bound: float) -> Spec:
    low, high = scale["domain"]
    margin = 1.25 if scale["type"] == "log" else 1.08
    return {**scale, "domain": [min(low, bound / margin) if low else 0, max(high, bound * margin)]}


def _place(value: float, scale: Spec) -> float:
    """Where ``value`` lies on the axis, 0 to 1."""
    low, high = scale["domain"]
    if scale["type"] == "log":
        return math.log(max(value, low) / low) / math.log(high / low)
    return float((value - low) / (high - low))


def _slo_rule(bound: float, percentile: float, scale: Spec, *, low: bool) -> list[Spec]:
    """A line at the bound; its label stands at the bottom (``low``) or at the top, where the curve is not."""
    left = _place(bound, scale) > 0.5
    return [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "style": "slo"},
            "encoding": {"x": {"datum": bound}},
        },
        *labelled(
            {
                "data": {"values": [{}]},
                "mark": {
                    "type": "text",
                    "style": "slo-label",
                    "align": "right" if left else "left",
                    "dx": -6 if left else 6,
                    "dy": -8 if low else 5,
                    "text": f"SLO {setting(bound)} at p{percentile:g}",
                },
                "encoding": {"x": {"datum": bound}, "y": {"datum": 0 if low else TOP}},
            }
        ),
    ]


def _marks(marks: list[tuple[str, float, float]], scale: Spec, x: Spec, y: Spec) -> list[Spec]:
    """A dot and a label at each percentile.

    Below and right of the curve there is room, and above it: p99 stands there, clear of p90.
    """
    values = []
    for name, seconds, at in marks:
        above, late = at > 0.95, _place(seconds, scale) > 0.72
        place = f"{'above' if above else 'beside'} {'left' if late else 'right'}"
        values.append({"seconds": seconds, "share": at, "label": f"{name} {duration(seconds)}", "at": place})
    layers: list[Spec] = [
        {
            "data": {"values": values},
            "mark": {"type": "circle", "style": "mark-point", "size": 55, "opacity": 1, "aria": False},
            "encoding": {"x": x, "y": y},
        }
    ]
    for place, align, dx, dy in LABEL_PLACES:
        layers += labelled(
            {
                "data": {"values": [v for v in values if v["at"] == place]},
                "mark": {"type": "text", "style": "mark-label", "align": align, "dx": dx, "dy": dy},
                "encoding": {"x": x, "y": y, "text": {"field": "label"}},
            }
        )
    return layers
