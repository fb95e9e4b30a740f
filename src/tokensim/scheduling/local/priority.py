"""Priority with preemption: more urgent arrivals push out less urgent running requests.

Models vLLM 0.6's ``--scheduling-policy priority``: the queue is ordered by (priority, arrival), and a request
at its head that finds no room preempts running ones that stand behind it in this order (recomputation). vLLM
V1's own priority order, which preempts only when memory runs out, is ``vllm`` with
``scheduling_policy: priority``.
"""

from __future__ import annotations

from tokensim.registry import register
from tokensim.scheduling.local.base import Limits
from tokensim.scheduling.local.queues import Rank, urgency
from tokensim.scheduling.local.ranked import Ranked
from tokensim.scheduling.local.request import Request


@register.local_scheduler("priority")
class Priority(Ranked):
    """``policy: priority``; smaller ``Request.priority`` is more urgent."""

    def __init__(
        self, limits: Limits, version: str = "0.33.0", *, exact_steps: bool = False, preemptive: bool = True
    ) -> None:
        super().__init__(limits, version, exact_steps=exact_steps, preemptive=preemptive)

    def rank(self, request: Request) -> Rank:
        """See ``Ranked.rank``."""
        return urgency(request)
