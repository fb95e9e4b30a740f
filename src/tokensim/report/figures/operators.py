"""Where the time of the steps went: by operator and bound, and against the roofline of the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import MEDIUM, as_seconds, category, labelled, log_axis, seconds_axis
from tokensim.report.figures.theme import BOUNDS
from tokensim.report.numbers import duration, share
from tokensim.report.series.base import Columns, columns, length, where

MOST_OPERATORS, LEAST_SHARE = 14, 0.002
"""Bars of one figure, and what the least of them is of the whole; the rest is one more."""

OTHERS = "all others"

KINDS = ("gemm", "attention", "moe", "elementwise", "encoder")
LABELS = 5
"""Operators with a name in the roofline at most; the others have one in their tooltip."""

APART = (0.3, 0.07)
"""What two names must be apart, as shares of width and height, for both to be drawn."""


def operators_figure(pool: str, operators: Columns, only: bool) -> Figure | None:
    """Seconds of every operator of ``pool``, by what bounds it; ``only``: there is no other pool."""
    own = where(operators, pool=pool)
    if not length(own):
        return None
    totals: dict[str, float] = {}
    for name, seconds in zip(own["operator"], own["seconds"], strict=True):
        totals[name] = totals.get(name, 0.0) + seconds
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    whole = sum(totals.values())
    kept = [name for name in ranked[:MOST_OPERATORS] if totals[name] >= LEAST_SHARE * whole]
    parts: dict[tuple[str, str], float] = {}
    for name, bound, seconds in zip(own["operator"], own["bound"], own["seconds"], strict=True):
        key = (name if name in kept else OTHERS, bound)
        parts[key] = parts.get(key, 0.0) + seconds
    order = [*kept, *([OTHERS] if len(kept) < len(ranked) else [])]
    table = columns(
        operator=[name for name, _ in parts],
        bound=[bound for _, bound in parts],
        seconds=list(parts.values()),
        share=[seconds / whole for seconds in parts.values()],
    )
    sums = {name: sum(s for (n, _), s in parts.items() if n == name) for name in order}
    labels = columns(
        operator=order,
        seconds=[sums[name] for name in order],
        text=[share(sums[name] / whole) for name in order],
    )
    y: Spec = {"field": "operator", "type": "nominal", "sort": order, "title": None}
    y["axis"] = {"labelLimit": 150, "grid": False, "labelOverlap": False}
    high = max(sums.values()) * 1.16
    x: Spec = {"field": "seconds", "type": "quantitative", "scale": {"domain": [0, high], "nice": False}}
    x["axis"] = seconds_axis("time in steps, all instances", grid=True, tickCount=5)
    layers: list[Spec] = [
        {
            "data": {"name": "operators"},
            "transform": [as_seconds("seconds", "text")],
            "mark": {"type": "bar", "cornerRadiusEnd": 2},
            "encoding": {
                "y": y,
                "x": {**x, "stack": "zero"},
                "color": category("bound", BOUNDS, set(table["bound"])),
                "order": {"field": "bound"},
                "tooltip": [
                    {"field": "operator", "title": "operator"},
                    {"field": "bound", "title": "bound by"},
                    {"field": "text", "title": "time"},
                    {"field": "share", "title": "of all steps", "format": ".1%"},
                ],
            },
        },
        {
            "data": {"name": "labels"},
            "mark": {"type": "text", "style": "value-label", "align": "left", "dx": 5},
            "encoding": {"y": y, "x": x, "text": {"field": "text"}},
        },
    ]
    suffix = "" if only else f"-{pool}"
    return Figure(
        name=f"operators{suffix}",
        title="Time by operator" + ("" if only else f": {pool}"),
        description=(
            "Seconds of all steps by operator, coloured by what limits it: arithmetic, memory traffic, the"
            " network, or the host."
        ),
        spec={"height": 22 * len(order), "layer": layers},
        datasets={"operators": table, "labels": labels},
        numbers={
            "operator": table["operator"],
            "bound by": table["bound"],
            "time": [duration(s) for s in table["seconds"]],
            "share": [share(s) for s in table["share"]],
        },
    )


def bounds_figure(operators: Columns) -> Figure | None:
    """What share of each pool's step time is bound by what."""
    if not length(operators):
        return None
    pools = list(dict.fromkeys(operators["pool"]))
    sums: dict[tuple[str, str], float] = {}
    for pool, bound, seconds in zip(operators["pool"], operators["bound"], operators["seconds"], strict=True):
        sums[pool, bound] = sums.get((pool, bound), 0.0) + seconds
    wholes = {pool: sum(s for (p, _), s in sums.items() if p == pool) for pool in pools}
    table = columns(
        pool=[pool for pool, _ in sums],
        bound=[bound for _, bound in sums],
        seconds=list(sums.values()),
        share=[seconds / wholes[pool] for (pool, _), seconds in sums.items()],
    )
    table["order"] = [BOUNDS.index(bound) if bound in BOUNDS else 9 for bound in table["bound"]]
    bars: Spec = {
        "data": {"name": "bounds"},
        "transform": [as_seconds("seconds", "text")],
        "mark": {"type": "bar"},
        "encoding": {
            "y": {
                "field": "pool",
                "type": "nominal",
                "sort": pools,
                "title": "pool",
                "axis": {"grid": False},
                "scale": {"paddingInner": 0.3},
            },
            "x": {
                "field": "share",
                "type": "quantitative",
                "stack": "zero",
                "title": "share of the time of all steps",
                "scale": {"domain": [0, 1]},
                "axis": {"format": ".0%", "tickCount": 5},
            },
            "color": category("bound", BOUNDS, set(table["bound"])),
            "order": {"field": "order"},
            "tooltip": [
                {"field": "pool", "title": "pool"},
                {"field": "bound", "title": "bound by"},
                {"field": "text", "title": "time"},
                {"field": "share", "title": "share", "format": ".1%"},
            ],
        },
    }
    return Figure(
        name="bounds",
        title="Time by bound",
        description="The share of each pool's step time that arithmetic, memory, network, host limit.",
        spec={"height": 44 * len(pools), "layer": [bars]},
        datasets={"bounds": table},
        numbers={
            "pool": table["pool"],
            "bound by": table["bound"],
            "time": [duration(s) for s in table["seconds"]],
            "share": [share(s) for s in table["share"]],
        },
    )


