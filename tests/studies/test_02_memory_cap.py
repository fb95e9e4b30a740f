"""Study 2: a little memory left free at admission is better than none, and much is worse than either."""

from __future__ import annotations

import polars as pl
import pytest
from study_scripts import STUDIES, script

from tokensim.explore.executors import make_executor
from tokensim.explore.study import Study

memory_cap = script("02_memory_cap")

RATE = 9
"""Above what any cap bears, requests a second."""


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """OPT-13B on an A100 at one rate, by what admissions leave free."""
    overrides = ("workload.num_requests=1200", f"workload.arrivals.rate={RATE}")
    study = Study.from_yaml(STUDIES / "02-memory-cap.yaml", overrides)
    given = study.file.model_dump()
    given["scenario"] = study.base.data
    given["parameters"]["setup"] = {"OPT-13B, A100": given["parameters"]["setup"]["OPT-13B, A100"]}
    given["parameters"]["engine.watermark"] = [0.0, 0.05, 0.5]
    frame: pl.DataFrame = memory_cap.kit.swept(Study.from_mapping(given, STUDIES), make_executor("serial"))
    return frame


def test_a_twentieth_left_free_saves_all_preemptions(frame: pl.DataFrame) -> None:
    preemptions = frame["preemptions"].to_list()
    assert preemptions[0] > 100
    assert preemptions[1:] == [0, 0]


def test_the_queue_is_shortest_with_a_little_left_free(frame: pl.DataFrame) -> None:
    ttft = frame["latency.ttft_s.p99"].to_list()
    assert 1.2 * ttft[1] < ttft[0] and 2 * ttft[1] < ttft[2]


def test_throughput_is_best_with_a_little_left_free(frame: pl.DataFrame) -> None:
    none, little, half = frame["throughput.requests_per_s"].to_list()
    assert little > 1.04 * none > 1.04 * half


def test_gaps_stay_within_their_bound_whatever_the_cap(frame: pl.DataFrame) -> None:
    assert max(frame["latency.itl_s.p99"]) < 0.3


def test_the_figure_has_a_line_for_each_setup() -> None:
    table = {"setup": ["A", "A", "B", "B"], "ratio": [0.5, 1.0] * 2, "capacity": [1.0, 2.0, 3.0, 2.5]}
    (figure,) = memory_cap.figures(pl.DataFrame(table))
    assert figure.spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["A", "B"]
