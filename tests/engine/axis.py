"""Runs a workload on instances whose every step lasts one second: a time axis to be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tokensim.cost import OperatorTime, StepColumns
from tokensim.engine import Instance, Progress, Simulation
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import FrontEnd
from tokensim.metrics.log import RunLog
from tokensim.scheduling.cluster import GlobalScheduler, RoundRobin
from tokensim.scheduling.local import ContinuousBatching, Limits, Vllm
from tokensim.scheduling.local.versions import rules_of
from tokensim.workload import Workload


class ConstantCost:
    """Every step lasts ``step_s``, ``compute_s`` of them bound by arithmetic; ``on_step`` is called whenever
    a step or a line is priced."""

    window = None
    needs_longest = False

    def __init__(
        self, step_s: float = 1.0, on_step: Callable[[], None] = lambda: None, compute_s: float = 0.0
    ) -> None:
        self.step_s = step_s
        self.compute_s = compute_s
        self.on_step = on_step

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        self.on_step()
        return self.step_s, 0.0, 1 << 60

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        self.on_step()
        return self.step_s

    def compute_time(self, tokens: int) -> float:
        return self.compute_s

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        return []


def workload(
    arrivals: Sequence[float], outputs: Sequence[int], prompts: Sequence[int] | None = None, **more: Any
) -> Workload:
    """Requests with these arrivals (s), output tokens and prompts (4 tokens each unless given)."""
    prompts = [4] * len(outputs) if prompts is None else prompts
    return Workload(np.array(arrivals, float), np.array(prompts), np.array(outputs), **more)


def simulation(
    requests: Workload,
    *,
    asynchronous: bool = False,
    exact_steps: bool = False,
    version: str = "0.33.0",
    instances: int = 1,
    router: GlobalScheduler | None = None,
    cost: ConstantCost | None = None,
    policy: type[ContinuousBatching] = Vllm,
    blocks: int = 1000,
    front_end: tuple[float, float, float] | None = None,
    clock: tuple[float, float] | None = None,
    **limits: Any,
) -> Simulation:
    """Ready to run: by default one synchronous instance with 1,000 blocks of 4 tokens.

    ``front_end``: times (s) of its thread for a request and an output, and of the client; ``clock``: slowdown
    and time constant (s).
    """
    options = {"block_size": 4, "max_num_batched_tokens": 1000, "enable_prefix_caching": False, **limits}
    bounds = Limits(num_gpu_blocks=blocks + 1, async_scheduling=asynchronous, **options)
    made = Simulation(requests, router or RoundRobin())
    for index in range(instances):
        made.add_instance(
            Instance(
                index,
                policy(bounds, version, exact_steps=exact_steps),
                cost or ConstantCost(),
                made.recorder,
                max_model_len=bounds.max_model_len,
                caching=bounds.enable_prefix_caching,
                asynchronous=asynchronous,
                pause_before_idle=rules_of(version).pause_before_idle,
                on_finish=made.on_finish,
                front_end=None if front_end is None else FrontEnd(made.on_delivery, *front_end),
                clock=None if clock is None else Clock(*clock),
            )
        )
    return made


def run(requests: Workload, *, progress: Progress | None = None, **options: Any) -> RunLog:
    """The log of ``simulation(requests, **options)``."""
    return simulation(requests, **options).run(progress)
