"""Study 1: continuous batching bears several times the load of static batching, and half the latency without
load."""

from __future__ import annotations

import polars as pl
import pytest
from study_scripts import STUDIES, script

from tokensim.explore.executors import make_executor
from tokensim.explore.study import Study

batching = script("01_batching")


@pytest.fixture(scope="module")
def borne() -> dict[str, dict[str, float]]:
    """LLaMA2-7B on an A100 with 400 requests, at few rates."""
    study = Study.from_yaml(STUDIES / "01-batching.yaml", ("workload.num_requests=400",))
    given = study.file.model_dump()
    given["scenario"] = study.base.data
    given["parameters"]["setup"] = {"LLaMA2-7B, A100": given["parameters"]["setup"]["LLaMA2-7B, A100"]}
    given["parameters"]["workload.arrivals.rate"] = [0.25, 2, 32]
    frame = batching.kit.swept(Study.from_mapping(given, STUDIES), make_executor("serial"))
    frame = frame.rename({"workload.arrivals.rate": "rate", "latency.e2e_s.mean": "latency"})
    assert isinstance(frame, pl.DataFrame)
    return {row["batching"]: row for row in batching.borne(frame).iter_rows(named=True)}


def test_static_batches_make_the_lone_request_wait(borne: dict[str, dict[str, float]]) -> None:
    assert borne["static, 10"]["lightly"] > 1.5 * borne["continuous, 10"]["lightly"]


def test_continuous_batching_makes_several_times_the_tokens(borne: dict[str, dict[str, float]]) -> None:
    for cap in (10, 40, 160):
        assert borne[f"continuous, {cap}"]["tokens"] > 2.5 * borne[f"static, {cap}"]["tokens"], cap


def test_only_continuous_batches_bear_two_requests_a_second(borne: dict[str, dict[str, float]]) -> None:
    assert {name for name, row in borne.items() if row["rate"] >= 2} == {
        f"continuous, {cap}" for cap in (10, 40, 160, "unlimited")
    }


def test_a_higher_cap_pays_until_it_no_longer_binds(borne: dict[str, dict[str, float]]) -> None:
    tokens = [borne[f"continuous, {cap}"]["tokens"] for cap in (10, 40, 160, "unlimited")]
    assert tokens[1] > 2 * tokens[0] and tokens[2] > 1.2 * tokens[1]
    assert tokens[3] < 1.1 * tokens[2]
