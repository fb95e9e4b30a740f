"""A simulation driven from outside: requests come one by one while time passes, and their tokens come back.

``advance(now)`` lets everything happen that is due before ``now`` and stops there: a step in flight is one
whose end lies ahead, and a request that comes at ``now`` finds exactly what it would find offline. The
same arrivals at the same times give the same schedule and the same times as ``Simulation.run``.

Whoever wants to hear of tokens must walk single steps: they are taken one by one here, which costs time and
changes nothing. A server runs for ever: what is over is forgotten, unless ``keep`` is asked for, a log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from math import inf, nan, nextafter
from typing import Any, NamedTuple

from tokensim.engine.arriving import Arrival, LiveClient, LiveRequests, Register
from tokensim.engine.control import give_out
from tokensim.engine.hooks import Hook
from tokensim.engine.instance import Instance
from tokensim.engine.outbox import Batch, Outbox
from tokensim.engine.ranks import RankGroup
from tokensim.engine.replica import Replica, ReplicaPool, Runner
from tokensim.engine.simulation import Simulation
from tokensim.errors import SimulationError
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import CANCELLED, FINISHED
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Request
from tokensim.workload.base import Workload

AGAIN = -1
"""The status of a request that begins anew: its tokens come once more."""

NOTES_BYTES = 1 << 22
"""Notes of a run that nobody keeps are thrown away when they take so much memory."""


class _Tokens(Hook):
    """Puts the tokens of every step into the outbox."""

    def __init__(self) -> None:
        self.live: LiveSimulation

    def on_token(self, request: Request, instance: Instance, time_s: float) -> None:
        """See ``Hook``."""
        self.live.outbox.batch(instance.axis, time_s).tokens.append(request.index)

    def on_token_lost(self, request: Request, instance: Instance, time_s: float) -> None:
        """See ``Hook``."""
        self.live.outbox.batch(instance.axis, time_s).tokens.remove(request.index)

    def on_preempt(self, request: Request, instance: Instance) -> None:
        """See ``Hook``."""
        self.live.preemptions += 1


class Intake(NamedTuple):
    """How a request got into the batch: when it was first scheduled, and its prefix hit in tokens."""

    scheduled_s: float
    cached_tokens: int


class LiveSimulation(Simulation):
    """A cluster whose requests are given to ``submit`` (``workload`` has none: ``no_requests``); ``keep``:
    everything is written down for ``log``."""

    client: LiveClient
    requests: LiveRequests

    def __init__(
        self,
        workload: Workload,
        router: GlobalScheduler,
        hooks: Sequence[Hook] = (),
        staleness_s: float = 0.0,
        *,
        keep: bool = False,
    ) -> None:
        tokens = _Tokens()
        super().__init__(workload, router, (*hooks, tokens), staleness_s)
        tokens.live = self
        self.keep = keep
        self.client = LiveClient(self.agenda)
        self.requests = LiveRequests()
        self.outbox = Outbox()
        self.preemptions = 0
        """So many there were."""
        self.intakes: dict[int, Intake] = {}
        """Of requests that have ended and whose listener has not asked; see ``intake``."""
        self._register = Register()
        self.came = 0
        self._gone: set[int] = set()  # cancelled, and not out of the cluster yet
        self._began = time.perf_counter()

    def start(self) -> None:
        """The cluster stands: time begins."""
        if self.hooks.on_start is not None:
            self.hooks.on_start()

    # From outside, between two calls of ``advance``.

    def submit(self, arrival: Arrival, time_s: float) -> int:
        """``arrival`` comes at ``time_s``, which is not over; returns its index."""
        if time_s < self.now:
            raise ValueError(f"{time_s} s is over: it is {self.now} s")
        index = self.came
        self.came += 1
        self.requests.arrivals[index] = arrival
        self.client.put(time_s, index)
        if self.keep:
            self._register.add(time_s, arrival)
        return index

    def advance(self, until_s: float) -> Iterator[Batch]:
        """Let everything happen that is due before ``until_s``, and the arrivals of that instant; returns
        what clients have got by then, in order."""
        self.client.open(until_s)
        self._loop(None)
        if self.requests.present and not self.agenda.heap and self._soon is None:
            given_up = self._give_up_parked()
            if not given_up and self.handover is not None:
                self.handover.untangle(self.now)
        if not self.keep:
            self.recorder.forget(NOTES_BYTES)
        return self.outbox.take(until_s)

    @property
    def next_s(self) -> float:
        """When something is due; ``advance`` must go past it. ``inf``: nothing is until a request comes."""
        due = min(self.client.next_s, self.outbox.next_s)
        if self._soon is not None:
            due = min(due, self._soon.due_s)
        heap = self.agenda.heap
        return min(due, heap[0][0]) if heap else due

    @property
    def present(self) -> int:
        """Requests that have come and are not over."""
        return len(self.requests.arrivals)

    @property
    def deserted(self) -> bool:
        """Nobody takes requests, and nothing is planned that could change it: those that come fail."""
        return not self.entries and self._soon is None and not self.agenda.heap

    def intake(self, index: int) -> Intake:
        """How request ``index`` got into the batch, which it did; asked once."""
        request = self.requests.present.get(index)
        if request is None:
            return self.intakes.pop(index)
        return Intake(request.scheduled_s, request.cached_tokens)

    def cancel(self, index: int) -> None:
        """The client of request ``index`` has left: its memory is free, and its place, from the next decision
        on of the instance that runs it. One that is over is left alone.

        A policy that cannot give up requests (no method ``remove``) serves it to its end.
        """
        if index not in self.requests.arrivals or index in self._gone:
            return
        self._gone.add(index)
        if self.client.drop(index):
            self._note_end(index, self.now, nan, CANCELLED)
            self._over(index)
            return
        request = self.requests.present[index]
        waits_outside = self.gateway is not None and self.gateway.withdraw(request)
        if not waits_outside and request in self.parked:
            self.parked.remove(request)
            waits_outside = True
        passage = self.passages.get(index)
        if passage is not None and self.handover is not None:
            self.handover.cancel(passage, self.now)
            waits_outside = waits_outside or passage.source is not None or not passage.started
        if waits_outside:
            self.give_up(request, CANCELLED)
            return
        for replica in self.replicas:
            for axis in replica.axes:
                if self._find(axis, index) is not None:
                    self.order(axis, partial(self._take_out, axis, index), self.now)
                    return
        # It is on its way into an instance, and will be turned away there.

    def log(self) -> RunLog:
        """What has happened up to now, if that was kept; then the simulation is over."""
        if not self.keep:
            raise ValueError("nothing was kept; make the simulation with keep=True")
        complete = not self.requests.arrivals
        while complete and self.next_s < inf and not all(replica.idle for replica in self.replicas):
            for _ in self.advance(nextafter(self.next_s, inf)):  # what was given up is on its way out
                pass
        self.workload = self._register.workload()
        return self._close(complete=complete, wall_s=time.perf_counter() - self._began)

    # What Simulation and Cluster ask.

    @property
    def left(self) -> int:
        """See ``Cluster.left``: there is always one more to come."""
        return 1

    @property
    def open(self) -> bool:
        """See ``Cluster.open``."""
        return True

    def add_instance(self, runner: Runner, pool: ReplicaPool | None = None, up_s: float = 0.0) -> Replica:
        """See ``Cluster.add_instance``."""
        replica = super().add_instance(runner, pool, up_s)
        for axis in replica.axes:
            self.outbox.connect(axis)
        return replica

    def on_finish(self, instance: Instance | RankGroup, done: Sequence[Request], end_s: float) -> None:
        """See ``Cluster.on_finish``."""
        super().on_finish(instance, done, end_s)
        for request in done:
            if not request.held:
                self.outbox.batch(instance, end_s).ends.append((request.index, FINISHED))
                if request.index not in self._gone:
                    self.intakes[request.index] = Intake(request.scheduled_s, request.cached_tokens)
                self._over(request.index)

    def give_up(self, request: Request, status: int) -> None:
        """See ``Cluster.give_up``."""
        super().give_up(request, status)
        self.outbox.end(request.index, status, self.now)
        self._over(request.index)

    def dispatch(self, request: Request, now: float, follows: bool) -> None:
        """See ``Cluster.dispatch``."""
        if request.index in self._gone:
            self.give_up(request, CANCELLED)
            return
        if self.requests.remade:
            for index in self.requests.remade:
                self.outbox.end(index, AGAIN, now)
            self.requests.remade.clear()
        super().dispatch(request, now, follows)

    def _enter(self, request: Request, instance: Instance | RankGroup, now: float, follows: bool) -> None:
        if request.index in self._gone:
            self.give_up(request, CANCELLED)
        else:
            super()._enter(request, instance, now, follows)

    def _over(self, index: int) -> None:
        self.requests.forget(index)
        self._gone.discard(index)

    def _take_out(self, axis: Instance | RankGroup, index: int, now: float) -> None:
        """No step of ``axis`` is in flight: request ``index`` leaves it, unless it is over."""
        request = self.requests.present.get(index)
        found = self._find(axis, index)
        if request is None:
            return
        if found is not None:
            try:
                give_out(*found, now)
            except SimulationError:
                return
            request = found[1]
        self.give_up(request, CANCELLED)

    def _find(self, axis: Instance | RankGroup, index: int) -> tuple[Instance, Request] | None:
        """Where request ``index`` waits or runs in ``axis``."""
        for rank in axis.ranks:
            scheduler: Any = rank.scheduler
            for request in chain(scheduler.running, scheduler.waiting, scheduler.loading):
                if request.index == index and not request.finished:
                    return rank, request
        return None
