"""Collectives by latency and bandwidth: algorithms that are straight lines in bytes; the best one is taken.

An algorithm that moves a buffer of S bytes takes ``fixed + S · per_byte``: kernels and hops that wait for one
another, then traffic over the slowest link at the share of its bandwidth that real libraries reach. More
ranks than a node holds run hierarchically: inside the node, across nodes, inside again; each device uses its
own port to the network. So does NCCL's tree, the choice for two nodes (its maintainer in NVIDIA/nccl-tests
issue 196), in chunks: hops add up, but while one chunk crosses the network, others move inside, and the
slower of the two decides; 248 nodes of 8 H200 reach 350 GB/s of bus bandwidth (issue 283 there), this says
303. Textbook costs: Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in
MPICH" (2005).

Against measured tables (aiconfigurator-core 0.12: vLLM's all-reduce in CUDA graphs, NCCL's three others; 2 KB
to 268 MB, 2 to 8 devices) the median error over all four is 16 to 21 % on A100, H100, H200, B200, B300,
GB200, GB300 and RTX PRO 6000, and 37 % on L40S, whose server has far slower paths between its sockets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tokensim.cost.base import Origin, RowTime
from tokensim.hardware.base import Device, Link
from tokensim.model.operators import Collective
from tokensim.workload.base import Floats

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]

CUSTOM_BASE_S = 4.5e-6
"""One kernel that reads its peers' buffers, besides one hop: vLLM's all-reduce of 2 KB in a CUDA graph takes
4.3 µs on two H100, 5.0 on A100 and GB200, 7.0 on B200, 4.5 on RTX PRO 6000 (aiconfigurator-core 0.12)."""

TWO_SHOT_BASE_S = 9e-6
"""The same kernel in two phases with a barrier between: what is left of 0.5 to 1 MB on 4 and 8 devices less
its traffic; 7 to 9 µs on H100, 10 to 14 on A100 (same tables)."""

CUSTOM_EFFICIENCY = 0.5
"""Share of a link that such a kernel reaches between 1 and 8 MB: 0.6 to 0.7 on H100 and A100, 0.4 to 0.6 on
GB200 and B200 (same tables)."""

ONE_SHOT_BYTES_PER_S = 200e9
"""What one device reads of its peers in the one-shot kernel at most, whatever the link: 210 GB/s on A100, 260
on H100, 140 to 220 on B200 and GB200 (same tables): it runs on a part of the device."""

LIBRARY_BASE_S = 7e-6
"""A collective of NCCL besides its hops: 2 KB on 2, 4 and 8 devices, extrapolated to no hop: 4.3 µs on H100
and RTX PRO 6000, 7.5 to 8.2 on A100, B200 and GB200 (same tables)."""

LIBRARY_HOP_S = 0.6e-6
"""What a hop of NCCL's ring takes besides the latency of a direct link: 0.4 µs on H100 to 0.8 on B200 (the
slope of the above in hops; a PCIe link's catalog latency holds it already)."""

ALL_TO_ALL_BASE_S = 3e-6
"""What NCCL's all-to-all (grouped sends) of 2 KB to 64 KB takes more than a ring of one hop (same tables)."""

LINK_EFFICIENCY = 0.6
"""Share of a link that NCCL reaches between 16 and 268 MB: 0.55 to 0.75 on direct links, 0.5 to 0.62 between
two devices over PCIe (same tables)."""

SHARED_LINK_EFFICIENCY = 0.42
"""The same for more than two devices whose links are not direct: PCIe switches and host bridges are shared.
0.36 to 0.48 on 4 and 8 RTX PRO 6000 (same tables)."""

