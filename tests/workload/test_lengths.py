"""Length distributions: their statistics by theory, clipping, and lengths from files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.scenario.workload import WorkloadSpec
from tokensim.workload import Workload, build_workload

N = 100_000


def make(base_dir: Path | None = None, seed: int = 0, n: int = N, **keys: Any) -> Workload:
    spec = {"arrivals": "all-at-once", "num_requests": n} | keys
    if "lengths" not in spec:
        spec = {"input_tokens": 1, "output_tokens": 1} | spec
    return build_workload(WorkloadSpec.model_validate(spec), seed, base_dir)


def lengths(distribution: Any, base_dir: Path | None = None) -> np.ndarray[Any, Any]:
    return make(base_dir, input_tokens=distribution).input_tokens


@pytest.mark.parametrize(
    ("distribution", "mean", "std"),
    [
        ({"distribution": "uniform", "min": 100, "max": 900}, 500, 801 / math.sqrt(12)),
        ({"distribution": "normal", "mean": 500, "std": 50}, 500, 50),
        ({"distribution": "normal", "mean": 500, "cv": 0.1}, 500, 50),
        ({"distribution": "lognormal", "mean": 500, "std": 500}, 500, 500),
        ({"distribution": "lognormal", "mean": 500, "cv": 0.5}, 500, 250),
        ({"distribution": "exponential", "mean": 500}, 500, 500),
    ],
)
def test_mean_and_spread_are_those_asked_for(distribution: Any, mean: float, std: float) -> None:
    found = lengths(distribution)
    assert found.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(N))
    assert found.std() == pytest.approx(std, rel=0.05)


def test_a_number_is_a_fixed_length() -> None:
    workload = make(n=5, input_tokens=512, output_tokens={"distribution": "fixed", "value": 3})
    assert workload.input_tokens.tolist() == [512] * 5
    assert workload.output_tokens.tolist() == [3] * 5


def test_zipf_frequencies_fall_as_a_power() -> None:
    found = lengths({"distribution": "zipf", "exponent": 1.5, "min": 2, "max": 50})
    assert (found.min(), found.max()) == (2, 50)
    total = sum(k**-1.5 for k in range(2, 51))
    for k in (2, 3, 10, 50):
        assert (found == k).mean() == pytest.approx(k**-1.5 / total, abs=5 * 0.5 / math.sqrt(N))


def test_uniform_reaches_both_ends() -> None:
    found = lengths({"distribution": "uniform", "min": 3, "max": 6})
    assert sorted(set(found.tolist())) == [3, 4, 5, 6]
    assert (found == 3).mean() == pytest.approx(0.25, abs=0.01)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["normal", "lognormal"]),
    st.floats(1, 10_000),
    st.floats(0.01, 5),
    st.integers(1, 100),
    st.integers(100, 10_000),
    st.integers(0, 2**32),
)
def test_bounds_hold_whatever_the_distribution(
    name: str, mean: float, cv: float, low: int, high: int, seed: int
) -> None:
    spec = {"distribution": name, "mean": mean, "cv": cv, "min": low, "max": high}
    found = make(seed=seed, n=200, input_tokens=spec).input_tokens
    assert found.min() >= low
    assert found.max() <= high


def test_clipping_moves_values_to_the_bound() -> None:
    found = lengths({"distribution": "exponential", "mean": 100, "max": 100})
    assert (found == 100).mean() == pytest.approx(math.exp(-0.995), abs=0.01)  # 99.5 rounds to 100


def test_without_a_bound_a_length_is_at_least_one() -> None:
    assert lengths({"distribution": "normal", "mean": 1, "std": 50}).min() == 1


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_empirical_lengths_come_from_a_column_of_a_file(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"prompt": [10, 20, 20, 40], "other": [1, 1, 1, 1]})
    path = tmp_path / f"lengths.{suffix}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[suffix](path)
    found = lengths({"distribution": "empirical", "path": path.name, "column": "prompt"}, tmp_path)
    assert sorted(set(found.tolist())) == [10, 20, 40]
    assert (found == 20).mean() == pytest.approx(0.5, abs=0.01)


def test_empirical_lengths_are_clipped_too(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("n\n5\n500\n")
    spec = {"distribution": "empirical", "path": "l.csv", "column": "n", "min": 10, "max": 100}
    assert sorted(set(lengths(spec, tmp_path).tolist())) == [10, 100]


def test_joint_lengths_keep_their_pairs(tmp_path: Path) -> None:
    pairs = [[10, 1], [20, 2], [30, 3]]
    listed = make(n=1_000, lengths={"pairs": pairs})
    (tmp_path / "pairs.csv").write_text("in,out\n10,1\n20,2\n30,3\n")
    read = make(
        tmp_path, n=1_000, lengths={"path": "pairs.csv", "input_column": "in", "output_column": "out"}
    )
    for workload in (listed, read):
        assert set(zip(workload.input_tokens.tolist(), workload.output_tokens.tolist(), strict=True)) == {
            (10, 1), (20, 2), (30, 3),
        }  # fmt: skip
    assert (listed.input_tokens == read.input_tokens).all()


def test_a_bad_lengths_file_is_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("n\n5\nfive\n")
    with pytest.raises(InputError) as caught:
        lengths({"distribution": "empirical", "path": "l.csv", "column": "n"}, tmp_path)
    assert "l.csv, line 3: 'n' is five" in str(caught.value)
    with pytest.raises(InputError, match="no column 'm'"):
        lengths({"distribution": "empirical", "path": "l.csv", "column": "m"}, tmp_path)
    with pytest.raises(InputError) as absent:
        lengths({"distribution": "empirical", "path": "ll.csv", "column": "n"}, tmp_path)
    assert "no such file" in str(absent.value)
    assert "did you mean 'l.csv'?" in str(absent.value)


def test_joint_lengths_of_zero_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("input_tokens,output_tokens\n5,1\n5,0\n")
    with pytest.raises(InputError, match="line 3: 'output_tokens' is 0"):
        make(tmp_path, lengths={"path": "p.csv"})
