"""The loop: take the next event, let it happen, until nothing is left."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable

from tokensim.engine.agenda import DECISION, FOLLOW_UP, WAKE, Agenda
from tokensim.engine.client import Client
from tokensim.engine.instance import Instance
from tokensim.errors import SimulationError
from tokensim.memory import Content
from tokensim.metrics.log import RunLog
from tokensim.metrics.recorder import REJECTED, Recorder
from tokensim.scheduling.cluster import GlobalScheduler
from tokensim.scheduling.local import Request
from tokensim.workload.base import Workload

Progress = Callable[[float, int, int], None]
"""Called now and then with (simulated seconds, requests done, requests in all)."""

EVENTS_BETWEEN_LOOKS = 2048  # at the real clock, to call ``progress``
SECONDS_BETWEEN_CALLS = 0.1


class Simulation:
    """One run of ``workload``; instances are added before ``run``.

    A request whose prompt does not leave room for one token in its instance's context is rejected on arrival, as the
    server does; one that would outgrow the context ends there.
    """

    def __init__(self, workload: Workload, router: GlobalScheduler) -> None:
        self.workload = workload
        self.router = router
        self.agenda = Agenda()
        self.recorder = Recorder(workload)
        self.instances: list[Instance] = []
        self.client = Client(workload, self.agenda)
        self.done = 0
        self._input = array("q", workload.input_tokens.tobytes())
        self._output = array("q", workload.output_tokens.tobytes())
        self._priority = None if workload.priority is None else array("q", workload.priority.tobytes())
        segments = workload.segments
        self._offsets = None if segments is None else array("q", segments.offsets.tobytes())

    def add_instance(self, instance: Instance) -> None:
        """Add an instance; its index must be the number of those added before."""
        self.instances.append(instance)

    def on_finish(self, end_s: float) -> None:
        """An instance finished a request at ``end_s``."""
        self.done += 1
        self.client.finished(end_s)

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
            self._note_live(instance)
        now = self.agenda.now
        return self.recorder.log(
            end_s=now,
            complete=complete,
            num_blocks=[instance.scheduler.pool.num_blocks for instance in self.instances],
            wall_s=wall_s,
            cut_s=None if complete else now,
        )

    def _loop(self, progress: Progress | None) -> None:
        """HOT PATH."""
        agenda = self.agenda
        take, put, heap = agenda.take, agenda.put, agenda.heap
        total = len(self.workload)
        looks = 0
        called = time.perf_counter()
        while heap:
            now, kind, _, who = take()
            if kind == DECISION or kind == WAKE:
                if who.due_s == now:
                    who.decide(now)
                    if who.due_s is not None:
                        put(who.due_s, DECISION, who)
            else:
                self._arrive(who, kind, now)
            looks += 1
            if looks == EVENTS_BETWEEN_LOOKS:
                looks = 0
                if progress is not None and time.perf_counter() - called > SECONDS_BETWEEN_CALLS:
                    called = time.perf_counter()
                    progress(now, self.done, total)
        if progress is not None:
            progress(agenda.now, self.done, total)

    def _arrive(self, index: int, kind: int, now: float) -> None:
        if not self.client.due(index, kind):
            return
        recorder = self.recorder
        recorder.arrival_s[index] = now
        prompt, output = self._input[index], self._output[index]
        priority = 0 if self._priority is None else self._priority[index]
        request = Request(index, now, prompt, output, prompt + output, None, priority)
        instance = self.router.route(request, self.instances)
        if prompt >= instance.max_model_len:
            recorder.status[index] = REJECTED
            self.on_finish(now)
            return
        recorder.instance[index] = instance.index
        if request.length > instance.max_model_len:
            request.length = instance.max_model_len
        if instance.caching:
            request.content = self._content(index)
        idle = instance.due_s is None
        if instance.arrive(request, now, kind == FOLLOW_UP):
            assert instance.due_s is not None
            self.agenda.put(instance.due_s, WAKE if idle else DECISION, instance)

    def _content(self, index: int) -> Content:
        offsets, segments = self._offsets, self.workload.segments
        if offsets is None or segments is None:
            return Content.unique(index)
        first, last = offsets[index], offsets[index + 1]
        ids = segments.ids[first:last].tolist()
        tokens = segments.tokens[first:last].tolist()
        return Content.of_runs(list(zip(ids, tokens, strict=True)), -1 - index)

    def _note_live(self, instance: Instance) -> None:
        """What is known of requests that are still in the system (after an interruption)."""
        recorder = self.recorder
        for request in instance.scheduler.live():
            i = request.index
            recorder.scheduled_s[i] = request.scheduled_s
            recorder.first_token_s[i] = request.first_token_s
            recorder.cached_tokens[i] = request.cached_tokens
            recorder.preemptions[i] = request.preemptions
            recorder.recomputed_tokens[i] = request.recomputed_tokens

    def _stuck(self) -> str:
        left = len(self.workload) - self.done
        states = []
        for instance in self.instances:
            running, waiting = instance.scheduler.counts()
            if running or waiting:
                name = type(instance.scheduler).__name__
                states.append(f"instance {instance.index} ({name}): {running} running, {waiting} waiting")
        return (
            f"{left} of {len(self.workload)} requests can never run: the scheduler schedules nothing though they wait"
            f" ({'; '.join(states) or 'none reached an instance'})"
        )
