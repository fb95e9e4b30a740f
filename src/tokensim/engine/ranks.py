"""Data-parallel ranks of one instance: each an engine core of its own, with its scheduler and KV pool.

Of a model with experts the ranks share them, and so take every step together (``RankGroup``): while any rank
has work, all run a step, a dummy one where there is nothing to run, and it lasts as long for all. The group
has one time axis, that of an instance; at each decision every rank with requests asks its own scheduler. A
run of equal steps is as long as the shortest of the ranks', and ends where another rank becomes the slowest.

Of a dense model the ranks have nothing in common but the address (``RankSet``): they are driven as instances
of their own, and take requests in turn (its cores report no counts to vLLM's balancer, so that it only knows
what it has sent itself).

vLLM's ranks agree on having nothing left to do only every 32 steps, and run dummies until then; these are
left out: a request that comes then would wait for the end of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from math import inf
from typing import Any

from tokensim.cost.base import StepCost
from tokensim.cost.ranks import GroupRun, RanksCost, RankStep
from tokensim.engine.axis import TimeAxis
from tokensim.engine.balancer import Balancer
from tokensim.engine.clock import Clock
from tokensim.engine.front_end import FrontEnd, Outputs
from tokensim.engine.instance import Instance
from tokensim.metrics.recorder import PACK_GAP, PACK_TOGETHER, STEP_BYTES, Recorder
from tokensim.scheduling.local import LocalScheduler, Request, Step

FAR = 1 << 60


class Queues:
    """The requests of several schedulers, as a router sees them."""

    def __init__(self, schedulers: Sequence[LocalScheduler]) -> None:
        self._schedulers = schedulers

    @property
    def running(self) -> Collection[Request]:
        """Of all of them."""
        return _Chain([scheduler.running for scheduler in self._schedulers])

    @property
    def waiting(self) -> Collection[Request]:
        """Of all of them."""
        return _Chain([scheduler.waiting for scheduler in self._schedulers])


class _Chain(Collection[Request]):
    """Several collections as one."""

    def __init__(self, parts: Sequence[Collection[Request]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def __iter__(self) -> Iterator[Request]:
        return chain.from_iterable(self._parts)

    def __contains__(self, request: object) -> bool:
        return any(request in part for part in self._parts)


class RankSet:
    """Ranks that run on their own; ``index`` is that of the first."""

    def __init__(self, ranks: Sequence[Instance]) -> None:
        self.index = ranks[0].index
        self.ranks = tuple(ranks)
        self.scheduler = Queues([rank.scheduler for rank in ranks])
        self._turn = -1

    def take(self) -> Instance:
        """The rank that takes the next request: each in turn."""
        self._turn = (self._turn + 1) % len(self.ranks)
        return self.ranks[self._turn]


class Rank(Instance):
    """One rank of a group, which takes its decisions with the others."""

    def collect(self, run: int, start_s: float, first_s: float, growth_s: float, end_s: float) -> None:
        """The group's run of ``run`` steps is complete: commit and note this rank's part of it."""
        self._run, self._start_s, self._first_s, self._growth_s = run, start_s, first_s, growth_s
        self.end_s = end_s
        step = self._step
        if step is None:
            self._record(Step(0))
            return
        if run > 1:
            self.scheduler.advance(run - 1)
        self._record(step)

    def finished(self, end_s: float) -> Sequence[Request]:
        """The output of the last step of the run, which ends at ``end_s``, has come back: who finished."""
        step, self._step = self._step, None
        if step is None:
            return ()
        done = self.scheduler.update(step.index + self._run - 1)
        if done:
            self._close(done, end_s)
        return done

    def plan(self, now: float, before_s: float) -> Step | None:
        """What this rank runs next, decided at ``now``; None if it has no requests at all."""
        scheduler = self.scheduler
        if not (scheduler.running or scheduler.waiting):
            return None
        step = scheduler.schedule(now)
        if self.tiers is not None:
            self.tiers.scheduled(step, now)
        if step.preempted or step.sat_out:
            self._note_interruptions(step, before_s)
        if step.paused:
            self._pauses.sit_out(step.paused, before_s)
        return step

    def begin(self, step: Step | None, start_s: float, first_s: float) -> list[Request]:
        """``step`` starts, and lasts ``first_s``; returns the requests whose first token comes with it."""
        self._step = step
        if step is None:
            return []
        self._start_s, self._first_s = start_s, first_s
        if step.chunks and self.on_chunks is not None:
            self.on_chunks(self, step, start_s, first_s)
        if self.watch is not None:
            self.watch.before(self, step, start_s, first_s)
        end_s = start_s + first_s
        if step.chunks and self.tiers is not None:
            self.tiers.computed(step, end_s)
        fresh = []
        for request in step.firsts:
            if request.first_token_s != request.first_token_s:
                request.first_token_s = end_s
                fresh.append(request)
            else:  # it goes on after a preemption
                self._note_gap(PACK_GAP(end_s - request.last_token_s, 1))
            request.last_token_s = end_s
        if step.came_back or self._pauses:
            self._note_returns(step)
        return fresh

    def allowed(self, step: Step | None) -> int:
        """How many equal steps this rank agrees to; a rank without requests agrees to any number."""
        if self.watch is not None:
            return 1
        if step is not None and not step.empty:
            return 1 if step.stall_s else self.scheduler.run_length(step)
        return 1 if self.scheduler.running or self.scheduler.waiting else FAR


class RankGroup(TimeAxis):
    """Ranks that step together; the loop drives it like one instance. ``index`` is that of its first rank."""

    def __init__(
        self,
        index: int,
        schedulers: Sequence[LocalScheduler],
        cost: StepCost,
        ranks_cost: RanksCost,
        recorder: Recorder,
        *,
        max_model_len: int,
        caching: bool,
        asynchronous: bool,
        pause_before_idle: bool,
        on_finish: Callable[[Any, Sequence[Request], float], None],
        front_end: FrontEnd | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(asynchronous=asynchronous, pause_before_idle=pause_before_idle, front_end=front_end)
        self.index = index
        self.ranks = tuple(
            Rank(
                index + number,
                scheduler,
                cost,
                recorder,
                max_model_len=max_model_len,
                caching=caching,
                asynchronous=asynchronous,
                pause_before_idle=pause_before_idle,
                on_finish=on_finish,
                clock=clock,
            )
            for number, scheduler in enumerate(schedulers)
        )
        for rank in self.ranks:
            rank.axis = self
        self.scheduler = Queues(schedulers)
        self.note = self.ranks[0].note
        self.max_model_len = max_model_len
        self.caching = caching
        self.on_finish = on_finish
        self.clock = clock
        self._price = ranks_cost.price
        self._compute_times = ranks_cost.compute_times
        self._balancer = Balancer(len(self.ranks))
        self._recorder = recorder
        self._running: GroupRun | None = None  # in flight
        self._slowed: tuple[float, ...] = ()  # what the clock adds to each rank's waits
        self._compute_s = 0.0  # of each step of the run, where the clock wants to know

    def wake(self, request: Request, now: float) -> None:
        """Take a request while idle."""
        if self.in_view:
            self.before_change(self, now)
        self._add(request, now)
        self.due_s = max(now, self._ready_s)

    def arrive(self, request: Request, now: float, follows: bool) -> bool:
        """Take a request while busy; whether ``due_s`` has moved forward. ``follows``: it misses a decision
        taken at this very instant. Every arrival ends the run, as it changes what the balancer hears."""
        if self.in_view:
            self.before_change(self, now)
        self._add(request, now)
        return self._cut(now, follows)

    def _add(self, request: Request, now: float) -> None:
        rank = self.ranks[self._balancer.choose(now)]
        if rank.tiers is not None:
            rank.tiers.identify(request)
        rank.scheduler.add(request)
        rank.waiting.came_s += now

    def decide(self, now: float) -> None:
        """A decision is due: process the output of the steps before, schedule the next ones."""
        if self.in_view:
            self.before_change(self, now)
        for rank in self.ranks:
            rank.waiting.count(now, len(rank.scheduler.waiting))
        flying = self._running is not None
        before_s = self.end_s
        if self._running is not None:
            self._collect(self._running)
            if not self.asynchronous:
                self._finish()
                flying = False
        unfinished = flying
        if self.notices:
            self._heed(now)
        if self.orders:
            if unfinished:
                self._finish()
                unfinished = False
            self._obey(before_s if flying else now)
            if self.down:
                self._stop()
                return
        if self.clock is not None:
            self.clock.look(now)
        planned = [rank.plan(now, before_s) for rank in self.ranks]
        if unfinished:
            self._finish()
        for rank in self.ranks:
            rank.look(now)
        self._balancer.report(
            before_s if flying else now,
            [(len(rank.scheduler.waiting), len(rank.scheduler.running)) for rank in self.ranks],
        )
        steps = [None if step is None or step.empty else step for step in planned]
        if not any(steps):
            self._running = None
            work = any(rank.scheduler.running or rank.scheduler.waiting for rank in self.ranks)
            preempted = any(step is not None and step.preempted for step in planned)
            self._rest(now, work, preempted, flying)
            return
        self._begin(steps, before_s if flying else now)

    def _stop(self) -> None:
        """Nothing runs here any more."""
        self._running = None
        self._run = 1
        self.due_s = inf

    def _begin(self, steps: Sequence[Step | None], start_s: float) -> None:
        """``steps`` of the ranks, of which at least one has work, start at ``start_s``."""
        self._running = run = self._price([None if step is None else _shape(step) for step in steps])
        self._start_s, self._first_s, self._growth_s = start_s, run.first_s, run.growth_s
        if self.clock is not None:
            own, pooled = self._compute_times(run)
            self._compute_s = max(own) + pooled
            self._first_s += self._compute_s * self.clock.share
            self._slowed = tuple((max(own) - mine) * self.clock.share for mine in own)
        self._first_s += max(0.0 if step is None else step.stall_s for step in steps)
        first_s = self._first_s
        fresh: list[Request] = []
        outputs = 0
        for rank, step in zip(self.ranks, steps, strict=True):
            fresh += rank.begin(step, start_s, first_s)
            outputs += 0 if step is None else step.decode + len(step.firsts) - step.idle
        if self.front_end is not None:
            self._outputs = Outputs(start_s + first_s, first_s, run.growth_s, 1, outputs, fresh)
        agreed = [rank.allowed(step) for rank, step in zip(self.ranks, steps, strict=True)]
        self._set_run(min(run.steps, *agreed))
        if self.clock is not None:
            self._cut(self.clock.next_s, False)

    def _collect(self, group: GroupRun) -> None:
        """Write down the run that has just been completed."""
        run = self._run
        growth_s = 0.0 if run == 1 else self._growth_s
        share_s = self._slowed or (0.0,) * len(self.ranks)
        notes = self._recorder
        for rank, rows, (wait_s, more_s), slowed_s in zip(
            self.ranks, group.rows, group.waits, share_s, strict=True
        ):
            waited_s = run * (wait_s + slowed_s) + more_s * (run * (run - 1) / 2)
            row = len(notes.steps) // STEP_BYTES
            notes.together.extend(PACK_TOGETHER(row, rows, group.pooled_rows, group.exchanged_rows, waited_s))
            rank.collect(run, self._start_s, self._first_s, growth_s, self.end_s)
        if self.clock is not None:
            self.clock.count(self._compute_s * run)

    def _finish(self) -> None:
        """The output of the last step of the run, which ends at ``end_s``, has come back."""
        done = [request for rank in self.ranks for request in rank.finished(self.end_s)]
        self._hand_over(done)
        if done:
            self.on_finish(self, done, self.end_s)


def _shape(step: Step) -> RankStep:
    return RankStep(
        step.decode,
        step.context,
        step.window_context,
        step.window_growth,
        step.longest,
        step.chunks,
        step.decode + len(step.firsts),
    )
