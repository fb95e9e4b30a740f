"""How many replicas each pool had over time, where any came or went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import MEDIUM, category, time_axis, time_param
from tokensim.report.series.base import Columns, columns, joined


def replicas_figure(summary: Mapping[str, Any], end_s: float) -> Figure | None:
    """Replicas that served, by pool, over time; None if all stood from the start to the end."""
    operations = summary.get("operations")
    if not operations or end_s <= 0:
        return None
    lives = operations["replicas"]
    pools = list(dict.fromkeys(life["pool"] for life in lives))
    table = joined(_serving(pool, [life for life in lives if life["pool"] == pool], end_s) for pool in pools)
    line: Spec = {
        "data": {"name": "replicas"},
        "params": [time_param()],
        "mark": {"type": "line", "clip": True, "interpolate": "step-after"},
        "encoding": {
            "x": time_axis(end_s),
            "y": {
                "field": "replicas",
                "type": "quantitative",
                "title": "replicas that serve",
                "scale": {"domainMin": 0, "domainMax": max(table["replicas"]) * 1.1 or 1},
                "axis": {"format": ",~r", "tickCount": 5, "tickMinStep": 1},
            },
            "color": category("pool", pools, line=True),
            "tooltip": [
                {"field": "pool", "title": "pool"},
                {"field": "time_s", "title": "from (s)", "format": ",.4~f"},
                {"field": "replicas", "title": "replicas"},
            ],
        },
    }
    few = thinned(table)
    return Figure(
        name="replicas",
        title="Replicas",
        description=(
            "Replicas of each pool that served, over time: from the end of their start-up until they were"
            " removed or failed."
        ),
        spec={"height": MEDIUM, "layer": [line]},
        datasets={"replicas": table},
        numbers={"from (s)": few["time_s"], "pool": few["pool"], "replicas": few["replicas"]},
        timed=True,
    )


def _serving(pool: str, lives: Sequence[Mapping[str, Any]], end_s: float) -> Columns:
    """The number of ``lives`` that serve, at each time at which it changes, and at the end."""
    changes: dict[float, int] = {0.0: 0}
    for life in lives:
        gone_s = end_s if life["gone_s"] is None else life["gone_s"]
        if life["up_s"] is not None and life["up_s"] < gone_s:
            changes[life["up_s"]] = changes.get(life["up_s"], 0) + 1
            changes[gone_s] = changes.get(gone_s, 0) - 1
    times = sorted(time for time in changes if time < end_s)
    counts, number = [], 0
    for time in times:
        number += changes[time]
        counts.append(number)
    return columns(time_s=[*times, end_s], pool=[pool] * (len(times) + 1), replicas=[*counts, number])
