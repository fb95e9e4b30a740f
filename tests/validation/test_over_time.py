"""Recorded cases over time: both sides by hand, and a simulation told as if it were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from tokensim.errors import InputError
from tokensim.validation import over_time
from tokensim.validation.case import read_case
from tokensim.validation.replay import document_of, replay, simulate_with

EDGES = np.array([0.0, 1.0, 2.0, 3.0, 4.0])


def test_requests_in_flight_are_the_mean_of_each_interval() -> None:
    """One from 0.5 to 2.0, one from 1.0 to 1.5, one without an end."""
    found = over_time._in_flight(EDGES, np.array([0.5, 1.0, 0.0]), np.array([1.5, 0.5, np.nan]))
    assert found.tolist() == pytest.approx([0.5, 1.5, 0.0, 0.0])


def test_polls_are_joined_and_nothing_is_said_outside_of_them() -> None:
    found = over_time._polled(EDGES, np.array([1.2, 1.6, 3.5]), np.array([2.0, 4.0, 9.0]))
    assert np.isnan(found[0])
    assert found[1:].tolist() == pytest.approx([3.0, 6.0, 9.0])
    assert np.isnan(over_time._polled(EDGES, np.array([]), np.array([]))).all()


def recorded(folder: Path) -> Path:
    """The case in ``folder`` with what a recorder would have seen of its simulation."""
    case = read_case(folder)
    result = simulate_with(document_of(case).check())
    requests = result.log.requests
    rows = []
    for row in range(len(case.measured.arrival_s)):
        outputs = int(requests.output_tokens[row])
        first, last = requests.first_delivery_s[row], requests.last_delivery_s[row]
        times = np.linspace(first, last, outputs) - requests.arrival_s[row]
        rows += [{"request": row, "time_s": float(time), "tokens": 1} for time in times]
    pl.DataFrame(rows).write_parquet(folder / "tokens.parquet")
    steps, at = result.log.steps, np.linspace(0.0, result.log.end_s, 5000, endpoint=False)
    now = np.searchsorted(steps.end_s, at, side="right").clip(max=len(steps.end_s) - 1)
    busy = (steps.start_s[now] <= at) & (at < steps.end_s[now])
    share = (at - steps.start_s[now]) / (steps.end_s - steps.start_s)[now]
    blocks = steps.first_blocks[now] + share * (steps.used_blocks - steps.first_blocks)[now]
    zero = float(case.measured.arrival_s[0])
    pl.DataFrame(
        {
            "time_s": at + zero,
            "running": np.where(busy, steps.running[now], 0).astype(float),
            "kv_usage": np.where(busy, blocks / result.log.num_blocks[0], 0.0),
        }
    ).write_parquet(folder / "server.parquet")
    lines = [json.loads(line) for line in case.trace.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["sent_s"] += zero  # the fixture counts it from the first arrival
    case.trace.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    tree = yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8"))
    tree |= {"tokens": "tokens.parquet", "server_series": "server.parquet"}
    (folder / "case.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return folder


def test_a_simulation_told_as_if_measured_lies_on_itself(simulated_case: Any) -> None:
    case = read_case(recorded(simulated_case()))
    paired = replay(case, document_of(case).check(), over_time=True)
    told = {series.title: series for series in paired.over_time}
    assert list(told) == [
        "TTFT, by when it was sent",
        "TPOT, by when it was sent",
        "Requests in flight",
        "Output tokens/s",
        "Running requests",
        "KV cache in use",
    ]
    for title, series in told.items():
        both = ~np.isnan(series.measured) & ~np.isnan(series.simulated)
        assert both.sum() > 20
        off = np.abs(series.measured[both] - series.simulated[both])
        scale = np.nanmax(series.simulated)
        polled = title in ("Running requests", "KV cache in use", "Output tokens/s")
        assert off.max() <= (0.12 if polled else 1e-5) * scale, title
    assert not replay(case, document_of(case).check()).over_time


def test_a_plain_case_has_nothing_over_time(simulated_case: Any) -> None:
    case = read_case(simulated_case())
    assert replay(case, document_of(case).check(), over_time=True).over_time == ()


def test_files_that_are_not_what_they_should_be_are_refused(simulated_case: Any) -> None:
    folder = recorded(simulated_case())
    scenario = document_of(read_case(folder)).check()
    (folder / "tokens.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="not a Parquet file"):
        replay(read_case(folder), scenario, over_time=True)
    pl.DataFrame({"request": [0]}).write_parquet(folder / "tokens.parquet")
    with pytest.raises(InputError, match="no column 'time_s'"):
        replay(read_case(folder), scenario, over_time=True)
    pl.DataFrame({"request": [9999], "time_s": [0.1], "tokens": [1]}).write_parquet(folder / "tokens.parquet")
    with pytest.raises(InputError, match="a request that is not in the case"):
        replay(read_case(folder), scenario, over_time=True)
    (folder / "tokens.parquet").unlink()
    with pytest.raises(InputError, match="no such file"):
        replay(read_case(folder), scenario, over_time=True)


def test_facts_of_a_server_are_read_back(simulated_case: Any) -> None:
    case = read_case(simulated_case(server={"flavour": "vllm", "num_gpu_blocks": 7}))
    assert case.facts.server is not None
    assert case.facts.server.num_gpu_blocks == 7
    assert case.facts.client.lateness is None
