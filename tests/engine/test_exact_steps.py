"""Step runs equal single steps: the same schedule, step by step, and times within 1e-9 relative.

Each example is a random scenario: engine limits, policy, version, time axis, memory from scarce to ample,
shared prompts, client, cost, front end, clock. It runs twice, once in step runs and once with every step
walked request by request, and both must tell the same story.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.cost import OperatorTime, StepColumns
from tokensim.engine import Instance, Simulation
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import FrontEnd
from tokensim.errors import SimulationError
from tokensim.metrics.log import RunLog
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import ContinuousBatching, Limits, Request, Vllm
from tokensim.scheduling.local.versions import rules_of
from tokensim.workload import Segments, Workload


class LineCost:
    """Decode steps on one line up to a knot and on a steeper one beyond; the longest context costs something
    of its own, and steeper beyond its own knot; chunks cost by tokens and context.
    """

    needs_longest = True

    def __init__(
        self, base: float, slope: float, window_slope: float, knot: float, window: int | None, skew: float
    ) -> None:
        self.base, self.slope, self.window_slope = base, slope, window_slope
        self.knot, self.window, self.skew = knot, window, skew

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        first = self._decodes(decode, context, window_context, longest)
        growth = self.slope * decode + self.window_slope * window_growth + self.skew
        steps = 1 << 60
        if context > self.knot:
            growth += self.slope * decode
        else:
            steps = int(min((self.knot - context) / decode, 1e9)) + 1
        if longest > self.knot / 4:
            growth += self.skew
        else:
            steps = min(steps, int(min(self.knot / 4 - longest, 1e9)) + 1)
        return first, growth, steps

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        time = self._decodes(decode, context, window_context, longest)
        return time + sum(self.base * tokens / 8 + self.slope * tokens * before for tokens, before in chunks)

    def _decodes(self, decode: int, context: float, window_context: float, longest: float) -> float:
        time = self.base * (1 + decode / 64) + self.slope * context + self.window_slope * window_context
        time += self.slope * max(0.0, context - self.knot)
        return time + self.skew * (longest + max(0.0, longest - self.knot / 4))

    def compute_time(self, tokens: int) -> float:
        return self.base * tokens / (tokens + 64)

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        raise AssertionError("not part of a run")


class ShortestFirst(ContinuousBatching):
    """A user's order of admission."""

    def admission_order(self, waiting: list[Request]) -> list[Request]:
        return sorted(waiting, key=lambda r: r.input_tokens)


class Impatient(ContinuousBatching):
    """A policy that wants to be asked again after three steps."""

    def horizon(self) -> int:
        return 3


