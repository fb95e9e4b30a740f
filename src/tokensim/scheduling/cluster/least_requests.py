"""Least outstanding requests: the instance with the fewest that were sent and have not ended.

nginx's ``least_conn``, AIBrix's ``least-request``, the load in SGLang's gateway; the first one among equals.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("least-requests")
class LeastRequests(GlobalScheduler):
    """The router counts for itself, so that it is never behind."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        return instances[int(self.loads.outstanding_requests(instances).argmin())]
