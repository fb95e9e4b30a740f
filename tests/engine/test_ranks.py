"""Data-parallel ranks that share experts step together; those of a dense model do not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from axis import ConstantCost, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from random_engines import draw_limits, draw_workload
from ranks_cost import compiled, draw_cost
from same_story import inter_token_time, single_steps
from test_exact_steps import Impatient

from tokensim.cost.ranks import CompiledRanksCost, GroupRun, RankStep
from tokensim.engine import Instance, Simulation
from tokensim.engine.balancer import Balancer
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import FrontEnd
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.errors import SimulationError
from tokensim.metrics.log import RunLog
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import ContinuousBatching, Limits, Vllm
from tokensim.scheduling.local.versions import rules_of
from tokensim.workload import Workload

BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])
SYNC_ASYNC = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


class SecondPerRequest:
    """A rank's own operators take a second a request, a dummy a second; nothing is pooled."""

    def price(self, ranks: Sequence[RankStep | None]) -> GroupRun:
        own = [1.0 if step is None else float(step.decode + len(step.chunks)) for step in ranks]
        steps = 1 if any(step is not None and step.chunks for step in ranks) else 1 << 60
        waits = tuple((max(own) - seconds, 0.0) for seconds in own)
        rows = tuple(int(seconds) for seconds in own)
        return GroupRun(max(own), 0.0, steps, rows, sum(own) / len(own), max(own), waits)

    def compute_times(self, run: GroupRun) -> tuple[tuple[float, ...], float]:
        return (0.0,) * len(run.rows), 0.0


def group(
    simulation: Simulation,
    cost: Any,
    limits: Limits,
    *,
    ranks: int = 2,
    exact_steps: bool = False,
    version: str = "0.33.0",
    policy: type[ContinuousBatching] = Vllm,
    **more: Any,
) -> RankGroup:
    """A group of ``ranks`` ranks for ``simulation``."""
    return RankGroup(
        simulation.next_index,
        [policy(limits, version, exact_steps=exact_steps) for _ in range(ranks)],
        ConstantCost(),
        cost,
        simulation.recorder,
        max_model_len=limits.max_model_len,
        caching=limits.enable_prefix_caching,
        asynchronous=limits.async_scheduling,
        pause_before_idle=rules_of(version).pause_before_idle,
        on_finish=simulation.on_finish,
        **more,
    )


def run(requests: Workload, *, asynchronous: bool, exact_steps: bool = False, **more: Any) -> RunLog:
    """Two ranks of ``SecondPerRequest``."""
    limits = Limits(1001, 4, enable_prefix_caching=False, async_scheduling=asynchronous, **more)
    simulation = Simulation(requests, RoundRobin())
    simulation.add_instance(group(simulation, SecondPerRequest(), limits, exact_steps=exact_steps))
    return simulation.run()


