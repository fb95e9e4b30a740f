"""A decode router of one's own, for prefill and decode apart: to the replica with the most free KV blocks.

    tokensim run examples/quickstart.yaml --plugin examples/plugins/roomiest_decoder.py --num-requests 500 \
        --set cluster.decode_router=roomiest --set 'cluster.pools=[
        {name: p, hardware: l40s, role: prefill}, {name: d, hardware: l40s, role: decode, replicas: 2}]'

It is a global scheduler like any other, asked a second time, with the replicas that decode, when a request
leaves for its second stage. Those that wait have no memory yet: a replica without any comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim import register
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.cluster.base import T
from tokensim.scheduling.local import Request


@register.global_scheduler("roomiest")
class Roomiest(GlobalScheduler):
    """``cluster.decode_router: roomiest``."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """Fewest waiting, then most room."""
        return min(instances, key=lambda one: (one.load.waiting, -one.load.free_blocks))
