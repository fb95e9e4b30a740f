"""Earliest deadline first (Liu and Layland, J. ACM 20(1), 1973): who is due soonest is admitted first.

Optimal on one processor while everything can be met, and unfair to everybody once it cannot. Requests without
a deadline come last, in order of arrival. ``preemptive: true`` also pushes out running requests with a later
deadline, as the original does; recomputing what they lose costs time that it does not reckon with.
"""

from __future__ import annotations

from tokensim.registry import register
from tokensim.scheduling.local.queues import Rank
from tokensim.scheduling.local.ranked import Ranked
from tokensim.scheduling.local.request import Request


@register.local_scheduler("edf")
class EarliestDeadlineFirst(Ranked):
    """``policy: edf``; the deadline is ``Request.traits.deadline_s``."""

    def rank(self, request: Request) -> Rank:
        """See ``Ranked.rank``."""
        return request.traits.deadline_s, request.arrival_s, request.index
