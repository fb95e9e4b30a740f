"""The one place that turns a scenario into objects: model, devices, costs, schedulers, instances, requests.

``simulate`` is all that most users need. Unknown names, and workloads that no pool could serve, are refused
here; the rest of what can be told to be wrong before anything runs, in ``plan``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tokensim.cost.calibration import Calibration
from tokensim.cost.ranks import CompiledRanksCost
from tokensim.engine import Instance, Progress, Simulation
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import FrontEnd
from tokensim.engine.pipeline import Pipeline
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.engine.speculative import SpeculativeInstance
from tokensim.errors import InputError
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import Recorder
from tokensim.metrics.slo import Slo
from tokensim.metrics.spending import InstanceFacts
from tokensim.metrics.summary import Summary, summarize
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool
from tokensim.registry import load_plugin, register
from tokensim.report.files import write_run
from tokensim.scenario import Scenario, dump_scenario
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import InFlightBatching, LocalScheduler, form_for
from tokensim.scheduling.local.versions import queue_size, rules_of
from tokensim.workload import Workload, build_workload

if TYPE_CHECKING:
    import polars as pl


class Result:
    """What came out of a run: ``summary``, ``requests`` and ``steps`` as tables, ``log`` with the raw
    columns.

    ``complete`` is False when the run was interrupted; ``wall_s`` is the real time of the event loop.
    """

    def __init__(self, scenario: Scenario, log: RunLog, summary: Summary, instances: list[str]) -> None:
        self.scenario = scenario
        self.log = log
        self.summary = summary
        self.complete = log.complete
        self.wall_s = log.wall_s
        self._instances = instances

    @cached_property
    def requests(self) -> pl.DataFrame:
        """One row a request: see ``tokensim.metrics.frames``."""
        from tokensim.metrics.frames import requests_frame

        return requests_frame(self.log)

    @cached_property
    def steps(self) -> pl.DataFrame:
        """One row a run of equal steps."""
        from tokensim.metrics.frames import steps_frame

        return steps_frame(self.log)

    def save(self, folder: str | Path) -> list[Path]:
        """Leave the files of the run in ``folder``; returns their paths."""
        return write_run(
            folder,
            summary=self.summary,
            log=self.log,
            scenario_yaml=dump_scenario(self.scenario),
            instance_names=self._instances,
        )


def simulate(
    scenario: Scenario,
    *,
    exact_steps: bool = False,
    plugins: Sequence[str | Path] = (),
    progress: Progress | None = None,
    calibration: Calibration | None = None,
) -> Result:
    """Run ``scenario`` and return what happened.

    ``exact_steps`` walks every step and request one by one: slower, same schedule. ``plugins``: Python files
    that register parts. ``calibration`` takes the place of ``performance.calibration``.
    ``progress(simulated_s, done, total)`` is called a few times a second. Raises
    ``InputError`` for what cannot be simulated and ``SimulationError`` if the simulation cannot be completed;
    Ctrl-C gives an incomplete result.
    """
    for plugin in plugins:
        load_plugin(plugin)
    model = load_model(scenario.model, "model")
    plans = [plan_pool(scenario, index, model, calibration) for index in range(len(scenario.cluster.pools))]
    router = register.global_scheduler.get(scenario.cluster.router.policy, "cluster.router.policy")
    workload = build_workload(scenario.workload, scenario.seed)
    simulation = Simulation(workload, cast(GlobalScheduler, router(seed=scenario.seed)))
    names: list[str] = []
    facts: list[InstanceFacts] = []
    for index, plan in enumerate(plans):
        where = f"cluster.pools[{index}].engine" if plan.pool.engine else "engine"
        make = _scheduler_maker(plan, where, exact_steps)
        for replica in range(plan.pool.replicas):
            names += plan.names(replica)
            facts += _facts(plan) * plan.pool.parallel.data
            simulation.add_instance(_instance(simulation, plan, make))
    _check_lengths(workload, plans)
    log = simulation.run(progress)
    slo = Slo(
        **{f"{name}_s": getattr(scenario.slo, name) for name in ("ttft", "tpot", "e2e", "itl")},
        percentile=scenario.slo.percentile,
    )
    summary = summarize(log, facts, slo)
    notes = [*workload.notes, *(note for plan in plans for note in plan.notes)]
    summary = replace(summary, notes=(*summary.notes, *dict.fromkeys(notes)))
    return Result(_filled_in(scenario, plans), log, summary, names)


def _scheduler_maker(plan: PoolPlan, where: str, exact_steps: bool) -> Callable[[], LocalScheduler]:
    policy: Any = register.local_scheduler.get(plan.engine.policy, f"{where}.policy")
    if plan.limits.in_flight:
        policy = form_for(policy, plan.limits)

    def make() -> LocalScheduler:
        options = plan.engine.policy_options
        try:
            return cast(
                LocalScheduler, policy(plan.limits, plan.engine.version, exact_steps=exact_steps, **options)
            )
        except TypeError as error:
            raise InputError(
                f"the policy '{plan.engine.policy}' does not take these options: {error}",
                where=f"{where}.policy_options",
                hint="a policy is made as Policy(limits, version, exact_steps=…, **policy_options)",
            ) from error

    return make


def _instance(
    simulation: Simulation, plan: PoolPlan, make: Callable[[], LocalScheduler]
) -> Instance | RankGroup | RankSet:
    """The next instance of ``simulation``, with the local schedulers that ``make`` makes."""
    assert plan.engine.max_model_len is not None
    index, ranks = simulation.next_index, plan.pool.parallel.data

    def options() -> dict[str, Any]:
        return {
            "max_model_len": plan.engine.max_model_len,
            "caching": plan.engine.enable_prefix_caching,
            "asynchronous": plan.engine.async_scheduling,
            "pause_before_idle": rules_of(plan.engine.version).pause_before_idle,
            "on_finish": simulation.on_finish,
            "front_end": None
            if plan.front_end is None
            else FrontEnd(simulation.on_delivery, **plan.front_end),
            "clock": None if plan.clock is None else Clock(*plan.clock),
        }

    notes = simulation.recorder
    if len(plan.stages) > 1:
        pipelines = [
            _pipeline(index + rank * len(plan.stages), plan, make, notes, options()) for rank in range(ranks)
        ]
        return pipelines[0] if ranks == 1 else RankSet(pipelines)
    if plan.lockstep:
        schedulers = [make() for _ in range(ranks)]
        together = CompiledRanksCost(plan.cost, ranks)
        return RankGroup(index, schedulers, plan.cost, together, notes, **options())
    alone = [_alone(index + rank, plan, make(), notes, options()) for rank in range(ranks)]
    return alone[0] if ranks == 1 else RankSet(alone)


def _alone(
    index: int, plan: PoolPlan, scheduler: LocalScheduler, notes: Recorder, options: dict[str, Any]
) -> Instance:
    """One rank that steps on its own."""
    if plan.speculative is None:
        return Instance(index, scheduler, plan.cost, notes, **options)
    assert isinstance(scheduler, InFlightBatching)
    return SpeculativeInstance(index, scheduler, plan.speculative, notes, **options)


def _pipeline(
    index: int, plan: PoolPlan, make: Callable[[], LocalScheduler], notes: Recorder, options: dict[str, Any]
) -> Pipeline:
    """One rank whose steps pass through stages, each with the clock of its devices."""
    rules, scheduler = rules_of(plan.engine.version), make()
    assert isinstance(scheduler, InFlightBatching)
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


def _facts(plan: PoolPlan) -> list[InstanceFacts]:
    """Of one rank of an instance, stage by stage."""
    device = plan.device
    return [
        InstanceFacts(
            cost=cost,
            devices=plan.pool.parallel.tensor,
            price_per_hour_usd=device.price_per_hour_usd,
            tdp_w=device.tdp_w,
            idle_w=device.idle_w,
        )
        for cost in ((plan.speculative,) if plan.speculative is not None else plan.stages)
    ]


def _check_lengths(workload: Workload, plans: Sequence[PoolPlan]) -> None:
    """Refuse a workload of which no request could be served; single ones are rejected on arrival, as a server
    does."""
    longest = max(plan.engine.max_model_len or 0 for plan in plans)
    shortest = int(workload.input_tokens.min())
    if shortest >= longest:
        raise InputError(
            f"every prompt is too long: the shortest has {shortest} tokens, max_model_len is {longest}",
            where="workload",
            hint=f"prompts must be shorter than {longest} tokens; or raise engine.max_model_len, or the KV"
            " pool that bounds it",
        )


def _filled_in(scenario: Scenario, plans: Sequence[PoolPlan]) -> Scenario:
    """The scenario with what the engine worked out written into each pool, so that it can be repeated
    exactly."""
    pools = []
    for plan in plans:
        worked_out = {
            name: getattr(plan.engine, name)
            for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "num_gpu_blocks")
        }
        pools.append(plan.pool.model_copy(update={"engine": {**plan.pool.engine, **worked_out}}))
    cluster = scenario.cluster.model_copy(update={"pools": pools})
    sources = {plan.operators for plan in plans}
    performance = scenario.performance
    if len(sources) == 1:  # pools on different devices may differ: there ``auto`` says it best
        performance = performance.model_copy(update={"operators": sources.pop()})
    return scenario.model_copy(update={"cluster": cluster, "performance": performance})