NETWORK_EFFICIENCY = 0.92
"""Share of a network port: 46 to 48 GB/s of a 400 Gb/s port are to be expected, says a maintainer in
NVIDIA/nccl-tests issue 290."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """``fixed_s + bytes · byte_s`` seconds; ``name`` for people."""

    name: str
    fixed_s: float
    byte_s: float


def one_shot_all_reduce(ranks: int, link: Link) -> Algorithm:
    """Every rank reads the whole buffer of every other and adds up: one hop, (p - 1) · S."""
    rate = min(link.bandwidth_bytes_per_s * _custom_efficiency(link), ONE_SHOT_BYTES_PER_S)
    return Algorithm("one-shot", CUSTOM_BASE_S + link.latency_s, (ranks - 1) / rate)


def two_shot_all_reduce(ranks: int, link: Link) -> Algorithm:
    """Every rank reduces one slice of all, then reads the others' slices: two hops, 2 (p - 1) / p · S."""
    rate = link.bandwidth_bytes_per_s * _custom_efficiency(link)
    return Algorithm("two-shot", TWO_SHOT_BASE_S + 2 * link.latency_s, 2 * (ranks - 1) / ranks / rate)


def ring_all_reduce(ranks: int, link: Link, efficiency: float) -> Algorithm:
    """Reduce-scatter, then all-gather, around a ring: 2 (p - 1) hops, 2 (p - 1) / p · S."""
    rate = link.bandwidth_bytes_per_s * efficiency
    return Algorithm("ring", 2 * (ranks - 1) * _hop_s(link), 2 * (ranks - 1) / ranks / rate)


def tree_all_reduce(ranks: int, link: Link, efficiency: float) -> Algorithm:
    """Up a binary tree and down again, pipelined: 2 log2(p) hops, 2 · S."""
    rate = link.bandwidth_bytes_per_s * efficiency
    return Algorithm("tree", 2 * math.ceil(math.log2(ranks)) * _hop_s(link), 2 / rate)


def ring_gather(ranks: int, link: Link, efficiency: float) -> Algorithm:
    """All-gather (or, backwards, reduce-scatter) of a whole buffer of S around a ring: p - 1 hops,
    (p - 1) / p · S."""
    rate = link.bandwidth_bytes_per_s * efficiency
    return Algorithm("ring", (ranks - 1) * _hop_s(link), (ranks - 1) / ranks / rate)


