"""The one place that turns a scenario into objects: model, devices, costs, schedulers, instances, requests.

``simulate`` is all that most users need. What can be told to be wrong before anything runs is refused here:
unknown names, a model that does not fit, a plan that does not divide it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tokensim.cost import CompiledStepCost, Host, Setting, build_cost, operator_sources
from tokensim.cost.build import resolved_operators
from tokensim.cost.calibration import Calibration, load_calibration
from tokensim.cost.graphs import captured_sizes
from tokensim.cost.host import GAP_S, REQUEST_S, STEP_S
from tokensim.cost.ranks import CompiledRanksCost
from tokensim.engine import Instance, Progress, Simulation
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import FrontEnd
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.errors import InputError
from tokensim.hardware import Device, load_device
from tokensim.memory import derive_capacity
from tokensim.metrics.log import RunLog
from tokensim.metrics.slo import Slo
from tokensim.metrics.spending import InstanceFacts
from tokensim.metrics.summary import Summary, summarize
from tokensim.model import ModelSpec, load_model, operators
from tokensim.registry import load_plugin, register
from tokensim.report.files import write_run
from tokensim.scenario import Engine, Pool, Scenario, dump_scenario, resolved_engine
from tokensim.scenario.performance import Performance
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Limits, LocalScheduler
from tokensim.scheduling.local.versions import rules_of
from tokensim.workload import Workload, build_workload

if TYPE_CHECKING:
    import polars as pl

LIMITS = set(Limits.__slots__) - {"window", "longest"}


ENGINES = {"vllm": "vllm"}
"""The engine whose kernels a local scheduler runs, by its name; others run vLLM's."""


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


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """A pool worked out: its device, engine with every default filled in, limits and cost of a step."""

    pool: Pool
    device: Device
    engine: Engine
    limits: Limits
    cost: CompiledStepCost
    operators: str
    """The source of operator times, with ``auto`` resolved."""
    front_end: dict[str, float] | None
    """Times of the API process (``engine.front_end``); None: there is none."""
    clock: tuple[float, float] | None
    """Slowdown and time constant (s) of the device's clock; None: it never drops."""
    calibration: Calibration
    notes: tuple[str, ...]

    lockstep: bool
    """Whether data-parallel ranks share experts and so take every step together."""

    def names(self, replica: int) -> list[str]:
        """The names of the ranks of one instance in a log."""
        name = f"{self.pool.name}-{replica}"
        data = self.pool.parallel.data
        return [name] if data == 1 else [f"{name}/rank-{rank}" for rank in range(data)]


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
            facts += [_facts(plan)] * plan.pool.parallel.data
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


def plan_pool(
    scenario: Scenario, index: int, model: ModelSpec, calibration: Calibration | None = None
) -> PoolPlan:
    """Work out pool ``index``; raises ``InputError`` for what does not fit or divide."""
    pool = scenario.cluster.pools[index]
    at = f"cluster.pools[{index}]"
    device = load_device(pool.hardware, f"{at}.hardware")
    tensor, expert, data = pool.parallel.tensor, pool.parallel.expert, pool.parallel.data
    model.check_parallel(tensor, expert, data, where=f"{at}.parallel")
    own = f"{at}.engine" if pool.engine else "engine"
    engine = resolved_engine(
        scenario.pool_engine(pool),
        device_memory_bytes=device.memory_bytes,
        is_a100="a100" in device.id,
        model_max_len=model.max_position,
        where=own,
    )
    assert engine.max_num_seqs and engine.max_num_batched_tokens and engine.max_model_len
    activation = (
        scenario.weights if scenario.weights in ("bfloat16", "float16", "float32") else model.native_dtype
    )
    if activation not in ("bfloat16", "float16", "float32"):
        activation = "bfloat16"
    kv_dtype = activation if engine.kv_cache_dtype == "auto" else engine.kv_cache_dtype.split("_")[0]
    notes: tuple[str, ...] = ()
    blocks = engine.num_gpu_blocks
    if blocks is None:
        blocks = derive_capacity(
            model,
            device,
            weights=scenario.weights,
            kv_dtype=kv_dtype,
            tensor=tensor,
            expert=expert,
            block_size=engine.block_size,
            utilization=engine.gpu_memory_utilization,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            max_num_seqs=engine.max_num_seqs,
            where=f"{at}.hardware",
            data=data,
        ).num_gpu_blocks
    room = (blocks - 1) * engine.block_size
    if engine.max_model_len > room:
        if scenario.pool_engine(pool).max_model_len is not None:
            raise InputError(
                f"max_model_len is {engine.max_model_len}, but the KV pool holds only {room} tokens"
                f" ({blocks - 1} blocks of {engine.block_size})",
                where=f"{own}.max_model_len",
                hint=f"at most {room}; or more device memory, more ranks, a larger num_gpu_blocks",
            )
        engine = engine.model_copy(update={"max_model_len": room})
    if engine.max_model_len == room < model.max_position:
        notes = (
            f"{pool.name}: max_model_len is {room:,}, what the KV pool holds, not the model's"
            f" {model.max_position:,}",
        )
    engine = engine.model_copy(update={"num_gpu_blocks": blocks})
    performance = scenario.performance
    if calibration is None:
        file = performance.calibration
        calibration = load_calibration(file) if file else Calibration()
    setting = Setting(
        device=device,
        model=model.name,
        engine=ENGINES.get(engine.policy, "vllm"),
        version=engine.version,
        activation_dtype=activation,
        kv_dtype=kv_dtype,
        tensor=tensor,
        expert=expert,
        data=data,
    )
    cost = build_cost(
        operators(model, scenario.weights, kv_dtype, tensor, expert, activation, data),
        setting,
        operator_sources(performance.operators, setting),
        host_time(performance, calibration, engine.async_scheduling),
        calibration=calibration,
        graph_sizes=_graph_sizes(engine),
    )
    limits = Limits(
        **{name: getattr(engine, name) for name in LIMITS}, window=cost.window, longest=cost.needs_longest
    )
    spec = resolved_operators(performance.operators, setting)
    return PoolPlan(
        pool,
        device,
        engine,
        limits,
        cost,
        spec,
        _front_end(performance, calibration),
        _clock(performance, calibration),
        calibration,
        notes,
        lockstep=data > 1 and model.moe is not None,
    )


