"""SGLang's policy in step runs equals its single steps: the same schedule, times within 1e-9 relative.

Each example is a random scenario of its own kind: pages, radix cache on and off, chunks, mixed chunks, the
orders of the queue, outputs that end before or at what was declared, memory so scarce that requests are
retracted, both loops.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_engines import (
    LineCost,
    add_instance,
    draw_arrivals,
    draw_clock,
    draw_cost,
    draw_front_end,
    outcome_of,
    shared_prompts,
)
from same_story import ENGINE_TIMES, assert_equal_logs, assert_nothing_left
from test_random_clusters import Meddler

from tokensim.engine import Instance, Simulation
from tokensim.engine.replica import ReplicaPool
from tokensim.errors import SimulationError
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.scheduling.cluster import Random, RoundRobin
from tokensim.scheduling.local import Limits, Sglang
from tokensim.workload import Workload


def draw_limits(rng: random.Random) -> Limits:
    page = rng.choice([1, 1, 4, 8])
    return Limits(
        num_gpu_blocks=rng.choice([80, 120, 200, 1500]) // page,
        block_size=page,
        max_num_seqs=rng.choice([1, 3, 8, 64]),
        max_num_batched_tokens=rng.choice([16, 32, 64, 1024]) // page * page,
        enable_chunked_prefill=rng.random() < 0.85,
        enable_prefix_caching=rng.random() < 0.7,
        async_scheduling=rng.random() < 0.6,
        window=rng.choice([None, None, 16]),
        longest=rng.random() < 0.5,
    )


def draw_options(rng: random.Random) -> dict[str, Any]:
    declares_more = rng.random() < 0.6
    options: dict[str, Any] = {
        "schedule_policy": rng.choice(["fcfs", "fcfs", "fcfs", "lpm", "lof", "dfs-weight"]),
        "schedule_conservativeness": rng.choice([1.0, 0.3, 0.05, 0.02]),
        "max_prefill_tokens": rng.choice([16384, 40]),
        "prefill_max_requests": rng.choice([None, None, 2]),
        "prefill_decode_interval": rng.choice([None, None, None, 3]),
        "clip_max_new_tokens": rng.choice([4096, 4096, 5]),
        "retract_decode_steps": rng.choice([20, 2]),
        "new_token_ratio_decay_steps": rng.choice([600, 20]),
    }
    if declares_more:
        options["max_new_tokens_factor"] = rng.choice([1.0, 1.5, 3.0])
        options["ignore_eos"] = False
    return options


def draw_workload(rng: random.Random, limits: Limits, step_s: float) -> Workload:
    n = rng.randrange(1, 28)
    room = min(limits.num_gpu_blocks * limits.block_size - limits.block_size - 8, 300)
    prompts = [rng.randrange(1, max(2, room // rng.choice([2, 4, 8]))) for _ in range(n)]
    if rng.random() < 0.2:
        prompts[0] = limits.num_gpu_blocks * limits.block_size  # too long: rejected
    outputs = [rng.randrange(1, rng.choice([3, 40, 80])) for _ in prompts]
    arrivals = draw_arrivals(rng, n, step_s)
    client = rng.random()
    return Workload(
        arrival_s=np.zeros(n) if client < 0.15 else arrivals,
        input_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        segments=shared_prompts(rng, prompts) if rng.random() < 0.6 else None,
        concurrency=rng.randrange(1, 6) if client < 0.15 else None,
        max_in_flight=rng.randrange(1, 6) if client > 0.85 else None,
    )


def run(seed: int, *, exact_steps: bool) -> tuple[RunLog | str, Simulation]:
    """The scenario of ``seed``, one way or the other; a message if it cannot be completed."""
    rng = random.Random(seed)
    limits, options = draw_limits(rng), draw_options(rng)
    options["enable_mixed_chunk"] = limits.enable_chunked_prefill and rng.random() < 0.3
    smooth = rng.random() < 0.7
    cost = draw_cost(rng, limits, smooth)
    workload = draw_workload(rng, limits, cost.base)
    front_end = draw_front_end(rng, cost.base, not smooth)
    clock = draw_clock(rng, cost.base)
    simulation = Simulation(workload, RoundRobin())
    for _ in range(rng.choice([1, 1, 1, 2])):
        scheduler = Sglang(limits, exact_steps=exact_steps, **options)
        add_instance(
            simulation,
            scheduler,
            limits,
            cost,
            pause_before_idle=False,
            front_end=front_end,
            clock=clock,
            max_model_len=scheduler.rejects_from(limits.max_model_len),
        )
    return outcome_of(simulation), simulation


def assert_same_story(seed: int) -> RunLog | str:
    runs, simulation = run(seed, exact_steps=False)
    steps, single = run(seed, exact_steps=True)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return runs
    assert_equal_logs(runs, steps)
    latest = runs.requests
    served = latest.status != 3
    waited = float((latest.finish_s - latest.first_token_s)[served].sum())
    assert gaps_of(runs).total_s == pytest.approx(waited, rel=1e-9, abs=1e-7)
    assert gaps_of(steps).total_s == pytest.approx(waited, rel=1e-9, abs=1e-7)
    gaps, counted = gaps_of(runs), int((latest.output_tokens[served] - 1).sum())
    assert gaps.count == gaps_of(steps).count == counted
    for q in (0.5, 0.9, 1.0) if counted else ():
        assert gaps.quantile(q) == pytest.approx(gaps_of(steps).quantile(q), rel=1e-9)
    for each in (simulation, single):
        assert_nothing_left(each)
    for one, other in zip(simulation.instances, single.instances, strict=True):
        assert one.scheduler.pool.available == other.scheduler.pool.available
        assert one.scheduler.ratio.value == other.scheduler.ratio.value
    return runs


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_step_runs_of_sglang_equal_single_steps(seed: int) -> None:
    assert_same_story(seed)


def test_the_random_sglang_scenarios_reach_every_corner() -> None:
    seen: dict[str, int] = {}
    for seed in range(150):
        log, _ = run(seed, exact_steps=False)
        if isinstance(log, str):
            seen["stuck"] = seen.get("stuck", 0) + 1
            continue
        requests, what = log.requests, log.steps.what
        happened = {
            "retracted": requests.preemptions.any(),
            "recomputed": requests.recomputed_tokens.any(),
            "hit": requests.cached_tokens.any(),
            "waited": (requests.scheduled_s > requests.arrival_s).any(),
            "sat out": len(log.gap_s) and (log.gap_weight < 0).any(),
            "long run": (what.steps > 5).any(),
            "chunked": (what.chunk_context > 0).any(),
            "mixed": (what.decode[what.chunk_row] > 0).any(),
            "rejected": (requests.status == 3).any(),
        }
        for name, yes in happened.items():
            seen[name] = seen.get(name, 0) + bool(yes)
    rare = {name: count for name, count in seen.items() if count < 10 and name != "stuck"}
    assert not rare, f"the generator hardly reaches {rare} (of 150): {seen}"


def meddled(seed: int, exact_steps: bool) -> RunLog:
    """Two instances and somebody who reroutes, preempts, migrates, throttles, kills and adds at random."""
    rng = random.Random(seed)
    limits, options = draw_limits(rng), draw_options(rng)
    workload = draw_workload(rng, limits, 1.0)
    cost = LineCost(1.0, 0.002, 0.0, math.inf, limits.window, 0.0)
    meddler = Meddler(random.Random(rng.random()), 1.0, rng.choice([3, 10]), False)
    simulation = Simulation(workload, Random(rng.randrange(100)), hooks=[meddler])

    def make() -> Instance:
        scheduler = Sglang(limits, exact_steps=exact_steps, **options)
        return Instance(
            simulation.next_index,
            scheduler,
            cost,
            simulation.recorder,
            max_model_len=scheduler.rejects_from(limits.max_model_len),
            caching=limits.enable_prefix_caching,
            asynchronous=limits.async_scheduling,
            pause_before_idle=False,
            on_finish=simulation.on_finish,
        )

    for _ in range(2):
        simulation.add_instance(make(), ReplicaPool("mixed", make))
    log = simulation.run()
    for replica in simulation.replicas:
        for rank in replica.ranks:
            rank.scheduler.check_integrity()
            assert rank.scheduler.pool.free == rank.scheduler.pool.num_blocks, "pages leaked"
    ends = {STATUSES[status] for status in log.requests.status}
    assert ends <= {"finished", "truncated", "failed", "rejected"}, ends
    return log


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_whatever_is_done_to_sglang_nothing_is_lost_and_runs_equal_single_steps(seed: int) -> None:
    assert_equal_ends(seed)


def assert_equal_ends(seed: int) -> None:
    try:
        runs = meddled(seed, False)
    except SimulationError as error:
        with pytest.raises(SimulationError, match=r"can never run|does not fit"):
            meddled(seed, True)
        assert "can never run" in str(error) or "does not fit" in str(error)
        return
    steps = meddled(seed, True)
    for name in ("status", "instance", "preemptions", "cached_tokens"):
        assert getattr(runs.requests, name).tolist() == getattr(steps.requests, name).tolist(), name
    for name in ENGINE_TIMES:
        left, right = getattr(runs.requests, name), getattr(steps.requests, name)
        np.testing.assert_allclose(left, right, rtol=1e-9, err_msg=name)
    assert gaps_of(runs).count == gaps_of(steps).count
    assert gaps_of(runs).total_s == pytest.approx(gaps_of(steps).total_s, rel=1e-9, abs=1e-7)
