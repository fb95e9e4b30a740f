"""The instance with the least of something, the first one among equals: requests, tokens, KV, or work.

Least outstanding requests is nginx's ``least_conn`` and AIBrix's ``least-request``; least KV use is AIBrix's
``least-kv-cache`` and llm-d's ``kv-cache-utilization-scorer``; least outstanding tokens is what NVIDIA
Dynamo's router adds up as active prefill and decode blocks. Shortest queue joins the shortest in seconds of
predicted work (join the shortest workload: Harchol-Balter, Performance Modeling and Design, 2013, ch. 24).
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("least-requests")
class LeastRequests(GlobalScheduler):
    """Fewest requests sent and not yet ended."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        return instances[int(self.loads.outstanding_requests(instances).argmin())]


@register.global_scheduler("least-tokens")
class LeastTokens(GlobalScheduler):
    """Fewest tokens of prompt and output still to be computed."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        return instances[int(self.loads.outstanding_tokens(instances).argmin())]


@register.global_scheduler("least-kv")
class LeastKv(GlobalScheduler):
    """Smallest share of KV blocks in use; among equals the fewest outstanding requests."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        use = self.loads.kv_use(instances)
        requests = self.loads.outstanding_requests(instances)
        return instances[int((requests + (use > use.min()) * (1 + requests.max())).argmin())]


@register.global_scheduler("shortest-queue")
class ShortestQueue(GlobalScheduler):
    """Least predicted work in seconds, which counts what the hardware of each can do."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        return instances[int(self.loads.work_s(instances).argmin())]
