"""The page of a study draws what its table says: lines, heat maps or bars, the front, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_study import study

from tokensim.explore.executors import make_executor
from tokensim.explore.page import study_page
from tokensim.explore.study import Study
from tokensim.explore.study_data import StudyData, read_study, short_names
from tokensim.explore.study_figures import study_figures
from tokensim.explore.sweep import sweep
from tokensim.report.export import rendered
from tokensim.report.figures.front import pareto

ALL = "spending.usd_per_million_total_tokens", "latency.ttft_s.p99", "throughput.output_tokens_per_s"


def data(parameters: dict[str, list[Any]], seeds: int = 1, failed: int | None = None) -> StudyData:
    """A made-up table: cost falls and latency rises with the number of the point."""
    made = study(dict(parameters), seeds=seeds)
    rows = [
        {
            "point": point.index,
            **{p.name: c.label for p, c in zip(made.parameters, point.choices, strict=True)},
            "seed": point.seed,
            "status": "failed" if point.index == failed else "ok",
            "error": "it broke" if point.index == failed else None,
            ALL[0]: 10.0 - point.index,
            ALL[1]: 0.1 + point.index,
            ALL[2]: 5.0,
        }
        for point in made
    ]
    return StudyData(made, pl.DataFrame(rows, infer_schema_length=None))


def figures(made: StudyData) -> dict[str, Any]:
    return {figure.name: figure for figure in study_figures(made)}


def marks(figure: Any) -> set[str]:
    return {layer["mark"]["type"] for layer in figure.spec["layer"]}


def test_a_number_with_few_others_is_drawn_as_lines() -> None:
    drawn = figures(data({"workload.arrivals.rate": [1, 2, 4], "engine.max_num_seqs": [8, 16]}))
    line = drawn["over-ttft-p99"]
    assert "line" in marks(line)
    assert line.datasets["study"]["rate"] == [1, 2, 4, 1, 2, 4]
    assert line.datasets["study"]["others"] == ["8"] * 3 + ["16"] * 3


def test_two_parameters_of_many_texts_are_a_heat_map_and_other_texts_bars() -> None:
    policies = ["vllm", "sjf", "fair"]
    two = figures(data({"engine.policy": policies, "model": ["a", "b"]}))
    one = figures(data({"engine.policy": policies}))
    assert "rect" in marks(two["over-ttft-p99"])
    assert "bar" in marks(one["over-ttft-p99"])


def test_figures_are_means_over_seeds_and_configurations_with_a_failed_run_are_left_out() -> None:
    made = data({"workload.arrivals.rate": [1, 2, 4]}, seeds=2, failed=5)
    table = figures(made)["over-ttft-p99"].datasets["study"]
    assert table["TTFT p99"] == pytest.approx([0.6, 2.6])
    page = study_page(made)
    assert "it broke" in page and "of 6" in page


def test_every_figure_can_be_drawn_as_a_file() -> None:
    made = data({"workload.arrivals.rate": [1, 2, 4], "engine.max_num_seqs": [8, 16]})
    drawn = study_figures(made)
    assert {f.name for f in drawn} >= {"coordinates", "front-ttft-p99-us-per-million-tokens"}
    for figure in drawn:
        assert rendered(figure, "svg").startswith(b"<svg")


def test_a_front_by_hand() -> None:
    #        cheap, slow; beaten; dear, fast; beaten by both; same as the first; unknown
    x = [1.0, 2.0, 3.0, 4.0, 1.0, None]
    y = [9.0, 9.5, 2.0, 10.0, 9.0, 1.0]
    assert pareto(x, y) == {0, 2, 4}
    assert pareto(x, y, more_x=True) == {2, 3}  # more of x: 4.0 is the most, 3.0 has less y


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12), st.booleans())
def test_a_front_is_what_nothing_beats(points: list[tuple[int, int]], more: bool) -> None:
    sign = -1 if more else 1
    losses = [(sign * x, y) for x, y in points]
    unbeaten = {
        row
        for row, (x, y) in enumerate(losses)
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in losses)
    }
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    assert pareto(list(xs), list(ys), more_x=more) == unbeaten


def test_names_are_as_long_as_they_must_be() -> None:
    paths = ["cluster.pools[0].replicas", "cluster.pools[1].replicas", "engine.block_size"]
    assert short_names(paths) == ["0 replicas", "1 replicas", "engine block_size"]
    assert short_names(["engine.block_size"]) == ["block_size"]


def test_a_sweep_leaves_its_page_and_it_can_be_made_again(tmp_path: Path) -> None:
    made: Study = study({"workload.arrivals.rate": [1, 10, 100]})
    sweep(made, tmp_path, executor=make_executor("serial"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    again = read_study(tmp_path)
    assert study_page(again) == page
    assert len(page) < 3e6
    assert "https://" not in page.split("<script")[0]
