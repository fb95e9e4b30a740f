"""Study 3: longer prompts want more devices that prefill, longer answers fewer."""

from __future__ import annotations

import polars as pl
import pytest
from study_scripts import STUDIES, script

from tokensim.explore.executors import make_executor
from tokensim.explore.study import Study

split = script("03_split")

Best = dict[tuple[int, int], dict[str, float]]


@pytest.fixture(scope="module")
def best() -> Best:
    """LLaMA2-7B on A100, 256 requests in flight; the better of two splits by (input, output) tokens, and what
    4:4 serves less."""
    study = Study.from_yaml(STUDIES / "03-split.yaml", split.SMALL)
    given = study.file.model_dump()
    given["scenario"] = study.base.data
    parameters = given["parameters"]
    parameters["setup"] = {"LLaMA2-7B, A100": parameters["setup"]["LLaMA2-7B, A100"]}
    parameters["split"] = {name: parameters["split"][name] for name in ("1:7", "4:4")}
    for side in ("input", "output"):
        parameters[f"workload.{side}_tokens"] = [128, 1024]
    frame = split.named(split.kit.swept(Study.from_mapping(given, STUDIES), make_executor("serial")))
    assert isinstance(frame, pl.DataFrame)
    return {(row["input"], row["output"]): row for row in split.best(frame).iter_rows(named=True)}


@pytest.mark.parametrize("prompt", [128, 1024])
def test_longer_answers_want_fewer_devices_that_prefill(best: Best, prompt: int) -> None:
    assert best[prompt, 128]["split"] == "4:4"
    assert best[prompt, 1024]["split"] == "1:7"


def test_equal_shares_cost_a_good_part_of_the_throughput_where_answers_are_long(best: Best) -> None:
    assert best[128, 1024]["lost"] > 10
    assert best[1024, 1024]["lost"] > 20


def test_heat_maps_show_the_best_split_and_its_rate() -> None:
    rows = [("S", "1:7", 1, 128, 256, 2.0), ("S", "4:4", 4, 128, 256, 1.0)]
    frame = pl.DataFrame(rows, schema=["setup", "split", "prefill", "input", "output", "rate"], orient="row")
    splits, rates = split.figures(frame)
    assert splits.datasets["study"]["split"] == ["1:7"]
    assert rates.datasets["study"]["text"] == ["2"]
