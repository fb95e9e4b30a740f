"""The one place that turns a scenario into objects: model, devices, costs, schedulers, instances, requests.

``simulate`` is all that most users need. Unknown names, and workloads that no pool could serve, are refused
here; the rest of what can be told to be wrong before anything runs, in ``plan``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tokensim.cost.calibration import Calibration
from tokensim.cost.lora import AdapterPlan
from tokensim.cost.ranks import CompiledRanksCost
from tokensim.engine import Instance, Progress, Simulation
from tokensim.engine.clock import Clock
from tokensim.engine.encoder import Encoder
from tokensim.engine.front_end import FrontEnd
from tokensim.engine.handover import Handover
from tokensim.engine.hooks import Hook
from tokensim.engine.mover import NetworkMover
from tokensim.engine.network import Network
from tokensim.engine.pipeline import Pipeline
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.engine.replica import ReplicaPool
from tokensim.engine.speculative import SpeculativeInstance
from tokensim.engine.tier_setup import Site
from tokensim.engine.tiered import TieredKv
from tokensim.engine.topology import Place, Topology
from tokensim.errors import InputError
from tokensim.front_desk import add_gateway, make_router
from tokensim.metrics.energy import InstanceFacts, RequestEnergy, instance_energy, request_energy
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import Recorder
from tokensim.metrics.slo import Slo
from tokensim.metrics.spending import Electricity
from tokensim.metrics.summary import Summary, span, summarize
from tokensim.model import ModelSpec, load_model
from tokensim.operations import hooks_of, lives_of, terms_of
from tokensim.plan import PoolPlan, plan_pool
from tokensim.policy import scheduler_maker, settled_options
from tokensim.registry import load_plugin
from tokensim.report.files import write_run
from tokensim.scenario import Scenario, dump_scenario
from tokensim.scenario.network import Network as NetworkSection
from tokensim.scheduling.local import ContinuousBatching, InFlightBatching, LocalScheduler
from tokensim.scheduling.local.adapters import Adapters
from tokensim.scheduling.local.versions import queue_size, rules_of
from tokensim.workload import Workload, build_workload
from tokensim.workload.base import Floats

if TYPE_CHECKING:
    import polars as pl


class Result:
    """What came out of a run: ``summary``, ``requests`` and ``steps`` as tables, ``log`` with the raw
    columns.

    ``complete`` is False when the run was interrupted; ``wall_s`` is the real time of the event loop.
    """

    def __init__(
        self,
        scenario: Scenario,
        log: RunLog,
        summary: Summary,
        instances: list[str],
        energy: Callable[[], RequestEnergy],
    ) -> None:
        self.scenario = scenario
        self.log = log
        self.summary = summary
        self.complete = log.complete
        self.wall_s = log.wall_s
        self._instances = instances
        self._energy = energy

    @cached_property
    def requests(self) -> pl.DataFrame:
        """One row a request: see ``tokensim.metrics.frames``."""
        from tokensim.metrics.frames import requests_frame

        return requests_frame(self.log, self._energy())

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
            energy=self._energy(),
        )


def simulate(
    scenario: Scenario,
    *,
    exact_steps: bool = False,
    plugins: Sequence[str | Path] = (),
    progress: Progress | None = None,
    calibration: Calibration | None = None,
    hooks: Sequence[Hook] = (),
) -> Result:
    """Run ``scenario`` and return what happened.

    ``exact_steps`` walks every step and request one by one: slower, same schedule. ``plugins``: Python files
    that register parts. ``calibration`` takes the place of ``performance.calibration``. ``hooks`` listen
    and act during the run, with those that the scenario asks for.
    ``progress(simulated_s, done, total)`` is called a few times a second. Raises
    ``InputError`` for what cannot be simulated and ``SimulationError`` if the simulation cannot be completed;
    Ctrl-C gives an incomplete result.
    """
    for plugin in plugins:
        load_plugin(plugin)
    model = load_model(scenario.model, "model")
    plans = [plan_pool(scenario, index, model, calibration) for index in range(len(scenario.cluster.pools))]
    workload = build_workload(scenario.workload, scenario.seed)
    simulation = build_simulation(scenario, model, plans, workload, exact_steps=exact_steps, hooks=hooks)
    _check_lengths(workload, max(instance.max_model_len for instance in simulation.instances))
    _check_adapters(workload, plans)
    log = replace(simulation.run(progress), tiers=simulation.tiers.use())
    slo = Slo(
        **{f"{name}_s": getattr(scenario.slo, name) for name in ("ttft", "tpot", "e2e", "itl")},
        percentile=scenario.slo.percentile,
    )
    facts, alive_s = rank_facts(simulation), _alive(simulation, log)
    summary = summarize(
        log,
        facts,
        slo,
        _weights(scenario),
        alive_s=alive_s,
        electricity=_electricity(scenario),
        replicas=lives_of(simulation),
    )
    notes = [*workload.notes, *(note for plan in plans for note in plan.notes)]
    summary = replace(summary, notes=(*summary.notes, *dict.fromkeys(notes)))

    def energy() -> RequestEnergy:
        drawn = instance_energy(log.steps, facts, alive_s)
        return request_energy(log.requests, drawn, log.prefilled_on, log.later_stages)

    return Result(_filled_in(scenario, plans), log, summary, rank_names(simulation), energy)


def build_simulation(
    scenario: Scenario,
    model: ModelSpec,
    plans: Sequence[PoolPlan],
    workload: Workload,
    *,
    exact_steps: bool,
    hooks: Sequence[Hook],
) -> Simulation:
    """The cluster of ``scenario``, ready to run ``workload``."""
    cluster, seed = scenario.cluster, scenario.seed
    names = [pool.name for pool in cluster.pools]
    router = make_router(cluster.router, seed, names, "cluster.router")
    hooks = [*hooks_of(scenario), *hooks]
    simulation = Simulation(workload, router, hooks, staleness_s=cluster.router.staleness)
    if cluster.admission is not None:
        add_gateway(simulation, cluster.admission)
    topology = topology_of(cluster.network, simulation.network)
    if hooks or any(pool.role != "mixed" for pool in cluster.pools):
        second = cluster.decode_router
        where = "cluster.router" if second is None else "cluster.decode_router"
        decode_router = make_router(second or cluster.router, seed + 1, names, where)
        mover = NetworkMover(simulation.network, topology)
        Handover(simulation, decode_router, terms_of(scenario, model, plans), mover)
    for index, plan in enumerate(plans):
        where = f"cluster.pools[{index}].engine" if plan.pool.engine else "engine"
        make = _with_adapters(
            scheduler_maker(plan.engine, plan.limits, where, exact_steps), plan, f"{where}.lora"
        )
        devices = plan.pool.parallel.devices
        pool = ReplicaPool(
            plan.pool.name,
            partial(_instance, simulation, plan, make, index),
            role=plan.pool.role,
            startup_s=plan.pool.startup,
            price_per_hour_usd=devices * plan.device.price_per_hour_usd,
            facts=plan,
            settle=partial(place_of, topology, plan),
            leave=topology.free,
        )
        simulation.pools.append(pool)
        for _ in range(plan.pool.replicas):
            replica = simulation.add_instance(pool.make(), pool)
        if plan.pool.role != "mixed" and not all(rank.scheduler.can_load for rank in replica.ranks):
            raise InputError(
                f"the policy '{plan.engine.policy}' cannot serve one stage alone: it knows neither KV from"
                " elsewhere nor KV that waits for others",
                where=f"cluster.pools[{index}].role",
                hint="use role: mixed, or the policy vllm",
            )
    return simulation


def rank_names(simulation: Simulation) -> list[str]:
    """The names of all ranks that ever were, by index."""
    return [name for replica in simulation.replicas for name in replica.pool.facts.names(replica.number)]


def rank_facts(simulation: Simulation) -> list[InstanceFacts]:
    """What the summary needs to know of all ranks that ever were, by index."""
    return [
        fact for replica in simulation.replicas for _ in replica.ranks for fact in _facts(replica.pool.facts)
    ]


def topology_of(given: NetworkSection, network: Network) -> Topology:
    """The nodes of the cluster as the scenario wants them, with their links in ``network``."""
    spine = None if given.cluster is None else (given.cluster.bandwidth, given.cluster.latency)
    return Topology(network.add_link, given.placement, spine)


def place_of(topology: Topology, plan: PoolPlan, name: str) -> Place:
    """A place for one more instance of the pool; a request lies on the devices of one data-parallel rank."""
    parallel = plan.pool.parallel
    lanes = parallel.devices // parallel.data
    return topology.place(name, plan.device, parallel.devices, pool=plan.pool.name, lanes=lanes)


def _with_adapters(
    make: Callable[[], LocalScheduler], plan: PoolPlan, where: str
) -> Callable[[], LocalScheduler]:
    """``make``, whose schedulers know the adapters of the pool, if it has any."""
    adapters = plan.adapters
    if adapters is None:
        return make

    def made() -> LocalScheduler:
        scheduler = make()
        _give_adapters(scheduler, adapters, where, plan.engine.policy)
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


def _check_adapters(workload: Workload, plans: Sequence[PoolPlan]) -> None:
    """Refuse requests for adapters that a pool could not serve, as the server does."""
    if workload.adapter is None or not (workload.adapter >= 0).any():
        return
    for plan in plans:
        if plan.adapters is None:
            raise InputError(
                f"requests need LoRA adapters, but pool '{plan.pool.name}' serves none",
                where="engine.lora",
                hint="e.g. engine: {lora: {max_loras: 4}}",
            )


def _instance(
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
        return pipelines[0] if ranks == 1 else RankSet(pipelines)
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
        _connect(simulation, plan, pool, group)
        return group
    alone = [
        _alone(index + rank, plan, scheduler, notes, options(scheduler))
        for rank, scheduler in enumerate(schedulers)
    ]
    for instance in alone:
        instance.encoder = encoder
    runner = alone[0] if ranks == 1 else RankSet(alone)
    _connect(simulation, plan, pool, runner)
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


def _connect(
    simulation: Simulation, plan: PoolPlan, pool: int, runner: Instance | RankGroup | RankSet
) -> None:
    """Put the memory tiers of pool number ``pool`` behind ``runner``, an instance of it."""
    memory, engine = plan.memory, plan.engine
    if not memory.tiers:
        return
    where = f"cluster.pools[{pool}].memory" if plan.pool.memory is not None else "memory"
    site = Site(plan.device, plan.pool.parallel.tensor, engine.block_size, plan.token_bytes)
    for rank in runner.ranks:
        if not rank.scheduler.can_load:
            raise InputError(
                f"the policy '{engine.policy}' cannot load KV from memory tiers",
                where=f"{where}.tiers",
                hint="a policy like vllm, or no tiers",
            )
        if not engine.enable_prefix_caching:
            raise InputError(
                "memory tiers hold KV by prefix, but enable_prefix_caching is off",
                where=f"{where}.tiers",
                hint="engine.enable_prefix_caching: true, or no tiers",
            )
        if plan.lockstep and memory.load == "overlap":
            raise InputError(
                "ranks that take every step together do not load KV beside it",
                where=f"{where}.load",
                hint="load: async",
            )
        rank.layers = plan.layers
        rank.tiers = TieredKv(
            simulation.tiers.levels(memory, site, where),
            rank.scheduler,
            plan.cost,
            simulation.agenda,
            simulation.recorder,
            engine.block_size,
            plan.token_bytes,
            memory.load == "overlap",
            memory.decide,
            partial(simulation.rouse, rank.axis),
        )


def _electricity(scenario: Scenario) -> Electricity | None:
    given = scenario.cluster.electricity
    return None if given is None else Electricity(given.usd_per_kwh, given.pue)


def _facts(plan: PoolPlan) -> list[InstanceFacts]:
    """Of one rank of an instance, stage by stage."""
    device, price = plan.device, plan.pool.price_per_hour
    return [
        InstanceFacts(
            cost=cost,
            devices=plan.pool.parallel.tensor,
            price_per_hour_usd=device.price_per_hour_usd if price is None else price,
            tdp_w=device.tdp_w,
            idle_w=device.idle_w,
            draw=device.draw,
            pool=plan.pool.name,
        )
        for cost in ((plan.speculative,) if plan.speculative is not None else plan.stages)
    ]


def _alive(simulation: Simulation, log: RunLog) -> Floats:
    """For how many seconds of the makespan each rank stood, its start-up included."""
    start_s, end_s = span(log)
    return np.array(
        [
            max(0.0, min(replica.gone_s, end_s) - max(replica.born_s, start_s))
            for replica in simulation.replicas
            for _ in replica.pool.facts.names(replica.number)
        ]
    )


def _weights(scenario: Scenario) -> dict[int, float]:
    """What each tenant weighs in fair sharing."""
    admission = scenario.cluster.admission
    return {} if admission is None else {n: tenant.weight for n, tenant in admission.tenants.items()}


def _check_lengths(workload: Workload, longest: int) -> None:
    """Refuse a workload of which no request could be served; single ones are rejected on arrival, as a server
    does. Prompts of ``longest`` tokens and more are."""
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
        limits = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "num_gpu_blocks")
        worked_out = {name: getattr(plan.engine, name) for name in (*limits, *settled_options(plan.engine))}
        share = plan.engine.gpu_memory_utilization
        if share != scenario.pool_engine(plan.pool).gpu_memory_utilization:
            worked_out["gpu_memory_utilization"] = share
        pools.append(plan.pool.model_copy(update={"engine": {**plan.pool.engine, **worked_out}}))
    cluster = scenario.cluster.model_copy(update={"pools": pools})
    sources = {plan.operators for plan in plans}
    performance = scenario.performance
    if len(sources) == 1:  # pools on different devices may differ: there ``auto`` says it best
        performance = performance.model_copy(update={"operators": sources.pop()})
    return scenario.model_copy(update={"cluster": cluster, "performance": performance})
