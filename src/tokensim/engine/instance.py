"""One serving instance: it asks its scheduler for steps, prices them, and runs as many equal ones as it can
at once.

The time axis is the real engine's. Synchronous: a step is scheduled when the one before has ended.
Asynchronous: step k+1 is scheduled when step k starts, so that the device never waits; an arrival during step
k first runs in step k+2, and what a finish in k frees is usable from the schedule of k+2. An instance is
therefore always between two *decisions*; it tells the loop when the next one is due, and an arrival may move
it forward, to the first step boundary that can still react.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, ClassVar

from tokensim.cost.base import StepCost, StepEstimate
from tokensim.engine.axis import TimeAxis, layered
from tokensim.engine.clock import Clock
from tokensim.engine.encoder import Encoder
from tokensim.engine.front_end import FrontEnd, Outputs
from tokensim.engine.pauses import Pauses
from tokensim.engine.tiered import TieredKv
from tokensim.engine.waiting import Waiting
from tokensim.errors import SimulationError
from tokensim.metrics.recorder import (
    FINISHED,
    PACK_CHUNK,
    PACK_GAP,
    PACK_REQUEST,
    PACK_STEP,
    TRUNCATED,
    Recorder,
)
from tokensim.scheduling.local import LocalScheduler, Request, Step

if TYPE_CHECKING:
    from tokensim.engine.ranks import RankGroup
    from tokensim.engine.watch import Watch

FUTILE_PREEMPTIONS = 100
"""Preemptions for each request in the system, without one finish in between, that are taken for a live-lock.
Real engines know such states too (``scheduler_reserve_full_isl`` off, a pool that is too small); they never
end by themselves."""


class Instance(TimeAxis):
    """Instance ``index``, in the middle of a run of equal steps or idle (``due_s`` is infinite).

    It has ``entries`` numbers in the log, from ``index`` on. ``notes_gaps``: it writes down every gap between
    two outputs of a request (the durations of its steps do not say them), and ``Request.last_token_s`` is
    always that of the last one.
    """

    entries = 1
    notes_gaps: ClassVar[bool] = False

    def __init__(
        self,
        index: int,
        scheduler: LocalScheduler,
        cost: StepCost,
        recorder: Recorder,
        *,
        max_model_len: int,
        caching: bool,
        asynchronous: bool,
        pause_before_idle: bool,
        on_finish: Callable[[Instance, Sequence[Request], float], None],
        front_end: FrontEnd | None = None,
        clock: Clock | None = None,
        layers: int = 1,
    ) -> None:
        super().__init__(asynchronous=asynchronous, pause_before_idle=pause_before_idle, front_end=front_end)
        self.pause_s = scheduler.pause_s
        self.looks_once_more = scheduler.looks_once_more
        self.index = index
        self.scheduler = scheduler
        self.ranks = (self,)
        self.axis: Instance | RankGroup = self  # what decides for it
        self.on_held: Callable[[Instance, Request, float], None] | None = None
        self.watch: Watch | None = None
        self.on_preempt: Callable[[Request, Instance], None] | None = None
        self.on_chunks: Callable[[Instance, Step, float, float], None] | None = None
        self.cost = cost
        self.estimate: StepEstimate = cost  # for routers
        self.tiers: TieredKv | None = None
        self._step_time = cost.step_time
        self._decode_run = cost.decode_run
        self._note_request = recorder.requests.extend
        self._note_step = recorder.steps.extend
        self._note_chunk = recorder.chunks.extend
        self._note_gap = recorder.gaps.extend
        self._note_encoder = recorder.encoded
        self._note_idle = recorder.note_idle
        self._pauses = Pauses(recorder.gaps.extend)
        self.max_model_len = max_model_len
        self.caching = caching
        self.on_finish = on_finish
        self.clock = clock
        self.layers = layers
        self.encoder: Encoder | None = None  # of images
        self._encoder_s = 0.0  # of the step in flight
        self._compute_time = cost.compute_time
        self._compute_s = 0.0  # of each step of the run, where the clock wants to know
        self._preemptions = 0  # since the last finish
        self._first_blocks = 0  # in use after the last decision
        self.waiting = Waiting()
        self._step: Step | None = None  # in flight: the first of the run

    def wake(self, request: Request, now: float) -> None:
        """Take a request while idle."""
        if self.in_view:
            self.before_change(self, now)
        if self.tiers is not None:
            self.tiers.identify(request)
        self.waiting.came_s += now
        self.scheduler.add(request)
        self.due_s = max(now, self._ready_s)

    def arrive(self, request: Request, now: float, follows: bool) -> bool:
        """Take a request while busy; whether ``due_s`` has moved forward. ``follows``: it misses a decision
        taken at this very instant. HOT PATH.
        """
        if self.in_view:
            self.before_change(self, now)
        if self.tiers is not None:
            self.tiers.identify(request)
        self.waiting.came_s += now
        if not self.scheduler.add(request) or self._run == 1:
            return False
        return self._cut(now, follows)

    def decide(self, now: float) -> None:
        """A decision is due: process the output of the step before, schedule the next steps. HOT PATH."""
        if self.in_view:
            self.before_change(self, now)
        scheduler = self.scheduler
        self.waiting.count(now, len(scheduler.waiting))
        flying = self._step
        if flying is not None:
            if self._run > 1:
                scheduler.advance(self._run - 1)
            self._record(flying)
            if self.clock is not None:
                self.clock.count(self._compute_s * self._run)
            last = flying.index + self._run - 1
            if not self.asynchronous:
                self._finish(last)
                flying = None
        before_s = self.end_s
        unfinished = flying is not None
        if self.notices:
            self._heed(now)
        if self.orders:
            if unfinished:
                self._finish(last)
                unfinished = False
            self._obey(before_s if flying is not None else now)
            if self.down:
                self._stop()
                return
        if self.clock is not None:
            self.clock.look(now)
        step = scheduler.schedule(now)
        if self.tiers is not None:
            self.tiers.scheduled(step, now)
        if step.preempted or step.sat_out:
            self._note_interruptions(step, before_s)
        for request in step.lost:
            self._pauses.lose(request, before_s, now, self._outputs)
        if step.lost and self.watch is not None:
            self.watch.lost(self, step.lost, before_s)
        if step.paused:
            self._pauses.sit_out(step.paused, before_s)
        if unfinished:
            self._finish(last)
        self.look(now)
        decode, chunks = step.decode, step.chunks
        if not (decode or chunks):
            self._step = None
            work = bool(scheduler.running or scheduler.waiting)
            self._rest(now, work, bool(step.preempted) or step.again, flying is not None)
            return
        self._step = step
        self._start_s = start = before_s if flying is not None else now
        if chunks:
            self._run = 1
            self._first_s = first = self._step_time(
                decode,
                step.context,
                step.window_context,
                step.longest,
                chunks,
                decode + len(step.firsts),
            )
            if step.adapters:
                self._first_s = first = first + self._adapters_time(step)
            if self.clock is not None:
                self._compute_s = self._compute_time(decode + sum(tokens for tokens, _ in chunks))
                self._first_s = first = first + self._compute_s * self.clock.share
            if step.overlap_s or step.stall_s:
                self._first_s = first = self._with_copies(first, step)
            if self.encoder is not None:
                self._encoder_s = self.encoder.seconds(step)
                self._first_s = first = first + self._encoder_s
            self.end_s = end = start + first
            self.due_s = start if self.asynchronous else end
            if self.on_chunks is not None:
                self.on_chunks(self, step, start, first)
            if self.watch is not None:
                self.watch.before(self, step, start, first)
            if self.tiers is not None:
                self.tiers.computed(step, end)
            if self.front_end is not None:
                firsts = [r for r in step.firsts if r.first_token_s != r.first_token_s]
                outputs = decode - step.idle + len(step.firsts)
                self._outputs = Outputs(end, first, 0.0, 1, outputs, firsts)
            for request in step.firsts:
                if request.first_token_s != request.first_token_s:
                    request.first_token_s = end
                else:  # it goes on after a preemption
                    self._note_gap(PACK_GAP(end - request.last_token_s, 1))
                    self._pauses.resume(request, end)
                request.last_token_s = end
            if step.came_back or self._pauses:
                self._note_returns(step)
            return
        self._first_s, self._growth_s, steps = self._decode_run(
            decode, step.context, step.window_context, step.window_growth, step.longest
        )
        if step.adapters:
            self._first_s += self._adapters_time(step)
        if self.clock is not None:
            self._compute_s = self._compute_time(decode)
            self._first_s += self._compute_s * self.clock.share
        if step.stall_s or step.overlap_s:
            self._first_s, steps = self._with_copies(self._first_s, step), 1
        if self.front_end is not None:
            tokens = decode - step.idle
            self._outputs = Outputs(start + self._first_s, self._first_s, self._growth_s, 1, tokens)
        allowed = scheduler.run_length(step)
        self._set_run(allowed if allowed < steps else steps)
        if self.clock is not None and self._run > 1:
            until = self._boundary(self.clock.next_s, False)
            if until < self._run:
                self._set_run(until)
        if self.watch is not None:
            self._set_run(1)
            self.watch.before(self, step, start, self._first_s)
        if step.came_back or self._pauses:
            self._note_returns(step)

    def look(self, now: float) -> None:
        """How things stand after the decision at ``now``."""
        scheduler = self.scheduler
        self.waiting.look(now, len(scheduler.waiting))
        self._first_blocks = scheduler.pool.num_blocks - scheduler.pool.free

    def _with_copies(self, seconds: float, step: Step) -> float:
        """How long ``step`` lasts, which would take ``seconds`` if nothing were copied for it."""
        lasts = seconds
        if step.overlap_s:
            lasts = layered(seconds, step.overlap_s, self.layers)
        lasts += step.stall_s
        step.copies_s = lasts - seconds
        return lasts

    def _adapters_time(self, step: Step) -> float:
        """What the adapters of ``step`` add to it."""
        return self.cost.adapters_time(step.decode + sum(new for new, _ in step.chunks), step.adapters)

    def _stop(self) -> None:
        """Nothing runs here any more."""
        self._step = None
        self._run = 1
        self.due_s = inf

    def _finish(self, index: int) -> None:
        """The output of step ``index``, which ends at ``end_s``, has come back."""
        done = self.scheduler.update(index)
        self._hand_over(done)
        if done:
            self._close(done, self.end_s)
            self.on_finish(self, done, self.end_s)

    def _close(self, done: Sequence[Request], end_s: float) -> None:
        """Write down requests that finished at ``end_s``."""
        self._preemptions = 0
        if self.tiers is not None:
            self.tiers.ended(done, end_s)
        for request in done:
            if request.held:  # it goes on elsewhere
                assert self.on_held is not None
                self.on_held(self, request, end_s)
                continue
            output = min(request.length - request.input_tokens, request.output_tokens)
            self.note(request, end_s, output, FINISHED if output == request.output_tokens else TRUNCATED)

    def note(self, request: Request, end_s: float, output: int, status: int) -> None:
        """Write down all about ``request``: it finished at ``end_s`` with ``output`` tokens, or the run is
        over."""
        self._note_request(
            PACK_REQUEST(
                request.index,
                self.index,
                request.arrival_s,
                request.scheduled_s,
                request.first_token_s,
                end_s,
                output,
                request.cached_tokens,
                request.preemptions,
                request.recomputed_tokens,
                status,
            )
        )

    def _note_returns(self, step: Step) -> None:
        """The gap of who decodes again in ``step`` after sitting out reaches back further than the step."""
        end = self._start_s + self._first_s
        if self._pauses and not step.paused:
            self._pauses.end(end, self._first_s)
        for request in step.came_back:
            self._note_gap(PACK_GAP(end - request.last_token_s, 1))
            self._note_gap(PACK_GAP(self._first_s, -1))

    def _note_interruptions(self, step: Step, before_s: float) -> None:
        """Who lost its place in the batch: its last token came with the step before."""
        self._check_progress(step)
        for request, decoded in step.preempted:
            if decoded:
                request.last_token_s = self.last_token_s(request, before_s)
        for request in step.sat_out:
            request.last_token_s = self.last_token_s(request, before_s)

    def _check_progress(self, step: Step) -> None:
        """Say who was preempted; stop if requests do nothing but push each other out."""
        self._preemptions += len(step.preempted)
        scheduler = self.scheduler
        bound = FUTILE_PREEMPTIONS * (10 + len(scheduler.running) + len(scheduler.waiting))
        if self._preemptions > bound:
            raise SimulationError(
                f"instance {self.index} ({type(scheduler).__name__}) is in a live-lock: {bound:,} preemptions"
                " without one finished request; the requests push each other out of a KV pool that is too"
                " small for them (scheduler_reserve_full_isl admits them only when their prompt fits)"
            )
        if self.on_preempt is not None:
            for request, _ in step.preempted:
                self.on_preempt(request, self)

    def last_token_s(self, request: Request, before_s: float) -> float:
        """When the last token of ``request`` came, which does not decode after the step that ended at
        ``before_s``."""
        return self._pauses.drop_out(request, before_s)

    def _record(self, step: Step) -> None:
        """Write down the run that has just been completed. HOT PATH."""
        scheduler, chunks = self.scheduler, step.chunks
        if self.watch is not None:
            self.watch.after(self, step, self.end_s)
        pool = scheduler.pool
        if step.idle:
            self._note_idle(step.idle)
        if chunks:
            for tokens, before in chunks:
                self._note_chunk(PACK_CHUNK(tokens, before))
            if self._encoder_s:
                self._note_encoder(self._encoder_s)
                self._encoder_s = 0.0
        self._note_step(
            PACK_STEP(
                self.index,
                self._start_s,
                self._first_s,
                self.clock.share if self.clock is not None else 0.0,
                0.0 if self._run == 1 else self._growth_s,
                self._run,
                step.decode,
                step.context,
                step.window_context,
                step.window_growth,
                step.longest,
                step.decode + len(step.firsts),
                len(scheduler.running),
                len(scheduler.waiting),
                pool.num_blocks - pool.free,
                self._first_blocks,
                self.waiting.take(),
                len(chunks),
                step.adapters,
                step.copies_s,
            )
        )
