"""The figures of a study: each figure of its runs over the parameters, what can be had together, all at once.

All are drawn from one table with a row for each configuration, so that a filter of the page reaches them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from tokensim.explore.figures import in_seconds
from tokensim.explore.study_data import CONFIGURATION, OTHERS, SHOWN, TOLD, StudyData, in_words
from tokensim.report.figures.base import Figure, thinned
from tokensim.report.figures.coordinates import coordinates_figure
from tokensim.report.figures.front import front_figure, pareto
from tokensim.report.figures.parts import every_nth
from tokensim.report.figures.spread import spread_figure
from tokensim.report.figures.study import BAR, Axis, Words, bar_figure, heat_map, line_figure
from tokensim.report.page.filters import ROW, is_number
from tokensim.report.series.base import Columns, length

FRONTS = (
    ("spending.usd_per_million_total_tokens", "latency.ttft_s.p99", False),
    ("spending.usd_per_million_total_tokens", "latency.tpot_s.p99", False),
    ("throughput.output_tokens_per_s", "latency.tpot_s.p99", True),
)
"""What is drawn against each other, and whether more of the first is better."""

LINES, CELLS, BARS = 8, 400, 40
"""Lines, cells of a heat map, and bars, at most."""

WIDE, LONG_TAIL = 16, 25
"""From these ratios of the greatest to the least value on, the axis of a parameter, or of a figure, is
logarithmic."""

TICKS = 8
"""Values of a parameter that are all told at its axis, at most."""


def study_figures(data: StudyData) -> list[Figure]:
    """Every figure of the study: each of ``SHOWN`` over the parameters, what can be had together, and all at
    once."""
    if not length(data.table):
        return []
    there = dict(data.shown)
    table, along = _in_order(data.table, data.varied)
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


def _in_order(table: Columns, parameters: list[str]) -> tuple[Columns, str | None]:
    """The rows as lines run through them, with the column ``OTHERS``; and along which number: the one with
    the most values, if there is one."""
    numbers = [name for name in parameters if all(map(is_number, table[name]))]
    if not numbers:
        return table, None
    along = max(numbers, key=lambda name: len(set(table[name])))
    rest = [name for name in parameters if name != along]
    others = in_words(table, rest, named=False) if rest else [""] * length(table)
    order = sorted(range(length(table)), key=lambda row: table[along][row])
    rank = {name: place for place, name in enumerate(dict.fromkeys(others[row] for row in order))}
    order.sort(key=lambda row: rank[others[row]])
    whole = {**table, OTHERS: others}
    return {name: [cells[row] for row in order] for name, cells in whole.items()}, along


def _over(data: StudyData, table: Columns, along: str | None, value: Axis) -> Figure:
    """One figure over the parameters: lines over the number with the most values, one for each combination of
    the others; a heat map of two where these are many; else a spread of them, or bars."""
    title = value.title[0].upper() + value.title[1:]
    words = Words(
        f"over-{_slug(value.field)}",
        title,
        f"{title} of each configuration, by its parameters; a mean over seeds.",
    )
    varied = data.varied
    if along is not None and len(set(table[OTHERS])) <= LINES:
        rest = ", ".join(name for name in varied if name != along)
        figure = line_figure(words, table, _along(table, along), value, OTHERS, legend=rest)
    elif len(varied) == 2 and len(set(table[varied[0]])) * len(set(table[varied[1]])) <= CELLS:
        told = {**table, TOLD: [data.texts[value.title][row] for row in table[ROW]]}
        figure = heat_map(words, told, _plain(varied[0]), _plain(varied[1]), value, label=TOLD)
    elif along is not None:
        figure = spread_figure(words, table, _along(table, along), value, OTHERS, CONFIGURATION)
    else:
        note = f"{BARS} at most are drawn, evenly spread over the list." if length(table) > BARS else ""
        from_zero = replace(value, log=False, zero=True)
        figure = bar_figure(replace(words, note=note), table, Axis(CONFIGURATION, ""), from_zero)
        height = BAR * min(BARS, length(table))
        figure = replace(figure, spec={**figure.spec, "height": height, "transform": every_nth(BARS)})
    return replace(figure, numbers=_numbers(data, [value.title]), size="normal")


def _against(data: StudyData, table: Columns, x: str, y: str, more: bool) -> Figure:
    """What can be had of two figures together."""
    across, up = _figure_axis(table, x), _figure_axis(table, y)
    words = Words(
        f"front-{_slug(up.title)}-{_slug(across.title)}",
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


def _along(table: Columns, parameter: str) -> Axis:
    """The axis of a number that lines run along."""
    values = sorted(set(table[parameter]))
    ticks = tuple(values) if len(values) <= TICKS else ()
    return Axis(parameter, parameter, log=0 < WIDE * values[0] <= values[-1], ticks=ticks, follows=True)


def _figure_axis(table: Columns, name: str) -> Axis:
    title = dict(SHOWN)[name]
    there = [value for value in table[title] if value is not None]
    log = bool(there) and 0 < LONG_TAIL * min(there) <= max(there)
    return Axis(title, title, seconds=in_seconds(name), log=log, follows=True)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
