"""Weighted round-robin: each instance in turn, as often as its pool's weight says, spread evenly.

nginx's smooth weighted round-robin (``ngx_http_upstream_round_robin.c``): each one's credit grows by its
weight, the largest credit wins and pays the sum of all weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tokensim.errors import InputError, nearest
from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T, Target
from tokensim.scheduling.local import Request


@register.global_scheduler("weighted")
class Weighted(GlobalScheduler):
    """``weights``: a number > 0 by the name of the pool; a pool that is not named has 1."""

    reads_load = False

    def __init__(self, seed: int = 0, *, weights: Mapping[str, float]) -> None:
        super().__init__(seed)
        for pool, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e12:
                raise InputError(f"the weight of pool '{pool}' is {weight!r}", hint="a number above 0")
        self.weights = dict(weights)
        self._members: Sequence[Target] = ()
        self._own = self._credit = np.zeros(0)

    def check(self, pools: Collection[str]) -> None:
        """See ``GlobalScheduler.check``."""
        for pool in self.weights:
            if pool not in pools:
                raise InputError(f"there is no pool '{pool}' to weigh", hint=nearest(pool, pools))

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        if instances is not self._members:
            credit = dict(zip([i.index for i in self._members], self._credit, strict=True))
            self._credit = np.array([credit.get(i.index, 0.0) for i in instances])
            self._own = np.array([self.weights.get(i.pool.name, 1.0) for i in instances])
            self._members = instances
        self._credit += self._own
        best = int(self._credit.argmax())
        self._credit[best] -= self._own.sum()
        return instances[best]
