"""Load over time by instance: KV cache, batch, queue; and the throughput of all."""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.report.figures.base import Figure, Spec, thinned
from tokensim.report.figures.parts import (
    MEDIUM,
    SHOWN,
    category,
    shown_param,
    time_axis,
    time_param,
)
from tokensim.report.numbers import count, share
from tokensim.report.series.base import Columns, length

METRICS = {
    "kv": ("kv-cache", "KV cache in use", "share of KV blocks", "KV blocks in use, of those of the instance"),
    "running": ("batch-size", "Batch size", "running requests", "requests that run on the instance"),
    "waiting": ("queue-length", "Queue length", "waiting requests", "requests that wait at the instance"),
}
"""Column → name of the figure, title, axis, what it counts."""

BANDS = 2
"""Up to so many instances, a band reaches from the mean to the greatest value of each interval."""


def load_figure(metric: str, load: Columns, end_s: float, instances: Sequence[str]) -> Figure | None:
    """One of ``METRICS`` over time, a line an instance; None if no step ran."""
    known = [i for i, value in enumerate(load[metric]) if value is not None]
    if not known:
        return None
    name, title, axis, what = METRICS[metric]
    table = {
        key: [load[source][i] for i in known]
        for key, source in (
            ("time_s", "time_s"),
            ("instance", "instance"),
            ("mean", metric),
            ("most", f"{metric}_max"),
        )
    }
    drawn = list(dict.fromkeys(table["instance"]))
    number = ".1%" if metric == "kv" else ",.3~r"
    y: Spec = {
        "type": "quantitative",
        "title": axis,
        "scale": {"zero": True, "nice": True},
        "axis": {"format": "~%" if metric == "kv" else ",~r", "tickCount": 5},
    }
    if not any(table["most"]):
        y["scale"] = {"domain": [0, 1]}
    if metric != "kv":
        y["axis"]["tickMinStep"] = 1
    x = time_axis(end_s)
    colour = category("instance", drawn, line=True)
    line: Spec = {
        "data": {"name": "load"},
        "transform": [SHOWN],
        "params": [time_param()],
        "mark": {"type": "line", "clip": True, "interpolate": "step"},
        "encoding": {
            "x": x,
            "y": {"field": "mean", **y},
            "color": colour,
            "tooltip": [
                {"field": "instance", "title": "instance"},
                {"field": "time_s", "title": "around (s)", "format": ",.4~f"},
                {"field": "mean", "title": "mean", "format": number},
                {"field": "most", "title": "at most", "format": number},
            ],
        },
    }
    band: Spec = {
        "data": {"name": "load"},
        "transform": [SHOWN],
        "mark": {
            "type": "area",
            "clip": True,
            "interpolate": "step",
            "opacity": 0.22,
            "aria": False,
            "tooltip": None,
        },
        "encoding": {"x": x, "y": {"field": "mean", **y}, "y2": {"field": "most"}, "color": colour},
    }
    text = share if metric == "kv" else count
    pools = set(drawn) != set(instances) and len(drawn) < len(instances)
    return Figure(
        name=name,
        title=title,
        description=(
            f"{what[0].upper()}{what[1:]}, over time: the mean of each interval as a line"
            + (", up to its greatest value as a band." if len(drawn) <= BANDS else ".")
        ),
        spec={
            "height": MEDIUM,
            "params": [shown_param()],
            "layer": [*([band] if len(drawn) <= BANDS else []), line],
        },
        datasets={"load": table},
        numbers=_numbers(thinned(table), text),
        note=f"{len(instances)} instances: each pool is drawn as one, the mean of its instances at the time."
        if pools
        else "",
        timed=True,
        by_instance=True,
    )


def _numbers(table: Columns, text: object) -> Columns:
    assert callable(text)
    return {
        "around (s)": table["time_s"],
        "instance": table["instance"],
        "mean": [text(value) for value in table["mean"]],
        "at most": [text(value) for value in table["most"]],
    }


def throughput_figure(throughput: Columns, end_s: float) -> Figure | None:
    """Input and output tokens a second of the whole cluster over time; None if no time passed."""
    if not length(throughput) or not any(throughput["output"]):
        return None
    line: Spec = {
        "data": {"name": "throughput"},
        "transform": [{"fold": ["input", "output"], "as": ["tokens", "rate"]}],
        "params": [time_param()],
        "mark": {"type": "line", "clip": True, "interpolate": "monotone"},
        "encoding": {
            "x": time_axis(end_s),
            "y": {
                "field": "rate",
                "type": "quantitative",
                "title": "tokens/s",
                "scale": {"zero": True},
                "axis": {"labelExpr": "format(datum.value, '~s')", "tickCount": 5},
            },
            "color": category("tokens", ("input", "output"), line=True),
            "tooltip": [
                {"field": "tokens", "title": "tokens"},
                {"field": "rate", "title": "tokens/s", "format": ",.4~r"},
                {"field": "time_s", "title": "around (s)", "format": ",.4~f"},
                {"field": "arrived", "title": "requests/s arrived", "format": ",.3~r"},
                {"field": "finished", "title": "requests/s finished", "format": ",.3~r"},
            ],
        },
    }
    few = thinned(throughput)
    return Figure(
        name="throughput",
        title="Throughput",
        description=(
            "Tokens a second of all instances over time: prompts, counted when their first token comes, and"
            " output tokens as they are made."
        ),
        spec={"height": MEDIUM, "layer": [line]},
        datasets={"throughput": throughput},
        numbers={
            "around (s)": few["time_s"],
            **{f"{key} tokens/s": [count(v) for v in few[key]] for key in ("input", "output")},
            **{f"requests/s {key}": [count(v) for v in few[key]] for key in ("arrived", "finished")},
        },
        timed=True,
    )
