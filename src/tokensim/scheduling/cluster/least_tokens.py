"""Least outstanding tokens: the instance with the fewest of prompt and output still to be computed.

What NVIDIA Dynamo's router adds up as active prefill tokens and decode blocks; the first one among equals.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("least-tokens")
class LeastTokens(GlobalScheduler):
    """Outputs count with their true length, as if a predictor were always right."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        return instances[int(self.loads.outstanding_tokens(instances).argmin())]
