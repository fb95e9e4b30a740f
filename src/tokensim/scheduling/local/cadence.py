"""How much prefill a step may hold, and how often: ``long_prefill_token_threshold`` and
``prefill_schedule_interval``."""

from __future__ import annotations

from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.versions import Rules


def prefill_cap(limits: Limits, rules: Rules, requests: int) -> int:
    """Most tokens of one prefill in a step while ``requests`` are in the system; 0: no cap."""
    cap = limits.long_prefill_token_threshold
    if not cap or (requests <= 1 and rules.lone_request_uncapped):
        return 0
    if limits.long_prefill_token_threshold_adaptive:
        cap = max(cap, limits.max_num_batched_tokens // max(requests, 1))
    return cap


class PrefillCadence:
    """``prefill_schedule_interval``: prefills sit out until ``interval`` steps have passed since the last
    one.

    ``executed`` counts the steps that ran anything; ``capacity_bound``: waiting requests did not fit, so that
    there is nothing to gain from deferring.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.executed = 0
        self.capacity_bound = False
        self._last = -interval

    def defers(self, *, decoding: bool) -> bool:
        """Whether prefills sit out the next step; ``decoding``: some running request does not prefill."""
        return (
            self.interval > 1
            and decoding
            and not self.capacity_bound
            and self.executed + 1 - self._last < self.interval
        )

    def count(self, step: Step) -> None:
        """``step`` was scheduled."""
        if not step.empty:
            self.note(self.interval > 1 and self._prefills(step))

    def note(self, prefilled: bool) -> None:
        """A step ran something; ``prefilled``: some prompt among it."""
        self.executed += 1
        if prefilled:
            self._last = self.executed

    def _prefills(self, step: Step) -> bool:
        """Whether it holds any prefill but one-token rests of requests just admitted."""
        fresh = {request for request, _ in step.admitted}
        return any(
            request not in fresh or tokens > 1 or not request.decoding
            for request, (tokens, _) in zip(step.chunk_requests, step.chunks, strict=True)
        )
