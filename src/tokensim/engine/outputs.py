"""The tokens of a step handed out request by request: first tokens, and the gap since the last output.

For instances where the durations of steps do not say the gaps: a request of a pipeline gets a token every
few steps, one that speculates gets several at once. As in vLLM (``IterationStats`` of
``v1/metrics/stats.py``) a gap lies between two outputs of a request, however many tokens each of them has.
"""

from __future__ import annotations

from collections.abc import Callable

from tokensim.metrics.recorder import PACK_GAP
from tokensim.scheduling.local import Request
from tokensim.scheduling.local.cohorts import Cohort
from tokensim.scheduling.local.flight import FlightStep


def note_outputs(step: FlightStep, now: float, note_gap: Callable[[bytes], None]) -> list[Request]:
    """``step.put_out`` get their tokens at ``now``; returns those that get their first one."""
    if step.cohort is not None:
        return _note_cohort(step, step.cohort, now, note_gap)
    fresh: list[Request] = []
    gaps: dict[float, int] = {}  # where the last output came from → requests
    for request, _ in step.put_out:
        if request.first_token_s != request.first_token_s:
            request.first_token_s = now
            fresh.append(request)
        else:
            last = request.last_token_s
            gaps[last] = gaps.get(last, 0) + 1
        request.last_token_s = now
    for last, requests in gaps.items():
        note_gap(PACK_GAP(now - last, requests))
    return fresh


def _note_cohort(
    step: FlightStep, cohort: Cohort, now: float, note_gap: Callable[[bytes], None]
) -> list[Request]:
    """The same of a step that was decided by cohorts: its decodes, and who joins them. HOT PATH."""
    if step.waited:
        for last, requests in step.waited.items():
            note_gap(PACK_GAP(now - last, requests))
    elif step.decode:
        assert cohort.last_s is not None
        note_gap(PACK_GAP(now - cohort.last_s, step.decode))
    cohort.last_s = now
    fresh: list[Request] = []
    for request in step.firsts:
        if request.first_token_s != request.first_token_s:
            request.first_token_s = now
            fresh.append(request)
        else:
            note_gap(PACK_GAP(now - request.last_token_s, 1))
        request.last_token_s = now
    return fresh
