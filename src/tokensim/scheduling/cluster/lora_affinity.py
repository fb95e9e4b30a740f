"""LoRA affinity: to an instance that has the request's adapter on its device, while it is not much busier.

Among the instances that hold the adapter, the one with the fewest requests takes it; unless it has more than
``SLACK`` more than the least busy one of all, which then takes it (and gets the adapter). Without an adapter:
the least busy one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokensim.registry import register
from tokensim.scheduling.cluster.base import GlobalScheduler, T, Target
from tokensim.scheduling.local import Request

SLACK = 8
"""Requests that an instance may have more than the least busy one, for the sake of a filled slot; a choice of
ours."""


@register.global_scheduler("lora-affinity")
class LoraAffinity(GlobalScheduler):
    """Equals go to the first."""

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        adapter = request.traits.adapter
        least = min(instances, key=_busy)
        holders = [one for one in instances if _holds(one, adapter)]
        near = min(holders, key=_busy, default=least)
        return near if _busy(near) <= _busy(least) + SLACK else least


def _busy(instance: Target) -> int:
    return len(instance.scheduler.running) + len(instance.scheduler.waiting)


def _holds(instance: Target, adapter: int) -> bool:
    scheduler: Any = instance.scheduler
    adapters = getattr(scheduler, "adapters", None)
    return adapters is not None and adapters.holds(adapter)
