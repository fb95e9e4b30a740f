"""The ``memory`` section: what it takes, and what it refuses before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from tokensim import Scenario, simulate
from tokensim.engine.tier_setup import Site, TierBook
from tokensim.errors import InputError
from tokensim.hardware import load_device
from tokensim.model import load_model
from tokensim.plan import plan_pool
from tokensim.scenario.loading import from_mapping
from tokensim.scenario.memory import Memory

HOST = {"kind": "host", "capacity": "8GiB"}


def scenario(memory: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": "meta-llama/Llama-3.1-8B",
        "weights": "bfloat16",
        "cluster": {"pools": [{"hardware": "h100-sxm-80gb"}]},
        "performance": {"operators": "roofline"},
        "workload": {"arrivals": "all-at-once", "input_tokens": 100, "output_tokens": 2, "num_requests": 2},
        "memory": memory,
        **changes,
    }


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ({"tiers": [HOST, HOST]}, "both named 'host'"),
        ({"tiers": [{**HOST, "shared": True}, {**HOST, "name": "own"}]}, "put shared tiers last"),
        ({"tiers": [HOST], "granularity": "contiguous"}, "granularity is contiguous"),
        ({"tiers": [{**HOST, "granularity": "token", "block_tokens": 16}]}, "granularity is token"),
        ({"tiers": [{**HOST, "write_bandwidth": "1GB/s"}]}, "give bandwidth too"),
        ({"tiers": [{**HOST, "direct": True}]}, "no link at all"),
        ({"tiers": [{"kind": "host"}]}, "capacity"),
        ({"tiers": [{**HOST, "capacity": "0GB"}]}, "capacity"),
        ({"tiers": [{**HOST, "capasity": "1GB"}]}, "capasity: unknown key"),
        ({"load": "sometimes"}, "overlap"),
    ],
)
def test_what_cannot_be_is_refused(memory: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_mapping(scenario(memory), "test")


@pytest.mark.parametrize(
    ("memory", "changes", "where", "said"),
    [
        ({"tiers": [{**HOST, "policy": "lruu"}]}, {}, "memory.tiers[0].policy", "unknown eviction policy"),
        (
            {"tiers": [{**HOST, "capacity": "1MiB"}]},
            {},
            "memory.tiers[0].capacity",
            "does not hold one block",
        ),
        (
            {"tiers": [{**HOST, "write": "back", "block_tokens": 256}]},
            {},
            "memory.tiers[0].block_tokens",
            "evicts blocks of 16 tokens",
        ),
        ({"tiers": [HOST]}, {"engine": {"enable_prefix_caching": False}}, "memory.tiers", "by prefix"),
        ({"granularity": "token"}, {"engine": {"block_size": 32}}, "engine.block_size", "block_size is 32"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_its_path(
    memory: dict[str, Any], changes: dict[str, Any], where: str, said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        simulate(Scenario.model_validate(scenario(memory, **changes)))
    assert refused.value.where == where


def test_pools_that_share_a_tier_must_mean_the_same() -> None:
    shared = {**HOST, "kind": "remote", "name": "pool", "shared": True}
    pools = [
        {"name": name, "hardware": "h100-sxm-80gb", "parallel": {"tensor": tensor}}
        for name, tensor in (("one", 1), ("two", 2))
    ]
    good = scenario({"tiers": [shared]}, cluster={"pools": pools})
    (report,) = simulate(Scenario.model_validate(good)).summary.tiers or ()
    assert report.use.stores == 1
    pools[1]["memory"] = {"tiers": [{**shared, "capacity": "9GiB"}]}
    with pytest.raises(InputError, match="they differ") as refused:
        simulate(Scenario.model_validate(scenario({"tiers": [shared]}, cluster={"pools": pools})))
    assert refused.value.where == "cluster.pools[1].memory.tiers[0]"


def test_copies_take_the_lanes_between_tier_and_device() -> None:
    device = load_device("h100-sxm-80gb", "test")
    memory = Memory.model_validate(
        {
            "tiers": [
                HOST,
                {"kind": "ssd", "capacity": "80GiB"},
                {
                    "kind": "remote",
                    "capacity": "1TiB",
                    "shared": True,
                    "bandwidth": "100GB/s",
                    "direct": True,
                },
            ]
        }
    )
    book, site = TierBook(), Site(device, 2, 16, 131072.0)
    host, ssd, remote = book.levels(memory, site, "memory")
    other = book.levels(memory, site, "memory")[2]
    assert host.store.tier.capacity == 8 * 2**30 // (16 * 131072)
    (link,) = host.read
    assert link.bandwidth_bytes_per_s == pytest.approx(2 * 0.88 * 63e9, rel=0.01)  # two devices on PCIe 5.0
    assert [lane.bandwidth_bytes_per_s for lane in ssd.read] == [13e9, link.bandwidth_bytes_per_s]
    assert [lane.bandwidth_bytes_per_s for lane in ssd.write] == [6.6e9]  # it is in host memory already
    assert remote.read[0].bandwidth_bytes_per_s == 100e9
    assert remote.read[0] is other.read[0] and remote.store is other.store
    assert remote.read[1] is not other.read[1]  # each instance has its own port
    assert [level.latency_s for level in (host, ssd)] == [device.host_link.latency_s, 82e-6]


@pytest.mark.parametrize(
    ("granularity", "block_size", "requests"), [("token", 1, 0), ("contiguous", 8192, 1)]
)
def test_granularity_is_the_size_of_a_block(granularity: str, block_size: int, requests: int) -> None:
    given = Scenario.model_validate(scenario({"granularity": granularity}, engine={"max_model_len": 8192}))
    usual = Scenario.model_validate(scenario({}, engine={"max_model_len": 8192}))
    model = load_model(given.model, "model")
    plan, other = plan_pool(given, 0, model), plan_pool(usual, 0, model)
    assert plan.engine.block_size == plan.limits.block_size == block_size
    tokens = (other.limits.num_gpu_blocks or 0) * 16
    assert plan.limits.num_gpu_blocks - requests == pytest.approx(tokens / block_size, abs=16)


def test_reserving_the_longest_request_for_each_admits_few() -> None:
    engine = {"max_model_len": 16384}
    long = {"arrivals": "all-at-once", "input_tokens": 200, "output_tokens": 200, "num_requests": 200}
    runs = [
        simulate(Scenario.model_validate(scenario({"granularity": g}, engine=engine, workload=long))).summary
        for g in ("block", "contiguous")
    ]
    assert runs[0].usage.batch_max == 200
    assert runs[1].usage.batch_max < 30
    assert runs[1].makespan_s > 3 * runs[0].makespan_s