def draw_limits(rng: random.Random, version: str) -> Limits:
    """An engine: from one that never lacks anything to one that lacks everything."""
    newest = version == "0.33.0"
    cap = rng.choice([0, 0, 5, 7, 20])
    crowded = rng.random() < 0.2  # prefills that crowd decodes out of the budget
    if crowded:
        cap = 5
    batched = 8 if crowded else rng.choice([8, 16, 24, 48, 64, 256, 2048])
    return Limits(
        num_gpu_blocks=rng.choice([21, 30, 45, 80, 400]),
        block_size=rng.choice([1, 4, 16]) if rng.random() < 0.5 else 8,
        max_num_seqs=64 if crowded else rng.choice([1, 3, 8, 64]),
        max_num_batched_tokens=batched,
        max_num_scheduled_tokens=rng.choice([None, None, batched // 2]),
        max_num_active_seqs=rng.choice([None, None, 4]) if newest else None,
        enable_chunked_prefill=rng.random() < 0.85 or cap > 0,
        long_prefill_token_threshold=cap,
        long_prefill_token_threshold_adaptive=newest and cap > 0 and rng.random() < 0.3,
        enable_prefix_caching=rng.random() < 0.7,
        scheduling_policy=rng.choice(["fcfs", "priority"]),
        scheduler_reserve_full_isl=rng.random() < 0.75,
        watermark=rng.choice([0.0, 0.0, 0.1]) if newest else 0.0,
        prefill_schedule_interval=rng.choice([1, 1, 1, 4]) if newest else 1,
        async_scheduling=rng.random() < 0.6,
        window=rng.choice([None, None, 16]),
        longest=rng.random() < 0.5,
    )


def draw_workload(rng: random.Random, limits: Limits, step_s: float) -> Workload:
    """Requests that the pool can hold, some with shared prompts, some arriving exactly on step boundaries."""
    n = rng.randrange(1, 28)
    room = min((limits.num_gpu_blocks - 1) * limits.block_size, 300)
    longest = room if limits.enable_chunked_prefill else min(room, limits.max_num_batched_tokens)
    if not limits.enable_chunked_prefill:
        longest = min(longest, limits.max_num_batched_tokens // 2 or 1)
    prompts = [rng.randrange(1, max(2, longest // rng.choice([2, 4, 8]))) for _ in range(n)]
    outputs = [
        rng.randrange(1, max(2, room - prompt)) if rng.random() < 0.2 else rng.randrange(1, 40)
        for prompt in prompts
    ]
    outputs = [max(1, min(out, longest - prompt)) for out, prompt in zip(outputs, prompts, strict=True)]
    spread = rng.choice([0.0, 1.0, 4.0, 20.0]) * step_s
    gaps = [rng.expovariate(1) * spread for _ in range(n)]
    arrivals = np.cumsum(gaps)
    if rng.random() < 0.3:
        arrivals = np.round(arrivals / step_s) * step_s
    client = rng.random()
    return Workload(
        arrival_s=np.zeros(n) if client < 0.15 else arrivals,
        input_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        priority=np.array([rng.randrange(3) for _ in range(n)]),
        segments=shared_prompts(rng, prompts) if rng.random() < 0.6 else None,
        concurrency=rng.randrange(1, 6) if client < 0.15 else None,
        think_s=np.array([rng.choice([0.0, rng.random() * 5 * step_s]) for _ in range(n)])
        if client < 0.15
        else None,
        max_in_flight=rng.randrange(1, 6) if client > 0.85 else None,
    )


def shared_prompts(rng: random.Random, prompts: list[int]) -> Segments:
    """Prompts cut from a few families of segments, so that many share a prefix."""
    offsets, ids, tokens = [0], [], []
    for number, prompt in enumerate(prompts):
        left, position = prompt, 0
        family = rng.randrange(3)
        while left:
            size = min(left, 6 + 5 * position)
            own = rng.random() < 0.2
            ids.append(1000 + 100 * number + position if own else 10 * family + position)
            tokens.append(size)
            left -= size
            position += 1
        offsets.append(len(ids))
    return Segments(np.array(offsets), np.array(ids), np.array(tokens))


def draw_front_end(rng: random.Random, step_s: float, exact: bool) -> dict[str, float] | None:
    """None in two of three scenarios; else from a thread that is never busy to one that never catches up.

    ``exact``: in 64ths of a step, so that things happen at the same instant.
    """
    if rng.random() < 2 / 3:
        return None

    def time(most: float) -> float:
        share = rng.choice([0.0, rng.random(), rng.random()]) * most
        return round(share * 64) / 64 * step_s if exact else share * step_s

    return {
        "request_s": time(rng.choice([0.1, 2.0])),
        "chunk_s": time(rng.choice([0.1, 1.5])),
        "client_s": time(2.0),
    }


def draw_clock(rng: random.Random, step_s: float) -> tuple[float, float] | None:
    """None in three of four scenarios; else slowdown and time constant."""
    return None if rng.random() < 3 / 4 else (rng.uniform(0, 0.5), step_s * rng.choice([1.0, 30.0, 300.0]))


def run(seed: int, *, exact_steps: bool) -> tuple[RunLog | str, Simulation]:
    """The scenario of ``seed``, one way or the other; a message if it cannot be completed."""
    rng = random.Random(seed)
    version = rng.choice(["0.33.0", "0.33.0", "0.23.0", "0.19.0"])
    limits = draw_limits(rng, version)
    smooth = rng.random() < 0.7
    cost = LineCost(
        rng.uniform(0.5, 2) if smooth else 1 / 64,
        rng.uniform(0, 0.01) if smooth else 0.0,
        rng.uniform(0, 0.01) if smooth and limits.window else 0.0,
        rng.choice([math.inf, math.inf, 200.0]) if smooth else math.inf,
        limits.window,
        rng.uniform(0, 0.01) if smooth and limits.longest else 0.0,
    )
    workload = draw_workload(rng, limits, cost.base)
    policy = rng.choice([Vllm, Vllm, Vllm, Vllm, ShortestFirst, Impatient])
    front_end = draw_front_end(rng, cost.base, not smooth)
    clock = draw_clock(rng, cost.base)
    simulation = Simulation(workload, RoundRobin())
    for index in range(rng.choice([1, 1, 1, 2])):
        simulation.add_instance(
            Instance(
                index,
                policy(limits, version, exact_steps=exact_steps),
                cost,
                simulation.recorder,
                max_model_len=limits.max_model_len,
                caching=limits.enable_prefix_caching,
                asynchronous=limits.async_scheduling,
                pause_before_idle=rules_of(version).pause_before_idle,
                on_finish=simulation.on_finish,
                front_end=None if front_end is None else FrontEnd(simulation.on_delivery, **front_end),
                clock=None if clock is None else Clock(*clock),
            )
        )
    try:
        return simulation.run(), simulation
    except SimulationError as error:
        return str(error), simulation


ENGINE_TIMES = ("arrival_s", "scheduled_s", "first_token_s", "finish_s")


def single_steps(log: RunLog) -> Iterator[tuple[tuple[float, ...], float]]:
    """(what it ran, when it ended) of every step, run by run, of each instance in turn."""
    rows, what = log.steps, log.steps.what
    for instance in np.unique(rows.instance):
        for row in np.flatnonzero(rows.instance == instance):
            chunks = what.chunk_row == row
            shape = (*what.chunk_tokens[chunks], *what.chunk_context[chunks], what.samples[row])
            decode, growth = what.decode[row], what.window_growth[row]
            first, steps = rows.first_step_s[row], what.steps[row]
            slope = (rows.last_step_s[row] - first) / max(1, steps - 1)
            for i in range(int(steps)):
                end = rows.start_s[row] + (i + 1) * first + slope * i * (i + 1) / 2
                contexts = what.context[row] + i * decode, what.window_context[row] + i * growth
                yield (instance, decode, *contexts, *shape), end


def assert_same_story(seed: int) -> RunLog | str:
    runs, simulation = run(seed, exact_steps=False)
    steps, _ = run(seed, exact_steps=True)
    if isinstance(runs, str) or isinstance(steps, str):
        assert runs == steps
        return runs
    for one, other in zip(single_steps(runs), single_steps(steps), strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], rel=1e-9)
    for name in ("status", "output_tokens", "cached_tokens", "preemptions", "recomputed_tokens", "instance"):
        assert (getattr(runs.requests, name) == getattr(steps.requests, name)).all(), name
    for name in (*ENGINE_TIMES, "first_delivery_s", "last_delivery_s"):
        left, right = getattr(runs.requests, name), getattr(steps.requests, name)
        np.testing.assert_allclose(left, right, rtol=1e-9, err_msg=name)
    gaps, single = inter_token_time(runs), inter_token_time(steps)
    assert gaps == pytest.approx(single, rel=1e-9)
    latest = runs.requests
    assert gaps == pytest.approx(float((latest.finish_s - latest.first_token_s).sum()), rel=1e-9, abs=1e-9)
    for instance in simulation.instances:
        instance.scheduler.check_integrity()
        assert instance.scheduler.pool.free == instance.scheduler.pool.num_blocks, "blocks leaked"
        assert not instance.scheduler.running and not instance.scheduler.waiting
    return runs


def inter_token_time(log: RunLog) -> float:
    """Sum of all gaps between two tokens of a request."""
    rows, what = log.steps, log.steps.what
    of_rows = what.decode * what.steps * (rows.first_step_s + rows.last_step_s) / 2
    return float(of_rows.sum() + (log.gap_s * log.gap_weight).sum())


@settings(max_examples=1500, deadline=None)
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
