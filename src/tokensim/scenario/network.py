"""What connects devices: inside a node, between nodes, and to the host; and how instances lie on nodes.

What is not given follows from the hardware. Names of links are checked where the catalog is known.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tokensim.scenario.section import Name, Number, Section
from tokensim.scenario.units import Bandwidth, Duration

PositiveBandwidth = Annotated[Bandwidth, Field(gt=0)]
Share = Annotated[Number, Field(gt=0, le=1)]


def _by_name(value: object) -> object:
    return {"preset": value} if isinstance(value, str) else value


class GivenLink(Section):
    """One kind of link, in each direction. Short form: the name of a preset."""

    preset: Name | None = None
    """A known link (see below), in place of the hardware's."""
    bandwidth: PositiveBandwidth | None = None
    """One way: `450GB/s`, `400Gb/s`. Null: that of the preset, or of the hardware."""
    latency: Duration | None = None
    """Of one hop. Null: that of the preset, or of the hardware."""
    efficiency: Share | None = None
    """The share of the bandwidth that transfers reach. Null: 0.88 on links of devices, 0.92 between nodes."""


class GivenPort(GivenLink):
    """A link that leaves the node."""

    per: Literal["device", "node"] | None = None
    """Only of `inter_node`: whether each device of a node has such a port, or all of them share one. Null: as
    the preset, or the hardware."""


DeviceLink = Annotated[GivenLink, BeforeValidator(_by_name)]
NodePort = Annotated[GivenPort, BeforeValidator(_by_name)]


class NodeNetwork(Section):
    """The links of the nodes of one pool."""

    intra_node: DeviceLink | None = None
    """Between devices of one node."""
    inter_node: NodePort | None = None
    """From a device to other nodes."""
    host: DeviceLink | None = None
    """Between a device and the memory of its host."""


class Spine(Section):
    """What all transfers between nodes share."""

    bandwidth: PositiveBandwidth
    """Of all of them together, each counted once."""
    latency: Duration = 0.0
    """Beside that of the ports."""


class Network(NodeNetwork):
    """The links of all pools, and where instances lie."""

    cluster: Spine | None = None
    """A spine that all transfers between nodes cross. Null: it is wide enough for all of them."""
    placement: Literal["packed", "spread", "by-pool"] = "packed"
    """`packed`: instances fill nodes in order, those of several pools on one node if their hardware is the
    same; `by-pool`: no two pools share a node; `spread`: no two instances do."""