def roofline_figure(pool: str, operators: Columns, roofs: Columns, only: bool) -> Figure | None:
    """Arithmetic intensity of each operator of ``pool`` against the FLOP/s that it reached, under the peaks
    of the device; None if they are not known."""
    own, device = where(operators, pool=pool), where(roofs, pool=pool)
    merged: dict[str, dict[str, float | str]] = {}
    for i, name in enumerate(own["operator"]):
        if own["flops"][i] and own["bytes"][i]:
            entry = merged.setdefault(
                name,
                {"kind": own["kind"][i], "flops": own["flops"][i], "bytes": own["bytes"][i], "seconds": 0.0},
            )
            entry["seconds"] = float(entry["seconds"]) + own["seconds"][i]
    if not merged or not length(device):
        return None
    whole = sum(own["seconds"]) or 1.0
    dots: list[dict[str, Any]] = [
        {
            "operator": name,
            "kind": str(entry["kind"]),
            "intensity": float(entry["flops"]) / float(entry["bytes"]),
            "rate": float(entry["flops"]) / float(entry["seconds"]),
            "share": float(entry["seconds"]) / whole,
        }
        for name, entry in merged.items()
    ]
    dots.sort(key=lambda dot: (-float(dot["share"]), str(dot["operator"])))
    table = columns(**{key: [dot[key] for dot in dots] for key in dots[0]})
    bandwidth = device["bytes_per_s"][0]
    peak = max(device["flops_per_s"])
    ridge = peak / bandwidth
    low = min(min(table["intensity"]), ridge / 30) / 2
    high = max(max(table["intensity"]), ridge) * 6
    floor = min(min(table["rate"]), bandwidth * low) / 2
    lines: list[dict[str, float | str]] = []
    names: list[dict[str, float | str]] = []
    for dtype, flops in zip(device["dtype"], device["flops_per_s"], strict=True):
        at = flops / bandwidth
        lines += [{"roof": dtype, "intensity": x, "rate": min(x * bandwidth, flops)} for x in (low, at, high)]
        names.append({"intensity": high, "rate": flops, "text": f"{flops / 1e12:,.0f} TFLOP/s {dtype}"})
    x: Spec = {
        "field": "intensity",
        "type": "quantitative",
        "title": "arithmetic intensity (FLOP/byte)",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {"format": "~s", **log_axis(low, high)},
    }
    y: Spec = {
        "field": "rate",
        "type": "quantitative",
        "title": "achieved FLOP/s",
        "scale": {"type": "log", "domain": [floor, peak * 3], "nice": False},
        "axis": {"format": "~s", **log_axis(floor, peak * 3, 5)},
    }
    layers: list[Spec] = [
        {
            "data": {"values": lines},
            "mark": {"type": "line", "style": "roof", "clip": True, "aria": False},
            "encoding": {
                "x": x,
                "y": y,
                "detail": {"field": "roof"},
            },
        },
        {
            "data": {"values": names},
            "mark": {"type": "text", "style": "roof-label", "align": "right", "dy": -7, "dx": -2},
            "encoding": {"x": x, "y": y, "text": {"field": "text"}},
        },
        {
            "data": {"name": "dots"},
            "mark": {"type": "circle", "clip": True, "opacity": 0.85},
            "encoding": {
                "x": x,
                "y": y,
                "color": category("kind", KINDS, set(table["kind"])),
                "size": {
                    "field": "share",
                    "type": "quantitative",
                    "scale": {"range": [40, 420]},
                    "legend": None,
                },
                "tooltip": [
                    {"field": "operator", "title": "operator"},
                    {"field": "intensity", "title": "FLOP/byte", "format": ",.3~r"},
                    {"field": "rate", "title": "FLOP/s", "format": ".3s"},
                    {"field": "share", "title": "of step time", "format": ".1%"},
                ],
            },
        },
        *labelled(
            {
                "data": {"values": _named(dots, high / low, peak * 3 / floor)},
                "mark": {
                    "type": "text",
                    "style": "mark-label",
                    "align": "left",
                    "baseline": "middle",
                    "dx": 13,
                },
                "encoding": {"x": x, "y": y, "text": {"field": "operator"}},
            }
        ),
    ]
    return Figure(
        name="roofline" + ("" if only else f"-{pool}"),
        title="Roofline" + ("" if only else f": {pool}"),
        description=(
            f"Each operator over the whole run on {device['device'][0]}: FLOP for a byte of memory traffic"
            " against the FLOP/s that it reached; the lines are the device's bandwidth and peaks. Larger dots"
            " took more time."
        ),
        spec={"height": MEDIUM + 60, "layer": layers},
        datasets={"dots": table},
        numbers={
            "operator": table["operator"],
            "FLOP/byte": [f"{v:,.3g}" for v in table["intensity"]],
            "TFLOP/s": [f"{v / 1e12:,.3g}" for v in table["rate"]],
            "of step time": [share(v) for v in table["share"]],
        },
    )


def _named(dots: Sequence[dict[str, Any]], width: float, height: float) -> list[dict[str, Any]]:
    """The first of ``dots`` whose names do not collide; the axes span the ratios ``width`` and ``height``."""
    named: list[dict[str, Any]] = []
    for dot in dots:
        if len(named) < LABELS and not any(
            abs(math.log(dot["intensity"] / other["intensity"])) < APART[0] * math.log(width)
            and abs(math.log(dot["rate"] / other["rate"])) < APART[1] * math.log(height)
            for other in named
        ):
            named.append({name: dot[name] for name in ("operator", "intensity", "rate")})
    return named
