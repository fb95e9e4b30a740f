"""A device: what it can do, what it draws, what it costs; and where each number comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokensim.hardware.draw import DRAW, Draw


@dataclass(frozen=True, slots=True)
class Link:
    """A link of one device, in one direction; ``latency_s`` is one hop of a small message.

    ``direct``: every device of the node reaches every other in one hop (NVSwitch, full mesh), so that a
    collective needs no ring for small messages. ``shared``: the devices of a node share one port, and
    ``bandwidth_bytes_per_s`` is the part of one of them. ``efficiency`` is the share of the bandwidth that a
    transfer reaches (collectives have figures of their own); None: the usual of its kind.
    """

    name: str
    bandwidth_bytes_per_s: float
    latency_s: float
    direct: bool = False
    shared: bool = False
    efficiency: float | None = None


PCIE_5 = Link("PCIe 5.0 x16", 63e9, 1.5e-6)
"""16 lanes of 32 GT/s one way after 128b/130b coding (PCI Express Base Specification 5.0); latency as in the
catalog."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The share of a peak that kernels reach: ``gemm`` and ``attention`` of FLOP/s, ``memory`` of bytes/s.

    ``gemm_low_precision`` is the share of the fp8 and fp4 peaks (quantised GEMMs reach less of theirs); None:
    ``gemm``.
    """

    gemm: float
    attention: float
    memory: float
    kernel_overhead_s: float
    source: str
    gemm_low_precision: float | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator (or socket) as the scheduler sees it. SI units; dense peaks, no sparsity.

    ``intra_node``, ``inter_node`` and ``host_link`` lead to other devices of the node, to other nodes, and to
    the memory of the host. ``flops`` maps a compute dtype (``bfloat16``, ``float16``, ``fp8``, ``fp4``,
    ``int8``, ``float32``) to FLOP/s. ``sources`` maps a field (or ``*``) to the data sheet or page that the
    number was read from.
    ``profiles`` maps a source of measured operator times (``aiconfigurator``, ``llmservingsim``, ``vidur``,
    ``tokensim``) to the name that it gives to this device; a source that does not know it is absent.
    """

    id: str
    name: str
    vendor: str
    kind: str  # gpu | tpu | accelerator | cpu | pim
    architecture: str
    memory_bytes: float
    memory_bandwidth_bytes_per_s: float
    flops: dict[str, float]
    intra_node: Link
    inter_node: Link
    devices_per_node: int
    tdp_w: float
    idle_w: float
    price_per_hour_usd: float
    efficiency: Efficiency
    host_link: Link = PCIE_5
    sources: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    draw: Draw = DRAW
