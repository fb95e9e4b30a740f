"""Least KV use: the instance whose requests hold the smallest share of its KV blocks.

AIBrix's ``least-kv-cache``, llm-d's ``kv-cache-utilization-scorer``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("least-kv")
class LeastKv(GlobalScheduler):
    """Among equals (idle ones, say) the fewest outstanding requests, then the first."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        order = np.lexsort((self.loads.outstanding_requests(instances), self.loads.kv_use(instances)))
        return instances[int(order[0])]
