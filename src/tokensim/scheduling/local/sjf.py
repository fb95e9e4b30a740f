"""Shortest job first: waiting requests in order of the length of their answers, true or predicted.

Predicted lengths are those of "Efficient Interactive LLM Serving with Proxy Model-based Sequence Length
Prediction" (SSJF: Qiu et al., 2024) and its successors, which rank by a predictor's guess; ``actual`` lengths
are the oracle that they are measured against. ``preemptive: true`` also pushes out running requests that were
longer from the start (preemptive shortest job first: Wierman, Bansal and Harchol-Balter, 2004).
"""

from __future__ import annotations

from collections.abc import Callable

from tokensim.errors import InputError, nearest
from tokensim.registry import register
from tokensim.scheduling.local.base import Limits
from tokensim.scheduling.local.queues import Rank
from tokensim.scheduling.local.ranked import Ranked
from tokensim.scheduling.local.request import Request


def _actual(request: Request) -> int:
    return request.length - request.input_tokens


def _predicted(request: Request) -> int:
    tokens = request.traits.predicted_tokens
    if tokens < 0:  # a scenario is refused before it runs
        raise InputError(
            f"request {request.index} has no predicted length",
            where="engine.policy_options.lengths",
            hint="give predicted lengths in the workload, or order by the true ones: lengths: actual",
        )
    return tokens


LENGTHS: dict[str, Callable[[Request], int]] = {"actual": _actual, "predicted": _predicted}


@register.local_scheduler("sjf")
class ShortestJobFirst(Ranked):
    """``policy: sjf``. ``lengths``: ``actual`` or ``predicted`` (``Request.traits.predicted_tokens``).
    ``count_prompt``: the prompt is part of the job, not only the answer."""

    def __init__(
        self,
        limits: Limits,
        version: str = "0.33.0",
        *,
        exact_steps: bool = False,
        lengths: str = "actual",
        count_prompt: bool = False,
        preemptive: bool = False,
    ) -> None:
        if lengths not in LENGTHS:
            raise InputError(
                f"unknown lengths {lengths!r}",
                where="policy_options.lengths",
                hint=nearest(str(lengths), LENGTHS),
            )
        self.needs_predictions = lengths == "predicted"
        self._length = LENGTHS[lengths]
        self._count_prompt = count_prompt
        super().__init__(limits, version, exact_steps=exact_steps, preemptive=preemptive)

    def rank(self, request: Request) -> Rank:
        """See ``Ranked.rank``."""
        job = self._length(request) + (request.input_tokens if self._count_prompt else 0)
        return job, request.arrival_s, request.index
