"""Where the time of each pool went: the operators of its steps, with what bounds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tokensim.cost.base import StepCost
from tokensim.metrics.attribution import select_rows
from tokensim.metrics.energy import InstanceFacts
from tokensim.metrics.log import StepRows


@dataclass(slots=True)
class PoolOperator:
    """One operator on all instances of one pool: seconds (by bound too), FLOPs and bytes of all its steps.

    All figures are of one device of an instance, as those of a step are, summed over instances.
    """

    pool: str
    operator: str
    kind: str
    source: str
    flops: float = 0.0
    bytes: float = 0.0
    bounds: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of all bounds."""
        return sum(self.bounds.values())


def pool_operators(steps: StepRows, instances: Sequence[InstanceFacts]) -> list[PoolOperator]:
    """Every operator of every pool, pools in order, the longest operator first."""
    shared: dict[tuple[str, int], tuple[StepCost, list[int]]] = {}  # replicas share a cost: ask it once
    for i, facts in enumerate(instances):
        shared.setdefault((facts.pool, id(facts.cost)), (facts.cost, []))[1].append(i)
    merged: dict[tuple[str, str, str], PoolOperator] = {}
    for (pool, _), (cost, members) in shared.items():
        own = np.flatnonzero(np.isin(steps.instance, members))
        if not len(own):
            continue
        for time in cost.breakdown(select_rows(steps.what, own)):
            key = (pool, time.operator, time.source)
            entry = merged.setdefault(key, PoolOperator(pool, time.operator, time.kind, time.source))
            entry.flops += time.flops
            entry.bytes += time.bytes
            for bound, seconds in time.bound_seconds.items():
                entry.bounds[bound] = entry.bounds.get(bound, 0.0) + seconds
    order = list(dict.fromkeys(facts.pool for facts in instances))
    return sorted(merged.values(), key=lambda o: (order.index(o.pool), -o.seconds, o.operator, o.source))
