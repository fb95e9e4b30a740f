"""The public traces replayed to the end on real deployments: every request and every token accounted for."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tokensim import Scenario, cli, simulate
from tokensim.assemble import Result
from tokensim.engine import Simulation
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import FINISHED, REJECTED, TRUNCATED

LLAMA_8B = ("meta-llama/Llama-3.1-8B", "h100-sxm-80gb", 1)
LLAMA_70B = ("meta-llama/Llama-3.1-70B", "h100-sxm-80gb", 4)
QWEN_14B = ("Qwen/Qwen3-14B", "a100-sxm-80gb", 1)
QWEN_30B_MOE = ("Qwen/Qwen3-30B-A3B", "h200-sxm-141gb", 1)
CONTEXT = {LLAMA_8B[0]: 131072, LLAMA_70B[0]: 131072, QWEN_14B[0]: 40960, QWEN_30B_MOE[0]: 40960}
"""``max_position_embeddings`` of each model's config.json."""

AZURE = {"azure_2023_conv.csv": 19_366, "azure_2023_code.csv": 8_819}
MOONCAKE = {"mooncake_conversation.jsonl": 12_031, "mooncake_synthetic.jsonl": 3_993}

Pair = tuple[str, str, int]


@pytest.fixture
def simulations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Simulation]]:
    """The simulations that ran, with their instances as the last event left them."""
    ran: list[Simulation] = []
    run = Simulation.run

    def kept(simulation: Simulation, progress: Any = None) -> RunLog:
        ran.append(simulation)
        return run(simulation, progress)

    monkeypatch.setattr(Simulation, "run", kept)
    yield ran


def scenario(trace: Path, pair: Pair, **engine: Any) -> Scenario:
    model, hardware, tensor = pair
    return Scenario.model_validate(
        {
            "model": model,
            "cluster": {"pools": [{"hardware": hardware, "parallel": {"tensor": tensor}}]},
            "engine": engine,
            "workload": {"trace": {"path": str(trace)}},
        }
    )


