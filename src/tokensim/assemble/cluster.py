"""From plans to a cluster: routers, gateway, network, pools and their replicas, in one simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tokensim.assemble.front_desk import add_gateway, make_router
from tokensim.assemble.instance import make_instance, rank_scheduler_maker
from tokensim.assemble.operations import hooks_of, terms_of
from tokensim.engine import Simulation
from tokensim.engine.handover import Handover
from tokensim.engine.hooks import Hook
from tokensim.engine.mover import NetworkMover
from tokensim.engine.network import Network
from tokensim.engine.replica import Replica, ReplicaPool
from tokensim.engine.topology import Place, Topology
from tokensim.errors import InputError
from tokensim.metrics.energy import InstanceFacts
from tokensim.metrics.usage import Standing
from tokensim.model import ModelSpec
from tokensim.plan import PoolPlan
from tokensim.scenario import Scenario
from tokensim.scenario.network import Network as NetworkSection
from tokensim.workload import Workload


def build_simulation(
    scenario: Scenario,
    model: ModelSpec,
    plans: Sequence[PoolPlan],
    workload: Workload,
    *,
    exact_steps: bool,
    hooks: Sequence[Hook],
    kind: Callable[..., Simulation] = Simulation,
) -> Simulation:
    """The cluster of ``scenario``, ready to run ``workload``; ``kind`` makes the simulation."""
    cluster, seed = scenario.cluster, scenario.seed
    names = [pool.name for pool in cluster.pools]
    router = make_router(cluster.router, seed, names, "cluster.router")
    hooks = [*hooks_of(scenario), *hooks]
    simulation = kind(workload, router, hooks, staleness_s=cluster.router.staleness)
    if cluster.admission is not None:
        add_gateway(simulation, cluster.admission)
    topology = topology_of(cluster.network, simulation.network)
    if hooks or any(pool.role != "mixed" for pool in cluster.pools):
        second = cluster.decode_router
        where = "cluster.router" if second is None else "cluster.decode_router"
        decode_router = make_router(second or cluster.router, seed + 1, names, where)
        mover = NetworkMover(simulation.network, topology)
        terms = terms_of(scenario, model, plans)
        Handover(simulation, decode_router, terms, mover)

        def transfer(source: Replica, target: Replica) -> tuple[float, float]:
            latency_s, s_per_byte = mover.way(source, target)
            return latency_s, s_per_byte * terms.kv_bytes_per_token

        simulation.loads.transfer = transfer
    for index, plan in enumerate(plans):
        where = f"cluster.pools[{index}].engine" if plan.pool.engine else "engine"
        make = rank_scheduler_maker(plan, where, exact_steps)
        devices = plan.pool.parallel.devices
        pool = ReplicaPool(
            plan.pool.name,
            partial(make_instance, simulation, plan, make, index),
            role=plan.pool.role,
            startup_s=plan.pool.startup,
            price_per_hour_usd=devices * _price_per_hour_usd(plan),
            facts=plan,
            settle=partial(place_of, topology, plan),
            leave=topology.free,
        )
        simulation.pools.append(pool)
        for _ in range(plan.pool.replicas):
            replica = simulation.add_instance(pool.make(), pool)
        if plan.pool.role != "mixed" and not replica.can_load:
            raise InputError(
                f"the policy '{plan.engine.policy}' cannot serve one stage alone: it knows neither KV"
                " from elsewhere nor KV that waits for others",
                where=f"cluster.pools[{index}].role",
                hint="use role: mixed, or the policy vllm",
            )
        if any(rank.scheduler.needs_predictions for rank in replica.ranks):
            _check_predictions(workload, f"{where}.policy_options")
    _check_takers(simulation.replicas)
    if any(pool.role != "mixed" for pool in cluster.pools):
        _check_formats(simulation.replicas)
    return simulation


def _check_takers(replicas: Sequence[Replica]) -> None:
    """Refuse a cluster that prefills for nobody."""
    if any(r.role == "prefill" for r in replicas) and not any(
        r.role != "prefill" and r.can_load for r in replicas
    ):
        raise InputError(
            "there are pools of role prefill, and none whose policy can take over the KV that they compute",
            where="cluster.pools",
            hint="give some pool that is not of role prefill the policy vllm",
        )


def _check_predictions(workload: Workload, where: str) -> None:
    """Refuse requests of which nobody has predicted how long they get."""
    predicted = workload.predicted_tokens
    missing = len(workload) if predicted is None else int((predicted < 0).sum())
    if missing:
        raise InputError(
            f"the policy goes by predicted lengths, and {missing:,} of {len(workload):,} requests have none",
            where=where,
            hint="e.g. workload: {predicted_tokens: oracle}, or a trace's column predicted_tokens",
        )


def _check_formats(replicas: Sequence[Replica]) -> None:
    """Refuse a cluster with prefill and decode apart whose engines could not use each other's KV."""
    formats = {rank.scheduler.kv_format: replica.pool.name for replica in replicas for rank in replica.ranks}
    if len(formats) > 1:
        told = ", ".join(f"'{pool}' {name}'s" for name, pool in formats.items())
        raise InputError(
            f"the pools keep their KV as different engines do ({told}), so that one cannot use what another"
            " has computed",
            where="cluster.pools",
            hint="give all pools policies of one engine",
        )


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


def _facts(plan: PoolPlan) -> list[InstanceFacts]:
    """Of one rank of an instance, stage by stage."""
    device = plan.device
    return [
        InstanceFacts(
            cost=cost,
            devices=plan.pool.parallel.tensor,
            price_per_hour_usd=_price_per_hour_usd(plan),
            tdp_w=device.tdp_w,
            idle_w=device.idle_w,
            draw=device.draw,
            pool=plan.pool.name,
        )
        for cost in ((plan.speculative,) if plan.speculative is not None else plan.stages)
    ]


def _price_per_hour_usd(plan: PoolPlan) -> float:
    """Of one device: the scenario's price, else the catalog's."""
    given = plan.pool.price_per_hour
    return plan.device.price_per_hour_usd if given is None else given


def standing_of(simulation: Simulation) -> Standing:
    """When each rank came and went, its start-up included."""
    ranks = [replica for replica in simulation.replicas for _ in replica.pool.facts.names(replica.number)]
    return Standing(
        np.array([replica.born_s for replica in ranks]), np.array([replica.gone_s for replica in ranks])
    )
