"""From the scenario to what goes on in the cluster: the terms of a handover, and the hooks of the control
plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from tokensim.engine.autoscaler import METRICS, Autoscaler, Schedule
from tokensim.engine.failures import FailureAt, RandomFailures, Throttle
from tokensim.engine.hooks import Hook
from tokensim.engine.passage import Terms
from tokensim.engine.restarts import RollingRestart
from tokensim.engine.simulation import Simulation
from tokensim.errors import InputError
from tokensim.metrics.operations import ReplicaLife
from tokensim.model import ModelSpec
from tokensim.plan import PoolPlan
from tokensim.registry import register
from tokensim.scenario import Pool, Scenario
from tokensim.scenario.operations import Disaggregation, Failure, HookSpec


def terms_of(scenario: Scenario, model: ModelSpec, plans: Sequence[PoolPlan]) -> Terms:
    """How KV goes from one instance to another. Raises ``InputError`` where pools cannot take each
    other's."""
    given = scenario.cluster.disaggregation or Disaggregation()
    apart = {plan.pool.role for plan in plans} != {"mixed"}
    dtypes = {plan.kv_dtype for plan in plans}
    if apart and len(dtypes) > 1:
        raise InputError(
            f"the pools keep their KV in different types ({', '.join(sorted(dtypes))}), so that one cannot"
            " use what another has computed",
            where="cluster.pools",
            hint="give all pools the same engine.kv_cache_dtype",
        )
    decoders = [plan for plan in plans if plan.pool.role != "prefill"]
    first = given.first_token
    if first == "auto":
        first = "decode" if all(plan.engine.policy == "vllm" for plan in decoders) else "prefill"
    return Terms(
        kv_bytes_per_token=max(model.kv_bytes_per_token(plan.kv_dtype, 1) for plan in plans),
        layers=model.layers,
        push=given.kv_transfer == "push",
        layerwise=given.layerwise,
        streams_first=first == "prefill",
        latency_s=given.latency,
    )


def hooks_of(scenario: Scenario) -> list[Hook]:
    """The hooks that ``scenario`` asks for: those of its pools, of its cluster, and the plug-ins'."""
    cluster = scenario.cluster
    hooks: list[Hook] = []
    for pool in cluster.pools:
        hooks += _scaler(pool)
    for index, failure in enumerate(cluster.failures):
        hooks.append(_failure(failure, scenario.seed + index))
    for restart in cluster.restarts:
        hooks.append(
            RollingRestart(
                restart.pool,
                restart.at,
                restart.max_unavailable,
                surge=restart.surge,
                migrate=restart.migrate,
            )
        )
    for throttle in cluster.throttles:
        duration = inf if throttle.duration is None else throttle.duration
        hooks.append(Throttle(throttle.pool, throttle.at, throttle.max_running, duration))
    return [*hooks, *_plugged_in(scenario.hooks)]


def lives_of(simulation: Simulation) -> list[ReplicaLife]:
    """What became of each replica of ``simulation``, which is over."""
    died = {index for _, index in simulation.recorder.failures}
    return [
        ReplicaLife(
            replica.name,
            replica.pool.name,
            replica.born_s,
            replica.up_s,
            replica.gone_s if replica.gone_s < inf else None,
            replica.index in died,
        )
        for replica in simulation.replicas
    ]


def _scaler(pool: Pool) -> Iterable[Hook]:
    scale = pool.autoscale
    if scale is None:
        return
    if scale.policy == "schedule":
        sizes = [(size.at, size.replicas) for size in scale.schedule]
        yield Schedule(pool.name, sizes, scale.migrate)
        return
    assert scale.target is not None and scale.max is not None
    yield Autoscaler(
        pool.name,
        METRICS[scale.policy],
        scale.target,
        least=scale.min,
        most=scale.max,
        interval_s=scale.interval,
        patience_s=scale.scale_down_after,
        migrate=scale.migrate,
    )


def _failure(failure: Failure, seed: int) -> Hook:
    recovery = inf if failure.recovery is None else failure.recovery
    if failure.every is not None:
        return RandomFailures(
            failure.pool, failure.every, seed, failure.requests, recovery, failure.max_retries
        )
    assert failure.at is not None
    return FailureAt(
        failure.pool, failure.at, failure.replica, failure.requests, recovery, failure.max_retries
    )


def _plugged_in(specs: Sequence[HookSpec]) -> Iterable[Hook]:
    for index, spec in enumerate(specs):
        where = f"hooks[{index}]"
        kind = register.hook.get(spec.hook, where)
        try:
            hook = kind(**spec.options)
        except InputError:
            raise
        except TypeError as error:
            raise InputError(
                f"the hook '{spec.hook}' does not take these options: {error}",
                where=f"{where}.options",
                hint="a hook is made as Hook(**options)",
            ) from error
        except Exception as error:
            raise InputError(
                f"the hook '{spec.hook}' failed when it was made: {type(error).__name__}: {error}",
                where=where,
                hint="a hook raises InputError for options that it cannot work with",
            ) from error
        if not isinstance(hook, Hook):
            raise InputError(
                f"the hook '{spec.hook}' made {hook!r}, which is no hook",
                where=where,
                hint="derive its class from tokensim.engine.hooks.Hook",
            )
        yield hook
