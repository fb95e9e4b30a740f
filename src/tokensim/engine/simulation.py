"""The loop: take the next event, let it happen, until nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop
from math import inf, nan, nextafter

from tokensim.engine.agenda import ACTION, DECISION, FOLLOW_UP, INTAKE, REACTION, RELEASE, TRANSFER, WAKE
from tokensim.engine.cluster import Cluster
from tokensim.engine.control import Tick
from tokensim.errors import SimulationError
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import FAILED, UNFINISHED

Progress = Callable[[float, int, int], None]
"""Called now and then with (simulated seconds, requests done, requests in all)."""

EVENTS_BETWEEN_LOOKS = 2048  # at the real clock, to call ``progress``
SECONDS_BETWEEN_CALLS = 0.1


class Simulation(Cluster):
    """One run of ``workload``; replicas are added before ``run``."""

    def run(self, progress: Progress | None = None) -> RunLog:
        """Run to the end; Ctrl-C ends it early with an incomplete log.

        Raises ``SimulationError`` if requests remain that no policy would ever run.
        """
        started = time.perf_counter()
        complete = True
        if self.hooks.on_start is not None:
            self.hooks.on_start()
        try:
            self._loop(progress)
            while self.left and (
                self._give_up_parked() or (self.handover is not None and self.handover.untangle(self.now))
            ):
                self._loop(progress)
        except KeyboardInterrupt:
            complete = False
        wall_s = time.perf_counter() - started
        if complete and self.hooks.on_end is not None:
            self.hooks.on_end()
        if complete and self.left:
            raise SimulationError(self._stuck())
        return self._close(complete=complete, wall_s=wall_s)

    def _close(self, *, complete: bool, wall_s: float) -> RunLog:
        """Settle what is still open, and hand over the notes."""
        for instance in self.instances:
            if instance.front_end is not None:
                instance.front_end.catch_up(inf)
            for rank in instance.ranks:
                scheduler = rank.scheduler
                for request in (*scheduler.running, *scheduler.waiting, *scheduler.loading):
                    if not request.held:
                        rank.note(request, nan, 0, UNFINISHED)
        return self.recorder.log(
            self.workload,
            end_s=max([self.now, *(i.end_s for i in self.instances)]) if complete else self.now,
            complete=complete,
            num_blocks=[
                rank.scheduler.pool.num_blocks
                for i in self.instances
                for rank in i.ranks
                for _ in range(rank.entries)
            ],
            wall_s=wall_s,
            links=self.network.use(self.now),
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
                if kind in (DECISION, WAKE):
                    if who.due_s == now:  # else an arrival has moved the decision forward since
                        self.now = now
                        who.decide(now)
                        if who.due_s < inf:
                            if self._soon is None:
                                self._soon = who
                            else:
                                agenda.decision(who)
                elif kind == TRANSFER:
                    if who.due_s == now:  # else its rate has changed since
                        self.now = now
                        who.fire(now)
                elif type(who) is not Tick or self.left:  # these end with the last request
                    self.now = now
                    if kind == FOLLOW_UP:
                        if client.lets_go(who, now):
                            self._arrive(who, now, True)
                    elif kind == INTAKE:
                        request, instance = who
                        instance.replica.coming -= 1
                        if self.loads.active:
                            self.loads.enters(request)
                        if request.finished:  # withdrawn on its way
                            pass
                        elif instance.down:
                            self._astray(request, now)
                        else:
                            self._enter(request, instance, now, True)
                    elif kind in (ACTION, REACTION, RELEASE):
                        who(now)
                    else:
                        who.catch_up(nextafter(now, inf))
            elif due < inf:
                if (
                    not heap
                    and soon is None
                    and self.handover is not None
                    and self.handover.untangle(self.now)
                ):
                    continue  # no arrival would help those who wait for one another's memory
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

    def _give_up_parked(self) -> bool:
        """Requests that wait for replicas that never come fail; whether there were any."""
        parked, self.parked = self.parked, []
        if self.handover is not None:
            parked += self.handover.give_up_parked(self.now)
        for request in parked:
            self.give_up(request, FAILED)
        return bool(parked)

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
