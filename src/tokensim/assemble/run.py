"""Run a scenario: ``simulate``, and the result that comes out of it.

``simulate`` is all that most users need. Workloads that no pool could serve are refused here; the rest of
what can be told to be wrong before anything runs, in ``tokensim.plan``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tokensim.assemble.cluster import build_simulation, rank_facts, rank_names, standing_of
from tokensim.assemble.operations import lives_of
from tokensim.assemble.roofs import roofs_of
from tokensim.cost.calibration import Calibration
from tokensim.engine import Progress, Simulation
from tokensim.engine.hooks import Hook
from tokensim.errors import InputError
from tokensim.metrics.energy import RequestEnergy, instance_energy, request_energy
from tokensim.metrics.log import RunLog
from tokensim.metrics.pool_time import pool_operators
from tokensim.metrics.slo import Slo
from tokensim.metrics.spending import Electricity
from tokensim.metrics.summary import Summary, span, summarize
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool
from tokensim.plan.policy import settled_options
from tokensim.registry import load_plugin
from tokensim.report.files import write_run
from tokensim.report.header import header_of
from tokensim.report.series.run import RunFacts
from tokensim.scenario import Scenario, dump_scenario
from tokensim.workload import Workload, build_workload

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
        facts: Callable[[], RunFacts],
        energy: Callable[[], RequestEnergy],
    ) -> None:
        self.scenario = scenario
        self.log = log
        self.summary = summary
        self.complete = log.complete
        self.wall_s = log.wall_s
        self._facts = facts
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
            facts=self._facts(),
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
    check_adapters(workload, plans)
    return result_of(scenario, plans, simulation, simulation.run(progress))


def result_of(scenario: Scenario, plans: Sequence[PoolPlan], simulation: Simulation, log: RunLog) -> Result:
    """What came out of ``simulation`` of ``scenario``, which is over and has left ``log``."""
    workload = simulation.workload
    log = replace(log, tiers=simulation.tiers.use())
    slo = Slo(
        **{f"{name}_s": getattr(scenario.slo, name) for name in ("ttft", "tpot", "e2e", "itl")},
        percentile=scenario.slo.percentile,
    )
    facts, standing = rank_facts(simulation), standing_of(simulation)
    summary = summarize(
        log,
        facts,
        slo,
        _weights(scenario),
        standing=standing,
        electricity=_electricity(scenario),
        replicas=lives_of(simulation),
        turned_away=0 if simulation.gateway is None else simulation.gateway.rejected,
    )
    notes = [*workload.notes, *(note for plan in plans for note in plan.notes)]
    summary = replace(summary, notes=(*summary.notes, *dict.fromkeys(notes)))

    def energy() -> RequestEnergy:
        drawn = instance_energy(log.steps, facts, standing.within(*span(log)))
        return request_energy(log.requests, drawn, log.prefilled_on, log.later_stages)

    names, filled_in = rank_names(simulation), _filled_in(scenario, plans)

    def of_run() -> RunFacts:
        shown = scenario.model_copy(update={"performance": filled_in.performance})
        return RunFacts(
            header_of(shown),
            tuple(names),
            tuple(fact.pool for fact in facts),
            tuple(roof for plan in plans for roof in roofs_of(plan)),
            tuple(pool_operators(log.steps, facts)),
            standing,
        )

    return Result(filled_in, log, summary, of_run, energy)


def _electricity(scenario: Scenario) -> Electricity | None:
    given = scenario.cluster.electricity
    return None if given is None else Electricity(given.usd_per_kwh, given.pue)


def _weights(scenario: Scenario) -> dict[int, float]:
    """What each tenant weighs in fair sharing."""
    admission = scenario.cluster.admission
    return {} if admission is None else {n: tenant.weight for n, tenant in admission.tenants.items()}


def check_adapters(workload: Workload, plans: Sequence[PoolPlan]) -> None:
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


def filled_in(scenario: Scenario) -> Scenario:
    """``scenario`` as a run leaves it in ``scenario.yaml``, without running it; raises ``InputError``."""
    model = load_model(scenario.model, "model")
    return _filled_in(scenario, [plan_pool(scenario, i, model) for i in range(len(scenario.cluster.pools))])


def _filled_in(scenario: Scenario, plans: Sequence[PoolPlan]) -> Scenario:
    """The scenario with what the engine worked out written into each pool, so that it can be repeated
    exactly."""
    pools = []
    for plan in plans:
        limits = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "num_gpu_blocks")
        worked_out = {name: getattr(plan.engine, name) for name in (*limits, *settled_options(plan.engine))}
        asked = scenario.pool_engine(plan.pool)
        for name in ("gpu_memory_utilization", "enable_prefix_caching"):
            if getattr(plan.engine, name) != getattr(asked, name):
                worked_out[name] = getattr(plan.engine, name)
        pools.append(plan.pool.model_copy(update={"engine": {**plan.pool.engine, **worked_out}}))
    cluster = scenario.cluster.model_copy(update={"pools": pools})
    sources = {plan.operators for plan in plans}
    performance = scenario.performance
    if len(sources) == 1:  # pools on different devices may differ: there ``auto`` says it best
        performance = performance.model_copy(update={"operators": sources.pop()})
    return scenario.model_copy(update={"cluster": cluster, "performance": performance})
