"""Step runs equal single steps for every local scheduler beside ``vllm``; nothing is lost or leaked.

Each example is a random scenario: policy and options, limits, memory from scarce to ample, tenants,
priorities, deadlines, predicted lengths, time axis, swapping. It runs in step runs and step by step (see
``random_engines.py``, whose cost and workloads these are), and both must tell the same story.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.random_engines import (
    add_instance,
    draw_clock,
    draw_cost,
    draw_front_end,
    draw_workload,
    outcome_of,
)
from engine.same_story import assert_equal_logs, assert_nothing_left
from tokensim.engine import Simulation
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import REQUEST_ROW
from tokensim.registry import register
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import Limits
from tokensim.workload import Workload

OPTIONS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "static": lambda rng: {},
    "orca": lambda rng: {"reserve": rng.choice(["oracle", "pow2", "max"])},
    "vllm-v0": lambda rng: {"watermark": rng.choice([0.0, 0.01, 0.1])},
    "sarathi": lambda rng: {"watermark": rng.choice([0.0, 0.01, 0.1])},
    "trtllm": lambda rng: {"capacity": rng.choice(["guaranteed_no_evict", "max_utilization"])},
    "sjf": lambda rng: {
        "lengths": rng.choice(["actual", "predicted"]),
        "count_prompt": rng.random() < 0.5,
        "preemptive": rng.random() < 0.5,
    },
    "priority": lambda rng: {"preemptive": rng.random() < 0.8},
    "edf": lambda rng: {"preemptive": rng.random() < 0.5},
    "fair": lambda rng: {
        "input_weight": rng.choice([1.0, 0.3]),
        "output_weight": rng.choice([2.0, 1.7]),
        "weights": rng.choice([None, {0: 2.0, 2: 0.7}]),
    },
}
REQUEST_BYTES = 8 * len(REQUEST_ROW)
WHOLE_PROMPTS = ("static", "orca", "vllm-v0", "trtllm")


def draw_limits(rng: random.Random, policy: str) -> Limits:
    """An engine: from one that never lacks anything to one that lacks everything."""
    batched = rng.choice([16, 24, 48, 64, 256, 2048])
    blocks, size = rng.choice([21, 30, 45, 80, 400]), rng.choice([1, 4, 8, 16])
    if policy in WHOLE_PROMPTS:
        batched = max(batched, min((blocks - 1) * size, 300))
    caching = policy in ("sjf", "priority", "edf", "fair", "vllm-v0") and rng.random() < 0.5
    swaps = policy == "vllm-v0" and not caching and rng.random() < 0.6
    return Limits(
        num_gpu_blocks=blocks,
        block_size=size,
        max_num_seqs=min(batched, rng.choice([1, 3, 8, 64])),
        max_num_batched_tokens=batched,
        max_model_len=(blocks - 1) * size,
        enable_prefix_caching=caching,
        async_scheduling=rng.random() < 0.4,
        window=rng.choice([None, None, 16]),
        longest=rng.random() < 0.5,
        swap_blocks=rng.choice([3, 20, 1000]) if swaps else 0,
        swap_s_per_block=rng.choice([0.0, 0.25]) if swaps else 0.0,
    )


def draw_traits(rng: random.Random, workload: Workload, step_s: float) -> Workload:
    """The same requests with everything that a policy may go by."""
    n = len(workload)
    due = [rng.choice([math.inf, rng.random() * 100 * step_s]) for _ in range(n)]
    return replace(
        workload,
        priority=np.array([rng.randrange(3) for _ in range(n)]),
        tenant=np.array([rng.randrange(4) for _ in range(n)]),
        deadline_s=np.array(due),
        predicted_tokens=np.array([rng.randrange(60) for _ in range(n)]),
    )


def run(seed: int, policy: str, *, exact_steps: bool) -> tuple[RunLog | str, Simulation]:
    """The scenario of ``seed``, one way or the other; a message if it cannot be completed."""
    rng = random.Random(seed)
    limits = draw_limits(rng, policy)
    options = OPTIONS[policy](rng)
    smooth = rng.random() < 0.7
    cost = draw_cost(rng, limits, smooth)
    drawn = replace(limits, enable_chunked_prefill=policy not in WHOLE_PROMPTS)
    workload = draw_traits(rng, draw_workload(rng, drawn, cost.base), cost.base)
    front_end = draw_front_end(rng, cost.base, not smooth)
    clock = draw_clock(rng, cost.base)
    simulation = Simulation(workload, RoundRobin())
    make = register.local_scheduler.get(policy)
    add_instance(
        simulation,
        make(limits, exact_steps=exact_steps, **options),
        limits,
        cost,
        pause_before_idle=rng.random() < 0.5,
        front_end=front_end,
        clock=clock,
    )
    return outcome_of(simulation), simulation


def assert_same_story(seed: int, policy: str) -> RunLog:
    runs, simulation = run(seed, policy, exact_steps=False)
    steps, _ = run(seed, policy, exact_steps=True)
    assert not isinstance(runs, str), runs
    assert not isinstance(steps, str), steps
    assert_equal_logs(runs, steps)
    requests = runs.requests
    assert len(simulation.recorder.requests) == len(simulation.workload) * REQUEST_BYTES
    assert (requests.output_tokens == requests.requested_output_tokens).all()
    for log in (runs, steps):
        gaps = gaps_of(log)
        assert gaps.count == int((requests.output_tokens - 1).sum())
        spent = float((requests.finish_s - requests.first_token_s).sum())
        assert gaps.total_s == pytest.approx(spent, rel=1e-9, abs=1e-9)
        assert (gaps.quantile(0.0) or 0.0) >= 0.0
    assert_nothing_left(simulation)
    return runs


@pytest.mark.parametrize("policy", OPTIONS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_step_runs_equal_single_steps(policy: str, seed: int) -> None:
    assert_same_story(seed, policy)


def test_the_random_scenarios_reach_every_corner() -> None:
    """What a policy can do happens in several of 60 scenarios."""
    expected = {
        "long run": OPTIONS,
        "waited": OPTIONS,
        "preempted": ("vllm-v0", "sarathi", "trtllm", "sjf", "priority", "edf", "fair"),
        "sat out": ("vllm-v0",),
        "held up by copies": ("vllm-v0",),
        "idle rows": ("static",),
        "hit": ("sjf", "priority", "edf", "fair", "vllm-v0"),
        "mixed": ("orca", "sarathi", "trtllm", "sjf", "priority", "edf", "fair"),
    }
    for policy in OPTIONS:
        seen = dict.fromkeys(expected, 0)
        for seed in range(60):
            log, simulation = run(seed, policy, exact_steps=False)
            assert not isinstance(log, str)
            limits = simulation.instances[0].ranks[0].scheduler.limits  # type: ignore[attr-defined]
            what, requests = log.steps.what, log.requests
            happened = {
                "long run": (what.steps > 5).any(),
                "waited": (requests.scheduled_s > requests.arrival_s).any(),
                "preempted": requests.preemptions.any(),
                "sat out": (log.gap_weight < 0).any(),
                "held up by copies": limits.swap_s_per_block > 0 and requests.preemptions.any(),
                "idle rows": log.steps.idle is not None,
                "hit": requests.cached_tokens.any(),
                "mixed": ((what.decode > 0) & (log.steps.prefill_tokens > 0)).any(),
            }
            for name, yes in happened.items():
                seen[name] += bool(yes)
        for name, policies in expected.items():
            assert seen[name] >= (4 if policy in policies else 0), f"{policy}: {name} in {seen[name]} of 60"
        assert policy in expected["mixed"] or not seen["mixed"]
