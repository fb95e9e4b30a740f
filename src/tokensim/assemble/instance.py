"""From a plan to an instance: its local schedulers, and the time axis of each rank or pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokensim.assemble.tiers import connect_tiers
from tokensim.cost.lora import AdapterPlan
from tokensim.cost.ranks import CompiledRanksCost
from tokensim.engine import Instance, Simulation
from tokensim.engine.clock import Clock
from tokensim.engine.encoder import Encoder
from tokensim.engine.front_end import FrontEnd
from tokensim.engine.pipeline import Pipeline
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.engine.speculative import SpeculativeInstance
from tokensim.errors import InputError
from tokensim.metrics.recorder import Recorder
from tokensim.plan import PoolPlan
from tokensim.plan.policy import scheduler_maker
from tokensim.scheduling.local import (
    ContinuousBatching,
    InFlightBatching,
    LocalScheduler,
    PipelinedBatching,
)
from tokensim.scheduling.local.adapters import Adapters
from tokensim.scheduling.local.versions import queue_size, rules_of
from tokensim.workload import Workload


def rank_scheduler_maker(plan: PoolPlan, where: str, exact_steps: bool) -> Callable[[], LocalScheduler]:
    """What makes the local schedulers of the pool, which know its adapters. ``where``: its engine."""
    make = scheduler_maker(plan.engine, plan.limits, where, exact_steps)
    adapters = plan.adapters
    if adapters is None:
        return make

    def made() -> LocalScheduler:
        scheduler = make()
        _give_adapters(scheduler, adapters, f"{where}.lora", plan.engine.policy)
        return scheduler

    return made


def _give_adapters(scheduler: Any, plan: AdapterPlan, where: str, policy: str) -> None:
    if not isinstance(scheduler, ContinuousBatching):
        raise InputError(
            f"the policy '{policy}' knows nothing of adapters",
            where=where,
            hint="policies of continuous batching (vllm) do; or leave the section out",
        )
    scheduler.adapters = Adapters(plan.max_loras, plan.max_cpu_loras, plan.copy_s, plan.read_s)


def make_instance(
    simulation: Simulation, plan: PoolPlan, make: Callable[[], LocalScheduler], pool: int
) -> Instance | RankGroup | RankSet:
    """The next instance of ``simulation``, for pool number ``pool``, with the local schedulers that ``make``
    makes."""
    index, ranks = simulation.next_index, plan.pool.parallel.data

    def options(scheduler: LocalScheduler) -> dict[str, Any]:
        assert plan.engine.max_model_len is not None
        return {
            "max_model_len": scheduler.rejects_from(plan.engine.max_model_len),
            "caching": plan.engine.enable_prefix_caching,
            "asynchronous": plan.engine.async_scheduling,
            "pause_before_idle": scheduler.engine == "vllm"
            and rules_of(plan.engine.version).pause_before_idle,
            "on_finish": simulation.on_finish,
            "front_end": None
            if plan.front_end is None
            else FrontEnd(simulation.on_delivery, **plan.front_end),
            "clock": None if plan.clock is None else Clock(*plan.clock),
        }

    notes = simulation.recorder
    encoder = _encoder(simulation.workload, plan)
    if len(plan.stages) > 1:
        pipelines = [
            _pipeline(index + rank * len(plan.stages), plan, make(), notes, options) for rank in range(ranks)
        ]
        piped = pipelines[0] if ranks == 1 else RankSet(pipelines)
        connect_tiers(simulation, plan, pool, piped)
        return piped
    schedulers = [make() for _ in range(ranks)]
    if plan.lockstep:
        if not schedulers[0].lockstep:
            raise InputError(
                f"the policy '{plan.engine.policy}' is not simulated with data-parallel ranks that share"
                " experts: such ranks take every step together",
                where=f"pool '{plan.pool.name}'",
                hint="parallel.data: 1, with replicas, or tensor and expert parallel ranks",
            )
        together = CompiledRanksCost(plan.cost, ranks)
        group = RankGroup(index, schedulers, plan.cost, together, notes, **options(schedulers[0]))
        connect_tiers(simulation, plan, pool, group)
        return group
    alone = [
        _alone(index + rank, plan, scheduler, notes, options(scheduler))
        for rank, scheduler in enumerate(schedulers)
    ]
    for instance in alone:
        instance.encoder = encoder
    runner = alone[0] if ranks == 1 else RankSet(alone)
    connect_tiers(simulation, plan, pool, runner)
    return runner


def _alone(
    index: int, plan: PoolPlan, scheduler: LocalScheduler, notes: Recorder, options: dict[str, Any]
) -> Instance:
    """One rank that steps on its own."""
    if plan.speculative is None:
        return Instance(index, scheduler, plan.cost, notes, **options)
    assert isinstance(scheduler, InFlightBatching)
    return SpeculativeInstance(index, scheduler, plan.speculative, notes, **options)


def _pipeline(
    index: int,
    plan: PoolPlan,
    scheduler: LocalScheduler,
    notes: Recorder,
    options_of: Callable[[LocalScheduler], dict[str, Any]],
) -> Pipeline:
    """One rank whose steps pass through stages, each with the clock of its devices."""
    rules, options = rules_of(plan.engine.version), options_of(scheduler)
    assert isinstance(scheduler, PipelinedBatching)
    del options["clock"]
    return Pipeline(
        index,
        scheduler,
        plan.stages,
        plan.sends,
        plan.host,
        notes,
        queue_size=queue_size(
            rules,
            len(plan.stages),
            asynchronous=plan.engine.async_scheduling,
            v2_model_runner=plan.limits.v2_model_runner,
        ),
        queues_on_empty=rules.queues_on_empty,
        clocks=None if plan.clock is None else [Clock(*plan.clock) for _ in plan.stages],
        **options,
    )


def _encoder(workload: Workload, plan: PoolPlan) -> Encoder | None:
    """What encodes the images of ``workload``; None if it has none. Refuses a model that sees none."""
    if workload.encoder_tokens is None:
        return None
    if plan.encoder is None:
        raise InputError(
            "the workload has images, and the model has no vision tower that is modelled",
            where="model",
            hint="for example Qwen/Qwen2.5-VL-7B-Instruct; `tokensim models` lists them",
        )
    if plan.lockstep:
        raise InputError(
            "images are not simulated on data-parallel ranks that step together",
            where="cluster.pools",
            hint="set parallel.data: 1",
        )
    return Encoder(plan.encoder, plan.patches_per_token, workload.image_tokens)
