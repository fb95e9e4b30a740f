"""Round-robin: each instance in turn."""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("round-robin")
class RoundRobin(GlobalScheduler):
    """Request n goes to instance n modulo their number."""

    reads_load = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._turn = -1

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        self._turn += 1
        return instances[self._turn % len(instances)]
