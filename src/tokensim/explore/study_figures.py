"""The figures of a study: each figure of its runs over the parameters, what can be had together, all at once.

All are drawn from one table with a row for each configuration, so that a filter of the page reaches them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tokensim.explore.figures import in_seconds
from tokensim.explore.over import capital, in_order, over_parameters, slug
from tokensim.explore.study_data import CONFIGURATION, SHOWN, StudyData
from tokensim.report.figures.base import Figure, thinned
from tokensim.report.figures.coordinates import coordinates_figure
from tokensim.report.figures.front import front_figure, pareto
from tokensim.report.figures.study import Axis, Words
from tokensim.report.page.filters import ROW
from tokensim.report.series.base import Columns, length

FRONTS = (
    ("spending.usd_per_million_total_tokens", "latency.ttft_s.p99", False),
    ("spending.usd_per_million_total_tokens", "latency.tpot_s.p99", False),
    ("throughput.output_tokens_per_s", "latency.tpot_s.p99", True),
)
"""What is drawn against each other, and whether more of the first is better."""

LONG_TAIL = 25
"""From this ratio of the greatest to the least value on, the axis of a figure is logarithmic."""


def study_figures(data: StudyData) -> list[Figure]:
    """Every figure of the study: each of ``SHOWN`` over the parameters, what can be had together, and all at
    once."""
    if not length(data.table):
        return []
    there = dict(data.shown)
    table, along = in_order(data.table, data.varied)
    figures = [_over(data, table, along, _figure_axis(table, name)) for name in there]
    if length(table) > 2:
        figures += [_against(data, table, *front) for front in FRONTS if {*front[:2]} <= {*there}]
        axes = [*map(_plain, data.varied), *(_figure_axis(table, name) for name in there)]
        words = Words(
            "coordinates",
            "Parameters and figures",
            "A line for each configuration, through the values of its parameters and its figures; each axis"
            " runs from the lowest value below to the highest above.",
        )
        figure = coordinates_figure(words, table, axes, data.shown[-1][1])
        figures.append(replace(figure, numbers=_numbers(data, there.values())))
    return [replace(figure, filtered=("study",)) for figure in figures]


def _over(data: StudyData, table: Columns, along: str | None, value: Axis) -> Figure:
    """One figure over the parameters."""
    title = capital(value.title)
    words = Words(
        f"over-{slug(value.field)}",
        title,
        f"{title} of each configuration, by its parameters; a mean over seeds.",
    )
    texts = [data.texts[value.title][row] for row in table[ROW]]
    figure = over_parameters(words, table, data.varied, along, value, texts=texts)
    return replace(figure, numbers=_numbers(data, [value.title]))


def _against(data: StudyData, table: Columns, x: str, y: str, more: bool) -> Figure:
    """What can be had of two figures together."""
    across, up = _figure_axis(table, x), _figure_axis(table, y)
    words = Words(
        f"front-{slug(up.title)}-{slug(across.title)}",
        f"{up.title} against {across.title}",
        "A dot for each configuration. Those on the line are beaten by no other in both: less"
        f" {up.title}, {'more' if more else 'less'} {across.title}.",
    )
    best = sorted(pareto(data.table[across.title], data.table[up.title], more_x=more))
    figure = front_figure(words, table, across, up, CONFIGURATION, more_x=more)
    return replace(figure, numbers=_numbers(data, [across.title, up.title], best), size="normal")


def _numbers(data: StudyData, titles: Iterable[str], rows: Iterable[int] | None = None) -> Columns:
    """What ``rows`` of the table (default: all) have, as people read it: the parameters, and ``titles``."""
    places = range(length(data.table)) if rows is None else rows
    names = [*data.varied, *titles]
    return thinned({name: [data.texts[name][row] for row in places] for name in names})


def _plain(parameter: str) -> Axis:
    return Axis(parameter, parameter)


def _figure_axis(table: Columns, name: str) -> Axis:
    title = dict(SHOWN)[name]
    there = [value for value in table[title] if value is not None]
    log = bool(there) and 0 < LONG_TAIL * min(there) <= max(there)
    return Axis(title, title, seconds=in_seconds(name), log=log, follows=True)
