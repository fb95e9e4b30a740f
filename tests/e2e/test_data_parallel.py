"""Data-parallel ranks from the scenario to the files of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tokensim import simulate
from tokensim.assemble import Result
from tokensim.scenario import from_mapping

MOE = "Qwen/Qwen3-30B-A3B"
DENSE = "meta-llama/Llama-3.1-8B"


def run(
    model: str,
    parallel: dict[str, int],
    *,
    exact_steps: bool = False,
    clock: dict[str, float] | None = None,
    **engine: Any,
) -> Result:
    tree = {
        "model": model,
        "cluster": {"pools": [{"name": "serve", "hardware": "h100-sxm-80gb", "parallel": parallel}]},
        "engine": {"num_gpu_blocks": 3000, **engine},
        "performance": {"operators": "roofline", "clock": clock},
        "workload": {
            "arrivals": {"process": "poisson", "rate": 20},
            "input_tokens": {"distribution": "lognormal", "mean": 700, "cv": 1.0, "max": 8192},
            "output_tokens": {"distribution": "exponential", "mean": 120},
            "num_requests": 150,
        },
    }
    return simulate(from_mapping(tree, "test"), exact_steps=exact_steps)


@pytest.mark.parametrize(
    "parallel", [{"data": 2, "expert": 2}, {"data": 2}, {"tensor": 2, "data": 2, "expert": 4}]
)
def test_ranks_of_an_expert_model_step_together(parallel: dict[str, int]) -> None:
    result = run(MOE, parallel)
    steps = result.steps
    one, other = (steps.filter(instance=rank) for rank in range(2))
    assert one["start_s"].to_list() == other["start_s"].to_list()
    assert one["end_s"].to_list() == other["end_s"].to_list()
    usage = result.summary.usage.instances
    assert [u.busy_s for u in usage] == [pytest.approx(usage[0].busy_s)] * 2
    assert sum(u.requests for u in usage) == 150
    assert abs(usage[0].requests - usage[1].requests) < 40, "the balancer spreads them"


@pytest.mark.parametrize("clock", [None, {"slowdown": 0.3, "time_constant": 2.0}], ids=["steady", "falling"])
def test_every_second_of_every_rank_is_accounted_for(clock: dict[str, float] | None) -> None:
    summary = run(MOE, {"data": 2, "expert": 2}, clock=clock).summary
    busy = sum(usage.busy_s for usage in summary.usage.instances)
    assert summary.time.step_s == pytest.approx(busy, rel=1e-9)
    shares = {share.operator: share.share for share in summary.time.operators}
    assert sum(shares.values()) == pytest.approx(1.0, rel=1e-9)
    assert all(share >= -1e-12 for share in shares.values()), shares
    assert shares["wait_for_ranks"] > 0.0
    assert shares["experts_all_gather"] > 0.0


def test_a_run_step_by_step_is_the_same_run() -> None:
    runs = run(MOE, {"data": 2, "expert": 2}).requests
    steps = run(MOE, {"data": 2, "expert": 2}, exact_steps=True).requests
    assert runs["instance"].to_list() == steps["instance"].to_list()
    assert runs["finish_s"].to_list() == pytest.approx(steps["finish_s"].to_list(), rel=1e-9)


def test_devices_of_all_ranks_are_paid_for() -> None:
    result = run(MOE, {"tensor": 2, "data": 2, "expert": 4})
    summary = result.summary
    assert summary.spending.device_hours == pytest.approx(4 * summary.makespan_s / 3600)


def test_each_rank_has_the_room_that_shared_experts_leave() -> None:
    alone, shared = (
        run(MOE, parallel, num_gpu_blocks=None).summary.usage.instances
        for parallel in ({}, {"data": 2, "expert": 2})
    )
    assert (len(alone), len(shared)) == (1, 2)
    assert shared[0].num_blocks == shared[1].num_blocks
    experts = 48 * 128 * 3 * 2048 * 768 * 2  # bytes; half of them are elsewhere
    block = 16 * 48 * 2 * 4 * 128 * 2
    assert shared[0].num_blocks - alone[0].num_blocks == pytest.approx(experts / 2 / block, abs=1)


def test_ranks_of_a_dense_model_are_replicas_of_their_own() -> None:
    ranks, replicas = run(DENSE, {"data": 2}), run(DENSE, {})
    assert len(ranks.summary.usage.instances) == 2
    assert len(replicas.summary.usage.instances) == 1
    assert ranks.requests["instance"].to_list() == [index % 2 for index in range(150)]
    ends = [set(ranks.steps.filter(instance=rank)["end_s"]) for rank in range(2)]
    assert len(ends[0] & ends[1]) < len(ends[0]) / 10


def test_the_files_name_every_rank(tmp_path: Path) -> None:
    result = run(MOE, {"data": 2, "expert": 2})
    result.save(tmp_path)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    processes = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert processes == ["client", "serve-0/rank-0", "serve-0/rank-1"]
    assert "dummy" in {event["name"] for event in events}
    assert "data: 2" in (tmp_path / "scenario.yaml").read_text()
