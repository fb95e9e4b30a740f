"""KV on its way over links, worked out by hand: steps of a second, and bytes that share a port."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from axis import workload
from test_handover import cluster

from tokensim.engine.mover import NetworkMover
from tokensim.engine.passage import Terms
from tokensim.engine.topology import DEVICE_LINK_EFFICIENCY, Placement, Topology
from tokensim.hardware import load_device
from tokensim.hardware.base import Link
from tokensim.metrics.log import RunLog
from tokensim.metrics.transfers import link_shares, transfer_totals
from tokensim.scheduling.cluster import PdPair

PORT = Link("port", 2.0, 0.0, efficiency=1.0)
DEVICE = replace(load_device("h100-sxm-80gb"), intra_node=Link("mesh", 1e9, 0.0), inter_node=PORT)
BOTH = pytest.mark.parametrize("exact_steps", [True, False], ids=["walked", "runs"])


def served(
    roles: tuple[str, ...], *, exact_steps: bool = False, placement: Placement = "spread", outputs: int = 3
) -> RunLog:
    """Two requests of 4 tokens, a byte each, that arrive together."""
    blocks = (100,) * len(roles)
    made = cluster(
        workload([0.0, 0.0], [outputs] * 2), Terms(1.0), roles=roles, blocks=blocks, exact_steps=exact_steps
    )
    topology = Topology(made.network.add_link, placement)
    for replica in made.replicas:
        replica.place = topology.place(f"{replica.role}-{replica.index}", DEVICE, 1)
    assert made.handover is not None
    made.handover.mover = NetworkMover(made.network, topology)
    return made.run()


@BOTH
def test_two_prompts_from_one_port_take_twice_as_long(exact_steps: bool) -> None:
    """Both are computed at 1 s; 8 bytes leave at 2 a second; two more tokens from 5 s on."""
    log = served(("prefill", "decode"), exact_steps=exact_steps)
    assert log.requests.first_token_s.tolist() == [1.0, 1.0]
    assert log.requests.finish_s.tolist() == [7.0, 7.0]


@BOTH
def test_another_decode_instance_does_not_widen_the_port_that_both_leave_through(exact_steps: bool) -> None:
    log = served(("prefill", "decode", "decode"), exact_steps=exact_steps)
    assert log.requests.finish_s.tolist() == [7.0, 7.0]
    assert sorted(log.requests.instance.tolist()) == [1, 2]


@BOTH
def test_pairs_of_instances_have_ports_of_their_own(exact_steps: bool) -> None:
    log = served(("prefill", "prefill", "decode", "decode"), exact_steps=exact_steps)
    assert log.requests.finish_s.tolist() == [5.0, 5.0]


def test_in_one_node_the_port_is_not_used() -> None:
    log = served(("prefill", "decode"), placement="packed")
    assert log.requests.finish_s.tolist() == [pytest.approx(3.0)] * 2
    assert {link.name for link in log.links if link.bytes} == {"prefill-0 out, mesh", "decode-1 in, mesh"}


def test_transfers_and_links_are_accounted_for() -> None:
    log = served(("prefill", "decode"))
    rows = log.transfers
    assert rows is not None
    assert (rows.start_s.tolist(), rows.end_s.tolist()) == ([1.0, 1.0], [5.0, 5.0])
    assert (rows.bytes.tolist(), rows.arrived.tolist()) == ([4.0, 4.0], [True, True])
    assert (rows.source.tolist(), rows.target.tolist(), rows.kinds) == ([0, 0], [1, 1], ("kv",))
    (total,) = transfer_totals(rows)
    assert (total.kind, total.count, total.cancelled, total.bytes, total.seconds.mean) == (
        "kv",
        2,
        0,
        8.0,
        4.0,
    )
    into, out = link_shares(log.links, makespan_s=8.0)
    assert (into.name, out.name) == ("decode-1 in, port", "prefill-0 out, port")
    assert (out.bytes, out.busy_share, out.used_share, out.peak_transfers) == (8.0, 0.5, 0.5, 2)


def test_where_nothing_was_sent_nothing_is_told() -> None:
    log = served(("mixed", "mixed"))
    assert log.transfers is None
    assert log.links == ()


def test_pd_pair_takes_the_decode_instance_in_the_node_of_the_prefill() -> None:
    """Two devices a node: prefill and one decode instance share the second node; the first in line is far."""
    made = cluster(
        workload([0.0, 9.0], [3, 3]), Terms(1.0), roles=("decode", "prefill", "decode"), blocks=(99,) * 3
    )
    topology = Topology(made.network.add_link, "packed")
    device = replace(DEVICE, devices_per_node=2)
    for replica, devices in zip(made.replicas, (2, 1, 1), strict=True):
        replica.place = topology.place(f"{replica.role}-{replica.index}", device, devices)
    assert made.handover is not None
    mover = made.handover.mover = NetworkMover(made.network, topology)
    far, prefill, near = made.replicas
    assert mover.way(prefill, far) == (0.0, 0.5)
    assert mover.way(prefill, near)[1] == pytest.approx(1 / (1e9 * DEVICE_LINK_EFFICIENCY))
    made.loads.transfer = mover.way
    router = made.handover.router = PdPair()
    made.loads.serve(router)
    assert set(made.run().requests.instance.tolist()) == {near.index}
    topology.free(near.place)
    assert mover.way(prefill, near)[0] == math.inf
