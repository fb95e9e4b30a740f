"""What a router reads in the middle of a run of steps is what a run of single steps says at that instant."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_engines import (
    LineCost,
    add_instance,
    draw_clock,
    draw_front_end,
    draw_limits,
    draw_workload,
    outcome_of,
)

from tokensim.engine import Instance, Simulation
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Request, Vllm
from tokensim.scheduling.local.outlook import kept, walked
from tokensim.scheduling.local.versions import rules_of
from tokensim.workload import Segments

COUNTS = ("outstanding_requests", "outstanding_tokens", "running", "waiting", "free_blocks")
SECONDS = ("predicted_work_s", "kv_use")


class Probe(GlobalScheduler):
    """Notes everything that it sees, and then sends the request anywhere."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._random = random.Random(seed)
        self.seen: list[tuple[Any, ...]] = []
        self.longest: list[tuple[int, int]] = []

    def route(self, request: Request, instances: Sequence[Any], now: float) -> Any:
        for instance in instances:
            load = instance.load
            counts = [getattr(load, name) for name in COUNTS]
            seconds = [getattr(load, name) for name in SECONDS]
            cached = load.cached_prefix(request)
            self.seen.append((*counts, cached, *seconds, load.predicted_ttft_s(request)))
            sums = instance.scheduler
            one, other = kept(sums), walked(sums, sums.index, sums.block_size)
            if instance.runner.run[3] > 1:
                assert one._replace(free_blocks=0) == other._replace(free_blocks=0)
            else:  # who decodes its last token may or may not count as decoding
                same = ("running", "waiting", "prefill_tokens", "decode_tokens", "context")
                assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
        self.longest.append(self.loads.longest_prefix(request, instances))
        return instances[self._random.randrange(len(instances))]


def probed(seed: int, *, exact_steps: bool, staleness_s: float = 0.0) -> Probe | str:
    """Two instances under the random scenario of ``seed``; a message if it cannot be completed."""
    rng = random.Random(seed)
    version = rng.choice(["0.33.0", "0.23.0"])
    limits = draw_limits(rng, version)
    smooth = rng.random() < 0.7
    cost = LineCost(
        rng.uniform(0.5, 2) if smooth else 1 / 64,
        rng.uniform(0, 0.01) if smooth else 0.0,
        0.0,
        float("inf"),
        limits.window,
        rng.uniform(0, 0.01) if smooth and limits.longest else 0.0,
    )
    workload = draw_workload(rng, limits, cost.base)
    segments = workload.segments
    if segments is not None and rng.random() < 0.5:  # answers that later prompts may contain
        answers = workload.input_tokens * 0 + 10 * (workload.input_tokens % 3) + 1
        segments = Segments(segments.offsets, segments.ids, segments.tokens, answers)
        object.__setattr__(workload, "segments", segments)
    front_end = draw_front_end(rng, cost.base, not smooth)
    clock = draw_clock(rng, cost.base)
    router = Probe(seed)
    simulation = Simulation(workload, router, staleness_s=staleness_s * cost.base)
    for _ in range(2):
        add_instance(
            simulation,
            Vllm(limits, version, exact_steps=exact_steps),
            limits,
            cost,
            pause_before_idle=rules_of(version).pause_before_idle,
            front_end=front_end,
            clock=clock,
        )
    outcome = outcome_of(simulation)
    if isinstance(outcome, str):
        return outcome
    for instance in simulation.replicas:
        load = instance.load
        simulation.loads.at(1e9, True)
        assert load.outstanding_requests == 0
        assert load.outstanding_tokens == 0
    return router


def assert_same_sight(seed: int, staleness_s: float = 0.0) -> Probe | str:
    runs = probed(seed, exact_steps=False, staleness_s=staleness_s)
    steps = probed(seed, exact_steps=True, staleness_s=staleness_s)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return runs
    assert len(runs.seen) == len(steps.seen)
    exact = len(COUNTS) + 1
    for one, other in zip(runs.seen, steps.seen, strict=True):
        assert one[:exact] == other[:exact]
        assert one[exact:] == pytest.approx(other[exact:], rel=1e-9, abs=1e-9)
    assert runs.longest == steps.longest
    return runs


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_loads_in_the_middle_of_a_run_are_those_of_single_steps(seed: int) -> None:
    assert_same_sight(seed)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**48), staleness=st.sampled_from([0.5, 3.0, 1000.0]))
def test_stale_loads_are_those_of_single_steps_too(seed: int, staleness: float) -> None:
    assert_same_sight(seed, staleness)


def test_the_probe_sees_instances_in_every_state() -> None:
    seen = [probed(seed, exact_steps=False) for seed in range(60)]
    rows = [row for probe in seen if not isinstance(probe, str) for row in probe.seen]
    assert sum(row[3] > 0 for row in rows) > 50, "requests wait"
    assert sum(row[5] > 0 for row in rows) > 20, "prefixes are cached"
    assert sum(0 < row[7] < 1 for row in rows) > 200, "blocks are in use"
    assert len({row[1] for row in rows}) > 200, "tokens are left"


def test_what_a_stale_router_sees_is_what_there_was() -> None:
    fresh, stale = probed(11, exact_steps=False), probed(11, exact_steps=False, staleness_s=1e9)
    assert isinstance(fresh, Probe) and isinstance(stale, Probe)
    assert [row[0] for row in stale.seen] == [row[0] for row in fresh.seen], "it counts requests itself"
    assert {row[1:5] for row in stale.seen} == {stale.seen[0][1:5]}, "engines are idle for ever"
    assert any(row[1] for row in fresh.seen)


def test_a_target_says_who_it_is() -> None:
    class Names(GlobalScheduler):
        def route(self, request: Request, instances: Sequence[Any], now: float) -> Any:
            names.append([(i.index, i.pool.name, i.role, i.name) for i in instances])
            return instances[0]

    names: list[Any] = []
    rng = random.Random(1)
    limits = draw_limits(rng, "0.33.0")
    cost = LineCost(1.0, 0.0, 0.0, float("inf"), limits.window, 0.0)
    simulation = Simulation(draw_workload(rng, limits, 1.0), Names())
    simulation.add_instance(
        Instance(
            0,
            Vllm(limits),
            cost,
            simulation.recorder,
            max_model_len=1 << 20,
            caching=False,
            asynchronous=False,
            pause_before_idle=True,
            on_finish=simulation.on_finish,
        )
    )
    simulation.run()
    assert names[0] == [(0, "instance-0", "mixed", "instance-0-0")]
