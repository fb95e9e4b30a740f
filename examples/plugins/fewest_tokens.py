"""A global scheduler of one's own: to the replica with the fewest tokens left to compute.

    tokensim run examples/quickstart.yaml --plugin examples/plugins/fewest_tokens.py \
        --set cluster.router=fewest-tokens --replicas 2 --rate 16

``instance.load`` is exact at this instant and costs the same whatever runs there. Ties go to the first.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim import register
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.cluster.base import T
from tokensim.scheduling.local import Request


@register.global_scheduler("fewest-tokens")
class FewestTokens(GlobalScheduler):
    """``cluster.router: fewest-tokens``."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """The one with the least left to do."""
        return min(instances, key=lambda instance: instance.load.outstanding_tokens)