def host_time(performance: Performance, calibration: Calibration, asynchronous: bool) -> Host:
    """The host's times: the scenario's where it gives any, else the calibration's, else the defaults."""

    def value(given: float | None, fitted: float | None, default: float) -> float:
        if given is not None:
            return given
        return default if fitted is None else fitted

    host = performance.host
    return Host(
        gap_s=value(host.gap, calibration.host_gap_s, GAP_S),
        step_s=value(host.step, calibration.host_step_s, STEP_S),
        request_s=value(host.request, calibration.host_request_s, REQUEST_S),
        asynchronous=asynchronous,
    )


def _front_end(performance: Performance, calibration: Calibration) -> dict[str, float] | None:
    """Times of the API process: the scenario's where it gives any, else the calibration's, else the
    defaults."""
    given = performance.front_end
    if given is None:
        return None
    times = {"request_s": given.request, "chunk_s": given.chunk, "client_s": given.client}
    if given.client is None:
        times["client_s"] = calibration.client_s
    return {name: value for name, value in times.items() if value is not None}


def _clock(performance: Performance, calibration: Calibration) -> tuple[float, float] | None:
    if performance.clock is not None:
        return performance.clock.slowdown, performance.clock.time_constant
    if calibration.clock_slowdown and calibration.clock_time_constant_s:
        return calibration.clock_slowdown, calibration.clock_time_constant_s
    return None


def _graph_sizes(engine: Engine) -> Sequence[int]:
    if engine.enforce_eager:
        return ()
    if engine.cudagraph_capture_sizes is not None:
        return engine.cudagraph_capture_sizes
    assert engine.max_num_seqs and engine.max_num_batched_tokens
    return captured_sizes(engine.max_num_seqs, engine.max_num_batched_tokens)


def _scheduler_maker(plan: PoolPlan, where: str, exact_steps: bool) -> Callable[[], LocalScheduler]:
    policy: Any = register.local_scheduler.get(plan.engine.policy, f"{where}.policy")

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
    if plan.lockstep:
        schedulers = [make() for _ in range(ranks)]
        together = CompiledRanksCost(plan.cost, ranks)
        return RankGroup(index, schedulers, plan.cost, together, notes, **options())
    alone = [Instance(index + rank, make(), plan.cost, notes, **options()) for rank in range(ranks)]
    return alone[0] if ranks == 1 else RankSet(alone)


def _facts(plan: PoolPlan) -> InstanceFacts:
    device = plan.device
    return InstanceFacts(
        cost=plan.cost,
        devices=plan.pool.parallel.tensor,
        price_per_hour_usd=device.price_per_hour_usd,
        tdp_w=device.tdp_w,
        idle_w=device.idle_w,
    )


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
