"""Study 0: the paper's totals are bound by the arrivals; near saturation a total shows what a device does."""

from __future__ import annotations

import polars as pl
import pytest
from study_scripts import STUDIES, script

from tokensim.explore.executors import make_executor
from tokensim.explore.study import Study

table_2 = script("00_table_2")


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """The paper's setup at its rate, and far above; all numbers of requests."""
    study = Study.from_yaml(STUDIES / "00-table-2.yaml")
    given = study.file.model_dump()
    given["parameters"]["setup"] = {"LLaMA2-7B, A100": given["parameters"]["setup"]["LLaMA2-7B, A100"]}
    given["parameters"]["workload.arrivals.rate"] = [40, 200]
    frame = table_2.kit.swept(Study.from_mapping(given, STUDIES), make_executor("serial"))
    return frame.rename({"workload.arrivals.rate": "rate", "workload.num_requests": "requests"})


def test_totals_are_about_as_near_to_the_measured_ones_as_the_papers(frame: pl.DataFrame) -> None:
    errors = table_2.totals(frame)["error"].to_list()
    assert all(-6.5 < error < -2.0 for error in errors), errors


def test_a_device_that_takes_no_time_would_be_only_a_few_percent_worse(frame: pl.DataFrame) -> None:
    totals = table_2.totals(frame)
    assert totals["no time"].to_list() == pytest.approx([-10.2, -5.2, -4.4, -3.8, -3.9], abs=0.06)
    assert totals["no time"][4] > -4.2, "better than the -4.2 % of Vidur"


def test_at_the_papers_rate_a_fifth_less_speed_hardly_shows_in_the_total(frame: pl.DataFrame) -> None:
    effects = {row["rate"]: row for row in table_2.effects(frame).iter_rows(named=True)}
    assert effects[40]["total"] < 1 and effects[40]["mean latency"] > 20
    assert effects[200]["total"] > 20, "all of it, once the device is what limits"


def test_the_figure_has_both_curves(frame: pl.DataFrame) -> None:
    (figure,) = table_2.figures(frame)
    assert set(figure.datasets["study"]["figure"]) == {"total", "mean latency"}
