"""An instance whose steps pass through pipeline stages, several of them in flight.

The engine's core (vLLM's ``step_with_batch_queue``) schedules a batch and puts it into a queue; while the
queue has room it schedules the next one at once, else it waits for the oldest batch, whose output it then
processes. A batch takes each stage in turn: a stage serves one batch at a time, in order, and hands the
activations to the next one. The host prepares a batch before its first stage, one after the other, behind
what the stages do. A decode that was scheduled before the token it builds on is known starts when the last
stage has sampled it and sent it to the first.

A stage has a row of the step log for each batch (and a number among the instances), so that busy time,
utilisation, energy and operators are those of its devices; what a row does not cover is a bubble. Tokens come
when the core has processed the output of the last stage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

from tokensim.cost.base import StepCost
from tokensim.cost.host import Host
from tokensim.cost.sends import Send
from tokensim.cost.staged import StagedEstimate
from tokensim.engine.ahead import Ahead, gaps_of, rows_of
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import Outputs
from tokensim.engine.instance import Instance
from tokensim.engine.outputs import note_outputs
from tokensim.engine.pace import Pace
from tokensim.metrics.recorder import PACK_CHUNK, PACK_STEP, Recorder
from tokensim.scheduling.local import PipelinedBatching, Request
from tokensim.scheduling.local.base import EMPTY_STEP_PAUSE_S
from tokensim.scheduling.local.flight import FlightStep

FEWEST_STEPS, MOST_STEPS = 32, 8192
"""So many steps are worked out ahead: twice as many after each time that nothing interrupted them, half as
many after an interruption, so that what is worked out in vain stays in proportion."""


class Stage:
    """One stage: what a batch costs here, when it is free, how its clock stands."""

    def __init__(self, cost: StepCost, send: Send | None, clock: Clock | None) -> None:
        self.free_s = 0.0
        self.send = send
        self.clock = clock
        self.cost = cost
        self._step_time = cost.step_time
        self._decode_run = cost.decode_run
        self._compute_time = cost.compute_time

    def serve(self, step: FlightStep, tokens: int, ready_s: float) -> tuple[float, float, float]:
        """``step`` of ``tokens`` rows takes this stage from ``ready_s`` on, or once it is free: (start,
        seconds, share of compute-bound time that the clock adds)."""
        start = ready_s if ready_s > self.free_s else self.free_s
        decode, context, window, longest = step.decode, step.context, step.window_context, step.longest
        if step.chunks:
            seconds = self._step_time(
                decode, context, window, longest, step.chunks, decode + len(step.firsts)
            )
        else:
            seconds, _, _ = self._decode_run(decode, context, window, 0, longest)
        share = 0.0
        if self.clock is not None:
            self.clock.look(start)
            share = self.clock.share
            compute_s = self._compute_time(tokens)
            self.clock.count(compute_s)
            seconds += compute_s * share
        self.free_s = start + seconds
        return start, seconds, share


class Batch:
    """A step in the queue: its times on each stage, and when its output is there."""

    __slots__ = ("end_s", "step", "times")

    def __init__(self, step: FlightStep, times: list[tuple[float, float, float]], end_s: float) -> None:
        self.step = step
        self.times = times
        self.end_s = end_s


class Pipeline(Instance):
    """Instance ``index`` and the numbers after it, one a stage.

    ``queue_size`` batches are in flight at most; ``queues_on_empty``: after a schedule that found nothing the
    core goes on as long as the queue has room (see ``versions.Rules``). A ``clocks`` entry is that of a
    stage. ``options`` are those of ``Instance``.
    """

    scheduler: PipelinedBatching
    notes_gaps = True

    def __init__(
        self,
        index: int,
        scheduler: PipelinedBatching,
        costs: Sequence[StepCost],
        sends: Sequence[Send],
        host: Host,
        recorder: Recorder,
        *,
        queue_size: int,
        queues_on_empty: bool,
        clocks: Sequence[Clock] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(index, scheduler, costs[0], recorder, **options)
        self.estimate = StagedEstimate(costs, sends)
        self.entries = len(costs)
        recorder.explicit_gaps.update(range(index, index + len(costs)))
        recorder.later_stages.update(range(index + 1, index + len(costs)))
        self.stages = tuple(
            Stage(cost, send, clock)
            for cost, send, clock in zip(costs, (*sends, None), clocks or (None,) * len(costs), strict=True)
        )
        self.host = host
        self.queue_size = queue_size
        self.queues_on_empty = queues_on_empty
        self._token_s = sends[-1].fixed_s  # sampled tokens go from the last stage to the first
        self._batches: deque[Batch] = deque()
        self._host_free_s = 0.0
        self._awaited = False  # the core waits for the oldest batch
        self._executed = True  # the last iteration of the core scheduled something
        self._unannounced = False  # a finish that the workers have not been told yet
        self._clocked = clocks is not None
        self._ahead: Ahead | None = None  # steps that have been worked out, and not all committed
        self._before: list[Batch] = []  # those in flight before these
        self._ahead_used = 0
        self._stretch = FEWEST_STEPS  # so many are worked out at once
        self._empty = 0  # schedules in a row that found nothing to run

    def arrive(self, request: Request, now: float, follows: bool) -> bool:
        """Take a request while busy: the core sees it when it schedules next. See ``Instance.arrive``."""
        if self.in_view:
            self.before_change(self, now)
        if self.tiers is not None:
            self.tiers.identify(request)
        self._commit(now, follows)
        changes = self.scheduler.add(request)
        return changes and self._cut(now, follows)

    def settle(self, now: float, follows: bool) -> bool:
        """See ``TimeAxis.settle``."""
        self._commit(now, follows)
        return self._ahead is not None

    def intake(self, now: float) -> float:
        """See ``TimeAxis.intake``."""
        self._commit(now, False)
        return super().intake(now)

    def _cut(self, now: float, strictly: bool) -> bool:
        """See ``TimeAxis._cut``: the next step is decided anew."""
        self._commit(now, strictly)
        ahead = self._ahead
        if ahead is None:
            return False
        self._ahead = None
        self.due_s = ahead.due_s[ahead.done]
        if self._stretch > FEWEST_STEPS:
            self._stretch //= 2
        return ahead.done < ahead.rotation.steps

    def decide(self, now: float) -> None:
        """The core is free: process the output that it waited for, schedule what the queue has room for."""
        if self.in_view:
            self.before_change(self, now)
        if self._ahead is not None:
            self._commit(now, True)
            self._ahead = None
            if self._stretch < MOST_STEPS:
                self._stretch *= 2
        scheduler, batches = self.scheduler, self._batches
        if self._awaited:
            self._awaited = False
            self._receive(batches.popleft(), now)
            if self._sleeps(now):
                return
        while True:
            if self.notices:
                self._heed(now)
            if self.orders and not batches:
                self._obey(now)
                if self.down:
                    self._stop()
                    return
            if (scheduler.running or scheduler.waiting or self._unannounced) and not self.orders:
                if self.watch is not None and not scheduler.walks:
                    scheduler.walk_from_now_on()
                step = scheduler.schedule(now)
                if self.tiers is not None:
                    self.tiers.scheduled(step, now)
                if step.preempted:
                    self._check_progress(step)
                self._executed = not step.empty
                self._unannounced = False
                self._empty = 0 if self._executed or step.preempted else self._empty + 1
                batches.append(self._launch(step, now))
                if len(batches) < self.queue_size:
                    if self._executed:
                        continue
                    if self.queues_on_empty and (scheduler.running or scheduler.waiting):
                        self._sleeps(now)
                        return
                if self._empty > self.queue_size:  # nothing is on its way that could change that
                    self._give_up()
                    return
            elif batches:
                self._executed = False
            else:
                self.due_s = inf
                return
            if batches[0].end_s > now:
                self._awaited = True
                self.due_s = batches[0].end_s
                if len(batches) == self.queue_size and self._foresees:
                    self._look_ahead()
                return
            self._receive(batches.popleft(), now)
            if self._sleeps(now):
                return

    @property
    def _foresees(self) -> bool:
        """Whether nobody looks, or wants something, before the next step."""
        return not (self.in_view or self.orders or self.notices or self.watch is not None or self._clocked)

    def _look_ahead(self) -> None:
        """Work out the next steps, as far as they can be foreseen."""
        rotation = self.scheduler.rotation(self._stretch)
        if rotation is None:
            return
        steps, period = rotation.steps, len(rotation.places)
        durations = []
        for at, place in enumerate(rotation.places):
            shape = (place.decode, place.context, place.window_context, place.window_growth, place.longest)
            runs = [stage.cost.decode_run(*shape) for stage in self.stages]
            steps = min(steps, at + period * min(run[2] for run in runs))
            durations.append([(run[0], run[1]) for run in runs])
        rotation = replace(rotation, steps=steps)
        sends = [stage.send for stage in self.stages]
        self._before = list(self._batches)
        pool = self.scheduler.pool
        self._ahead_used = pool.num_blocks - pool.free
        pace = Pace(
            durations,
            [[0.0 if send is None else send.seconds(p.decode) for send in sends] for p in rotation.places],
            [self.host.busy_s(place.decode) for place in rotation.places],
            now=self.due_s,
            ends_s=[batch.end_s for batch in self._batches],
            free_s=[stage.free_s for stage in self.stages],
            host_s=self._host_free_s,
            token_s=self._token_s if len(self._batches) > period else None,
        )
        self._ahead = Ahead(rotation, pace)
        self.due_s = self._ahead.due_s[-1]

    def _commit(self, now: float, follows: bool) -> None:
        """What was worked out ahead and is due before ``now`` (``follows``: or then) has happened."""
        ahead = self._ahead
        if ahead is None:
            return
        done, steps = ahead.done, ahead.steps_by(now, follows)
        if steps == done:
            return
        scheduler, before = self.scheduler, self._before
        first = len(before)
        for number in range(done, min(steps, first)):
            self._record_stages(before[number], self._ahead_used + int(ahead.blocks[number]))
            self._hand_out(before[number], ahead.due_s[number])
        first = max(done, first)
        if steps > first:
            counts = (len(scheduler.running), len(scheduler.waiting), self._ahead_used)
            self._note_step(rows_of(ahead, first, steps, self.index, counts))
            self._note_gap(gaps_of(ahead, first, steps))
            if self.front_end is not None:
                for number in range(first, steps):
                    outputs = ahead.rotation.place_of(number).decode
                    self.front_end.put(Outputs(ahead.due_s[number], 0.0, 0.0, 1, outputs))
        flying = ahead.commit(steps)
        queue = len(flying)
        self._batches = deque(
            before[number]
            if number < queue
            else Batch(step, ahead.times(number - queue), ahead.pace.ends_s[number])
            for number, step in enumerate(flying, steps)
        )
        self._host_free_s = ahead.pace.host_s[steps - 1]
        for stage, free_s in zip(self.stages, ahead.free_s(steps), strict=True):
            stage.free_s = free_s
        self.end_s = ahead.pace.ends_s[steps + queue - 1]

    def _sleeps(self, now: float) -> bool:
        """Whether the core sleeps before its next iteration, as the last one had nothing to run."""
        scheduler = self.scheduler
        work = bool(scheduler.running or scheduler.waiting)
        if self._executed or not (work or (self.pause_before_idle and self._unannounced)):
            return False
        self.due_s = now + EMPTY_STEP_PAUSE_S
        return True

    def _give_up(self) -> None:
        """Requests wait, but nothing can run until another one arrives."""
        for batch in self._batches:
            self.scheduler.update(batch.step.index)
        self._batches.clear()
        self._empty = 0
        self.due_s = inf

    def _launch(self, step: FlightStep, now: float) -> Batch:
        """``step``, scheduled at ``now``, on its way through the stages; an empty one passes at no cost."""
        if step.empty:
            return Batch(step, [], max(now, self.end_s))
        tokens = step.decode + sum(new for new, _ in step.chunks)
        self._host_free_s = ready_s = max(now, self._host_free_s) + self.host.busy_s(
            step.decode + len(step.chunks)
        )
        for batch in self._batches:
            if batch.step.index == step.builds_on:  # scheduled before its tokens are known, not run
                ready_s = max(ready_s, batch.end_s + self._token_s)
        times = []
        for stage in self.stages:
            start, seconds, share = stage.serve(step, tokens, ready_s)
            times.append((start, seconds, share))
            self.end_s = ready_s = start + seconds
            if stage.send is not None:
                ready_s += stage.send.seconds(tokens)
        if self.watch is not None:
            parts = [(stage.cost, seconds) for stage, (_, seconds, _) in zip(self.stages, times, strict=True)]
            self.watch.before(self, step, times[0][0], self.end_s - times[0][0], parts)
        if step.chunks and self.on_chunks is not None:
            self.on_chunks(self, step, times[0][0], self.end_s - times[0][0])
        if step.chunks and self.tiers is not None:
            self.tiers.computed(step, self.end_s)
        return Batch(step, times, self.end_s)

    def _receive(self, batch: Batch, now: float) -> None:
        """The output of ``batch`` is there: write down what ran, hand out its tokens."""
        step = batch.step
        if step.empty:
            self.scheduler.update(step.index)
            return
        pool = self.scheduler.pool
        self._record_stages(batch, pool.num_blocks - pool.free)
        done = self.scheduler.update(step.index)
        if self.watch is not None:
            self.watch.outputs(self, step.put_out, now)
            self.watch.after(self, step, now)
        self._hand_out(batch, now, done)
        if done:
            self._unannounced = True
            self._close(done, now)
            self.on_finish(self, done, now)

    def _hand_out(self, batch: Batch, now: float, done: Sequence[Request] = ()) -> None:
        """The tokens of ``batch`` are there; ``done`` end with it."""
        step = batch.step
        fresh = note_outputs(step, now, self._note_gap)
        if self.front_end is not None:
            outputs = len(step.put_out) if step.cohort is None else step.decode + len(step.firsts)
            self.front_end.put(Outputs(now, batch.times[-1][1], 0.0, 1, outputs, fresh, done=tuple(done)))

    def _record_stages(self, batch: Batch, used_blocks: int) -> None:
        """A row of the log for each stage."""
        scheduler, step = self.scheduler, batch.step
        for number, (start, seconds, share) in enumerate(batch.times):
            for tokens, before in step.chunks:
                self._note_chunk(PACK_CHUNK(tokens, before))
            self._note_step(
                PACK_STEP(
                    self.index + number,
                    start,
                    seconds,
                    share,
                    0.0,
                    1,
                    step.decode,
                    step.context,
                    step.window_context,
                    0,
                    step.longest,
                    step.decode + len(step.firsts),
                    len(scheduler.running),
                    len(scheduler.waiting),
                    used_blocks,
                    used_blocks,
                    len(scheduler.waiting) * seconds,
                    len(step.chunks),
                    step.adapters,
                    step.copies_s,
                )
            )
