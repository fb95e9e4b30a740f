"""A local scheduler of one's own: of those who wait, the shortest prompt is admitted first.

    tokensim run examples/quickstart.yaml \
        --plugin examples/plugins/shortest_first.py --set engine.policy=shortest-first

Everything else (chunked prefill, budgets, preemption, the prefix cache) is continuous batching as vLLM does
it. Prompts of equal length keep their order. Under load long prompts may starve: that is the policy.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokensim import register
from tokensim.scheduling.local import ContinuousBatching, Request


@register.local_scheduler("shortest-first")
class ShortestFirst(ContinuousBatching):
    """``policy: shortest-first``."""

    def admission_order(self, waiting: list[Request]) -> Iterable[Request]:
        """The waiting requests, shortest prompt first."""
        return sorted(waiting, key=lambda request: request.input_tokens)
