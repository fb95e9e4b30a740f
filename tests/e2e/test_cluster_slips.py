"""Plausible mistakes in the sections about a cluster: each is refused before anything runs, and says where it
is and what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from tokensim import InputError, register, simulate
from tokensim.scenario import from_mapping

POOL = {"hardware": "h100-sxm-80gb", "replicas": 2}
SLIPS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a number in words": (
        {"cluster": {"router": {"policy": "prefix-aware", "options": {"cache_threshold": "high"}}}},
        "cluster.router.options.cache_threshold: 'high' is no number",
        "the default is 0.3",
    ),
    "an option that a router needs": (
        {"cluster": {"router": "cost-aware"}},
        "the router 'cost-aware' needs the option 'ttft'",
        "options: {ttft: …}",
    ),
    "a replica that never is": (
        {"cluster": {"failures": [{"pool": "serve", "at": 2, "replica": 7}]}},
        "failures[0].replica is 7, and pool 'serve' has 2",
        "from 0 to 1",
    ),
    "a throttle for good": (
        {"cluster": {"throttles": [{"pool": "serve", "at": 1, "max_running": 0}]}},
        "no request would ever run again",
        "give a duration",
    ),
    "a schedule with a bound": (
        {
            "cluster": {
                "pools": [
                    {
                        **POOL,
                        "autoscale": {"policy": "schedule", "max": 3, "schedule": [{"at": 5, "replicas": 1}]},
                    }
                ]
            }
        },
        "the policy schedule takes no max",
        "schedule says how many",
    ),
    "an order without a queue": (
        {"cluster": {"admission": {"order": "fair"}}},
        "cluster.admission.order: the order is 'fair', but nobody ever waits",
        "give max_outstanding",
    ),
    "a timeout without a queue": (
        {"cluster": {"admission": {"queue_timeout": 3}}},
        "queue_timeout is given, but nobody ever waits",
        "give max_outstanding",
    ),
    "a rejection without a limit": (
        {"cluster": {"admission": {"over_limit": "reject"}}},
        "over_limit is given, but nobody has a limit",
        "limits: {requests_per_s: 10}",
    ),
    "predictions that nobody makes": (
        {"engine": {"policy": "sjf", "policy_options": {"lengths": "predicted"}}},
        "engine.policy_options: the policy goes by predicted lengths, and 4 of 4 requests have none",
        "predicted_tokens: oracle",
    ),
    "lengths of another type": (
        {"engine": {"policy": "sjf", "policy_options": {"lengths": True}}},
        "engine.policy_options.lengths: unknown lengths True",
        "actual, predicted",
    ),
    "a weight for a name": (
        {"engine": {"policy": "fair", "policy_options": {"weights": {"acme": 2}}}},
        "engine.policy_options.weights: weights is {'acme': 2}",
        "by number",
    ),
    "a tier without room": (
        {"memory": {"tiers": [{"kind": "host", "capacity": "1MB"}]}},
        "1,000,000 bytes does not hold one block of 16 tokens (2,097,152 bytes)",
        "at least 2097152",
    ),
    "loads beside the steps of a pipeline": (
        {
            "cluster": {"pools": [{**POOL, "parallel": {"pipeline": 2}}]},
            "memory": {"tiers": [{"kind": "host", "capacity": "64GiB"}], "load": "overlap"},
        },
        "memory.load: the stages of a pipeline do not load KV beside their steps",
        "load: async",
    ),
    "a section in the wrong place": (
        {"engine": {"memory": {}}},
        "engine.memory: unknown key",
        "stands at the top of the scenario",
    ),
    "a key of another section": (
        {"startup": "3s"},
        "startup: unknown key",
        "did you mean 'cluster.pools[0].startup'?",
    ),
    "a rank that is not listed": (
        {"engine": {"lora": {"max_lora_rank": 7}}},
        "engine.lora.max_lora_rank: unknown value 7",
        "known: 1, 8, 16, 32, 64, 128, 256, 320, 512",
    ),
    "a hook that nobody registered": ({"hooks": ["mine"]}, "unknown hook 'mine'", "load a plug-in"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_refused_with_what_would_be_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register.hook, "_parts", {})  # other tests register some
    changes, said, hint = SLIPS[name]
    tree = {
        "model": "meta-llama/Llama-3.1-8B",
        "performance": {"operators": "roofline"},
        "workload": {
            "arrivals": {"process": "constant", "rate": 5},
            "input_tokens": 100,
            "output_tokens": 2,
            "num_requests": 4,
        },
        **changes,
        "cluster": {"pools": [POOL], **changes.get("cluster", {})},
    }
    with pytest.raises(InputError) as refused:
        simulate(from_mapping(tree, "scenario"))
    assert said in str(refused.value)
    assert hint in (refused.value.hint or "")


def test_a_replica_that_comes_later_may_be_named() -> None:
    cluster = {
        "pools": [POOL],
        "failures": [{"pool": "serve", "at": 2, "replica": 0}, {"pool": "serve", "at": 3, "replica": 2}],
    }
    tree = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": cluster,
        "performance": {"operators": "roofline"},
        "workload": {
            "arrivals": {"process": "constant", "rate": 5},
            "input_tokens": 100,
            "output_tokens": 2,
            "num_requests": 20,
        },
    }
    done = simulate(from_mapping(tree, "scenario")).summary.operations
    assert done is not None and done.failures == 2


def test_the_price_that_a_pool_has_here_is_the_one_that_a_router_sees() -> None:
    pools = [
        {"name": "own", "hardware": "h100-sxm-80gb", "price_per_hour": 0.5},
        {"name": "rented", "hardware": "l4"},
    ]
    tree = {
        "model": "meta-llama/Llama-3.1-8B",
        "cluster": {"pools": pools, "router": {"policy": "cost-aware", "options": {"ttft": "1s"}}},
        "performance": {"operators": "roofline"},
        "workload": {
            "arrivals": {"process": "constant", "rate": 1},
            "input_tokens": 100,
            "output_tokens": 2,
            "num_requests": 4,
        },
    }
    requests = simulate(from_mapping(tree, "scenario")).log.requests
    assert requests.instance.tolist() == [0, 0, 0, 0], "the H100 is faster and, here, cheaper"
