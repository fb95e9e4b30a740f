"""The same scenario leaves the same bytes in every process; a seed changes all, a stream only its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tokensim.report.files import RUN_FILES

SCENARIO = """\
model: meta-llama/Llama-3.1-8B
cluster:
  pools:
    - {hardware: l40s-48gb, replicas: 2}
  router: random
engine: {num_gpu_blocks: 1500}
workload:
  arrivals: {process: gamma, rate: 12, burstiness: 0.5}
  input_tokens: {distribution: lognormal, mean: 900, cv: 1.0, max: 8192}
  output_tokens: {distribution: exponential, mean: 150}
  num_requests: 400
slo: {ttft: 500ms}
seed: 3
"""


PROGRAM = "from tokensim.cli import main; main()"


def run(folder: Path, *arguments: str, hash_seed: str = "0") -> Path:
    """``tokensim run`` as a process of its own; gives the folder that it left."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", *arguments, "-q", "--output", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def differing(one: Path, other: Path) -> list[str]:
    return [name for name in RUN_FILES if (one / name).read_bytes() != (other / name).read_bytes()]


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO)
    return str(file)


def test_one_seed_gives_the_same_bytes_in_any_process(tmp_path: Path, scenario: str) -> None:
    one = run(tmp_path / "one", scenario, hash_seed="1")
    other = run(tmp_path / "other", scenario, hash_seed="2718")
    assert differing(one, other) == []
    preemptions = pl.read_parquet(one / "requests.parquet")["preemptions"].sum()
    assert preemptions > 0, "the scenario is meant to be a hard one"


def test_another_seed_gives_other_requests(tmp_path: Path, scenario: str) -> None:
    one = run(tmp_path / "one", scenario)
    other = run(tmp_path / "other", scenario, "--seed", "4")
    assert differing(one, other) == list(RUN_FILES)


def test_other_output_lengths_leave_arrivals_and_prompts_alone(tmp_path: Path, scenario: str) -> None:
    one = pl.read_parquet(run(tmp_path / "one", scenario) / "requests.parquet")
    other = pl.read_parquet(run(tmp_path / "other", scenario, "--output-tokens", "7") / "requests.parquet")
    for column in ("arrival_s", "input_tokens", "instance"):
        assert one[column].equals(other[column]), column
    assert set(other["output_tokens"]) == {7}
    assert not one["finish_s"].equals(other["finish_s"])


def test_the_scenario_that_a_run_leaves_gives_the_same_results_elsewhere(
    tmp_path: Path, scenario: str
) -> None:
    one = run(tmp_path / "one", scenario, "--set", "engine.max_num_seqs=64", "--rate", "20")
    other = run(tmp_path / "elsewhere" / "other", str(one / "scenario.yaml"), hash_seed="5")
    assert differing(one, other) == []


def test_a_trace_given_by_a_relative_path_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i / 10},{100 + i},{5 + i}\n" for i in range(50))
    )
    (tmp_path / "s.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\n"
        "cluster: {pools: [{hardware: l40s-48gb}]}\n"
        "workload: {trace: {path: t.csv, resample: 200}}\n"
    )
    one = run(tmp_path / "one", str(tmp_path / "s.yaml"))
    other = run(tmp_path / "two", str(one / "scenario.yaml"))
    assert differing(one, other) == []
    assert len(pl.read_parquet(other / "requests.parquet")) == 200
