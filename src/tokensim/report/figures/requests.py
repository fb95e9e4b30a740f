"""The life of single requests: a Gantt chart of queue, prefill, transfers and decode."""

from __future__ import annotations

from collections.abc import Mapping

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import as_seconds, category, shown_param, time_axis, time_param
from tokensim.report.series.base import Columns, length, where
from tokensim.report.series.spans import DECODE, LOAD, PHASES, PREFILL, QUEUE, ROWS, TRANSFER

CHOSEN = {"filter": "shown == null || datum.series == shown"}

IN_SIGHT = {
    "filter": "time.time_s ? datum.until_s >= time.time_s[0] && datum.time_s <= time.time_s[1] : datum.first"
}
"""Those shown at first; once the parameter ``time`` is set, those in its window."""

LIFE = (QUEUE, LOAD, PREFILL, TRANSFER, DECODE)
"""The phases in the order in which a request lives through them."""

LEAST_HEIGHT, MOST_HEIGHT, ROW = 90, 560, 14
"""Pixels of the plotting area, and of a row where there is room."""


def gantt_figure(spans: Columns, end_s: float, requests: int, series: Mapping[str, str]) -> Figure | None:
    """The spans of a sample of ``requests`` requests; ``series``: under which name each instance can be
    chosen. None if none arrived."""
    if not length(spans):
        return None
    first = where(spans, first=1)
    places = set(first["index"])
    shown = len(places)
    in_a_row = shown < requests and max(places) - min(places) == shown - 1
    x = time_axis(end_s)
    if in_a_row:
        low, high = min(first["time_s"]), max(first["until_s"])
        x["scale"] = {"domain": [low, max(high, low + 1e-6)], "nice": False}
    y: Spec = {
        "field": "index",
        "type": "ordinal",
        "title": "requests, by arrival",
        "axis": {"labels": False, "ticks": False, "grid": False},
        "scale": {"paddingInner": 0.15},
    }
    tooltip = [
        {"field": "request", "title": "request"},
        {"field": "phase", "title": "phase"},
        {"field": "text", "title": "for"},
        {"field": "time_s", "title": "from (s)", "format": ",.4~f"},
        {"field": "instance", "title": "instance"},
        {"field": "input_tokens", "title": "input tokens", "format": ","},
        {"field": "output_tokens", "title": "output tokens", "format": ","},
        {"field": "status", "title": "status"},
        *([{"field": "tenant", "title": "tenant"}] if "tenant" in spans else []),
    ]
    seconds = [
        {"calculate": "datum.until_s - datum.time_s", "as": "seconds"},
        as_seconds("seconds", "text"),
    ]
    colour = category("phase", PHASES, set(spans["phase"]))
    if colour["legend"]:
        colour["legend"]["values"].sort(key=LIFE.index)
    in_sight = [
        CHOSEN,
        IN_SIGHT,
        {"window": [{"op": "dense_rank", "as": "place"}], "sort": [{"field": "index"}]},
        {"joinaggregate": [{"op": "max", "field": "place", "as": "places"}]},
        {"filter": f"(datum.place - 1) % ceil(datum.places / {ROWS}) == 0"},
    ]
    layers: list[Spec] = [
        {
            "data": {"name": "spans"},
            "params": [time_param()],
            "transform": [*in_sight, *seconds],
            "mark": {
                "type": "bar",
                "clip": True,
                "aria": False,
                "height": {"expr": f"min({ROW - 2}, bandwidth('y'))"},
            },
            "encoding": {
                "x": x,
                "x2": {"field": "until_s"},
                "y": y,
                "color": colour,
                "tooltip": tooltip,
            },
        },
        {
            "data": {"name": "spans"},
            "transform": [*in_sight, {"filter": "datum.until_s <= datum.time_s"}, *seconds],
            "mark": {"type": "point", "shape": "cross", "clip": True, "size": 30, "style": "slo-label"},
            "encoding": {"x": x, "y": y, "tooltip": tooltip},
        },
    ]
    few = thinned(first)
    return Figure(
        name="requests",
        title="Requests",
        description=(
            "Each row is a request, from its arrival to its end: in the queue, in prefill, its KV on the way"
            " to another instance or from a memory tier, in decode. A cross is a request that was refused."
        ),
        spec={
            "height": min(max(shown * ROW, LEAST_HEIGHT), MOST_HEIGHT),
            "params": [shown_param()],
            "layer": layers,
        },
        datasets={"spans": {**spans, "series": [series.get(name or "") for name in spans["instance"]]}},
        numbers={
            "request": few["request"],
            "phase": few["phase"],
            "from (s)": few["time_s"],
            "to (s)": few["until_s"],
            "instance": few["instance"],
            "status": few["status"],
        },
        note=_sample(shown, requests, in_a_row),
        timed=True,
        by_instance=True,
        filtered=("spans",),
        size="wide",
    )


def _sample(shown: int, requests: int, in_a_row: bool) -> str:
    if shown >= requests:
        return ""
    closer = f" Zoomed in, {ROWS} at most of those in sight."
    if in_a_row:
        return (
            f"At first, {shown:,} requests in a row of {requests:,}, about the one that waited longest for"
            f" its first token.{closer}"
        )
    return f"A sample: {shown:,} of {requests:,} requests, evenly spread over the arrivals.{closer}"
