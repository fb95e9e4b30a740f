"""A figure over the parameters of a study, in the form that shows most: lines, heat map, spread or bars."""

from __future__ import annotations

import re
from dataclasses import replace

from tokensim.explore.study_data import CONFIGURATION, OTHERS, TOLD, in_words
from tokensim.report.figures.base import Figure, thinned
from tokensim.report.figures.parts import every_nth
from tokensim.report.figures.spread import spread_figure
from tokensim.report.figures.study import BAR, Axis, Spread, Words, bar_figure, heat_map, line_figure
from tokensim.report.numbers import count, duration
from tokensim.report.page.filters import is_number
from tokensim.report.series.base import Columns, length

LINES, CELLS, BARS = 8, 400, 40
"""Lines, cells of a heat map, and bars, at most."""

WIDE = 16
"""From this ratio of the greatest to the least value on, the axis of a parameter is logarithmic."""

TICKS = 8
"""Values of a parameter that are all told at its axis, at most."""


def in_order(table: Columns, parameters: list[str]) -> tuple[Columns, str | None]:
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


def over_parameters(
    words: Words,
    table: Columns,
    parameters: list[str],
    along: str | None,
    value: Axis,
    spread: Spread | None = None,
) -> Figure:
    """``value`` over ``parameters``, columns of ``table`` as ``in_order`` gives it and ``along``: lines along
    that number, one for each combination of the others; a heat map of two where these are many; else a
    spread of them, or bars. The interval ``spread`` is drawn around points and bars."""
    if along is not None and len(set(table[OTHERS])) <= LINES:
        rest = ", ".join(name for name in parameters if name != along)
        x = _along(table, along)
        figure = line_figure(words, table, x, value, OTHERS, legend=rest, spread=spread)
    elif len(parameters) == 2 and len(set(table[parameters[0]])) * len(set(table[parameters[1]])) <= CELLS:
        across, up = (Axis(name, name) for name in parameters)
        in_unit = [duration(cell) if value.seconds else count(cell) for cell in table[value.field]]
        figure = heat_map(words, {**table, TOLD: in_unit}, across, up, value, label=TOLD)
    elif along is not None:
        figure = spread_figure(words, table, _along(table, along), value, OTHERS, CONFIGURATION)
    else:
        note = f"{BARS} at most are drawn, evenly spread over the list." if length(table) > BARS else ""
        bars = Axis(CONFIGURATION, "")
        from_zero = replace(value, log=False, zero=True)
        figure = bar_figure(replace(words, note=note), table, bars, from_zero, spread=spread)
        height = BAR * min(BARS, length(table))
        figure = replace(figure, spec={**figure.spec, "height": height, "transform": every_nth(BARS)})
    told = {name: table[name] for name in (*parameters, value.field, *(spread or ()))}
    return replace(figure, numbers=thinned(told), size="normal")


def _along(table: Columns, parameter: str) -> Axis:
    """The axis of a number that lines run along."""
    values = sorted(set(table[parameter]))
    ticks = tuple(values) if len(values) <= TICKS else ()
    return Axis(parameter, parameter, log=0 < WIDE * values[0] <= values[-1], ticks=ticks, follows=True)


def slug(name: str) -> str:
    """``name`` as the name of a figure: lower case, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def capital(text: str) -> str:
    """``text`` as a title begins."""
    return text[0].upper() + text[1:]
