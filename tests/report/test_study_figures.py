"""Figures of studies: lines, heat maps and bars draw what the table has, in panels and in both themes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tokensim.report.export import rendered
from tokensim.report.figures.base import Figure
from tokensim.report.figures.study import Axis, Words, bar_figure, heat_map, line_figure

WORDS = Words("what", "What it is", "What is drawn.")
TABLE = {
    "rate": [1, 10, 1, 10],
    "latency": [0.5, None, 0.25, 8.0],
    "policy": ["first", "first", "second", "second"],
    "model": ["small", "small", "large", "large"],
}
RATE, LATENCY = (
    Axis("rate", "requests a second", log=True),
    Axis("latency", "latency", log=True, seconds=True),
)


def lines() -> Figure:
    return line_figure(WORDS, TABLE, RATE, LATENCY, "policy", panel="model", bound=2.0, ceiling=5.0)


def cells() -> Figure:
    return heat_map(WORDS, TABLE, RATE, Axis("policy", "policy"), Axis("latency", "latency", log=True))


def bars() -> Figure:
    return bar_figure(WORDS, TABLE, Axis("model", ""), Axis("rate", "rate", zero=True), group="policy")


@pytest.mark.parametrize("make", [lines, cells, bars])
@pytest.mark.parametrize("dark", [False, True])
def test_every_kind_draws_in_both_themes(make: Callable[[], Figure], dark: bool) -> None:
    svg = rendered(make(), "svg", dark=dark).decode()
    assert "What it is" in svg
    assert ("#141A22" in svg) == dark


def test_a_line_has_a_panel_each_and_leaves_out_what_has_no_value() -> None:
    svg = rendered(lines(), "svg").decode()
    assert re.findall(r">(small|large)</text>", svg) == ["small", "large"]
    points = re.findall(r'aria-label="requests a second: (\d+); latency: [^"]*policy: (\w+)"', svg)
    assert set(points) == {("1", "first"), ("1", "second"), ("10", "second")}


def test_text_on_a_cell_is_white_where_the_cell_is_dark() -> None:
    table = {"x": [1, 2, 1, 2], "y": [1, 1, 2, 2], "value": [1.0, 2.0, 40.0, 100.0]}
    axes = [Axis(name, name) for name in ("x", "y")]
    for log, white in ((False, 3), (True, 2)):
        figure = heat_map(WORDS, table, *axes, Axis("value", "value", log=log))
        svg = rendered(figure, "svg").decode()
        assert len(re.findall(r'<text[^>]*fill="#FFFFFF"', svg, re.IGNORECASE)) == white


def test_bars_stand_in_the_order_of_the_table() -> None:
    svg = rendered(bars(), "svg").decode()
    assert svg.index(">small</text>") < svg.index(">large</text>")