@BOTH
@SYNC_ASYNC
def test_a_step_lasts_as_long_as_the_slowest_rank_takes(asynchronous: bool, exact_steps: bool) -> None:
    """Requests 0 and 2 on rank 0, request 1 on rank 1: steps of 2, 2 and 1 s; then rank 0 runs dummies."""
    log = run(workload([0.0] * 3, [3, 5, 2]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.instance.tolist() == [0, 1, 0]
    assert log.requests.first_token_s.tolist() == [2.0, 2.0, 2.0]
    assert log.requests.finish_s.tolist() == [5.0, 7.0, 4.0]


@BOTH
@pytest.mark.parametrize(("asynchronous", "first"), [(False, 5.0), (True, 6.0)])
def test_an_arrival_at_an_idle_rank_waits_for_the_step_of_the_others(
    asynchronous: bool, first: float, exact_steps: bool
) -> None:
    """It comes during step 4 (3 s to 4 s), in which rank 1 runs a dummy; asynchronously, so is step 5."""
    log = run(workload([0.0, 3.5], [20, 2]), asynchronous=asynchronous, exact_steps=exact_steps)
    assert log.requests.instance.tolist() == [0, 1]
    assert log.requests.scheduled_s.tolist() == [0.0, 4.0]
    assert log.requests.first_token_s.tolist() == [1.0, first]
    assert log.requests.finish_s.tolist() == [20.0, first + 1]


def test_a_dummy_is_a_row_without_requests() -> None:
    log = run(workload([0.0], [10]), asynchronous=False)
    what = log.steps.what
    assert log.steps.instance.tolist() == [0, 1, 0, 1]
    assert what.steps.tolist() == [1, 1, 9, 9]
    assert what.decode.tolist() == [0, 0, 1, 0]
    assert what.samples.tolist() == [1, 0, 1, 0]
    assert log.steps.end_s.tolist() == [1.0, 1.0, 10.0, 10.0]


def test_a_group_without_work_rests_and_wakes() -> None:
    log = run(workload([0.0, 5.25], [2, 2]), asynchronous=True)
    assert log.requests.instance.tolist() == [0, 0], "after a while the balancer knows that rank 0 is done"
    assert log.requests.finish_s.tolist() == [2.0, 7.25]
    assert (log.steps.end_s - log.steps.start_s).sum() == 2 * 4.0


def test_what_ranks_wait_for_each_other_is_noted() -> None:
    log = run(workload([0.0] * 3, [3, 3, 3]), asynchronous=False)
    together = log.steps.what.together
    assert together is not None
    for rank, waited in ((0, 0.0), (1, 3.0)):
        assert together.wait_s[log.steps.instance == rank].sum() == waited


@SYNC_ASYNC
def test_one_front_end_serves_all_ranks(asynchronous: bool) -> None:
    """Both requests come at once; each takes the thread for 0.5 s, and no output costs anything."""
    requests = workload([0.0, 0.0], [2, 2])
    limits = Limits(1001, 4, enable_prefix_caching=False, async_scheduling=asynchronous)
    simulation = Simulation(requests, RoundRobin())
    front_end = FrontEnd(simulation.on_delivery, request_s=0.5, chunk_s=0.0, client_s=0.0)
    simulation.add_instance(group(simulation, SecondPerRequest(), limits, front_end=front_end))
    log = simulation.run()
    second = 3.5 if asynchronous else 2.5  # it came during a step that ends at 1.5 s
    assert log.requests.instance.tolist() == [0, 1]
    assert log.requests.first_delivery_s.tolist() == [1.5, second]
    assert log.requests.last_delivery_s.tolist() == [2.5, second + 1]


def test_ranks_of_a_dense_model_take_requests_in_turn_and_do_not_wait() -> None:
    requests = workload([0.0] * 3, [3, 5, 2])
    limits = Limits(1001, 4, enable_prefix_caching=False, async_scheduling=False)
    simulation = Simulation(requests, RoundRobin())
    ranks = [
        Instance(
            rank,
            Vllm(limits),
            ConstantCost(1.0 + rank),
            simulation.recorder,
            max_model_len=limits.max_model_len,
            caching=False,
            asynchronous=False,
            pause_before_idle=True,
            on_finish=simulation.on_finish,
        )
        for rank in range(2)
    ]
    simulation.add_instance(RankSet(ranks))
    log = simulation.run()
    assert len(simulation.replicas) == 1
    assert log.requests.instance.tolist() == [0, 1, 0]
    assert log.requests.finish_s.tolist() == [3.0, 10.0, 2.0]


# The balancer.


def test_requests_go_to_the_emptiest_rank_the_lowest_of_equals() -> None:
    balancer = Balancer(3)
    assert [balancer.choose(0.0) for _ in range(4)] == [0, 1, 2, 0]


def test_until_the_balancer_hears_of_a_step_it_knows_what_it_has_sent() -> None:
    """The step is reported at 70 ms; when nothing more has come for 50 ms, the coordinator speaks."""
    balancer = Balancer(2)
    assert [balancer.choose(0.0) for _ in range(2)] == [0, 1]
    balancer.report(0.07, [(0, 5), (0, 1)])
    assert balancer.choose(0.119) == 0, "one sent to each"
    assert balancer.choose(0.121) == 1, "5 run against 1"
    assert balancer.choose(0.122) == 0, "5 against 1 that runs and one sent, which counts as waiting: 4"


def test_the_coordinator_speaks_every_tenth_of_a_second_if_there_is_news() -> None:
    balancer = Balancer(2)
    balancer.report(0.0, [(0, 1), (0, 0)])  # heard at 0.1 s
    balancer.report(0.11, [(0, 1), (0, 9)])  # heard at 0.2 s
    assert balancer.choose(0.099) == 0, "nothing heard"
    assert balancer.choose(0.199) == 1, "heard of the first"
    assert balancer.choose(0.201) == 0, "heard of the second"


def test_of_two_steps_the_coordinator_speaks_of_the_one_that_all_have_reported() -> None:
    balancer = Balancer(2)
    balancer.report(0.07, [(0, 9), (0, 1)])
    balancer.report(0.10, [(0, 1), (0, 9)])
    assert balancer.choose(0.151) == 1, "it knows of the first step"
    assert balancer.choose(0.201) == 0, "now of the second"


# The price.


def test_the_price_is_that_of_the_slowest_rank_and_of_what_is_pooled() -> None:
    """Own operators: 10 + rows; experts: 100 + 2 · mean rows; exchange: 5 · moved; attention: context."""
    cost = CompiledRanksCost(compiled(own=(10.0, 1.0), pooled=(100.0, 2.0), exchange=(0.0, 5.0)), 2)
    run = cost.price([RankStep(4, 40.0, 0, 0, 13, [], 4), RankStep(2, 100.0, 0, 0, 60, [], 2)])
    assert run.rows == (4, 2)
    assert run.first_s == (10 + 2 + 100.0) + (100 + 2 * 3.0) + 5 * 4.0
    assert run.growth_s == 2.0
    assert run.waits == (((12 + 100.0) - (14 + 40.0), 2.0 - 4.0), (0.0, 0.0))
    assert run.steps == 30, "rank 0 grows by 4 a step, rank 1 by 2, and is 58 ahead: equal in the 30th"


def test_with_cuda_graphs_all_ranks_are_padded_to_the_largest() -> None:
    cost = CompiledRanksCost(compiled(own=(0.0, 1.0), graph_sizes=(1, 2, 4, 8)), 2)
    three = RankStep(3, 0.0, 0, 0, 0, [], 3)
    assert cost.price([three, None]).rows == (4, 4)
    assert cost.price([RankStep(0, 0.0, 0, 0, 0, [(9, 0)], 1), three]).rows == (9, 3), (
        "too large: as they are"
    )


@pytest.mark.parametrize("asynchronous", [False, True])
@given(seed=st.integers(0, 2**48))
@settings(max_examples=200, deadline=None)
def test_the_closed_form_of_a_run_equals_the_price_of_each_of_its_steps(
    asynchronous: bool, seed: int
) -> None:
    rng = random.Random(seed)
    ranks = rng.choice([2, 3])
    cost = CompiledRanksCost(draw_cost(rng, asynchronous), ranks)
    steps: list[RankStep | None] = [None] * ranks
    for rank in range(rng.randrange(1, ranks + 1)):
        n = rng.randrange(1, 20)
        longest = rng.randrange(1, 50)
        steps[rank] = RankStep(n, float(rng.randrange(longest, n * longest + 1)), 0, 0, longest, [], n)
    run = cost.price(steps)
    for k in range(min(run.steps, 60)):
        later = [
            None if s is None else s._replace(context=s.context + k * s.decode, longest=s.longest + k)
            for s in steps
        ]
        assert cost.price(later).first_s == pytest.approx(run.first_s + k * run.growth_s, rel=1e-9)


# Runs against single steps.


def story(seed: int, *, exact_steps: bool) -> tuple[RunLog | str, Simulation]:
    """The scenario of ``seed``, one way or the other; a message if it cannot be completed."""
    rng = random.Random(seed)
    version = rng.choice(["0.33.0", "0.23.0", "0.19.0"])
    limits = draw_limits(rng, version)
    requests = draw_workload(rng, limits, 1.0)
    policy = rng.choice([Vllm, Vllm, Vllm, Impatient])
    simulation = Simulation(requests, RoundRobin())
    ranks = rng.choice([2, 2, 3])
    with_front_end = rng.random() < 0.3
    clock = (rng.uniform(0.05, 0.3), rng.uniform(5, 50)) if rng.random() < 0.3 else None
    for _ in range(rng.choice([1, 1, 2])):  # with unlike costs: equal ones would tie within a rounding error
        cost = draw_cost(rng, limits.async_scheduling, window=limits.window, skewed=limits.longest)
        made = group(
            simulation,
            CompiledRanksCost(cost, ranks),
            limits,
            ranks=ranks,
            exact_steps=exact_steps,
            version=version,
            policy=policy,
            front_end=FrontEnd(simulation.on_delivery, 0.01, 1e-4, 0.01) if with_front_end else None,
            clock=None if clock is None else Clock(*clock),
        )
        simulation.add_instance(made)
    try:
        return simulation.run(), simulation
    except SimulationError as error:
        return str(error), simulation


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_runs_of_a_group_equal_its_single_steps(seed: int) -> None:
    runs, simulation = story(seed, exact_steps=False)
    steps, _ = story(seed, exact_steps=True)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return
    for one, other in zip(single_steps(runs), single_steps(steps), strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], rel=1e-9)
    for name in ("status", "output_tokens", "cached_tokens", "preemptions", "recomputed_tokens", "instance"):
        assert (getattr(runs.requests, name) == getattr(steps.requests, name)).all(), name
    for name in ("scheduled_s", "first_token_s", "finish_s", "first_delivery_s", "last_delivery_s"):
        left, right = getattr(runs.requests, name), getattr(steps.requests, name)
        np.testing.assert_allclose(left, right, rtol=1e-9, err_msg=name)
    assert inter_token_time(runs) == pytest.approx(inter_token_time(steps), rel=1e-9)
    waits = [log.steps.what.together.wait_s.sum() for log in (runs, steps) if log.steps.what.together]
    assert waits[0] == pytest.approx(waits[1], rel=1e-9, abs=1e-9)
    for instance in simulation.instances:
        for rank in instance.ranks:
            rank.scheduler.check_integrity()
            assert rank.scheduler.pool.free == rank.scheduler.pool.num_blocks, "blocks leaked"


def test_the_random_groups_reach_every_corner() -> None:
    seen: dict[str, int] = {}
    for seed in range(150):
        log, _ = story(seed, exact_steps=False)
        if isinstance(log, str):
            continue
        what = log.steps.what
        dummy = (what.decode == 0) & (log.steps.prefill_tokens == 0)
        happened = {
            "preempted": log.requests.preemptions.any(),
            "dummy": dummy.any(),
            "long run": (what.steps > 5).any(),
            "long dummy": (what.steps[dummy] > 2).any(),
            "last rank": log.requests.instance.max() == len(log.num_blocks) - 1,
            "clock": (what.clock_share > 0).any(),
        }
        for name, yes in happened.items():
            seen[name] = seen.get(name, 0) + bool(yes)
    rare = {name: count for name, count in seen.items() if count < 10}
    assert not rare, f"the generator hardly reaches {rare} (of 150)"