def direct_exchange(ranks: int, link: Link, efficiency: float) -> Algorithm:
    """All-to-all: every rank sends each other its slice of S, all at once: one hop, (p - 1) / p · S."""
    rate = link.bandwidth_bytes_per_s * efficiency
    return Algorithm("direct", ALL_TO_ALL_BASE_S + _hop_s(link), (ranks - 1) / ranks / rate)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a collective: the fastest of ``choices`` for ``share`` of the bytes."""

    choices: tuple[Algorithm, ...]
    share: float

    def seconds(self, size: Floats) -> Floats:
        """Seconds for each buffer ``size`` of the whole collective."""
        lines = [choice.fixed_s + choice.byte_s * self.share * size for choice in self.choices]
        return np.asarray(np.minimum.reduce(lines))

    def best(self, size: float) -> str:
        """The name of the algorithm that is taken for ``size`` bytes."""
        return min(self.choices, key=lambda c: c.fixed_s + c.byte_s * self.share * size).name


START = Stage((Algorithm("start", LIBRARY_BASE_S, 0.0),), 0)
"""What a collective of a library takes before anything moves."""


def collective_stages(kind: Kind, ranks: int, device: Device) -> tuple[Stage, ...]:
    """The stages of a collective, by the bytes that ``Collective.bytes_per_row`` counts: what a rank holds
    (all_reduce, reduce_scatter), contributes (all_gather), or sends in sum (all_to_all).

    One rank needs none.
    """
    if ranks <= 1:
        return ()
    local = min(ranks, max(1, device.devices_per_node))
    if local == ranks:
        return _within(kind, ranks, device)
    nodes = math.ceil(ranks / local)
    fewest = ranks - local * (nodes - 1)  # on the last node
    inside, outside = device.intra_node, device.inter_node
    whole = ranks if kind == "all_gather" else 1  # the whole buffer, counted as ``bytes_per_row`` counts
    # what goes through the port of one device, where the fewest share the work
    crossing = whole if kind == "all_to_all" else whole / fewest
    across: tuple[Algorithm, ...] = (_moving(kind)(nodes, outside, NETWORK_EFFICIENCY),)
    if kind == "all_reduce":
        across = (
            ring_all_reduce(nodes, outside, NETWORK_EFFICIENCY),
            tree_all_reduce(nodes, outside, NETWORK_EFFICIENCY),
        )
    moves = 2 if kind == "all_reduce" else 1  # an all-reduce reduces before and gathers after
    within = _moving(kind)(local, inside, _efficiency(local, inside))
    if local == 1:
        within = Algorithm(within.name, 0.0, 0.0)
    chunked = tuple(
        Algorithm(
            f"{a.name} across nodes",
            a.fixed_s + moves * within.fixed_s,
            max(crossing * a.byte_s, moves * whole * within.byte_s),
        )
        for a in across
    )
    return (START, Stage(chunked, 1))


def _within(kind: Kind, ranks: int, device: Device) -> tuple[Stage, ...]:
    """The stages of a collective that stays in its node."""
    link = device.intra_node
    efficiency = _efficiency(ranks, link)
    if kind != "all_reduce":
        return (START, Stage((_moving(kind)(ranks, link, efficiency),), ranks if kind == "all_gather" else 1))
    ring = ring_all_reduce(ranks, link, efficiency)
    choices = [Algorithm(ring.name, LIBRARY_BASE_S + ring.fixed_s, ring.byte_s)]
    if link.direct or ranks == 2:  # two PCIe devices reach each other directly too
        choices += [one_shot_all_reduce(ranks, link), two_shot_all_reduce(ranks, link)]
    return (Stage(tuple(choices), 1),)


def collective_seconds(kind: Kind, size: Floats, ranks: int, device: Device) -> Floats:
    """Seconds of one ``kind`` over ``ranks`` devices for each ``size`` in bytes (as in
    ``collective_stages``)."""
    seconds = np.zeros_like(size, dtype=np.float64)
    for stage in collective_stages(kind, ranks, device):
        seconds = seconds + stage.seconds(size)
    return seconds


@dataclass(frozen=True, slots=True)
class CollectiveTime:
    """A ``RowTime``: all ``count`` runs of one collective in a step."""

    bytes_per_row: float
    count: int
    stages: tuple[Stage, ...]

    def seconds(self, rows: Floats) -> Floats:
        """See ``RowTime.seconds``; 0 for one rank."""
        size = self.bytes_per_row * rows
        total = np.zeros_like(size, dtype=np.float64)
        for stage in self.stages:
            total = total + stage.seconds(size)
        return self.count * total

    def origin(self, rows: float) -> Origin:
        """See ``RowTime.origin``; the source names the algorithm of each stage."""
        names = [stage.best(self.bytes_per_row * rows) for stage in self.stages if stage is not START]
        used = " + ".join(dict.fromkeys(names))
        return Origin("roofline", f"latency and bandwidth ({used or 'one rank'})")


def collective_time(op: Collective, device: Device) -> RowTime:
    """The time of ``op`` on ``device`` by latency and bandwidth; see ``collective_stages``."""
    return CollectiveTime(op.bytes_per_row, op.count, collective_stages(op.kind, op.ranks, device))


def _moving(kind: Kind) -> Callable[[int, Link, float], Algorithm]:
    """How one stage of ``kind`` moves data; the phases of an all-reduce are gathers."""
    return direct_exchange if kind == "all_to_all" else ring_gather


def _efficiency(ranks: int, link: Link) -> float:
    return LINK_EFFICIENCY if link.direct or ranks == 2 else SHARED_LINK_EFFICIENCY


def _hop_s(link: Link) -> float:
    return link.latency_s + (LIBRARY_HOP_S if link.direct else 0.0)


def _custom_efficiency(link: Link) -> float:
    return CUSTOM_EFFICIENCY if link.direct else LINK_EFFICIENCY
