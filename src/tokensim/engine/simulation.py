"""The loop: take the next event, let it happen, until nothing is left."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from heapq import heappop
from math import inf, nan, nextafter

from tokensim.engine.agenda import DECISION, DELIVERY, FOLLOW_UP, INTAKE, Agenda
from tokensim.engine.client import Client
from tokensim.engine.instance import Instance
from tokensim.engine.ranks import RankGroup, RankSet
from tokensim.errors import SimulationError
from tokensim.memory import Content
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import PACK_DELIVERY, REJECTED, UNFINISHED, Recorder
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Request
from tokensim.workload.base import Workload

Progress = Callable[[float, int, int], None]
"""Called now and then with (simulated seconds, requests done, requests in all)."""

EVENTS_BETWEEN_LOOKS = 2048  # at the real clock, to call ``progress``
SECONDS_BETWEEN_CALLS = 0.1


class Simulation:
    """One run of ``workload``; instances are added before ``run``.

    A request whose prompt does not leave room for one token in its instance's context is rejected on arrival,
    as the server does; one that would outgrow the context ends there.
    """

    def __init__(self, workload: Workload, router: GlobalScheduler) -> None:
        self.workload = workload
        self.router = router
        self.agenda = Agenda()
        self.recorder = Recorder()
        self.now = 0.0
        self._soon: Instance | RankGroup | None = None
        self.instances: list[Instance | RankGroup] = []
        self.targets: list[Instance | RankGroup | RankSet] = []
        self.client = Client(workload, self.agenda)
        self.done = 0
        self._input = array("q", workload.input_tokens.tobytes())
        self._output = array("q", workload.output_tokens.tobytes())
        self._priority = None if workload.priority is None else array("q", workload.priority.tobytes())
        segments = workload.segments
        self._offsets = None if segments is None else array("q", segments.offsets.tobytes())

    @property
    def next_index(self) -> int:
        """The index of the next instance: the number of ranks before it."""
        return sum(len(instance.ranks) for instance in self.instances)

    def add_instance(self, instance: Instance | RankGroup | RankSet) -> None:
        """Add an instance, one target of the router; its index must be ``next_index``."""
        self.targets.append(instance)
        self.instances += instance.ranks if isinstance(instance, RankSet) else [instance]

    def on_finish(self, instance: Instance | RankGroup, done: Sequence[Request], end_s: float) -> None:
        """``done`` of ``instance`` ended at ``end_s``; behind a front end the client sees it later."""
        self.done += len(done)
        if self.client.reacts:
            if instance.front_end is not None:
                self.agenda.delivery(end_s, instance.front_end)
                return
            for request in done:
                self.client.finished(request.index, end_s)

    def on_delivery(self, request: Request, time: float, last: bool) -> None:
        """A front end has sent the first token of ``request``, or its ``last`` one, to the client."""
        self.recorder.deliveries.extend(PACK_DELIVERY(request.index, last, time))
        if last and self.client.reacts:
            self.client.finished(request.index, time)

    def run(self, progress: Progress | None = None) -> RunLog:
        """Run to the end; Ctrl-C ends it early with an incomplete log.

        Raises ``SimulationError`` if requests remain that no policy would ever run.
        """
        started = time.perf_counter()
        complete = True
        try:
            self._loop(progress)
        except KeyboardInterrupt:
            complete = False
        wall_s = time.perf_counter() - started
        if complete and self.done < len(self.workload):
            raise SimulationError(self._stuck())
        for instance in self.instances:
            if instance.front_end is not None:
                instance.front_end.catch_up(inf)
            for rank in instance.ranks:
                for request in (*rank.scheduler.running, *rank.scheduler.waiting):
                    rank.note(request, nan, 0, UNFINISHED)
        return self.recorder.log(
            self.workload,
            end_s=max([self.now, *(i.end_s for i in self.instances)]) if complete else self.now,
            complete=complete,
            num_blocks=[rank.scheduler.pool.num_blocks for i in self.instances for rank in i.ranks],
            wall_s=wall_s,
        )

    def _loop(self, progress: Progress | None) -> None:
        """HOT PATH.

        One instance, ``_soon``, is kept out of the heap as long as nobody else's event comes before its
        decision; arrivals can then move that decision without touching the heap.
        """
        client, agenda = self.client, self.agenda
        heap = agenda.heap
        total = len(self.workload)
        looks = 0
        called = time.perf_counter()
        while True:
            due, soon = client.due_s, self._soon
            if (
                soon is not None
                and soon.due_s < due
                and not (heap and heap[0] < (soon.due_s, DECISION, soon.index))
            ):
                self.now = now = soon.due_s
                soon.decide(now)
                if soon.due_s == inf:
                    self._soon = None
                elif heap and heap[0][0] <= soon.due_s:
                    agenda.decision(soon)
                    self._soon = None
            elif heap and heap[0][0] < due:
                now, kind, _, who = heappop(heap)
                self.now = now
                if kind == FOLLOW_UP:
                    self._arrive(who, now, True)
                elif kind == INTAKE:
                    request, instance = who
                    self._enter(request, instance, now, True)
                elif kind == DELIVERY:
                    who.catch_up(nextafter(now, inf))
                elif who.due_s == now:  # else an arrival has moved the decision forward since
                    who.decide(now)
                    if who.due_s < inf:
                        if self._soon is None:
                            self._soon = who
                        else:
                            agenda.decision(who)
            elif due < inf:
                self.now = now = due
                index = client.take()
                if index >= 0:
                    self._arrive(index, now, False)
            else:
                break
            looks += 1
            if looks == EVENTS_BETWEEN_LOOKS:
                looks = 0
                if progress is not None and time.perf_counter() - called > SECONDS_BETWEEN_CALLS:
                    called = time.perf_counter()
                    progress(now, self.done, total)
        if progress is not None:
            progress(self.now, self.done, total)

    def _arrive(self, index: int, now: float, follows: bool) -> None:
        """Request ``index`` reaches the cluster; ``follows``: because another one finished. HOT PATH."""
        prompt, output = self._input[index], self._output[index]
        request = Request(index, now, prompt, output, prompt + output)
        if self._priority is not None:
            request.priority = self._priority[index]
        target = self.router.route(request, self.targets, now)
        instance = target.take() if isinstance(target, RankSet) else target
        if request.length > instance.max_model_len:
            if prompt >= instance.max_model_len:
                instance.note(request, nan, 0, REJECTED)
                self.done += 1
                if self.client.reacts:
                    self.client.finished(index, now)
                return
            request.length = instance.max_model_len
        if self._offsets is not None and instance.caching:
            request.content = self._content(index)
        if instance.front_end is None:
            self._enter(request, instance, now, follows)
        else:
            self.agenda.intake(instance.intake(now), request, instance)

    def _enter(self, request: Request, instance: Instance | RankGroup, now: float, follows: bool) -> None:
        """``request`` reaches the engine of ``instance``. HOT PATH."""
        if instance.due_s == inf:
            instance.wake(request, now)
            self.agenda.wake(instance)
        elif instance.arrive(request, now, follows) and instance is not self._soon:
            self.agenda.decision(instance)

    def _content(self, index: int) -> Content:
        segments = self.workload.segments
        assert self._offsets is not None and segments is not None
        first, last = self._offsets[index], self._offsets[index + 1]
        ids = segments.ids[first:last].tolist()
        tokens = segments.tokens[first:last].tolist()
        return Content.of_runs(list(zip(ids, tokens, strict=True)), -1 - index)

    def _stuck(self) -> str:
        left = len(self.workload) - self.done
        states = []
        for rank in [rank for instance in self.instances for rank in instance.ranks]:
            scheduler = rank.scheduler
            running, waiting = len(scheduler.running), len(scheduler.waiting)
            if running or waiting:
                name = type(scheduler).__name__
                states.append(f"instance {rank.index} ({name}): {running} running, {waiting} waiting")
        return (
            f"{left} of {len(self.workload)} requests can never run: the scheduler schedules nothing"
            f" though they wait ({'; '.join(states) or 'none reached an instance'})"
        )
