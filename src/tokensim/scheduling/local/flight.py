"""What of a request is on its way: tokens scheduled whose output has not come back, drafts that wait.

Names are those of the scheduler's specification: ``placeholders`` stand for tokens that are not known yet but
that the next step builds on (asynchronous scheduling).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.cohorts import Cohort


class Flight:
    """The account of one request.

    ``tokens`` in steps whose output has not been processed; ``stale``: of them, those of before a preemption.
    ``drafts`` wait to be verified. ``eligible``: the first step in which it may decode again. ``chunk``: the
    last step that it was in left something of its prompt undone. ``full`` blocks are in the prefix cache.
    ``sampled_in``: the last step that sampled for it. ``cohort``: it decodes with these (all but ``tokens``
    and ``full`` is theirs to say then), or has had its last turn with them, when KV up to their turn
    ``level`` was in the prefix cache.
    """

    __slots__ = (
        "chunk",
        "cohort",
        "drafts",
        "eligible",
        "full",
        "level",
        "placeholders",
        "sampled_in",
        "stale",
        "tokens",
    )

    def __init__(self) -> None:
        self.tokens = 0
        self.stale = 0
        self.placeholders = 0
        self.drafts = 0
        self.eligible = 0
        self.chunk = True
        self.full = 0
        self.level = 0
        self.sampled_in = 0
        self.cohort: Cohort | None = None


class Row:
    """One request in one step: ``tokens`` after ``before`` computed ones.

    The last ``drafts`` of them are drafts (``padded``: fillers), ``accepted`` of which are accepted, once
    that is known. ``samples``: its output has tokens; ``returned`` of them came back, before what is beyond
    the request's end was cut off. ``served_running``: it ran before.
    """

    __slots__ = (
        "accepted",
        "before",
        "drafts",
        "flight",
        "padded",
        "request",
        "returned",
        "samples",
        "served_running",
        "tokens",
    )

    def __init__(
        self,
        request: Request,
        flight: Flight,
        tokens: int,
        before: int,
        drafts: int,
        served_running: bool,
    ) -> None:
        self.request = request
        self.flight = flight
        self.tokens = tokens
        self.before = before
        self.drafts = drafts
        self.padded = False
        self.served_running = served_running
        self.samples = False
        self.returned = 0
        self.accepted = 0


class FlightStep(Step):
    """A step as a list of ``rows``, in scheduling order.

    ``drafts`` are verified beside the decodes: the step has ``decode + drafts`` rows, and as many samples,
    besides its chunks. ``put_out`` are the requests that its output had tokens for,
    with their number. ``prefills``: it admitted
    somebody with more than one token to compute. ``builds_on``: the last step whose samples it decodes (0:
    none).

    Decided by cohorts, ``rows`` are its chunks alone: the decodes are turn ``turn`` of ``cohort``, which
    those that get their first token join. ``last`` get their last token; ``waited``: since when decodes have
    waited for a token, where it is not the same for all.
    """

    __slots__ = ("builds_on", "cohort", "drafts", "last", "prefills", "put_out", "rows", "turn", "waited")

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.rows: list[Row] = []
        self.chunks, self.chunk_requests, self.firsts, self.admitted = [], [], [], []
        self.put_out: list[tuple[Request, int]] = []
        self.drafts = 0
        self.builds_on = 0
        self.prefills = False
        self.cohort: Cohort | None = None
        self.turn = 0
        self.last: list[Request] = []
        self.waited: Mapping[float, int] = {}

    @property
    def empty(self) -> bool:
        """Nothing runs."""
        return not (self.rows or self.decode)
