"""The roofline of a device with the operators under it: work a byte against the rate that was reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import MEDIUM, category, labelled, log_axis
from tokensim.report.numbers import share
from tokensim.report.series.base import Columns, columns, length, where

KINDS = ("gemm", "attention", "moe", "elementwise", "encoder")
"""Kinds of operators, in the order of the colours."""

LABELS = 5
"""Operators with a name in the roofline at most; the others have one in their tooltip."""

APART = (0.3, 0.07)
"""What two names must be apart, as shares of width and height, for both to be drawn."""

EDGE = 0.7
"""Beyond this share of the width, names stand at the left of their dots."""


def roofline_figure(pool: str, operators: Columns, roofs: Columns, only: bool) -> Figure | None:
    """Arithmetic intensity of each operator of ``pool`` against the FLOP/s that it reached, under the peaks
    of the device; None if they are not known."""
    own, device = where(operators, pool=pool), where(roofs, pool=pool)
    merged: dict[str, dict[str, Any]] = {}
    counted = set()
    for i, name in enumerate(own["operator"]):
        if not (own["flops"][i] and own["bytes"][i]):
            continue
        entry = merged.setdefault(name, {"kind": own["kind"][i], "flops": 0.0, "bytes": 0.0, "seconds": 0.0})
        entry["seconds"] += own["seconds"][i]
        if (name, own["source"][i]) not in counted:  # its rows, one a bound, repeat the work
            counted.add((name, own["source"][i]))
            entry["flops"] += own["flops"][i]
            entry["bytes"] += own["bytes"][i]
    if not merged or not length(device):
        return None
    whole = sum(own["seconds"]) or 1.0
    dots: list[dict[str, Any]] = [
        {
            "operator": name,
            "kind": entry["kind"],
            "intensity": entry["flops"] / entry["bytes"],
            "rate": entry["flops"] / entry["seconds"],
            "share": entry["seconds"] / whole,
        }
        for name, entry in merged.items()
    ]
    dots.sort(key=lambda dot: (-dot["share"], dot["operator"]))
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
        *_names(_named(dots, high / low, peak * 3 / floor), low * (high / low) ** EDGE, x, y),
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


def _names(dots: Sequence[dict[str, Any]], edge: float, x: Spec, y: Spec) -> list[Spec]:
    """Names beside ``dots``: at the right, or at the left of those beyond ``edge``."""
    sides = (
        ("left", 13, [dot for dot in dots if dot["intensity"] <= edge]),
        ("right", -13, [dot for dot in dots if dot["intensity"] > edge]),
    )
    return [
        layer
        for align, dx, named in sides
        if named
        for layer in labelled(
            {
                "data": {"values": named},
                "mark": {
                    "type": "text",
                    "style": "mark-label",
                    "align": align,
                    "baseline": "middle",
                    "dx": dx,
                },
                "encoding": {"x": x, "y": y, "text": {"field": "operator"}},
            }
        )
    ]


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
