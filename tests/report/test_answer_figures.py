"""Figures of answers (capacities, comparisons, sensitivities, searches) draw the numbers they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tokensim.report.charts import sparkline
from tokensim.report.export import rendered
from tokensim.report.figures.base import Figure
from tokensim.report.figures.diverging import diverging_map
from tokensim.report.figures.effects import tornado_figure, whisker_figure
from tokensim.report.figures.load_curve import Found, curve_figure
from tokensim.report.figures.search import found_figure, progress_figure
from tokensim.report.figures.study import Axis, Words, bar_figure, line_figure
from tokensim.report.figures.theme import WORTH
from tokensim.report.series.base import Columns

WORDS = Words("what", "What it is", "What is drawn.")
LOAD, RATIO = Axis("load", "load"), Axis("ratio", "ratio", log=True)
RUNS: Columns = {
    "load": [4.0, 8.0, 16.0],
    "seed": ["seed 0"] * 3,
    "series": ["TTFT"] * 3,
    "verdict": ["met", "met", "missed"],
    "ratio": [0.1, 0.9, 7.0],
}
EFFECTS: Columns = {
    "what": ["small", "large", "unsure"],
    "effect": [0.01, -0.2, 0.05],
    "low": [0.005, -0.3, None],
    "high": [0.015, -0.1, None],
    "worth": [WORTH[0], WORTH[1], WORTH[3]],
}
TRIALS: Columns = {
    "trial": [0, 1, 2, 3, 4],
    "configuration": list("abcde"),
    "outcome": ["misses some", "keeps all", "cannot beat what was found", "best", "not possible"],
    "cost": [1.0, 3.0, None, 2.0, None],
    "ttft": [9.0, 1.0, None, 2.0, None],
}


def curve(bound: float | None = 1.0) -> Figure:
    return curve_figure(WORDS, RUNS, LOAD, RATIO, found=Found(7.0, 12.0, 8.0, "capacity 8"), bound=bound)


def whiskers() -> Figure:
    return whisker_figure(WORDS, EFFECTS, "difference")


def tornado() -> Figure:
    return tornado_figure(WORDS, EFFECTS, "change")


def cells() -> Figure:
    table: Columns = {"figure": ["a", "b"], "ability": ["x", "x"], "value": [-1.0, 0.25]}
    return diverging_map(WORDS, table, Axis("figure", ""), Axis("ability", ""), Axis("value", "elasticity"))


def found() -> Figure:
    return found_figure(WORDS, TRIALS, Axis("cost", "cost"), Axis("ttft", "TTFT"), front=True, bound=5.0)


def progress(sign: int = 1) -> Figure:
    return progress_figure(WORDS, TRIALS, Axis("cost", "cost"), sign)


@pytest.mark.parametrize("make", [curve, whiskers, tornado, cells, found, progress])
@pytest.mark.parametrize("dark", [False, True])
def test_every_kind_draws_in_both_themes(make: Callable[[], Figure], dark: bool) -> None:
    svg = rendered(make(), "svg", dark=dark).decode()
    assert "What it is" in svg
    assert ("#141A22" in svg) == dark


def layers(figure: Figure, mark: str) -> list[Any]:
    return [layer for layer in figure.spec["layer"] if layer["mark"]["type"] == mark]


def test_a_curve_shades_the_interval_and_tells_met_from_missed_by_shape() -> None:
    figure = curve()
    assert figure.datasets["found"] == {"low": [7], "high": [12], "value": [8], "label": ["capacity 8"]}
    assert figure.datasets["runs"] is RUNS
    (points,) = layers(figure, "point")
    assert points["encoding"]["shape"]["scale"] == {"domain": ["met", "missed"], "range": ["circle", "cross"]}
    assert points["encoding"]["x"]["scale"] == {"zero": False}
    low, high = points["encoding"]["y"]["scale"]["domain"]
    assert low < 0.1 and high > 7
    texts = [len(layers(each, "text")) for each in (curve(), curve(bound=None))]
    assert texts == [4, 2]  # the labels of what was found and of the bound, each over its halo


def test_a_tornado_has_the_longest_bar_above_and_zero_in_the_middle() -> None:
    figure = tornado()
    assert figure.datasets["effects"]["what"] == ["large", "unsure", "small"]
    (bars,) = layers(figure, "bar")
    low, high = bars["encoding"]["x"]["scale"]["domain"]
    assert low == -high and high == pytest.approx(0.3 * 1.05)


def test_what_noise_cannot_be_told_from_is_hollow_and_has_its_words_in_the_numbers() -> None:
    figure = whiskers()
    svg = rendered(figure, "svg").decode()
    assert svg.count('fill-opacity="0"') == 1
    assert figure.numbers["worth"] == ["better", "worse", "not told apart"]
    assert figure.numbers["effect"] == ["+1.0%", "-20.0%", "+5.0%"]
    assert figure.numbers["interval"] == ["+0.5% to +1.5%", "-30.0% to -10.0%", "-"]


def test_effects_far_from_zero_leave_the_small_ones_visible() -> None:
    far = {**EFFECTS, "effect": [0.01, 40.0, 0.05]}
    (points,) = layers(whisker_figure(WORDS, far, "difference"), "point")
    across = points["encoding"]["x"]
    assert across["scale"]["type"] == "symlog"
    assert 0 in across["axis"]["values"] and max(across["axis"]["values"]) == 30
    assert all(tick > -1 for tick in across["axis"]["values"])  # nothing falls by more than all of it


def test_colours_of_a_diverging_map_are_as_wide_below_zero_as_above() -> None:
    rect, text = cells().spec["layer"]
    assert rect["encoding"]["color"]["scale"]["domain"] == [-1.0, 1.0]
    assert "abs(datum['value']) > 0.55" in text["encoding"]["color"]["condition"]["test"]


def test_the_best_so_far_is_of_those_that_keep_what_is_required() -> None:
    assert progress().datasets["best"] == {"trial": [1, 3, 4], "best so far": [3.0, 2.0, 2.0]}
    assert progress(-1).datasets["best"]["best so far"] == [3.0, 3.0, 3.0]
    assert progress().datasets["spared"]["trial"] == [2, 4]
    assert progress().datasets["trials"]["trial"] == [0, 1, 3]


def test_what_was_found_leaves_out_what_was_not_run() -> None:
    figure = found()
    assert figure.datasets["trials"]["configuration"] == ["a", "b", "d"]
    assert "limit 5" in rendered(figure, "svg").decode()


@pytest.mark.parametrize("make", [bar_figure, line_figure])
def test_intervals_stand_around_values_and_the_axis_holds_them(make: Any) -> None:
    table = {"n": [1, 2], "rate": [5.0, 6.0], "low": [4.0, 5.5], "high": [9.0, 6.5], "one": ["", ""]}
    axes = (Axis("n", "n"), Axis("rate", "rate", zero=True, log=make is line_figure))
    more = ("one",) if make is line_figure else ()
    figure = make(WORDS, table, *axes, *more, spread=("low", "high"))
    (whiskers,) = layers(figure, "rule")
    ends = whiskers["encoding"]
    along = "y" if make is line_figure else "x"
    assert (ends[along]["field"], ends[f"{along}2"]["field"]) == ("low", "high")
    if make is line_figure:
        assert ends["y"]["scale"]["domain"] == pytest.approx([3.6, 9.9])
    assert rendered(figure, "svg").startswith(b"<svg")


def test_a_line_of_blocks_runs_from_the_least_to_the_greatest() -> None:
    assert sparkline([1.0, None, 8.0, 4.5], False) == "▁ █▅"
    assert sparkline([1.0, None, 8.0], True) == ". #"
    assert sparkline([2.0, 2.0], False) == "▁▁"
    assert len(sparkline([float(n) for n in range(1000)], False)) == 40
