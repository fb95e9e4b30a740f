"""Where instances lie and what connects them: devices in nodes, nodes in a cluster, hosts beside devices.

An instance takes devices of one node side by side, or whole nodes if it needs more than one holds. A device
has a link to the others of its node, one to its host, and a port to other nodes (or all devices of the node
share one); the links of an instance's devices carry its transfers together, as each rank moves its own part
of the KV. So an instance has six links, out and in of each kind, and a transfer between two of them crosses

- in one node: the link out of the source and the link in of the target;
- between nodes: the port out, the spine if there is one, the port in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Literal, NamedTuple

from tokensim.engine.network import LinkSpec
from tokensim.errors import SimulationError
from tokensim.hardware.base import Device, Link

Placement = Literal["packed", "spread", "by-pool"]

DEVICE_LINK_EFFICIENCY = 0.88
"""Share of NVLink and of PCIe that a copy reaches: nvbandwidth shows 395 of 450 GB/s between H100s and 55.6
of 63 GB/s from the host to one (published outputs of that tool)."""

NETWORK_EFFICIENCY = 0.92
"""Share of a port between nodes. NIXL moves 42.6 of 50 GB/s over 400 Gb/s RoCE (ai-dynamo/nixl pull request
1647) and 24.4 of 25 GB/s over two ports of 100 Gb/s (LMCache/LMCache pull request 4161); NCCL 46 to 48 of 50
(NVIDIA/nccl-tests issue 290)."""


class Path(NamedTuple):
    """What ``Network.send`` needs to know of a way."""

    links: tuple[int, ...]
    latency_s: float
    most_bytes_per_s: float = inf


@dataclass(eq=False, slots=True)
class Node:
    """``free`` of its devices are not taken; the port of a node whose devices share one."""

    kind: tuple[object, ...]
    name: str
    free: int
    port_out: int = -1
    port_in: int = -1


@dataclass(eq=False, slots=True)
class Place:
    """The devices of one instance: how many on which node; its links by index, and what they reach together,
    bytes/s. ``lanes`` devices hold the KV of any one request."""

    name: str
    device: Device
    devices: int
    lanes: int
    nodes: dict[Node, int]
    out: dict[str, int] = field(default_factory=dict)
    """Links that lead away from the devices: ``node``, ``network``, ``host``."""
    into: dict[str, int] = field(default_factory=dict)
    """Links that lead to them, likewise."""

    @property
    def node(self) -> Node | None:
        """The node that all of it lies on; None: there are several."""
        return next(iter(self.nodes)) if len(self.nodes) == 1 else None


class Topology:
    """The nodes of a cluster, and places on them.

    ``add_link`` gives the index of a new link (``Network.add_link``). ``spine`` (bytes/s, seconds) is crossed
    by all that goes between nodes; None: it is wide enough for all.
    """

    def __init__(
        self,
        add_link: Callable[[LinkSpec], int],
        placement: Placement = "packed",
        spine: tuple[float, float] | None = None,
    ) -> None:
        self.placement = placement
        self.nodes: list[Node] = []
        self._add_link = add_link
        self._spine: tuple[int, ...] = ()
        self._spine_latency_s = 0.0
        if spine is not None:
            self._spine = (add_link(LinkSpec("cluster", spine[0])),)
            self._spine_latency_s = spine[1]

    def place(
        self, name: str, device: Device, devices: int, *, pool: str = "", lanes: int | None = None
    ) -> Place:
        """Put an instance of ``devices`` devices on the first nodes with room for it; a new one if need be.

        ``lanes``: devices that hold the KV of one request, where that is not all of them (data-parallel
        ranks).
        """
        kind = _kind(device, pool if self.placement == "by-pool" else "")
        whole, rest = divmod(devices, device.devices_per_node)
        nodes: dict[Node, int] = {}
        for count in [device.devices_per_node] * whole + [rest] * (rest > 0):
            node = self._with_room(kind, device, count, nodes)
            nodes[node] = count
            node.free -= count
        place = Place(name, device, devices, devices if lanes is None else lanes, nodes)
        self._connect(place)
        return place

    def free(self, place: Place) -> None:
        """The devices of ``place`` may be taken again. Its links stay in the account."""
        for node, count in place.nodes.items():
            node.free += count
        place.nodes.clear()

    def path(self, source: Place, target: Place) -> Path:
        """From the devices of ``source`` to those of ``target``; within one place nothing is crossed."""
        if source is target:
            return Path((), 0.0)
        if not (source.nodes and target.nodes):
            gone = target if source.nodes else source
            raise SimulationError(f"a transfer from {source.name} to {target.name}: {gone.name} is gone")
        if source.node is not None and source.node is target.node:
            return _path(source, target, "node", (), 0.0)
        return _path(source, target, "network", self._spine, self._spine_latency_s)

    def to_host(self, place: Place) -> Path:
        """From the devices of ``place`` to the memory of their host (of each node its own)."""
        return _end(place, place.out, "host")

    def from_host(self, place: Place) -> Path:
        """From the memory of the host to the devices."""
        return _end(place, place.into, "host")

    def to_network(self, place: Place) -> Path:
        """From the devices out of their node, to something that lies on no node."""
        path = _end(place, place.out, "network")
        return Path(path.links + self._spine, path.latency_s + self._spine_latency_s, path.most_bytes_per_s)

    def from_network(self, place: Place) -> Path:
        """From something that lies on no node to the devices."""
        path = _end(place, place.into, "network")
        return Path(self._spine + path.links, path.latency_s + self._spine_latency_s, path.most_bytes_per_s)

    def _with_room(
        self, kind: tuple[object, ...], device: Device, count: int, taken: dict[Node, int]
    ) -> Node:
        whole = device.devices_per_node
        for node in self.nodes:
            empty = node.free == whole
            room = empty if self.placement == "spread" else node.free >= count
            if node.kind == kind and room and node not in taken:
                return node
        node = Node(kind, f"node-{len(self.nodes)}", whole)
        if device.inter_node.shared:
            reached = reached_bytes_per_s(device, "network") * whole
            node.port_out = self._add_link(LinkSpec(f"{node.name} out, {device.inter_node.name}", reached))
            node.port_in = self._add_link(LinkSpec(f"{node.name} in, {device.inter_node.name}", reached))
        self.nodes.append(node)
        return node

    def _connect(self, place: Place) -> None:
        for way, link in _links(place.device).items():
            if way == "network" and place.node is not None and link.shared:
                place.out[way], place.into[way] = place.node.port_out, place.node.port_in
                continue
            parts = place.devices
            if way == "network" and link.shared:  # all ports of its nodes
                parts = place.device.devices_per_node * len(place.nodes)
            reached = reached_bytes_per_s(place.device, way) * parts
            out, into = ("to host", "from host") if way == "host" else ("out", "in")
            place.out[way] = self._add_link(LinkSpec(f"{place.name} {out}, {link.name}", reached))
            place.into[way] = self._add_link(LinkSpec(f"{place.name} {into}, {link.name}", reached))


def reached_bytes_per_s(device: Device, way: str) -> float:
    """What transfers reach on the link of one ``device`` to the others of its ``node``, the ``network``, or
    its ``host``."""
    link = _links(device)[way]
    usual = NETWORK_EFFICIENCY if way == "network" else DEVICE_LINK_EFFICIENCY
    return link.bandwidth_bytes_per_s * (usual if link.efficiency is None else link.efficiency)


def _links(device: Device) -> dict[str, Link]:
    return {"node": device.intra_node, "network": device.inter_node, "host": device.host_link}


def _kind(device: Device, pool: str) -> tuple[object, ...]:
    """What instances on one node have in common."""
    links = device.intra_node, device.inter_node, device.host_link
    return (device.id, device.devices_per_node, *links, pool)


def _path(source: Place, target: Place, way: str, between: tuple[int, ...], latency_s: float) -> Path:
    links = _links(source.device)[way], _links(target.device)[way]
    return Path(
        (source.out[way], *between, target.into[way]),
        max(link.latency_s for link in links) + latency_s,
        min(_most(source, way), _most(target, way)),
    )


def _end(place: Place, links: dict[str, int], way: str) -> Path:
    return Path((links[way],), _links(place.device)[way].latency_s, _most(place, way))


def _most(place: Place, way: str) -> float:
    """What the devices that hold a request can do; a device has all of a port that it shares."""
    if place.lanes == place.devices or (way == "network" and place.device.inter_node.shared):
        return inf
    return place.lanes * reached_bytes_per_s(place.device, way)
