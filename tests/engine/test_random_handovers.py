"""Prefill and decode apart, and migrations, under every local policy that can take KV from elsewhere: random
clusters lose nothing and leak nothing, and step runs tell the same story as single steps."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_engines import LineCost, shared_prompts
from test_exact_policies import OPTIONS
from test_random_clusters import Meddler, Wire

from tokensim.engine import Instance, Simulation
from tokensim.engine.handover import Handover, Terms
from tokensim.engine.replica import ReplicaPool
from tokensim.metrics.log import STATUSES, RunLog
from tokensim.registry import register
from tokensim.scheduling.cluster import Random, RoundRobin
from tokensim.scheduling.local import Limits
from tokensim.workload import Workload

POLICIES = ("sglang", "orca", "vllm-v0", "sarathi", "trtllm", "sjf", "priority", "edf", "fair")
CACHES = ("sglang", "vllm-v0", "sjf", "priority", "edf", "fair")
LAYOUTS = (
    ("prefill", "decode"),
    ("prefill", "decode", "decode"),
    ("prefill", "prefill", "decode"),
    ("mixed", "prefill", "decode"),
    ("mixed", "mixed"),
)


def draw_limits(rng: random.Random, policy: str) -> Limits:
    size = rng.choice([1, 4, 8])
    blocks = rng.choice([80, 160, 800]) // size + 1
    caching = policy in CACHES and rng.random() < 0.6
    whole = policy in ("orca", "vllm-v0", "trtllm")
    swaps = policy == "vllm-v0" and not caching and rng.random() < 0.5
    return Limits(
        num_gpu_blocks=blocks,
        block_size=size,
        max_model_len=(blocks - 1) * size,
        max_num_seqs=rng.choice([1, 2, 8, 64]),
        max_num_batched_tokens=1024 if whole else rng.choice([16, 64, 512]),
        enable_prefix_caching=caching,
        async_scheduling=rng.random() < 0.5,
        window=rng.choice([None, None, 16]),
        longest=rng.random() < 0.3,
        swap_blocks=20 if swaps else 0,
        swap_s_per_block=0.25 if swaps else 0.0,
    )


def draw_options(rng: random.Random, policy: str) -> dict[str, Any]:
    if policy != "sglang":
        return OPTIONS[policy](rng)
    declared = rng.choice([1.0, 1.0, 3.0])
    return {
        "num_reserved_decode_tokens": rng.choice([0, 1, 5, 30, 512]),
        "schedule_policy": rng.choice(["fcfs", "fcfs", "lpm"]),
        "enable_mixed_chunk": rng.random() < 0.2,
        "prefill_decode_interval": rng.choice([None, None, 3]),
        "clip_max_new_tokens": rng.choice([4096, 5]),
        "max_new_tokens_factor": declared,
        "ignore_eos": declared == 1.0 and rng.random() < 0.5,
    }


def draw_workload(rng: random.Random, limits: Limits, step_s: float) -> Workload:
    room = min(limits.max_model_len, (limits.num_gpu_blocks - 1) * limits.block_size) - 10
    n = rng.randrange(2, 25)
    prompts = [rng.randrange(1, max(2, room // rng.choice([2, 4, 8]))) for _ in range(n)]
    outputs = [max(1, min(rng.randrange(1, 40), room - prompt)) for prompt in prompts]
    spread = rng.choice([0, 1, 4]) * step_s
    return Workload(
        np.cumsum([rng.expovariate(1) * spread for _ in range(n)]),
        np.array(prompts),
        np.array(outputs),
        priority=np.array([rng.randrange(3) for _ in range(n)]),
        tenant=np.array([rng.randrange(3) for _ in range(n)]),
        predicted_tokens=np.array([rng.randrange(60) for _ in range(n)]),
        segments=shared_prompts(rng, prompts) if rng.random() < 0.5 else None,
        max_in_flight=rng.randrange(1, 6) if rng.random() < 0.3 else None,
    )


def draw(seed: int, policy: str, exact_steps: bool) -> Simulation:
    rng = random.Random(seed)
    limits, options = draw_limits(rng, policy), draw_options(rng, policy)
    step_s = rng.choice([1e-3, 0.02])
    requests = draw_workload(rng, limits, step_s)
    terms = Terms(
        rng.choice([0.0, 1.0, 40.0]),
        layers=rng.choice([1, 4]),
        push=rng.random() < 0.5,
        layerwise=rng.random() < 0.5,
        streams_first=rng.random() < 0.6,
        latency_s=rng.choice([0.0, step_s / 3]),
    )
    meddles = rng.random() < 0.5
    hooks = [Meddler(random.Random(rng.random()), step_s, rng.choice([3, 10]), True)] if meddles else []
    made = Simulation(requests, Random(rng.randrange(100)), hooks=hooks)
    Handover(made, RoundRobin(), terms, Wire(made, step_s / 10))
    kind = register.local_scheduler.get(policy)
    fits = rng.choice([1.0, 1.0, 0.5])

    def make(share: float) -> Instance:
        own = replace(limits, num_gpu_blocks=1 + int((limits.num_gpu_blocks - 1) * share))
        scheduler = kind(own, exact_steps=exact_steps, **options)
        return Instance(
            made.next_index,
            scheduler,
            LineCost(step_s, step_s / 500, 0.0, 60.0, None, 0.0),
            made.recorder,
            max_model_len=scheduler.rejects_from(
                min(limits.max_model_len, (own.num_gpu_blocks - 1) * own.block_size)
            ),
            caching=limits.enable_prefix_caching,
            asynchronous=limits.async_scheduling,
            pause_before_idle=policy != "sglang",
            on_finish=made.on_finish,
        )

    for place, role in enumerate(rng.choice(LAYOUTS)):
        share = fits if role == "prefill" else 1.0
        made.add_instance(make(share), ReplicaPool(f"{role}-{place}", lambda s=share: make(s), role=role))
    return made


def outcome(seed: int, policy: str, exact_steps: bool) -> tuple[RunLog, Simulation]:
    made = draw(seed, policy, exact_steps)
    log = made.run()
    for replica in made.replicas:
        for rank in replica.ranks:
            rank.scheduler.check_integrity()
            assert replica.idle, f"{replica} has requests left"
            assert rank.scheduler.pool.free == rank.scheduler.pool.num_blocks, f"{replica} leaks blocks"
    assert not made.passages
    columns = log.requests
    assert not (columns.status == STATUSES.index("unfinished")).any()
    assert len(made.recorder.requests) // 88 == len(made.workload), "some request was accounted for twice"
    whole = columns.status == STATUSES.index("finished")
    assert (columns.output_tokens[whole] == made.workload.output_tokens[whole]).all()
    return log, made


def assert_same_story(seed: int, policy: str) -> None:
    (runs, _), (steps, _) = outcome(seed, policy, False), outcome(seed, policy, True)
    a, b = runs.requests, steps.requests
    for name in ("status", "instance", "preemptions", "output_tokens", "cached_tokens", "recomputed_tokens"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name
    for name in ("arrival_s", "scheduled_s", "first_token_s", "finish_s"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, err_msg=name)
    assert math.isclose(runs.end_s, steps.end_s, rel_tol=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 40))
def test_handing_over_loses_nothing_and_runs_equal_single_steps(policy: str, seed: int) -> None:
    assert_same_story(seed, policy)


def test_who_is_swapped_out_gets_the_room_of_those_that_wait_behind_it() -> None:
    assert_same_story(32912, "vllm-v0")
