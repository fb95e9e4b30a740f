"""With memory tiers behind the devices, step runs still equal single steps; and nothing is lost in them.

Each example is a random scenario: a device pool that is too small, prompts that share prefixes and contain
earlier answers, one or two instances, tiers of every policy, size, granularity and way of writing, private
and shared, links from fast to slow. It runs in step runs and step by step, and both must tell the same story.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_engines import LineCost, draw_limits
from same_story import ENGINE_TIMES, inter_token_time, single_steps

from engine.in_flight_runs import in_flight_instance, with_form
from tokensim.engine import Instance, Simulation
from tokensim.engine.lanes import Lane
from tokensim.engine.tiered import Level, Store, TieredKv
from tokensim.errors import SimulationError
from tokensim.memory.tiers import Tier
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import RunLog
from tokensim.registry import register
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import Limits, Vllm
from tokensim.scheduling.local.versions import rules_of
from tokensim.workload import Segments, Workload

POLICIES = ("lru", "lru", "fifo", "lfu", "cost-aware")


def draw_workload(rng: random.Random, limits: Limits, step_s: float) -> Workload:
    """Sessions of a few rounds: each prompt is the one before, its answer, and something new."""
    room = min((limits.num_gpu_blocks - 1) * limits.block_size, 300)
    if not limits.enable_chunked_prefill:
        room = min(room, limits.max_num_batched_tokens)
    rounds: list[tuple[list[tuple[int, int]], int]] = []
    for session in range(rng.randrange(1, 9)):
        runs = [(rng.randrange(2), rng.randrange(1, 1 + room // 8))]
        for turn in range(rng.randrange(1, 5)):
            runs = [*runs, (100 + 20 * session + 2 * turn, rng.randrange(1, 40))]
            answer = rng.randrange(1, 30)
            if sum(tokens for _, tokens in runs) + answer > room:
                break
            rounds.append((runs, answer))
            runs = [*runs, (101 + 20 * session + 2 * turn, answer)]
    if not rounds:
        rounds = [([(0, max(1, room // 4))], 1)]
    if rng.random() < 0.5:
        rng.shuffle(rounds)
    n = len(rounds)
    arrivals = np.cumsum([rng.expovariate(1) * rng.choice([0.5, 4.0, 20.0]) * step_s for _ in range(n)])
    flat = [run for runs, _ in rounds for run in runs]
    return Workload(
        arrival_s=arrivals,
        input_tokens=np.array([sum(tokens for _, tokens in runs) for runs, _ in rounds]),
        output_tokens=np.array([answer for _, answer in rounds]),
        priority=np.array([rng.randrange(3) for _ in range(n)]),
        segments=None
        if rng.random() < 0.1
        else Segments(
            np.cumsum([0, *(len(runs) for runs, _ in rounds)]),
            np.array([run for run, _ in flat]),
            np.array([tokens for _, tokens in flat]),
            np.array([runs[-1][0] + 1 for runs, _ in rounds]) if rng.random() < 0.8 else None,
        ),
    )


class Tiers:
    """Random tiers, the same for both runs of a scenario: ``stores`` of all instances."""

    def __init__(self, rng: random.Random, block_size: int, step_s: float) -> None:
        self.step_s = step_s
        self.stores: list[Store] = []
        self.overlap = rng.random() < 0.5
        self.decide = rng.choice(["always", "always", "faster", "never"])
        self.kinds = []
        size = block_size
        for number in range(rng.choice([1, 1, 2, 3])):
            through = rng.random() < 0.5
            if through:
                size = block_size * rng.choice([1, 1, 2])
            elif number and rng.random() < 0.3 and size % 2 == 0:
                size //= 2
            shared = bool(self.kinds and self.kinds[-1]["shared"]) or rng.random() < 0.3
            self.kinds.append(
                {
                    "capacity": rng.choice([3, 10, 40, 1000]),
                    "block": size,
                    "policy": rng.choice(POLICIES),
                    "whole": rng.random() < 0.2,
                    "through": through,
                    "shared": shared,
                    "tokens_per_step": rng.choice([3.7, 50.3, 1000.9]),
                    "latency_s": rng.choice([0.0, 0.3]) * step_s,
                    "block_latency_s": rng.choice([0.0, 0.01]) * step_s,
                    "in_flight": rng.choice([float("inf"), float("inf"), 60.0]),
                }
            )
        self._shared: dict[int, tuple[Store, Lane, Lane]] = {}

    def levels(self) -> list[Level]:
        """Those of one more instance."""
        host_read, host_write = Lane(900.1 / self.step_s), Lane(700.3 / self.step_s)
        levels: list[Level] = []
        for number, kind in enumerate(self.kinds):
            if number not in self._shared:
                below = self.kinds[number + 1 : number + 2]
                tier = Tier(
                    kind["capacity"],
                    kind["block"],
                    register.eviction.get(kind["policy"])(),
                    whole=kind["whole"],
                    tells=bool(below) and not below[0]["through"],
                )
                store = Store(
                    number, f"t{number}", "host", tier, kind["block"], kind["through"], kind["in_flight"]
                )
                speed = kind["tokens_per_step"] / self.step_s
                self.stores.append(store)
                self._shared[number] = store, Lane(speed), Lane(speed * 0.7)
            store, read, write = self._shared[number]
            if not kind["shared"]:
                del self._shared[number]
            levels.append(
                Level(
                    store,
                    (read, host_read),
                    (write, host_write),
                    (write,),
                    kind["latency_s"],
                    kind["block_latency_s"],
                )
            )
        return levels


def run(seed: int, *, exact_steps: bool, form: str = "plain") -> tuple[RunLog | str, Simulation, Tiers]:
    """The scenario of ``seed``, one way or the other; a message if it cannot be completed."""
    rng = random.Random(seed)
    version = rng.choice(["0.33.0", "0.33.0", "0.19.0"])
    limits = replace(draw_limits(rng, version), enable_prefix_caching=True)
    limits = replace(limits, num_gpu_blocks=rng.choice([21, 30, 45]))
    cost = LineCost(rng.uniform(0.5, 2), rng.uniform(0, 0.01), 0.0, 1e9, limits.window, 0.0)
    limits = with_form(replace(limits, window=None) if form != "plain" else limits, form, rng)
    workload = draw_workload(rng, limits, cost.base)
    tiers = Tiers(rng, limits.block_size, cost.base)
    if form == "pipeline":
        tiers.overlap = False
    simulation = Simulation(workload, RoundRobin())
    for _ in range(rng.choice([1, 1, 2])):
        layers = rng.choice([1, 4])
        if limits.in_flight:
            instance = in_flight_instance(
                simulation.next_index,
                limits,
                cost.base,
                simulation.recorder,
                version=version,
                exact_steps=exact_steps,
                on_finish=simulation.on_finish,
                layers=layers,
            )
        else:
            instance = Instance(
                simulation.next_index,
                Vllm(limits, version, exact_steps=exact_steps),
                cost,
                simulation.recorder,
                max_model_len=limits.max_model_len,
                caching=True,
                asynchronous=limits.async_scheduling,
                pause_before_idle=rules_of(version).pause_before_idle,
                on_finish=simulation.on_finish,
                layers=layers,
            )
        instance.tiers = TieredKv(
            tiers.levels(),
            instance.scheduler,
            instance.estimate,
            simulation.agenda,
            simulation.recorder,
            limits.block_size,
            1.0,
            tiers.overlap,
            tiers.decide,
            lambda now, instance=instance: simulation.rouse(instance, now),
        )
        simulation.add_instance(instance)
    try:
        return simulation.run(), simulation, tiers
    except SimulationError as error:
        return str(error), simulation, tiers


def assert_same_story(seed: int, form: str = "plain") -> None:
    runs, simulation, tiers = run(seed, exact_steps=False, form=form)
    steps, _, others = run(seed, exact_steps=True, form=form)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return
    for one, other in zip(single_steps(runs), single_steps(steps), strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], rel=1e-9)
    for name in ("status", "output_tokens", "cached_tokens", "preemptions", "recomputed_tokens", "instance"):
        assert (getattr(runs.requests, name) == getattr(steps.requests, name)).all(), name
    for name in ENGINE_TIMES:
        left, right = getattr(runs.requests, name), getattr(steps.requests, name)
        np.testing.assert_allclose(left, right, rtol=1e-9, err_msg=name)
    latest = runs.requests
    gaps = float((latest.finish_s - latest.first_token_s).sum())
    spent = inter_token_time(runs) if form == "plain" else gaps_of(runs).total_s
    assert spent == pytest.approx(gaps, rel=1e-9, abs=1e-9)
    assert (runs.loads is None) == (steps.loads is None)
    if runs.loads is not None and steps.loads is not None:
        assert (runs.loads.tokens == steps.loads.tokens).all()
        assert (runs.loads.tier == steps.loads.tier).all()
        np.testing.assert_allclose(runs.loads.end_s, steps.loads.end_s, rtol=1e-9)
    for mine, its in zip(tiers.stores, others.stores, strict=True):
        mine.tier.check_integrity()
        assert mine.tier.used == its.tier.used
        for name in ("stored_bytes", "demoted_bytes", "promoted_bytes", "dropped_bytes"):
            assert getattr(mine, name) == pytest.approx(getattr(its, name)), name
        came = mine.stored_bytes + mine.demoted_bytes + mine.promoted_bytes
        assert came == pytest.approx((mine.tier.used + mine.tier.evicted) * mine.block_bytes)
    for instance in simulation.instances:
        scheduler = instance.scheduler
        scheduler.check_integrity()
        assert scheduler.pool.free == scheduler.pool.num_blocks, "blocks leaked"
        assert not scheduler.running and not scheduler.waiting and not scheduler.loading


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_step_runs_equal_single_steps_with_tiers(seed: int) -> None:
    assert_same_story(seed)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**48), form=st.sampled_from(["pipeline", "speculation"]))
def test_so_it_is_with_tiers_behind_pipelines_and_speculation(seed: int, form: str) -> None:
    assert_same_story(seed, form)


def test_the_random_scenarios_reach_every_corner() -> None:
    seen: dict[str, int] = {}
    for seed in range(200):
        log, _, tiers = run(seed, exact_steps=False)
        if isinstance(log, str):
            continue
        loads, what = log.loads, log.steps.what
        assert what.copies_s is not None
        happened = {
            "loaded": loads is not None,
            "loaded while others ran": not tiers.overlap and loads is not None,
            "a step lasted longer": (what.copies_s > 0).any(),
            "from a lower tier": loads is not None and (loads.tier > 0).any(),
            "stored": any(store.stored_bytes for store in tiers.stores),
            "written back": any(store.demoted_bytes for store in tiers.stores),
            "promoted": any(store.promoted_bytes for store in tiers.stores),
            "dropped": any(store.dropped_bytes for store in tiers.stores),
            "evicted": any(store.tier.evicted for store in tiers.stores),
            "preempted": log.requests.preemptions.any(),
            "loaded after a preemption": loads is not None and (loads.hit_tokens < loads.tokens).any(),
            "long run": (what.steps > 5).any(),
        }
        for name, yes in happened.items():
            seen[name] = seen.get(name, 0) + bool(yes)
    rare = {name: count for name, count in seen.items() if count < 4}
    assert not rare, f"the generator hardly reaches {rare} (of 200)"
