"""Cost-aware, for mixed hardware: the cheapest instance for this request that still answers in time.

Which device serves a request at least cost depends on its size: small ones on small devices (Griggs et al.,
Mélange, arXiv 2404.14527). The price of a request is that of the instance's devices for the seconds that it
takes of them; an instance is in time if its predicted time to first token keeps ``ttft``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.cluster.slo_aware import duration
from tokensim.scheduling.local import Request


@register.global_scheduler("cost-aware")
class CostAware(GlobalScheduler):
    """``ttft``: the bound, a duration. If nobody keeps it, the smallest prediction."""

    def __init__(self, seed: int = 0, *, ttft: float | str) -> None:
        super().__init__(seed)
        self.bound_s = duration(ttft, "ttft")

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        ttft_s = self.loads.ttft_s(request, instances)
        if ttft_s.min() > self.bound_s:
            return instances[int(ttft_s.argmin())]
        price = self.loads.price_per_hour_usd(instances) * self.loads.service_s(request, instances)
        return instances[int(np.where(ttft_s <= self.bound_s, price, np.inf).argmin())]
