"""From the network section of a scenario to steps that take longer and instances that lie elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from tokensim import Scenario, simulate
from tokensim.assemble.cluster import place_of, topology_of
from tokensim.engine.agenda import Agenda
from tokensim.engine.network import Network
from tokensim.errors import InputError
from tokensim.model import load_model
from tokensim.plan import PoolPlan, plan_pool


def scenario(pool: dict[str, Any] | None = None, **network: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {"pools": [{"hardware": "h100-sxm-80gb", **(pool or {})}], "network": network},
            "performance": {"operators": "builtin"},
            "workload": {
                "arrivals": "all-at-once",
                "input_tokens": 64,
                "output_tokens": 4,
                "num_requests": 3,
            },
        }
    )


def planned(given: Scenario) -> PoolPlan:
    return plan_pool(given, 0, load_model(given.model, "model"))


def decode_s(given: Scenario) -> float:
    return planned(given).cost.step_time(64, 64 * 1024.0, 0.0, 0.0, [], 64)


def test_steps_of_an_instance_across_nodes_wait_for_the_network() -> None:
    across = {"parallel": {"tensor": 8}, "hardware": {"base": "h100-sxm-80gb", "devices_per_node": 4}}
    fast, slow = (
        decode_s(scenario(across, inter_node=link)) for link in ("infiniband-ndr-400", "ethernet-25")
    )
    alone = decode_s(scenario({"parallel": {"tensor": 8}}, inter_node="ethernet-25"))
    assert alone < fast < slow


def test_links_inside_the_node_that_are_not_the_hardwares_own_take_their_own_time() -> None:
    pool = {"parallel": {"tensor": 2}}
    own, named, other = (
        decode_s(scenario(pool, **links))
        for links in ({}, {"intra_node": "nvlink-4"}, {"intra_node": "pcie-4x16"})
    )
    assert own == named < other


def test_a_pool_may_have_links_of_its_own_beside_those_of_the_cluster() -> None:
    device = planned(
        scenario({"network": {"inter_node": {"latency": "9us"}}}, inter_node="infiniband-hdr-200")
    ).device
    assert (device.inter_node.bandwidth_bytes_per_s, device.inter_node.latency_s) == (25e9, 9e-6)


def test_an_unknown_link_of_a_pool_is_refused_with_its_place() -> None:
    with pytest.raises(InputError, match="did you mean 'pcie-4x16'") as error:
        planned(scenario({"network": {"host": "pcie-4x"}}))
    assert error.value.where == "cluster.pools[0].network.host.preset"


def test_instances_are_placed_as_asked_and_a_rank_has_the_links_of_its_devices() -> None:
    given = scenario(
        {"parallel": {"tensor": 2, "data": 2}}, cluster={"bandwidth": "100Gb/s"}, placement="spread"
    )
    network = Network(Agenda())
    topology = topology_of(given.cluster.network, network)
    plan = planned(given)
    one, other = place_of(topology, plan, "serve-0"), place_of(topology, plan, "serve-1")
    links, _, most = topology.path(one, other)
    assert [network.links[link].name for link in links] == [
        "serve-0 out, NDR InfiniBand, a port a device",
        "cluster",
        "serve-1 in, NDR InfiniBand, a port a device",
    ]
    assert [network.links[link].capacity / 1e9 for link in links] == pytest.approx(
        [0.92 * 200, 12.5, 0.92 * 200]
    )
    assert most == pytest.approx(0.92 * 100e9)


def test_a_run_in_which_nothing_was_sent_says_nothing_of_links() -> None:
    summary = simulate(scenario(placement="spread")).summary.to_dict()
    assert summary["links"] is None
    assert summary["transfers"] is None


def test_the_network_stands_in_the_scenario_that_a_run_leaves() -> None:
    given = scenario(inter_node="ethernet-25", cluster={"bandwidth": "100Gb/s"}, placement="by-pool")
    again = simulate(given).scenario
    assert again.cluster.network == given.cluster.network
    assert Scenario.model_validate(again.model_dump()).cluster.network == given.cluster.network
