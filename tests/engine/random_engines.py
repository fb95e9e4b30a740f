"""Random engines for the tests of exactness: costs, limits, workloads, front ends, clocks; the same run made
both ways."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from tokensim.cost import OperatorTime, StepColumns
from tokensim.engine import Instance, Simulation
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import FrontEnd
from tokensim.errors import SimulationError
from tokensim.metrics.log import RunLog
from tokensim.scheduling.local import Limits, LocalScheduler
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


def draw_cost(rng: random.Random, limits: Limits, smooth: bool) -> LineCost:
    """Smooth: any numbers; else a power of two a step, so that things happen at the same instant."""
    return LineCost(
        rng.uniform(0.5, 2) if smooth else 1 / 64,
        rng.uniform(0, 0.01) if smooth else 0.0,
        rng.uniform(0, 0.01) if smooth and limits.window else 0.0,
        rng.choice([math.inf, math.inf, 200.0]) if smooth else math.inf,
        limits.window,
        rng.uniform(0, 0.01) if smooth and limits.longest else 0.0,
    )


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
    arrivals = draw_arrivals(rng, n, step_s)
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


def draw_arrivals(rng: random.Random, n: int, step_s: float) -> np.ndarray:
    """When ``n`` requests come: all at once, or spread over steps; some draws put them on the boundaries."""
    spread = rng.choice([0.0, 1.0, 4.0, 20.0]) * step_s
    arrivals = np.cumsum([rng.expovariate(1) * spread for _ in range(n)])
    return np.round(arrivals / step_s) * step_s if rng.random() < 0.3 else arrivals


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


def add_instance(
    simulation: Simulation,
    scheduler: LocalScheduler,
    limits: Limits,
    cost: LineCost,
    *,
    pause_before_idle: bool,
    front_end: dict[str, float] | None = None,
    clock: tuple[float, float] | None = None,
    max_model_len: int | None = None,
) -> None:
    """One more instance of ``simulation``, with the time axis and the cache of ``limits``."""
    simulation.add_instance(
        Instance(
            simulation.next_index,
            scheduler,
            cost,
            simulation.recorder,
            max_model_len=max_model_len or limits.max_model_len,
            caching=limits.enable_prefix_caching,
            asynchronous=limits.async_scheduling,
            pause_before_idle=pause_before_idle,
            on_finish=simulation.on_finish,
            front_end=None if front_end is None else FrontEnd(simulation.on_delivery, **front_end),
            clock=None if clock is None else Clock(*clock),
        )
    )


def outcome_of(simulation: Simulation) -> RunLog | str:
    """The log of its run; a message if it cannot be completed."""
    try:
        return simulation.run()
    except SimulationError as error:
        return str(error)
