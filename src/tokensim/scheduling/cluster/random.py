"""Random: each request to an instance drawn at random, all equally likely."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("random")
class Random(GlobalScheduler):
    """Seeded: the same scenario routes the same way."""

    reads_load = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._random = random.Random(f"router {seed}")

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        return instances[self._random.randrange(len(instances))]
