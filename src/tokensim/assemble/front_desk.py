"""From the scenario's ``cluster.router`` and ``cluster.admission`` to a router and a gateway."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from math import inf
from typing import Any

from tokensim.engine import Simulation
from tokensim.engine.gateway import Gateway, Limit, Rules, TenantRules
from tokensim.errors import InputError, nearest
from tokensim.metrics.recorder import REJECTED
from tokensim.registry import register
from tokensim.scenario.admission import Admission, Tenant, TenantLimits
from tokensim.scenario.schema import Router
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.cluster.gateway import GatewayOrder
from tokensim.scheduling.cluster.guard import GuardedOrder


def make_router(router: Router, seed: int, pools: Collection[str], where: str) -> GlobalScheduler:
    """The policy of ``router``, whose section is at ``where``; raises ``InputError`` for an unknown name, and
    for options that the policy does not take."""
    policy: Any = register.global_scheduler.get(router.policy, f"{where}.policy")
    _check_options(router, inspect.signature(policy).parameters, where)
    try:
        made: Any = policy(seed=seed, **router.options)
        if not isinstance(made, GlobalScheduler):
            raise InputError(
                f"the policy '{router.policy}' made {made!r}, which is no global scheduler",
                where=f"{where}.policy",
                hint="derive its class from tokensim.scheduling.cluster.GlobalScheduler",
            )
        made.check(pools)
    except InputError as error:
        raise InputError(error.message, where=error.where or f"{where}.options", hint=error.hint) from None
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the router '{router.policy}' does not take these options: {error}",
            where=f"{where}.options",
            hint="a policy is made as Policy(seed=…, **options)",
        ) from error
    except Exception as error:
        raise InputError(
            f"the router '{router.policy}' failed when it was made: {type(error).__name__}: {error}",
            where=f"{where}.policy",
            hint="a policy raises InputError for options that it cannot work with",
        ) from error
    return made


def _check_options(router: Router, takes: Mapping[str, inspect.Parameter], where: str) -> None:
    """Refuse options of ``router`` that its policy does not take, that it needs and does not get, and words
    where it has a number by default."""
    known = [name for name in takes if name != "seed"]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    for name, value in router.options.items():
        if name not in known and not takes_any:
            raise InputError(
                f"the router '{router.policy}' has no option '{name}'",
                where=f"{where}.options.{name}",
                hint=nearest(name, known) if known else "it has none",
            )
        default = takes[name].default if name in takes else None
        if type(default) in (int, float) and type(value) not in (int, float):
            raise InputError(
                f"{value!r} is no number", where=f"{where}.options.{name}", hint=f"the default is {default}"
            )
    for name in known:
        p = takes[name]
        if p.default is p.empty and p.kind is p.KEYWORD_ONLY and name not in router.options:
            raise InputError(
                f"the router '{router.policy}' needs the option '{name}'",
                where=f"{where}.options",
                hint=f"router: {{policy: {router.policy}, options: {{{name}: …}}}}",
            )


def add_gateway(simulation: Simulation, admission: Admission) -> None:
    """Put the gateway that ``admission`` describes before the router of ``simulation``."""
    order: Any = register.gateway_order.get(admission.order, "cluster.admission.order")
    if admission.order != "fcfs" and not admission.waits:
        raise InputError(
            f"the order is '{admission.order}', but nobody ever waits",
            where="cluster.admission.order",
            hint="give max_outstanding, or limits",
        )
    rules = Rules(
        max_outstanding=_or_inf(admission.max_outstanding),
        max_queued=_or_inf(admission.max_queued),
        queue_timeout_s=_or_inf(admission.queue_timeout),
        over_limit=admission.over_limit,
        others=_rules(admission.limits),
        tenants={number: _rules(tenant) for number, tenant in admission.tenants.items()},
    )
    simulation.gateway = Gateway(
        rules,
        _order(order),
        simulation.agenda,
        simulation.dispatch,
        lambda request: simulation.give_up(request, REJECTED),
    )


def _order(kind: Any) -> GatewayOrder:
    """An order of that class; one that is not ours stands under guard."""
    where = "cluster.admission.order"
    if not (isinstance(kind, type) and issubclass(kind, GatewayOrder)):
        raise InputError(
            f"{kind!r} is no gateway order",
            where=where,
            hint="register a class that is derived from tokensim.scheduling.cluster.gateway.GatewayOrder",
        )
    try:
        order: GatewayOrder = kind()
    except Exception as error:
        raise InputError(
            f"the gateway order {kind.__name__} failed when it was made: {type(error).__name__}: {error}",
            where=where,
            hint="an order is made without arguments",
        ) from error
    return order if kind.__module__.startswith("tokensim.") else GuardedOrder(order)


def _rules(limits: TenantLimits) -> TenantRules:
    return TenantRules(
        weight=limits.weight if isinstance(limits, Tenant) else 1.0,
        requests=_limit(limits.requests_per_s, limits.request_burst),
        tokens=_limit(limits.tokens_per_s, limits.token_burst),
    )


def _limit(per_s: float | None, burst: int | None) -> Limit | None:
    if per_s is None:
        return None
    return Limit(per_s, max(1.0, per_s) if burst is None else float(burst))


def _or_inf(value: float | None) -> float:
    return inf if value is None else value
