"""Power of two choices: of two instances drawn at random, the one with fewer outstanding requests.

Mitzenmacher, The power of two choices in randomized load balancing, IEEE TPDS 2001; SGLang's router and
vLLM's call it ``power_of_two``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("power-of-two")
class PowerOfTwo(GlobalScheduler):
    """Seeded: the same scenario routes the same way. The first one drawn wins between equals."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._random = random.Random(f"router {seed}")

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        count = len(instances)
        if count == 1:
            return instances[0]
        one = self._random.randrange(count)
        other = (one + 1 + self._random.randrange(count - 1)) % count
        requests = self.loads.outstanding_requests(instances)
        return instances[one if requests[one] <= requests[other] else other]
