"""Step runs equal single steps: the same schedule, step by step, and times within 1e-9 relative.

Each example is a random scenario: engine limits, policy, version, time axis, memory from scarce to ample,
shared prompts, client, cost, front end, clock. It runs twice, once in step runs and once with every step
walked request by request, and both must tell the same story.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_engines import (
    add_instance,
    draw_clock,
    draw_cost,
    draw_front_end,
    draw_limits,
    draw_workload,
    outcome_of,
)
from same_story import assert_equal_logs, assert_nothing_left, inter_token_time

from tokensim.engine import Simulation
from tokensim.metrics.log import RunLog
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import ContinuousBatching, Request, Vllm
from tokensim.scheduling.local.versions import rules_of


class ShortestFirst(ContinuousBatching):
    """A user's order of admission."""

    def admission_order(self, waiting: list[Request]) -> list[Request]:
        return sorted(waiting, key=lambda r: r.input_tokens)


class Impatient(ContinuousBatching):
    """A policy that wants to be asked again after three steps."""

    def horizon(self) -> int:
        return 3


def run(seed: int, *, exact_steps: bool) -> tuple[RunLog | str, Simulation]:
    """The scenario of ``seed``, one way or the other; a message if it cannot be completed."""
    rng = random.Random(seed)
    version = rng.choice(["0.33.0", "0.33.0", "0.23.0", "0.19.0"])
    limits = draw_limits(rng, version)
    smooth = rng.random() < 0.7
    cost = draw_cost(rng, limits, smooth)
    workload = draw_workload(rng, limits, cost.base)
    policy = rng.choice([Vllm, Vllm, Vllm, Vllm, ShortestFirst, Impatient])
    front_end = draw_front_end(rng, cost.base, not smooth)
    clock = draw_clock(rng, cost.base)
    simulation = Simulation(workload, RoundRobin())
    for _ in range(rng.choice([1, 1, 1, 2])):
        add_instance(
            simulation,
            policy(limits, version, exact_steps=exact_steps),
            limits,
            cost,
            pause_before_idle=rules_of(version).pause_before_idle,
            front_end=front_end,
            clock=clock,
        )
    return outcome_of(simulation), simulation


def assert_same_story(seed: int) -> RunLog | str:
    runs, simulation = run(seed, exact_steps=False)
    steps, _ = run(seed, exact_steps=True)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return runs
    assert_equal_logs(runs, steps)
    gaps, single = inter_token_time(runs), inter_token_time(steps)
    assert gaps == pytest.approx(single, rel=1e-9)
    latest = runs.requests
    assert gaps == pytest.approx(float((latest.finish_s - latest.first_token_s).sum()), rel=1e-9, abs=1e-9)
    assert_nothing_left(simulation)
    return runs


@settings(max_examples=800, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_step_runs_equal_single_steps(seed: int) -> None:
    assert_same_story(seed)


def test_the_random_scenarios_reach_every_corner() -> None:
    seen: dict[str, int] = {}
    for seed in range(300):
        log, _ = run(seed, exact_steps=False)
        if isinstance(log, str):
            seen["stuck"] = seen.get("stuck", 0) + 1
            continue
        requests = log.requests
        happened = {
            "preempted": requests.preemptions.any(),
            "recomputed": requests.recomputed_tokens.any(),
            "hit": requests.cached_tokens.any(),
            "waited": (requests.scheduled_s > requests.arrival_s).any(),
            "sat out": len(log.gap_s) and (log.gap_weight < 0).any(),
            "long run": (log.steps.what.steps > 5).any(),
            "chunked": (log.steps.what.chunk_context > 0).any(),
            "two instances": requests.instance.max() > 0,
            "delivered late": (requests.last_delivery_s > requests.finish_s).any(),
            "slowed by its clock": (log.steps.what.clock_share > 0.01).any(),
        }
        for name, yes in happened.items():
            seen[name] = seen.get(name, 0) + bool(yes)
    enough = {"sat out": 3, "stuck": 0}  # without drafts it is rare that the budget leaves a decode out
    rare = {name: count for name, count in seen.items() if count < enough.get(name, 10)}
    assert not rare, f"the generator hardly reaches {rare} (of 300)"
