"""All figures of a run, in the order of its page."""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.report.figures.base import Figure
from tokensim.report.figures.latency import METRICS as LATENCIES
from tokensim.report.figures.latency import latency_cdf
from tokensim.report.figures.latency_times import latency_over_time
from tokensim.report.figures.load import METRICS as LOADS
from tokensim.report.figures.load import load_figure, throughput_figure
from tokensim.report.figures.money import cost_figure, energy_figure, links_figure
from tokensim.report.figures.operators import bounds_figure, operators_figure
from tokensim.report.figures.replicas import replicas_figure
from tokensim.report.figures.requests import gantt_figure
from tokensim.report.figures.roofline import roofline_figure
from tokensim.report.series.run import RunData


def latency_figures(data: RunData) -> list[Figure]:
    """Distribution functions of the latencies."""
    return drawn([latency_cdf(metric, data.tables["cdfs"], data.summary) for metric in LATENCIES])


def timed_figures(data: RunData) -> list[Figure]:
    """What changes over the simulated time."""
    tables, summary = data.tables, data.summary
    end_s = float(summary["simulated_s"])
    return drawn(
        [
            *(
                latency_over_time(metric, tables["latency"], tables["sample"], summary, end_s)
                for metric in ("ttft", "tpot")
            ),
            *(load_figure(metric, tables["load"], end_s, data.instances) for metric in reversed(LOADS)),
            throughput_figure(tables["throughput"], end_s),
            replicas_figure(summary, end_s),
            gantt_figure(tables["spans"], end_s, int(summary["requests"]["total"]), _series(data)),
        ]
    )


def time_figures(data: RunData) -> list[Figure]:
    """Where the time of the steps went."""
    operators, roofs = data.tables["operators"], data.tables["roofs"]
    pools = list(dict.fromkeys(operators["pool"]))
    only = len(pools) == 1
    return drawn(
        [
            *(operators_figure(pool, operators, only) for pool in pools),
            *(roofline_figure(pool, operators, roofs, only) for pool in pools),
            bounds_figure(operators),
        ]
    )


def money_figures(data: RunData) -> list[Figure]:
    """Money, energy and the network."""
    return drawn([cost_figure(data.summary), energy_figure(data.summary), links_figure(data.summary)])


def run_figures(data: RunData) -> list[Figure]:
    """Every figure that has something to show; their names are unique."""
    return [*latency_figures(data), *timed_figures(data), *time_figures(data), *money_figures(data)]


def _series(data: RunData) -> dict[str, str]:
    """Instance → the name under which its load is drawn: its own, or its pool's if there are many."""
    names = set(data.tables["load"]["instance"])
    return {
        instance: instance if instance in names else pool
        for instance, pool in zip(data.instances, data.pools, strict=True)
    }


def drawn(figures: Sequence[Figure | None]) -> list[Figure]:
    """Those that there are."""
    return [figure for figure in figures if figure is not None]
