"""Handing activations from one pipeline stage to the next: a point-to-point send of NCCL.

Each tensor-parallel rank sends its slice to its counterpart; the ranks of the next stage then gather the
slices (``stage_all_gather`` of ``model/shards.py``, part of that stage's step).
"""

from __future__ import annotations

from dataclasses import dataclass

from tokensim.cost.collectives import LIBRARY_BASE_S, LIBRARY_HOP_S, LINK_EFFICIENCY, NETWORK_EFFICIENCY
from tokensim.hardware.base import Device


@dataclass(frozen=True, slots=True)
class Send:
    """``fixed_s + tokens · token_s`` seconds from the end of a step on one stage to its start on the next."""

    fixed_s: float
    token_s: float

    def seconds(self, tokens: int) -> float:
        """Seconds for the activations of ``tokens`` tokens."""
        return self.fixed_s + tokens * self.token_s


def stage_sends(device: Device, stages: int, tensor: int, bytes_per_token: float) -> tuple[Send, ...]:
    """The sends after each stage but the last; ``bytes_per_token`` of all tensor-parallel ranks together.

    Stages fill the nodes in order, ``tensor`` devices each; a send between two nodes takes the network.
    """
    sends = []
    for stage in range(1, stages):
        node, before = (
            stage * tensor // device.devices_per_node,
            (stage - 1) * tensor // device.devices_per_node,
        )
        if node == before:
            link, share = device.intra_node, LINK_EFFICIENCY
            hop_s = link.latency_s + (LIBRARY_HOP_S if link.direct else 0.0)
        else:
            link, share = device.inter_node, NETWORK_EFFICIENCY
            hop_s = link.latency_s
        rate = link.bandwidth_bytes_per_s * share
        sends.append(Send(LIBRARY_BASE_S + hop_s, bytes_per_token / tensor / rate))
    return tuple(sends)
