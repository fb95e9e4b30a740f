"""What a run leaves in memory: one row a request, one row a step run, as numpy columns.

The recorder fills it, the summary and the report read it. Times are seconds since the start of the workload;
a time that never came is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokensim.cost.base import StepColumns
from tokensim.workload.base import Floats, Ints

STATUSES = ("unfinished", "finished", "truncated", "rejected", "failed", "cancelled")
"""``truncated``: finished early because it reached the model's context length. ``rejected``: refused on
arrival. ``failed``: lost with an instance, or never taken by one. ``cancelled``: never sent, since the
request that it waits for did not finish."""


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """One entry a request of the workload, in its order.

    ``intended_s`` is when the client meant to send it, ``arrival_s`` when it did (later only under a cap on
    requests in flight). ``first_token_s`` and ``finish_s`` are the engine's, ``first_delivery_s`` and
    ``last_delivery_s`` when the client gets first and last token (the same without a front end).
    ``output_tokens`` were produced, ``requested_output_tokens`` asked for.
    ``cached_tokens`` is the prefix hit at the first admission, ``recomputed_tokens`` what preemptions threw
    away and had to be computed again. ``instance`` is −1 where none took it. ``status`` indexes ``STATUSES``.
    """

    intended_s: Floats
    arrival_s: Floats
    scheduled_s: Floats
    first_token_s: Floats
    finish_s: Floats
    first_delivery_s: Floats
    last_delivery_s: Floats
    input_tokens: Ints
    requested_output_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints
    preemptions: Ints
    recomputed_tokens: Ints
    instance: Ints
    status: npt.NDArray[np.int8]
    names: list[str] | None


@dataclass(frozen=True, slots=True)
class StepRows:
    """One entry a run of equal steps, of all instances, in order of the end of recording.

    The run starts at ``start_s`` and ends at ``end_s``; its first step lasts ``first_step_s``, its last
    ``last_step_s``, those between lie on the line between them. ``running``/``waiting`` requests and
    ``used_blocks`` are as of the end of the run. ``what`` holds the shapes (``StepColumns``).
    """

    instance: Ints
    start_s: Floats
    end_s: Floats
    first_step_s: Floats
    last_step_s: Floats
    running: Ints
    waiting: Ints
    used_blocks: Ints
    prefill_tokens: Ints
    what: StepColumns


@dataclass(frozen=True, slots=True)
class Verified:
    """What speculative decoding came to: ``rows`` of drafts verified (a request in a step), ``drafts`` in
    them, of which ``accepted``."""

    rows: int
    drafts: int
    accepted: int


@dataclass(frozen=True, slots=True)
class RunLog:
    """Everything recorded of one run.

    ``gap_s``/``gap_weight`` correct the inter-token gaps that the step rows imply (each step of duration d
    gives ``decode`` gaps of d): a pair adds ``weight`` gaps (−1 takes one away) of ``gap_s`` seconds, for
    requests that sat out steps (preempted, or left out by the token budget). ``end_s`` is the simulated time
    at which the run ended; ``complete`` is False when it was interrupted.
    """

    requests: RequestColumns
    steps: StepRows
    gap_s: Floats
    gap_weight: Ints
    end_s: float
    complete: bool
    num_blocks: list[int]
    """Usable KV blocks, by instance."""
    wall_s: float
    """Seconds of real time that the event loop took."""
    explicit_gaps: frozenset[int] = frozenset()
    """Instances whose step rows imply no gaps: all of theirs are in ``gap_s``."""
    later_stages: frozenset[int] = frozenset()
    """Instances that are a later stage of a pipeline: their rows repeat the requests of the first one."""
    verified: Verified | None = None
    """Of all instances that speculate; None: none does."""
