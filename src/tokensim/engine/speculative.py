"""An instance that speculates: each step verifies drafts, so a request gets several tokens at once.

How many it gets is known when the step's output is there; every step is decided anew. The time axis is that
of any instance, synchronous or asynchronous.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tokensim.cost.base import Drafting
from tokensim.cost.speculative import SpeculativeStepCost
from tokensim.engine.front_end import Outputs
from tokensim.engine.instance import Instance
from tokensim.engine.outputs import note_outputs
from tokensim.metrics.log import Verified
from tokensim.metrics.recorder import PACK_DRAFTING, STEP_BYTES, Recorder
from tokensim.scheduling.local import InFlightBatching, Step
from tokensim.scheduling.local.flight import FlightStep


class SpeculativeInstance(Instance):
    """Instance ``index``; its local scheduler keeps an account of what is in flight. ``options`` are those of
    ``Instance``."""

    scheduler: InFlightBatching
    notes_gaps = True

    def __init__(
        self,
        index: int,
        scheduler: InFlightBatching,
        cost: SpeculativeStepCost,
        recorder: Recorder,
        **options: Any,
    ) -> None:
        super().__init__(index, scheduler, cost, recorder, **options)
        recorder.explicit_gaps.add(index)
        self._recorder = recorder
        self._verify_time = cost.verify_time
        self._flying: FlightStep | None = None
        self._spent = (0.0, 0.0, 0.0)  # by the drafter's first pass, its later ones, a search on the host

    def decide(self, now: float) -> None:
        """A decision is due: process the output of the step before, schedule the next one."""
        if self.in_view:
            self.before_change(self, now)
        self.waiting.count(now, len(self.scheduler.waiting))
        flying = self._flying
        if flying is not None:
            self._record(flying)
            if self.clock is not None:
                self.clock.count(self._compute_s)
        before_s = self.end_s
        unfinished = flying
        if flying is not None and (self.orders or not self.asynchronous):
            self._hand_out(flying)
            unfinished = None
        follows = flying is not None and self.asynchronous
        if self.notices:
            self._heed(now)
        if self.orders:
            self._obey(before_s if follows else now)
            if self.down:
                self._flying = None
                self._stop()
                return
        if self.clock is not None:
            self.clock.look(now)
        step = self.scheduler.schedule(now)
        if self.tiers is not None:
            self.tiers.scheduled(step, now)
        if step.preempted:
            self._check_progress(step)
        if unfinished is not None:
            self._hand_out(unfinished)
        self.look(now)
        if step.empty:
            self._flying = None
            self.scheduler.update(step.index)
            work = bool(self.scheduler.running or self.scheduler.waiting)
            self._rest(now, work, bool(step.preempted), follows)
            return
        self._begin(step, before_s if follows else now)

    def _begin(self, step: FlightStep, start_s: float) -> None:
        """``step`` starts at ``start_s``."""
        self._flying = step
        decode, drafts = step.decode, step.drafts
        samples = decode + drafts + len(step.firsts)
        seconds, *spent = self._verify_time(
            decode, drafts, step.context, step.window_context, step.longest, step.chunks, samples
        )
        self._spent = spent[0], spent[1], spent[2]
        if self.clock is not None:
            tokens = decode + drafts + sum(new for new, _ in step.chunks)
            self._compute_s = self._compute_time(tokens)
            seconds += self._compute_s * self.clock.share
        if step.overlap_s:
            seconds = self._with_copies(seconds, step)
        self._start_s, self._first_s = start_s, seconds
        self.end_s = start_s + seconds
        self.due_s = start_s if self.asynchronous else self.end_s
        if step.chunks and self.on_chunks is not None:
            self.on_chunks(self, step, start_s, seconds)
        if step.chunks and self.tiers is not None:
            self.tiers.computed(step, self.end_s)
        if self.watch is not None:
            one = [np.array([part]) for part in self._spent]
            drafting = Drafting(np.array([drafts]), one[0], one[1], one[2])
            self.watch.before(self, step, start_s, seconds, drafting=drafting)

    def _hand_out(self, step: FlightStep) -> None:
        """The output of ``step``, which ends at ``end_s``, has come back."""
        end_s = self.end_s
        scheduler = self.scheduler
        done = scheduler.update(step.index)
        self._recorder.verified[self.index] = Verified(
            scheduler.verified, scheduler.drafted, scheduler.accepted
        )
        if self.watch is not None:
            self.watch.outputs(self, step.put_out, end_s)
        fresh = note_outputs(step, end_s, self._note_gap)
        if self.front_end is not None:
            self.front_end.put(
                Outputs(end_s, self._first_s, 0.0, 1, len(step.put_out), fresh, done=tuple(done))
            )
        if done:
            self._close(done, end_s)
            self.on_finish(self, done, end_s)

    def _record(self, step: Step) -> None:
        """Write down the step that has just been completed."""
        assert isinstance(step, FlightStep)
        notes = self._recorder
        notes.drafting.extend(PACK_DRAFTING(len(notes.steps) // STEP_BYTES, step.drafts, *self._spent))
        super()._record(step)
