"""Join the shortest queue, by predicted work in seconds.

Least-work-left (Harchol-Balter, Performance Modeling and Design of Computer Systems, 2013, ch. 24); AIBrix's
``least-busy-time`` looks for the same. It counts what each one's hardware can do, so it suits mixed clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("shortest-queue")
class ShortestQueue(GlobalScheduler):
    """The first one among equals."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        return instances[int(self.loads.work_s(instances).argmin())]
