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
request that it waits for did not finish; or given up by its client (live)."""


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
    tenant: Ints | None = None
    """Absent: nobody said whose they are."""


@dataclass(frozen=True, slots=True)
class StepRows:
    """One entry a run of equal steps, of all instances, in order of the end of recording.

    The run starts at ``start_s`` and ends at ``end_s``; its first step lasts ``first_step_s``, its last
    ``last_step_s``, those between lie on the line between them. ``running``/``waiting`` requests and
    ``used_blocks`` are as of the end of the run; ``first_blocks`` are those in use with its first step, from
    where they grow evenly; ``waited_s`` is what all requests together waited meanwhile. ``what`` holds the
    shapes (``StepColumns``). ``idle``: how many of its decodes are rows of requests that have finished, and
    give no token (absent: none anywhere).
    """

    instance: Ints
    start_s: Floats
    end_s: Floats
    first_step_s: Floats
    last_step_s: Floats
    running: Ints
    waiting: Ints
    used_blocks: Ints
    first_blocks: Ints
    waited_s: Floats
    prefill_tokens: Ints
    what: StepColumns
    idle: Ints | None = None

    @property
    def mean_waiting(self) -> Floats:
        """Waiting requests, over the time of each run."""
        lasts = self.end_s - self.start_s
        mean: Floats = np.divide(self.waited_s, lasts, np.zeros(len(lasts)), where=lasts > 0)
        return mean

    @property
    def mean_blocks(self) -> Floats:
        """KV blocks in use, over the time of each run: they grow with its steps, which get longer."""
        grown, both_s = self.used_blocks - self.first_blocks, self.first_step_s + self.last_step_s
        longer = np.divide(
            self.last_step_s - self.first_step_s, both_s, np.zeros(len(both_s)), where=both_s > 0
        )
        mean: Floats = (self.first_blocks + self.used_blocks) / 2 + grown * longer / 6
        return mean


@dataclass(frozen=True, slots=True)
class LinkUse:
    """What crossed one direction of a link during a run; ``bandwidth_bytes_per_s`` is what transfers can
    reach, ``busy_s`` the time with at least one in flight, ``peak_transfers`` the most at once."""

    name: str
    bandwidth_bytes_per_s: float
    bytes: float
    busy_s: float
    peak_transfers: int


@dataclass(frozen=True, slots=True)
class TransferRows:
    """One entry a transfer that ended, in order of the end.

    ``bytes`` were moved from instance ``source`` to ``target`` (−1: not an instance) between ``start_s`` and
    ``end_s``, when the last one arrived; not ``arrived``: it was cancelled then. ``kind`` indexes ``kinds``.
    """

    start_s: Floats
    end_s: Floats
    bytes: Floats
    source: Ints
    target: Ints
    kind: Ints
    arrived: npt.NDArray[np.bool_]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoadRows:
    """One entry for each stretch of KV that a ``request`` (index) loaded from a memory ``tier`` (index in
    ``RunLog.tiers``).

    ``bytes`` were asked for at ``start_s`` and had come at ``end_s``, for ``tokens`` of the prompt;
    ``hit_tokens`` of them at its first admission (0: after a preemption).
    """

    request: Ints
    tier: Ints
    hit_tokens: Ints
    tokens: Ints
    bytes: Floats
    start_s: Floats
    end_s: Floats


@dataclass(frozen=True, slots=True)
class TierUse:
    """One memory tier over a whole run, all its ``stores`` (one an instance, or one that several share)
    together; bytes.

    ``used_bytes`` at the end of ``capacity_bytes``; ``stored_bytes`` were copied there from devices,
    ``demoted_bytes`` from the tier above (or evicted from a device), ``promoted_bytes`` came by with loads
    from below, ``evicted_bytes`` left; ``dropped_bytes`` were not stored, too much being on its way.
    """

    name: str
    kind: str
    stores: int
    capacity_bytes: float
    used_bytes: float
    stored_bytes: float
    demoted_bytes: float
    promoted_bytes: float
    evicted_bytes: float
    dropped_bytes: float


@dataclass(frozen=True, slots=True)
class Verified:
    """What speculative decoding came to: ``rows`` of drafts verified (a request in a step), ``drafts`` in
    them, of which ``accepted``."""

    rows: int
    drafts: int
    accepted: int


@dataclass(frozen=True, slots=True)
class HandoverRows:
    """One entry each time that the KV of a request had come from one instance to another, in order.

    ``request`` by index; ``source``: the rank that gave it; ``preemptions`` there; ``migrates``: 1 if the
    request had begun to decode, else 0 (prefill and decode apart). ``stopped_s``: the last token there;
    ``granted_s``: the other side had memory for it; ``arrived_s``: all ``bytes`` had come.
    """

    request: Ints
    source: Ints
    preemptions: Ints
    migrates: Ints
    stopped_s: Floats
    granted_s: Floats
    arrived_s: Floats
    bytes: Floats


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
    transfers: TransferRows | None = None
    """None: nothing was sent over a link."""
    links: tuple[LinkUse, ...] = ()
    """By index in the network; empty: nothing was sent."""
    loads: LoadRows | None = None
    """What was loaded from memory tiers; None: nothing."""
    tiers: tuple[TierUse, ...] = ()
    """The memory tiers behind the devices."""
    explicit_gaps: frozenset[int] = frozenset()
    """Instances whose step rows imply no gaps: all of theirs are in ``gap_s``."""
    later_stages: frozenset[int] = frozenset()
    """Instances that are a later stage of a pipeline: their rows repeat the requests of the first one."""
    verified: Verified | None = None
    """Of all instances that speculate; None: none does."""
    handovers: HandoverRows | None = None
    """KV that went from one instance to another; None: none did."""
    retries: Ints | None = None
    """How often each request was taken up again after a failure; None: nothing failed."""

    @property
    def prefilled_on(self) -> Ints | None:
        """The instance that computed each prompt; None: everywhere the one that decoded."""
        if self.handovers is None:
            return None
        where = self.requests.instance.copy()
        first = self.handovers.migrates == 0
        where[self.handovers.request[first]] = self.handovers.source[first]
        return where
