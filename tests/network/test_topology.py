"""Where instances lie, and the ways between them, on nodes with round numbers."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.engine.network import LinkSpec
from tokensim.engine.topology import Placement, Topology
from tokensim.errors import SimulationError
from tokensim.hardware import Device, Efficiency, Link

GB = 1e9
SIMPLE = Device(
    id="simple",
    name="Simple",
    vendor="nobody",
    kind="gpu",
    architecture="paper",
    memory_bytes=100 * GB,
    memory_bandwidth_bytes_per_s=1e12,
    flops={"bfloat16": 1e14},
    intra_node=Link("mesh", 100 * GB, 1e-6, direct=True, efficiency=1.0),
    inter_node=Link("port", 10 * GB, 3e-6, efficiency=1.0),
    devices_per_node=8,
    tdp_w=100.0,
    idle_w=10.0,
    price_per_hour_usd=1.0,
    efficiency=Efficiency(1.0, 1.0, 1.0, 0.0, "perfect"),
    host_link=Link("bus", 20 * GB, 2e-6, efficiency=0.5),
)
SHARED = replace(SIMPLE, inter_node=replace(SIMPLE.inter_node, shared=True))


class World:
    """A topology, and the links that it asked for."""

    def __init__(self, placement: Placement = "packed", spine: tuple[float, float] | None = None) -> None:
        self.links: list[LinkSpec] = []
        self.topology = Topology(self.add, placement, spine)

    def add(self, link: LinkSpec) -> int:
        self.links.append(link)
        return len(self.links) - 1

    def described(self, links: tuple[int, ...]) -> list[tuple[str, float]]:
        return [(self.links[i].name, self.links[i].bandwidth_bytes_per_s / GB) for i in links]


def test_in_one_node_a_transfer_leaves_one_instance_and_enters_the_other() -> None:
    world = World()
    a, b = (world.topology.place(name, SIMPLE, devices) for name, devices in (("a", 4), ("b", 2)))
    links, latency_s, most = world.topology.path(a, b)
    assert a.node is b.node is not None
    assert world.described(links) == [("a out, mesh", 400.0), ("b in, mesh", 200.0)]
    assert (latency_s, most) == (1e-6, inf)


def test_between_nodes_it_crosses_the_ports_of_all_devices_and_the_spine() -> None:
    world = World(spine=(25 * GB, 4e-6))
    a, b = (world.topology.place(name, SIMPLE, devices) for name, devices in (("a", 8), ("b", 2)))
    links, latency_s, _ = world.topology.path(a, b)
    assert world.described(links) == [("a out, port", 80.0), ("cluster", 25.0), ("b in, port", 20.0)]
    assert latency_s == pytest.approx(7e-6)


def test_devices_that_share_a_port_have_all_of_it_and_no_more() -> None:
    world = World()
    a, b, c = (
        world.topology.place(name, SHARED, devices) for name, devices in (("a", 4), ("b", 4), ("c", 1))
    )
    assert world.described(world.topology.path(a, c).links) == [
        ("node-0 out, port", 80.0),
        ("node-1 in, port", 80.0),
    ]
    assert world.topology.path(b, c).links == world.topology.path(a, c).links


def test_a_request_on_one_of_several_ranks_leaves_through_the_devices_of_that_rank() -> None:
    world = World()
    a = world.topology.place("a", SIMPLE, 8, lanes=2)
    b = world.topology.place("b", SIMPLE, 8)
    assert world.topology.path(a, b).most_bytes_per_s == world.topology.path(b, a).most_bytes_per_s == 20 * GB
    assert world.topology.to_host(a).most_bytes_per_s == 20 * GB
    shared = world.topology.place("shared", SHARED, 8, lanes=2)
    assert world.topology.to_network(shared).most_bytes_per_s == inf


def test_pools_on_different_hardware_take_the_longer_latency_and_never_share_a_node() -> None:
    world = World()
    slow = replace(SIMPLE, id="slow", inter_node=Link("slow port", 1 * GB, 20e-6))
    a, b = world.topology.place("a", SIMPLE, 1), world.topology.place("b", slow, 1)
    links, latency_s, _ = world.topology.path(a, b)
    assert world.described(links) == [("a out, port", 10.0), ("b in, slow port", 0.92)]
    assert latency_s == 20e-6


def test_the_way_to_the_host_and_out_of_the_cluster() -> None:
    world = World(spine=(25 * GB, 4e-6))
    a = world.topology.place("a", SIMPLE, 2)
    assert world.described(world.topology.to_host(a).links) == [("a to host, bus", 20.0)]
    assert world.described(world.topology.from_host(a).links) == [("a from host, bus", 20.0)]
    assert world.topology.to_host(a).latency_s == 2e-6
    assert world.described(world.topology.to_network(a).links) == [("a out, port", 20.0), ("cluster", 25.0)]
    assert world.described(world.topology.from_network(a).links) == [("cluster", 25.0), ("a in, port", 20.0)]


def test_within_one_place_nothing_is_crossed() -> None:
    world = World()
    a = world.topology.place("a", SIMPLE, 2)
    assert world.topology.path(a, a) == ((), 0.0, inf)


@pytest.mark.parametrize(
    ("placement", "nodes"),
    [("packed", [0, 0, 0, 1, 1]), ("by-pool", [0, 0, 1, 1, 0]), ("spread", [0, 1, 2, 3, 4])],
)
def test_instances_fill_nodes_in_order_as_the_placement_says(placement: Placement, nodes: list[int]) -> None:
    world = World(placement)
    pools = (("p", 3), ("p", 3), ("d", 2), ("d", 4), ("p", 1))
    places = [world.topology.place(str(i), SIMPLE, n, pool=pool) for i, (pool, n) in enumerate(pools)]
    assert [world.topology.nodes.index(place.node) for place in places if place.node] == nodes


def test_an_instance_never_straddles_nodes_that_could_hold_it() -> None:
    world = World()
    places = [world.topology.place(str(i), SIMPLE, 6) for i in range(2)]
    assert places[0].node is not places[1].node
    assert world.topology.place("small", SIMPLE, 2).node is places[0].node


def test_an_instance_larger_than_a_node_takes_whole_nodes_and_a_rest() -> None:
    world = World()
    wide = world.topology.place("wide", SIMPLE, 20)
    assert list(wide.nodes.values()) == [8, 8, 4]
    small = world.topology.place("small", SIMPLE, 4)
    assert small.node in wide.nodes
    assert world.described(world.topology.path(wide, small).links) == [
        ("wide out, port", 200.0),
        ("small in, port", 40.0),
    ]
    shared = world.topology.place("shared", SHARED, 16)
    assert world.described(world.topology.to_network(shared).links) == [("shared out, port", 160.0)]


def test_what_is_free_again_is_taken_again_and_nothing_is_sent_there() -> None:
    world = World()
    a, b = (world.topology.place(name, SIMPLE, 8) for name in ("a", "b"))
    node = a.node
    world.topology.free(a)
    with pytest.raises(SimulationError, match="from b to a: a is gone"):
        world.topology.path(b, a)
    assert world.topology.place("c", SIMPLE, 4).node is node


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=25),
    st.sampled_from(["packed", "spread", "by-pool"]),
)
def test_no_device_is_taken_twice_and_all_come_back(
    wanted: list[tuple[int, bool]], placement: Placement
) -> None:
    world = World(placement)
    standing = []
    for i, (devices, leaves) in enumerate(wanted):
        place = world.topology.place(str(i), SIMPLE, devices, pool=str(i % 2))
        assert sum(place.nodes.values()) == devices
        assert (place.node is not None) == (devices <= 8)
        if leaves:
            world.topology.free(place)
        else:
            standing.append(place)
        for node in world.topology.nodes:
            assert 8 - node.free == sum(other.nodes.get(node, 0) for other in standing)
            assert 0 <= node.free <= 8