def lengths(trace: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Input and output tokens of each row, read without the code under test."""
    with trace.open() as file:
        if trace.suffix == ".csv":
            rows = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(file)]
        else:
            rows = [(r["input_length"], r["output_length"]) for r in map(json.loads, file)]
    table = np.array(rows)
    return table[:, 0], table[:, 1]


def check_requests(result: Result, trace: Path, context: int) -> None:
    """Each row of the trace ended the one way that its length allows, with the tokens that it asked for."""
    given, asked = lengths(trace)
    q = result.log.requests
    expected = np.where(given >= context, REJECTED, np.where(given + asked > context, TRUNCATED, FINISHED))
    assert np.array_equal(q.status, expected)
    assert np.array_equal(q.input_tokens, given)
    made = np.where(expected == REJECTED, 0, np.minimum(asked, context - given))
    assert np.array_equal(q.output_tokens, made)

    counts = result.summary.requests
    assert counts.total == len(given) == counts.finished + counts.truncated + counts.rejected
    assert counts.unfinished == 0
    assert result.complete

    ran = q.status != REJECTED
    assert np.isnan(q.finish_s[~ran]).all()
    order = np.stack([q.arrival_s[ran], q.scheduled_s[ran], q.first_token_s[ran], q.finish_s[ran]])
    assert (np.diff(order, axis=0) >= 0).all()
    one = q.output_tokens == 1
    assert np.array_equal(q.first_token_s[one & ran], q.finish_s[one & ran])


def check_steps(result: Result) -> None:
    """What the steps did is what the requests got; one instance never runs two steps at once."""
    q, rows = result.log.requests, result.log.steps
    ran = q.status != REJECTED
    what = rows.what
    produced = int((what.steps * what.decode).sum() + (what.samples - what.decode).sum())
    assert produced == q.output_tokens.sum()
    preemptions = int(q.preemptions.sum())
    prefilled = int(rows.prefill_tokens.sum())
    needed = int((q.input_tokens - q.cached_tokens)[ran].sum())
    if preemptions == 0:
        assert prefilled == needed
    elif not q.cached_tokens.any():  # nothing shared: each that resumes may prefill its newest token too
        assert 0 <= prefilled - needed - q.recomputed_tokens.sum() <= preemptions
    assert (rows.start_s[1:] >= rows.end_s[:-1] - 1e-9).all()
    assert (rows.used_blocks <= result.log.num_blocks[0]).all()


def check_pools(simulations: list[Simulation]) -> None:
    """At the end every block is free and in its place."""
    for instance in simulations[-1].instances:
        scheduler = instance.scheduler
        assert not scheduler.running
        assert not scheduler.waiting
        scheduler.check_integrity()
        assert scheduler.pool.free == scheduler.pool.num_blocks


@pytest.mark.parametrize("pair", [LLAMA_8B, QWEN_14B, LLAMA_70B], ids=lambda pair: f"{pair[0]} on {pair[1]}")
@pytest.mark.parametrize("name", AZURE)
def test_azure_to_the_end(shared: Path, simulations: list[Simulation], name: str, pair: Pair) -> None:
    trace = shared / "traces" / name
    result = simulate(scenario(trace, pair))
    assert result.summary.requests.finished == AZURE[name]
    check_requests(result, trace, CONTEXT[pair[0]])
    check_steps(result)
    check_pools(simulations)


@pytest.mark.parametrize(
    "pair", [LLAMA_8B, QWEN_30B_MOE, LLAMA_70B], ids=lambda pair: f"{pair[0]} on {pair[1]}"
)
@pytest.mark.parametrize("name", MOONCAKE)
def test_mooncake_to_the_end_with_prefix_caching(
    shared: Path, simulations: list[Simulation], name: str, pair: Pair
) -> None:
    trace = shared / "traces" / name
    result = simulate(scenario(trace, pair))
    assert result.summary.requests.total == MOONCAKE[name]
    check_requests(result, trace, CONTEXT[pair[0]])
    check_steps(result)
    check_pools(simulations)
    found, endless = result.summary.tokens.cached_share, endless_share(trace, CONTEXT[pair[0]])
    assert found is not None
    print(f"{name} on {pair[0]}: {found:.1%} of input tokens hit; an endless cache: {endless:.1%}")
    assert 0.02 < found <= endless


def endless_share(trace: Path, context: int) -> float:
    """Share of the input tokens that a cache without limits holds, each request coming after those before."""
    seen: set[int] = set()
    hits = total = 0
    with trace.open() as file:
        for row in map(json.loads, file):
            if row["input_length"] >= context:
                continue
            known = 0
            while known < len(row["hash_ids"]) and row["hash_ids"][known] in seen:
                known += 1
            seen.update(row["hash_ids"])
            total += row["input_length"]
            hits += min(512 * known, row["input_length"] - 1)
    return hits / total


@pytest.mark.parametrize("name", MOONCAKE)
def test_a_pool_without_pressure_finds_nearly_all_that_is_shared(
    shared: Path, simulations: list[Simulation], name: str
) -> None:
    trace = shared / "traces" / name
    result = simulate(scenario(trace, LLAMA_70B, num_gpu_blocks=20_000_000))
    check_requests(result, trace, CONTEXT[LLAMA_70B[0]])
    check_steps(result)
    check_pools(simulations)
    found, endless = result.summary.tokens.cached_share, endless_share(trace, CONTEXT[LLAMA_70B[0]])
    assert found is not None
    print(f"{name}: {found:.1%} of input tokens hit; an endless cache: {endless:.1%}")
    assert 0.95 * endless < found <= endless


def test_without_prefix_caching_nothing_hits(shared: Path, simulations: list[Simulation]) -> None:
    trace = shared / "traces" / "mooncake_synthetic.jsonl"
    result = simulate(scenario(trace, LLAMA_8B, enable_prefix_caching=False))
    check_requests(result, trace, CONTEXT[LLAMA_8B[0]])
    check_steps(result)
    check_pools(simulations)
    assert result.summary.tokens.cached == 0


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tokensim", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_a_trace_replays_from_the_command_line_without_a_file(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = shared / "traces" / "azure_2023_code.csv", tmp_path / "out"
    options = ("--model", "meta-llama/Llama-3.1-8B", "--hardware", "h100-sxm-80gb", "--trace", str(trace))
    assert command(monkeypatch, "run", *options, "--rate", "3", "--output", str(out)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "8,819 of 8,819 requests served" in printed.out
    assert "arrivals by 'poisson' in place of the trace's own" in printed.out

    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] is True
    assert summary["throughput"]["arrivals_per_s"] == pytest.approx(3, rel=0.05)
    requests = pl.read_parquet(out / "requests.parquet")
    given, asked = lengths(trace)
    assert requests["input_tokens"].to_list() == given.tolist()
    assert requests["output_tokens"].to_list() == asked.tolist()
    assert set(requests["status"]) == {"finished"}
    steps = pl.read_parquet(out / "steps.parquet")
    assert steps["steps"].sum() == summary["usage"]["steps"]
    timeline = json.loads((out / "trace.json").read_text())
    assert timeline["traceEvents"]


def test_overrides_change_the_deployment_under_a_trace(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = shared / "traces" / "azure_2023_conv.csv"
    file = tmp_path / "s.yaml"
    file.write_text(
        "model: meta-llama/Llama-3.1-8B\n"
        "cluster: {pools: [{hardware: a100-sxm-80gb}]}\n"
        f"workload: {{trace: {{path: '{trace}', limit: 2000, rate_scale: 4}}}}\n"
    )
    batches, durations = [], []
    for name, overrides in {
        "as it is": (),
        "overridden": ("engine.max_num_seqs=512", "cluster.pools[0].hardware=h200-sxm-141gb"),
    }.items():
        out = tmp_path / name
        sets = [text for override in overrides for text in ("--set", override)]
        assert command(monkeypatch, "run", str(file), *sets, "-q", "--output", str(out)) == 0
        summary = json.loads((out / "summary.json").read_text())
        assert summary["requests"]["finished"] == 2000
        batches.append(summary["usage"]["batch_max"])
        durations.append(summary["latency"]["e2e_s"]["p99"])
    left = Scenario.from_yaml(tmp_path / "overridden" / "scenario.yaml")
    assert left.cluster.pools[0].hardware == "h200-sxm-141gb"
    assert left.engine.max_num_seqs == 512
    assert batches[0] == 256, "the A100 is overloaded up to the default max_num_seqs"
    assert durations[1] < durations[0] / 2
