"""Cost-aware, for mixed hardware: the cheapest instance for this request that still answers in time.

Which device serves a request at least cost depends on its size: small ones on small devices (Griggs et al.,
Mélange, arXiv 2404.14527). The price of a request is that of the instance's devices for the seconds that it
takes of them; an instance is in time if its predicted time to first token keeps ``ttft`` and no more than
``max_kv_use`` of its KV blocks are in use (the saturation that the Gateway API inference extension avoids).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.cluster.slo_aware import duration
from tokensim.scheduling.local import Request

MAX_KV_USE = 0.8
"""``kvCacheUtilThreshold`` of the inference extension's saturation detector."""


@register.global_scheduler("cost-aware")
class CostAware(GlobalScheduler):
    """``ttft``: a duration; ``max_kv_use``: a share. If nobody keeps both, the smallest prediction."""

    def __init__(self, seed: int = 0, *, ttft: float | str, max_kv_use: float = MAX_KV_USE) -> None:
        super().__init__(seed)
        self.bound_s = duration(ttft, "ttft")
        if not 0 < max_kv_use <= 1:
            raise InputError(f"max_kv_use is {max_kv_use}", hint="a share of the blocks, above 0, at most 1")
        self.max_kv_use = max_kv_use

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        loads = self.loads
        ttft_s = loads.ttft_s(request, instances)
        in_time = (ttft_s <= self.bound_s) & (loads.kv_use(instances) <= self.max_kv_use)
        if not in_time.any():
            return instances[int(ttft_s.argmin())]
        price = loads.price_per_hour_usd(instances) * loads.service_s(request, instances)
        return instances[int(np.where(in_time, price, np.inf).argmin())]
