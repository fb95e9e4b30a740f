"""The memory tiers of a pool behind each of its instances."""

from __future__ import annotations

from functools import partial

from tokensim.engine import Instance, Simulation
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.engine.tier_setup import Site
from tokensim.engine.tiered import TieredKv
from tokensim.errors import InputError
from tokensim.plan import PoolPlan


def connect_tiers(
    simulation: Simulation, plan: PoolPlan, pool: int, runner: Instance | RankGroup | RankSet
) -> None:
    """Put the memory tiers of pool number ``pool`` behind ``runner``, an instance of it."""
    memory, engine = plan.memory, plan.engine
    if not memory.tiers:
        return
    where = f"cluster.pools[{pool}].memory" if plan.pool.memory is not None else "memory"
    devices = plan.pool.parallel.tensor * plan.pool.parallel.pipeline
    site = Site(plan.device, devices, engine.block_size, plan.token_bytes)
    for rank in runner.ranks:
        if not rank.scheduler.can_tier:
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
        if len(plan.stages) > 1 and memory.load == "overlap":
            raise InputError(
                "the stages of a pipeline do not load KV beside their steps",
                where=f"{where}.load",
                hint="load: async",
            )
        rank.layers = plan.layers
        rank.tiers = TieredKv(
            simulation.tiers.levels(memory, site, where),
            rank.scheduler,
            rank.estimate,
            simulation.agenda,
            simulation.recorder,
            engine.block_size,
            plan.token_bytes,
            memory.load == "overlap",
            memory.decide,
            partial(simulation.rouse, rank.axis),
        )
