"""SLO-aware: by the predicted time to first token.

Without a bound, the instance with the smallest prediction: ``ttft`` in vLLM's production-stack,
``least-latency`` in AIBrix. With ``ttft``, among those predicted to keep it the one with the least work, as
llm-d's SLO-aware profile looks for headroom first; if none keeps it, the smallest prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokensim.errors import InputError
from tokensim.registry import register
from tokensim.scenario.units import parse_duration
from tokensim.scheduling.cluster.base import GlobalScheduler, T
from tokensim.scheduling.local import Request


@register.global_scheduler("slo-aware")
class SloAware(GlobalScheduler):
    """``ttft``: the bound, a duration; None: none."""

    def __init__(self, seed: int = 0, *, ttft: float | str | None = None) -> None:
        super().__init__(seed)
        self.bound_s = None if ttft is None else duration(ttft, "ttft")

    def route(self, request: Request, instances: Sequence[T], now: float) -> T:
        """See ``GlobalScheduler.route``."""
        ttft_s = self.loads.ttft_s(request, instances)
        if self.bound_s is None or ttft_s.min() > self.bound_s:
            return instances[int(ttft_s.argmin())]
        work_s = self.loads.work_s(instances)
        return instances[int(np.where(ttft_s <= self.bound_s, work_s, np.inf).argmin())]


def duration(value: float | str, name: str) -> float:
    """``value`` of the option ``name`` in seconds; raises ``InputError``."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
