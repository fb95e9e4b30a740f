"""TTFT and TPOT over time: percentiles of each interval, over a sample of single requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.latency import FAR_SLO, LONG_TAIL, METRICS
from tokensim.report.figures.parts import (
    MEDIUM,
    as_seconds,
    category,
    labelled,
    log_axis,
    seconds_axis,
    slo_of,
    time_axis,
    time_param,
)
from tokensim.report.numbers import duration, setting
from tokensim.report.series.base import Columns, length, where

PERCENTILES = ("p50", "SLO", "p90", "p99")
"""In the order of the colours: the second is that of the SLO's line."""


def latency_over_time(
    metric: str, latency: Columns, sample: Columns, summary: Mapping[str, Any], end_s: float
) -> Figure | None:
    """Percentiles of TTFT or TPOT by time of arrival, over a sample of the requests; None without any."""
    lines = where(latency, metric=metric)
    if not length(lines):
        return None
    name, short = METRICS[metric]
    known = [i for i, seconds in enumerate(sample[metric]) if seconds is not None]
    dots = {k: [values[i] for i in known] for k, values in sample.items() if k not in ("ttft", "tpot")}
    dots[metric] = [sample[metric][i] for i in known]
    told = summary["latency"][f"{metric}_s"]
    spread = told["max"] > LONG_TAIL * told["p50"] > 0
    low = min((s for s in [*lines["p50"], *dots[metric]] if s > 0), default=0.0)
    scale: Spec = {"type": "log", "domainMin": low * 0.9, "nice": False} if spread else {"zero": True}
    top = told["max"]
    slo = slo_of(summary, metric)
    if slo and slo[0] <= FAR_SLO * told["max"]:
        top = max(slo[0] * 1.05, top)
    else:
        slo = None
    scale |= {"domainMax": top * (1.6 if spread else 1.07) or 1e-3, "nice": False}
    ticks = log_axis(low * 0.9, max(told["max"], low), 5) if spread else {}
    y = {"type": "quantitative", "scale": scale, "axis": seconds_axis(short, **{"tickCount": 5, **ticks})}
    x = time_axis(end_s)
    layers: list[Spec] = [
        {
            "data": {"name": "requests"},
            "params": [time_param()],
            "transform": [
                as_seconds(metric, "text"),
                *([{"filter": f"datum.{metric} > 0"}] if spread else []),
            ],
            "mark": {"type": "circle", "clip": True, "size": 12, "opacity": 0.28, "aria": False},
            "encoding": {
                "x": x,
                "y": {"field": metric, **y},
                "color": {"value": "#8A94A3"},
                "tooltip": [
                    {"field": "text", "title": short},
                    {"field": "time_s", "title": "arrived (s)", "format": ",.4~f"},
                    {"field": "input_tokens", "title": "input tokens", "format": ","},
                    {"field": "output_tokens", "title": "output tokens", "format": ","},
                    {"field": "instance", "title": "instance"},
                ],
            },
        },
        {
            "data": {"name": "lines"},
            "transform": [
                {"fold": ["p50", "p99"], "as": ["percentile", "seconds"]},
                as_seconds("seconds", "text"),
                *([{"filter": "datum.seconds > 0"}] if spread else []),
            ],
            "mark": {"type": "line", "clip": True, "interpolate": "monotone", "point": length(lines) < 3},
            "encoding": {
                "x": x,
                "y": {"field": "seconds", **y},
                "color": category("percentile", PERCENTILES, ("p50", "p99"), line=True),
                "tooltip": [
                    {"field": "percentile", "title": "percentile"},
                    {"field": "text", "title": short},
                    {"field": "time_s", "title": "around (s)", "format": ",.4~f"},
                    {"field": "requests", "title": "requests", "format": ","},
                ],
            },
        },
    ]
    if slo:
        layers += _slo_line(slo[0])
    drawn, total = len(known), told["count"]
    return Figure(
        name=f"{metric}-over-time",
        title=f"{short} over time",
        description=(
            f"{name} of requests by the time of their arrival: the median and the 99th percentile of each"
            " interval as lines, single requests as dots."
            + (" The lines are of all tenants, whichever is chosen." if "tenant" in sample else "")
        ),
        spec={"height": MEDIUM, "layer": layers},
        datasets={"requests": dots, "lines": {k: lines[k] for k in ("time_s", "p50", "p99", "requests")}},
        numbers=_as_text(thinned(lines)),
        filtered=("requests",),
        note=f"Dots are {drawn:,} of {total:,} requests, evenly spread." if drawn < total else "",
        timed=True,
    )


def _slo_line(bound: float) -> list[Spec]:
    return [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "style": "slo"},
            "encoding": {"y": {"datum": bound}},
        },
        *labelled(
            {
                "data": {"values": [{}]},
                "mark": {
                    "type": "text",
                    "style": "slo-label",
                    "align": "right",
                    "baseline": "bottom",
                    "dx": -2,
                    "dy": -3,
                    "text": f"SLO {setting(bound)}",
                },
                "encoding": {"x": {"value": "width"}, "y": {"datum": bound}},
            }
        ),
    ]


def _as_text(lines: Columns) -> Columns:
    return {
        "around (s)": lines["time_s"],
        "requests": lines["requests"],
        "p50": [duration(s) for s in lines["p50"]],
        "p99": [duration(s) for s in lines["p99"]],
    }
