"""Routers and gateways of whole scenarios: what is known of load balancing holds, and slips are refused."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tokensim import simulate
from tokensim.assemble import Result
from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scenario import from_mapping

BASE: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "cluster": {"pools": [{"name": "serve", "hardware": "h100-sxm-80gb", "replicas": 8}]},
    "performance": {"operators": "roofline"},
    "workload": {
        "arrivals": {"process": "poisson", "rate": 60},
        "input_tokens": 300,
        "output_tokens": {"distribution": "exponential", "mean": 60, "max": 600},
        "num_requests": 1500,
    },
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(copy.deepcopy(dict(base)))
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else value
    return out


def run(router: Any, **changes: Any) -> Result:
    return simulate(from_mapping(merged(merged(BASE, {"cluster": {"router": router}}), changes)))


def queue_s(router: str, rate: float) -> float:
    """Mean queueing time (s) of instances that serve one request at a time."""
    result = run(router, engine={"max_num_seqs": 1}, workload={"arrivals": {"rate": rate}})
    assert result.summary.latency.queue_s.mean is not None
    return result.summary.latency.queue_s.mean


def test_the_more_a_router_knows_the_less_one_waits() -> None:
    alone = run("round-robin", engine={"max_num_seqs": 1}, workload={"arrivals": {"rate": 0.5}})
    service_s = alone.summary.latency.e2e_s.mean
    assert service_s is not None
    waits = {
        policy: queue_s(policy, 8 * 0.8 / service_s) / service_s
        for policy in ("random", "round-robin", "power-of-two", "least-requests", "shortest-queue")
    }
    # Of eight M/M/1 queues at 80 % load one waits four service times, of one M/M/8 queue 0.19 (Erlang C).
    assert waits["random"] == pytest.approx(4.0, rel=0.35)
    assert waits["random"] > waits["round-robin"] > waits["power-of-two"] > waits["least-requests"]
    assert waits["least-requests"] > waits["shortest-queue"] > 0.19 * 0.6


@pytest.mark.parametrize(
    "router",
    [
        "random",
        "least-requests",
        "least-tokens",
        "least-kv",
        "power-of-two",
        "shortest-queue",
        "session-affinity",
        "prefix-aware",
        "slo-aware",
        "pd-pair",
        {"policy": "cost-aware", "options": {"ttft": "1s"}},
        {"policy": "weighted", "options": {"weights": {"serve": 2}}},
    ],
)
def test_every_policy_serves_everybody_and_does_it_again(router: Any) -> None:
    few = {"workload": {"num_requests": 200}}
    one, other = run(router, **few), run(router, **few)
    assert one.summary.requests.finished == 200
    assert one.summary.to_dict() == other.summary.to_dict()


def test_prefix_aware_routing_finds_what_round_robin_misses() -> None:
    base = copy.deepcopy(BASE)
    base["workload"] |= {"sessions": {"rounds": 5, "count": 120, "think_time": "2s"}}
    del base["workload"]["num_requests"]
    base["workload"]["arrivals"]["rate"] = 6

    def share(router: str) -> float:
        result = simulate(from_mapping(merged(base, {"cluster": {"router": router}})))
        return result.summary.tokens.cached_share or 0.0

    blind = share("round-robin")
    assert share("prefix-aware") > 2 * blind
    assert share("session-affinity") > 2 * blind


def test_a_stale_router_herds() -> None:
    fresh = run("least-tokens")
    stale = run({"policy": "least-tokens", "staleness": "2s"})
    one, other = (result.summary.latency.ttft_s.p99 or 0.0 for result in (fresh, stale))
    assert other > 2 * one
    itself = run({"policy": "least-requests", "staleness": "2s"})
    assert itself.summary.to_dict() == run("least-requests").summary.to_dict(), "it counts requests itself"


def test_a_cap_on_work_in_the_cluster_is_kept() -> None:
    result = run(
        "least-requests", cluster={"admission": {"max_outstanding": 16}}, workload={"arrivals": {"rate": 400}}
    )
    requests = result.log.requests
    inside = np.concatenate([requests.scheduled_s, requests.finish_s])
    change = np.concatenate([np.ones(1500), -np.ones(1500)])
    order = np.lexsort((change, inside))
    assert change[order].cumsum().max() == 16
    assert result.summary.requests.finished == 1500


def test_tenants_get_what_they_weigh() -> None:
    admission = {"max_outstanding": 16, "order": "fair", "tenants": {1: {"weight": 3}}}
    load = {"arrivals": {"rate": 1e6}, "tenants": 2, "output_tokens": 60}
    fair = run("least-requests", cluster={"admission": admission}, workload=load)
    requests = fair.log.requests
    assert requests.tenant is not None
    half = np.argsort(requests.scheduled_s)[:600]
    share = (requests.tenant[half] == 1).mean()
    assert share == pytest.approx(0.75, abs=0.02), "three of four while both wait"
    tenants = fair.summary.tenants
    assert tenants is not None and [t.tenant for t in tenants.tenants] == [0, 1]
    assert sum(t.requests for t in tenants.tenants) == 1500


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"router": {"policy": "least-request"}}, "least-requests"),
        ({"router": {"policy": "prefix-aware", "options": {"cache_treshold": 1}}}, "cache_threshold"),
        ({"router": {"policy": "round-robin", "options": {"x": 1}}}, "it has none"),
        ({"router": {"policy": "weighted"}}, "weights"),
        ({"router": {"policy": "weighted", "options": {"weights": {"serv": 1}}}}, "did you mean 'serve'"),
        ({"router": {"policy": "prefix-aware", "options": {"cache_threshold": 7}}}, "0 to 1"),
        ({"admission": {"order": "fare"}}, "fair"),
        ({"admission": {"limits": {"request_burst": 3}}}, "requests_per_s"),
        ({"admission": {"max_outstanding": 0}}, "at least 1"),
        ({"admission": {"tenants": {"a": {}}}}, "whole number"),
    ],
)
def test_slips_are_refused_with_what_would_be_right(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        simulate(from_mapping(merged(BASE, {"cluster": changes})))


@pytest.mark.parametrize("policy", register.local_scheduler.names())
def test_loads_are_exact_over_every_local_scheduler(policy: str) -> None:
    spec = merged(
        BASE,
        {
            "cluster": {
                "router": "shortest-queue",
                "pools": [{**BASE["cluster"]["pools"][0], "replicas": 3}],
            },
            "engine": {"policy": policy, "num_gpu_blocks": 400, "max_num_seqs": 16, "max_model_len": 1024},
            "workload": {"num_requests": 120, "predicted_tokens": "oracle"},
        },
    )
    one, other = (simulate(from_mapping(spec), exact_steps=exact) for exact in (False, True))
    assert one.log.requests.instance.tolist() == other.log.requests.instance.tolist()
    np.testing.assert_allclose(one.log.requests.finish_s, other.log.requests.finish_s, rtol=1e-9)
