"""Small pipelines and instances that speculate, with costs that can be checked on paper."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tokensim.cost import OperatorTime, StepColumns
from tokensim.cost.host import Host
from tokensim.cost.sends import Send
from tokensim.cost.speculative import Spent
from tokensim.engine import Instance, Simulation
from tokensim.engine.front_end import FrontEnd
from tokensim.engine.pipeline import Pipeline
from tokensim.engine.speculative import SpeculativeInstance
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import Recorder
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import Limits, Vllm, form_for
from tokensim.scheduling.local.speculation import Sampled, Speculation
from tokensim.scheduling.local.versions import queue_size, rules_of
from tokensim.workload import Workload

NO_HOST = Host(0.0, 0.0, 0.0, asynchronous=True)


class StageCost:
    """A step takes ``base_s``, and ``token_s`` for each token more."""

    window = None
    needs_longest = False

    def __init__(self, base_s: float, token_s: float = 0.0) -> None:
        self.base_s, self.token_s = base_s, token_s

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        return self.base_s + self.token_s * decode, 0.0, 1 << 60

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        return self.base_s + self.token_s * (decode + sum(new for new, _ in chunks))

    def verify_time(
        self,
        decode: int,
        drafts: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> Spent:
        tokens = decode + drafts + sum(new for new, _ in chunks)
        return Spent(self.base_s + self.token_s * tokens, 0.0, 0.0, 0.0)

    def compute_time(self, tokens: int) -> float:
        return self.token_s * tokens

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        raise AssertionError("not part of a run")


def workload(
    prompts: Sequence[int], outputs: Sequence[int], arrivals: Sequence[float] | None = None
) -> Workload:
    """Open loop; everybody at once unless ``arrivals`` says otherwise."""
    times = np.zeros(len(prompts)) if arrivals is None else np.array(arrivals, dtype=np.float64)
    return Workload(arrival_s=times, input_tokens=np.array(prompts), output_tokens=np.array(outputs))


def run_pipeline(
    requests: Workload,
    stage_s: Sequence[float],
    *,
    send_s: float = 0.0,
    token_s: float = 0.0,
    host: Host = NO_HOST,
    version: str = "0.33.0",
    exact_steps: bool = False,
    front_end: dict[str, float] | None = None,
    **limits: object,
) -> tuple[RunLog, Simulation]:
    """One pipeline with a stage for each of ``stage_s``; synchronous unless told otherwise."""
    options = {"num_gpu_blocks": 200, "block_size": 4, "async_scheduling": False, **limits}
    bounds = Limits(pipeline=len(stage_s), **options)  # type: ignore[arg-type]
    simulation = Simulation(requests, RoundRobin())
    rules = rules_of(version)
    simulation.add_instance(
        Pipeline(
            0,
            form_for(Vllm, bounds)(bounds, version, exact_steps=exact_steps),
            [StageCost(seconds, token_s) for seconds in stage_s],
            [Send(send_s, 0.0)] * (len(stage_s) - 1),
            host,
            simulation.recorder,
            queue_size=queue_size(
                rules,
                len(stage_s),
                asynchronous=bounds.async_scheduling,
                v2_model_runner=bounds.v2_model_runner,
            ),
            queues_on_empty=rules.queues_on_empty,
            max_model_len=bounds.max_model_len,
            caching=bounds.enable_prefix_caching,
            asynchronous=bounds.async_scheduling,
            pause_before_idle=rules.pause_before_idle,
            on_finish=simulation.on_finish,
            front_end=None if front_end is None else FrontEnd(simulation.on_delivery, **front_end),
        )
    )
    return simulation.run(), simulation


def run_speculating(
    requests: Workload,
    limits: Limits,
    *,
    base_s: float = 1.0,
    token_s: float = 0.0,
    version: str = "0.33.0",
    exact_steps: bool = False,
    front_end: dict[str, float] | None = None,
) -> tuple[RunLog, Simulation]:
    """One instance that speculates as ``limits`` say."""
    simulation = Simulation(requests, RoundRobin())
    simulation.add_instance(
        SpeculativeInstance(
            0,
            form_for(Vllm, limits)(limits, version, exact_steps=exact_steps),
            StageCost(base_s, token_s),  # type: ignore[arg-type]
            simulation.recorder,
            max_model_len=limits.max_model_len,
            caching=limits.enable_prefix_caching,
            asynchronous=limits.async_scheduling,
            pause_before_idle=rules_of(version).pause_before_idle,
            on_finish=simulation.on_finish,
            front_end=None if front_end is None else FrontEnd(simulation.on_delivery, **front_end),
        )
    )
    return simulation.run(), simulation


def with_form(limits: Limits, form: str, rng: random.Random) -> Limits:
    """``limits`` of a pipeline (``pipeline``) or with drafts (``speculation``); else as they are."""
    if form == "pipeline":
        return replace(limits, pipeline=rng.choice([2, 3]))
    if form == "speculation":
        drafts = Speculation(rng.choice([1, 3]), Sampled((rng.random(),)), lookahead=rng.choice([0, 1]))
        return replace(limits, speculation=drafts)
    return limits


def in_flight_instance(
    index: int,
    limits: Limits,
    step_s: float,
    recorder: Recorder,
    *,
    version: str = "0.33.0",
    exact_steps: bool = False,
    **options: Any,
) -> Instance:
    """A pipeline with stages of unequal speed, or an instance that speculates, as ``limits`` say."""
    rules = rules_of(version)
    options = {
        "max_model_len": limits.max_model_len,
        "caching": limits.enable_prefix_caching,
        "asynchronous": limits.async_scheduling,
        "pause_before_idle": rules.pause_before_idle,
        **options,
    }
    scheduler = form_for(Vllm, limits)(limits, version, exact_steps=exact_steps)
    stages = [StageCost(step_s * share, step_s / 500) for share in (0.4, 0.7, 0.3)[: limits.pipeline]]
    if limits.speculation is not None:
        return SpeculativeInstance(index, scheduler, stages[0], recorder, **options)  # type: ignore[arg-type]
    return Pipeline(
        index,
        scheduler,
        stages,
        [Send(step_s / 50, 0.0)] * (len(stages) - 1),
        NO_HOST,
        recorder,
        queue_size=queue_size(
            rules,
            len(stages),
            asynchronous=limits.async_scheduling,
            v2_model_runner=limits.v2_model_runner,
        ),
        queues_on_empty=rules.queues_on_empty,
        **options,
    )
