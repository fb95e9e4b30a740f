"""Where the time of the steps went: by operator, and by what bounds it."""

from __future__ import annotations

from tokensim.report.figures.base import Figure, Spec
from tokensim.report.figures.parts import as_seconds, category, seconds_axis
from tokensim.report.figures.theme import BOUNDS
from tokensim.report.numbers import duration, share
from tokensim.report.series.base import Columns, columns, length, where

MOST_OPERATORS, LEAST_SHARE = 14, 0.002
"""Bars of one figure, and what the least of them is of the whole; the rest is one more."""

OTHERS = "all others"


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
    high = max(sums.values()) * 1.28  # room for the labels, on a phone too
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
