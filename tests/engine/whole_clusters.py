"""Whole clusters drawn from a seed, as scenarios: all that a user can write, together.

Pools of any local policy and role, with data-parallel ranks, pipelines, drafts, adapters and memory tiers;
routers, a gateway, links, an autoscaler, restarts, throttles, failures; sessions, bursts, closed loops; and
hooks that move, preempt and lose what they find. What the scenario's own checks refuse is not drawn again in
another way: see ``test_whole_clusters.py``, which counts it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

from test_exact_policies import OPTIONS as POLICY_OPTIONS
from test_exact_policies import WHOLE_PROMPTS
from test_random_clusters import Meddler

from tokensim.assemble import build_simulation
from tokensim.engine import Simulation
from tokensim.model import ModelSpec, load_model
from tokensim.plan import plan_pool
from tokensim.registry import Registry, register
from tokensim.scenario import Scenario
from tokensim.scheduling.local import Limits, form_for
from tokensim.scheduling.local.speculation import Sampled, Speculation
from tokensim.workload import build_workload

STEP_S = 0.01
"""About what a step of these models takes: what times are drawn in multiples of."""

ROUTERS: dict[str, dict[str, Any]] = {
    "cost-aware": {"ttft": 0.5},
    "prefix-aware": {"balance_abs_threshold": 4},
    "weighted": {"weights": {"pool-0": 3}},
}
"""Options of routers that are interesting with some, or need them."""

DENSE, EXPERTS = "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B"

Section = dict[str, Any]


def maybe(rng: random.Random, chance: float, make: Callable[[], Any]) -> Any:
    """What ``make`` makes, with this ``chance``, or None."""
    return make() if rng.random() < chance else None


def given(**section: Any) -> Section:
    """``section`` without what is None."""
    return {name: value for name, value in section.items() if value is not None}


def ours(registry: Registry) -> list[str]:
    """The names in ``registry`` that no test and no plug-in has put there."""
    return [name for name in registry.names() if registry.get(name).__module__.startswith("tokensim.")]


def can_load(policy: str, parallel: Section, engine: Section) -> bool:
    """Whether instances of ``policy`` can serve one stage alone."""
    drafts = Speculation(1, Sampled((0.5,))) if "speculative" in engine else None
    limits = Limits(num_gpu_blocks=2, pipeline=parallel.get("pipeline", 1), speculation=drafts)
    try:
        return bool(form_for(register.local_scheduler.get(policy), limits).can_load)
    except TypeError:
        return False


def draw_engine(rng: random.Random, policy: str, lora: Section | None, predicted: bool) -> Section:
    """An engine: from one that never lacks anything to one that lacks everything."""
    kind = register.local_scheduler.get(policy)
    size = rng.choice([1, 4, 8, 16])
    room = rng.choice([120, 200, 400, 3000]) // size * size
    longest = min(room - 2 * size, 500)
    batched = rng.choice([16, 32, 64, 256, 2048]) // size * size or size
    engine: Section = {
        "policy": policy,
        "block_size": size,
        "num_gpu_blocks": room // size + 1,
        "max_model_len": longest,
        "enable_prefix_caching": rng.random() < 0.7,
        "async_scheduling": rng.random() < 0.5,
    }
    if policy == "sglang":
        engine["policy_options"] = {
            "schedule_policy": rng.choice(["fcfs", "lpm"]),
            "enable_mixed_chunk": rng.random() < 0.3,
        }
    elif policy in POLICY_OPTIONS:
        engine["policy_options"] = POLICY_OPTIONS[policy](rng)
        if engine["policy_options"].get("lengths") == "predicted" and not predicted:
            engine["policy_options"]["lengths"] = "actual"
    elif rng.random() < 0.3:
        engine["scheduling_policy"] = "priority"
    if policy in WHOLE_PROMPTS:
        batched = max(batched, longest)
    engine["max_num_batched_tokens"] = batched
    engine["max_num_seqs"] = min(batched, rng.choice([1, 2, 8, 64]))
    if policy == "vllm":
        engine["scheduler_reserve_full_isl"] = rng.random() < 0.8
        engine["long_prefill_token_threshold"] = rng.choice([0, 0, 0, 20])
        engine["watermark"] = rng.choice([0.0, 0.0, 0.05])
        engine["prefill_schedule_interval"] = rng.choice([1, 1, 1, 3])
        if lora is None and rng.random() < 0.12:
            engine["speculative"] = {
                "method": "ngram",
                "num_speculative_tokens": rng.randrange(1, 4),
                "acceptance": {"rate": rng.choice([0.0, 0.6, 1.0])},
            }
    if kind.can_swap and rng.random() < 0.6:
        engine |= {"preemption": "swap", "swap_space": rng.choice([2e6, 2e7, 1e9])}
        engine["enable_prefix_caching"] = False
    if lora is not None:
        engine["lora"] = lora
    for name in kind.settles:
        engine.pop(name, None)
    return engine


def draw_tier(rng: random.Random, number: int, shared: bool) -> Section:
    token = 131072
    speed = rng.choice([40, 500, 20000]) * token / STEP_S / 10
    return given(
        kind="remote" if shared else rng.choice(["host", "ssd", "cxl"]),
        name=f"tier-{number}",
        capacity=rng.choice([3, 10, 40, 1000]) * 16 * token,
        shared=shared,
        bandwidth=speed,
        latency=rng.choice([0.0, 0.003]),
        latency_per_block=rng.choice([0.0, 0.0002]),
        policy=rng.choice(["lru", "lfu", "fifo", "cost-aware"]),
        write=rng.choice(["through", "back"]),
        granularity=rng.choice(["block", "block", "contiguous"]),
        max_in_flight=rng.choice([None, None, 60 * token]),
    )


def draw_memory(rng: random.Random, beside: bool) -> Section:
    """``beside``: the engine can load KV beside its steps."""
    shared = False
    tiers = []
    for number in range(rng.choice([1, 1, 2])):
        shared = shared or rng.random() < 0.4
        tiers.append(draw_tier(rng, number, shared))
    return {
        "tiers": tiers,
        "load": rng.choice(["async", "overlap"]) if beside else "async",
        "decide": rng.choice(["always", "always", "faster", "never"]),
    }


def draw_pools(rng: random.Random, moe: bool, lora: Section | None, predicted: bool) -> list[Section]:
    """One to three pools, of which some may serve one stage only."""
    policies = ours(register.local_scheduler)
    apart = rng.random() < 0.5
    both = ["prefill", "decode"]
    layouts = [both, ["mixed", "decode"], ["prefill", "mixed"], [*both, "mixed"]]
    roles = rng.choice(layouts) if apart else ["mixed"] * rng.choice([1, 1, 2])
    if lora is not None or rng.random() < 0.4:
        policies = ["vllm"]
    if any(role != "mixed" for role in roles):  # they exchange KV, in one format
        formats = {policy: register.local_scheduler.get(policy).kv_format for policy in policies}
        able = [policy for policy in policies if can_load(policy, {}, {})]
        wanted = formats[rng.choice(able)]
        policies = [policy for policy in policies if formats[policy] == wanted]
    tiered = rng.random() < 0.4
    memory: Section | None = None
    pools: list[Section] = []
    for number, role in enumerate(roles):
        policy = rng.choice(policies)
        while role != "mixed" and not can_load(policy, {}, {}):
            policy = rng.choice(policies)
        engine = draw_engine(rng, policy, lora, predicted)
        parallel: Section = {}
        if rng.random() < 0.2 and not (moe and ("speculative" in engine or lora is not None)):
            parallel["data"] = 2
            if moe and rng.random() < 0.5:
                parallel["expert"] = 2
        elif policy == "vllm" and lora is None and "speculative" not in engine and rng.random() < 0.15:
            parallel["pipeline"] = 2
        if not can_load(policy, parallel, engine):
            role = "mixed"
        pool: Section = {
            "name": f"pool-{number}",
            "hardware": rng.choice(["h100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb"]),
            "replicas": rng.choice([1, 1, 2]),
            "role": role,
            "startup": rng.choice([0.0, 0.0, 3 * STEP_S]),
            "parallel": parallel,
            "engine": engine,
        }
        can_tier = register.local_scheduler.get(policy).can_tier
        if tiered and can_tier and can_load(policy, parallel, engine):
            engine["enable_prefix_caching"] = True
            beside = "pipeline" not in parallel and not (moe and "data" in parallel)
            if memory is None or rng.random() < 0.3:
                memory = draw_memory(rng, beside)
                for tier in memory["tiers"]:
                    tier["name"] += f"-{number}"
            if beside or memory["load"] != "overlap":
                pool["memory"] = memory
        if rng.random() < 0.15:
            pool["autoscale"] = {
                "policy": rng.choice(["queue", "kv"]),
                "target": rng.choice([0.3, 0.8]),
                "min": rng.choice([0, 1]),
                "max": 3,
                "interval": 5.3 * STEP_S,
                "scale_down_after": 7.1 * STEP_S,
                "migrate": rng.random() < 0.5,
            }
        pools.append(pool)
    roles = {pool["role"] for pool in pools}
    if roles in ({"prefill"}, {"decode"}):
        pools[-1]["role"] = "mixed"
    return pools


def draw_workload(rng: random.Random, lora: Section | None) -> Section:
    process = rng.choice(["poisson", "poisson", "constant", "gamma", "all-at-once", "closed-loop"])
    arrivals: Section = {"process": process}
    if process == "closed-loop":
        arrivals |= {"concurrency": rng.randrange(1, 6), "think_time": rng.choice([0.0, 2.1 * STEP_S])}
    elif process != "all-at-once":
        arrivals["rate"] = rng.choice([0.05, 0.3, 2.0]) / STEP_S
        if process == "gamma":
            arrivals["burstiness"] = 0.3
    mean = rng.choice([10, 40, 80])
    n = rng.randrange(2, 22)
    sessions = None
    if rng.random() < 0.3:
        sessions = given(
            rounds={"distribution": "uniform", "min": 1, "max": 4},
            count=max(1, n // 3),
            think_time=rng.choice([0.0, 3 * STEP_S]),
            branches=maybe(rng, 0.4, lambda: {"distribution": "uniform", "min": 1, "max": 3}),
            max_context=300,
        )
    return given(
        arrivals=arrivals,
        input_tokens={"distribution": "lognormal", "mean": mean, "cv": 1.0, "min": 1, "max": 250},
        output_tokens=rng.choice(
            [
                {"distribution": "uniform", "min": 1, "max": 40},
                {"distribution": "uniform", "min": 1, "max": 120},
                {"distribution": "fixed", "value": 1},
            ]
        ),
        num_requests=None if sessions else n,
        sessions=sessions,
        shared_prefix=maybe(rng, 0.4, lambda: {"tokens": rng.choice([9, 32]), "groups": 2, "share": 0.8}),
        max_in_flight=maybe(rng, 0.2, lambda: rng.randrange(1, 6)),
        priorities=maybe(rng, 0.6, lambda: 3),
        tenants=maybe(rng, 0.6, lambda: 3),
        deadline=maybe(rng, 0.4, lambda: {"fixed": 20 * STEP_S, "per_output_token": STEP_S}),
        predicted_tokens=maybe(rng, 0.4, lambda: {"predictor": "lognormal", "sigma": 0.6}),
        adapters=None if lora is None else {"count": 4, "share": 0.7},
    )


def draw_router(rng: random.Random, names: list[str]) -> Section:
    policy = rng.choice(sorted(names))
    return {
        "policy": policy,
        "options": ROUTERS.get(policy, {}),
        "staleness": rng.choice([0.0, 0.0, 0.0, 3.3 * STEP_S]),
    }


def draw_admission(rng: random.Random) -> Section:
    limits = maybe(rng, 0.5, lambda: {"requests_per_s": 50.0, "request_burst": 2})
    return given(
        max_outstanding=rng.choice([1, 3, 8]),
        max_queued=rng.choice([None, 2, 100]),
        queue_timeout=rng.choice([None, 5.7 * STEP_S]),
        order=rng.choice(["fcfs", "priority", "fair"]),
        over_limit=rng.choice(["queue", "reject"]) if limits else None,
        limits=limits,
        tenants=maybe(rng, 0.5, lambda: {0: {"weight": 2.0}, 1: {"tokens_per_s": 5000.0}}),
    )


def draw_scenario(seed: int) -> Section:
    """The scenario of ``seed``, as a user would write it."""
    rng = random.Random(seed)
    moe = rng.random() < 0.3
    lora = maybe(rng, 0.1, lambda: {"max_loras": rng.choice([1, 2]), "max_cpu_loras": 3})
    workload = draw_workload(rng, lora)
    pools = draw_pools(rng, moe, lora, "predicted_tokens" in workload)
    names = [pool["name"] for pool in pools]
    roles = {pool["role"] for pool in pools}
    routers = ours(register.global_scheduler)
    cluster = given(
        pools=pools,
        router=draw_router(rng, routers),
        decode_router=maybe(rng, 0.5, lambda: draw_router(rng, routers)) if "prefill" in roles else None,
        disaggregation=None
        if roles == {"mixed"}
        else {
            "kv_transfer": rng.choice(["pull", "push"]),
            "layerwise": rng.random() < 0.5,
            "first_token": rng.choice(["auto", "prefill", "decode"]),
            "latency": rng.choice([0.0, 0.3 * STEP_S]),
        },
        failures=[
            given(
                pool=rng.choice(names),
                **rng.choice([{"at": rng.uniform(0, 60) * STEP_S}, {"every": 40 * STEP_S}]),
                recovery=rng.choice([0.0, 5.1 * STEP_S]),
                requests=rng.choice(["resume", "restart", "lose"]),
                max_retries=rng.choice([0, 3]),
            )
            for _ in range(rng.choice([0, 0, 1, 2]))
        ],
        restarts=[
            {
                "pool": rng.choice(names),
                "at": rng.uniform(0, 60) * STEP_S,
                "surge": rng.random() < 0.5,
                "migrate": rng.random() < 0.5,
            }
            for _ in range(rng.choice([0, 0, 0, 1]))
        ],
        throttles=[
            given(
                pool=rng.choice(names),
                at=rng.uniform(0, 60) * STEP_S,
                max_running=rng.choice([0, 1, 3]),
                duration=10.7 * STEP_S,
            )
            for _ in range(rng.choice([0, 0, 0, 1]))
        ],
        network=rng.choice(
            [
                {},
                {"inter_node": {"bandwidth": 3e8, "latency": 0.002}, "placement": "spread"},
                {"cluster": {"bandwidth": 1e9}, "placement": "spread"},
                {"inter_node": {"bandwidth": 5e10}, "placement": "by-pool"},
            ]
        ),
        admission=maybe(rng, 0.3, lambda: draw_admission(rng)),
    )
    performance = given(
        operators=rng.choice(["roofline", "builtin"]),
        front_end=maybe(rng, 0.2, lambda: {"request": 0.0011, "chunk": 0.00013, "client": 0.0007}),
        clock=maybe(rng, 0.15, lambda: {"slowdown": 0.3, "time_constant": 20 * STEP_S}),
    )
    return {
        "model": EXPERTS if moe else DENSE,
        "cluster": cluster,
        "performance": performance,
        "workload": workload,
        "seed": rng.randrange(1000),
    }


@cache
def model_named(name: str) -> ModelSpec:
    return load_model(name, "model")


def build(seed: int, *, exact_steps: bool) -> Simulation:
    """The cluster of ``seed``; raises ``InputError`` for what a scenario cannot ask for."""
    scenario = Scenario.model_validate(draw_scenario(seed))
    rng = random.Random(-1 - seed)
    roles = any(pool.role != "mixed" for pool in scenario.cluster.pools)
    acts = rng.choice([0, 0, 0, 3, 10])
    hooks = [Meddler(random.Random(rng.random()), STEP_S, acts, roles)] if acts else []
    model = model_named(str(scenario.model))
    plans = [plan_pool(scenario, index, model) for index in range(len(scenario.cluster.pools))]
    workload = build_workload(scenario.workload, scenario.seed)
    return build_simulation(scenario, model, plans, workload, exact_steps=exact_steps, hooks=hooks)
