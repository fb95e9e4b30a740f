"""P/D pairing: the decode instance for a request that was prefilled elsewhere, by its nearness and load.

Nearest first, as DistServe places prefill and decode where the link between them is fast (Zhong et al., OSDI
2024), among those that have room for the KV and are not busier than their fair share (Mooncake's conductor
looks for memory and load, Qin et al., FAST 2025). As a router of a first stage, where no KV lies anywhere
yet, it is least outstanding requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("pd-pair")
class PdPair(GlobalScheduler):
    """``slack``: how many outstanding requests more than the least loaded one an instance may have to be
    chosen for its nearness."""

    def __init__(self, seed: int = 0, *, slack: int = 8) -> None:
        super().__init__(seed)
        if slack < 0:
            raise InputError(f"slack is {slack}", hint="a number of requests, at least 0")
        self.slack = slack

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        requests = self.loads.outstanding_requests(instances)
        room = self.loads.free_tokens(instances) >= request.tokens
        if room.any():
            requests = np.where(room, requests, requests.max() + self.slack + 1)
        far = self.loads.transfer_s(request, instances)
        candidates = requests <= requests.min() + self.slack
        order = np.lexsort((requests, np.where(candidates, far, np.inf)))
        return instances[int(order[0])]
