"""The load: every request sent at its time, every stream read, and the recorder's own clock watched.

One task a stream and nothing else on the event loop but a sampler of its lag and a poll of the server's
metrics. What is sent was written before; what comes is timed first and parsed then.
"""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tokensim.record.client import Outcome, ask
from tokensim.record.clock import Spread, Trueness, sample_lag
from tokensim.record.http import raise_file_limit
from tokensim.record.prompts import Prompts
from tokensim.record.schedule import Release, Schedule
from tokensim.record.trial import Manner
from tokensim.workload.base import Workload

if TYPE_CHECKING:
    import aiohttp

LEAD_S = 0.2
"""From the start of the clock to time zero of the load: the first request must not be late for our own
start."""

RETRY_PAUSE_S = 1.0
RETRIED = frozenset({429, 502, 503, 504})
"""HTTP statuses that say *later*; asked for again only if the user allows retries."""

WATCH_S = 0.1


@dataclass(slots=True)
class Count:
    """How the load stands: for the progress line."""

    total: int
    sent: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    lateness_s: float = 0.0

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self.sent - self.done - self.failed

    @property
    def over(self) -> int:
        """Requests that ended, or will never be sent."""
        return self.done + self.failed + self.cancelled


Watch = Callable[[Count], bool]
"""Called ten times a second; True: stop here."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What a load gave: an outcome for each request that was sent, in order of the workload; ``cancelled``
    were never sent because what they waited for failed. ``complete`` is False when it was stopped. ``cause``:
    see ``Schedule``."""

    outcomes: list[Outcome]
    cancelled: list[int]
    cause: dict[int, int]
    trueness: Trueness
    complete: bool


@dataclass(slots=True)
class Load:
    """One pass over a workload. ``clock`` gives seconds from time zero of the load, ``came`` when what is
    read now came."""

    session: aiohttp.ClientSession
    workload: Workload
    prompts: Prompts
    manner: Manner
    clock: Callable[[], float]
    came: Callable[[], float]
    timeout_s: float
    retries: int = 0
    _answers: dict[int, bytes] = field(default_factory=dict)
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    _cancelled: list[int] = field(default_factory=list)

    async def drive(self, watch: Watch = lambda count: False) -> Driven:
        """Send everything and wait for the last answer, or until ``watch`` says stop."""
        count = Count(len(self.workload))
        schedule = Schedule(self.workload)
        raise_file_limit(_most_streams(self.workload))
        lag = array("d")
        sampler = asyncio.create_task(sample_lag(self.clock, lag))
        tasks: set[asyncio.Task[None]] = set()
        broken: list[BaseException] = []
        wake = asyncio.Event()

        def over(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                broken.append(error)  # nobody will ever be told that this request is over
                wake.set()

        watcher = asyncio.create_task(_watched(watch, count, wake))
        try:
            while count.over < count.total and not watcher.done() and not broken:
                for release in schedule.take(self.clock()):
                    count.sent += 1
                    task = asyncio.create_task(self._one(release, schedule, count, wake))
                    tasks.add(task)
                    task.add_done_callback(over)
                await _until(wake, schedule.due_s - self.clock())
        finally:
            stopped = watcher.done()
            for task in (sampler, watcher, *tasks):
                task.cancel()
            await asyncio.gather(sampler, watcher, *tasks, return_exceptions=True)
        if broken:
            raise broken[0]
        if stopped:
            watcher.result()
        watch(count)
        outcomes = [self._outcomes[index] for index in sorted(self._outcomes)]
        late = np.array([o.sent_s - o.released_s for o in outcomes if o.attempts == 1])
        return Driven(
            outcomes,
            sorted(self._cancelled),
            schedule.cause,
            Trueness(Spread.of(late), Spread.of(lag)),
            not stopped,
        )

    async def _one(self, release: Release, schedule: Schedule, count: Count, wake: asyncio.Event) -> None:
        """Send one request, and tell the schedule how it ended."""
        index, outcome = release.request, Outcome(release.request, release.due_s)
        self._outcomes[index] = outcome
        needed = index in self.prompts.needed
        asked = int(self.workload.output_tokens[index])
        dialect = self.manner.dialect
        body = dialect.body(self.prompts.pieces[index], asked, self._answers, needed=needed)
        while True:
            await ask(
                self.session,
                dialect.path,
                body,
                outcome,
                asked,
                clock=self.clock,
                came=self.came,
                timeout_s=self.timeout_s,
                keep=needed,
            )
            if outcome.usable or outcome.attempts > self.retries or not _later(outcome):
                break
            await asyncio.sleep(RETRY_PAUSE_S)
            self._outcomes[index] = outcome = Outcome(index, release.due_s, attempts=outcome.attempts + 1)
        if outcome.attempts == 1:
            count.lateness_s = max(count.lateness_s, outcome.sent_s - release.due_s)
        ended = self.clock()
        if outcome.usable:
            if needed:
                self._answers[index] = _as_piece(outcome, ids=dialect.ids)
            outcome.text, outcome.token_ids = "", ()
            count.done += 1
            schedule.finished(index, ended)
        else:
            count.failed += 1
            lost = schedule.failed(index, ended)
            count.cancelled += len(lost)
            self._cancelled += lost
        wake.set()


def _later(outcome: Outcome) -> bool:
    return outcome.status == "unreachable" or outcome.http_status in RETRIED


def _as_piece(outcome: Outcome, *, ids: bool) -> bytes:
    """The answer as a piece of another prompt."""
    if ids:
        return ",".join(map(str, outcome.token_ids)).encode()
    return json.dumps(outcome.text)[1:-1].encode()


def _most_streams(workload: Workload) -> int:
    """How many requests can be in flight at once."""
    limits = [limit for limit in (workload.concurrency, workload.max_in_flight) if limit is not None]
    return min([len(workload), *limits]) if workload.after is None else len(workload)


async def _until(wake: asyncio.Event, seconds: float) -> None:
    """Wait until ``wake`` is set, or ``seconds`` have passed."""
    if seconds > 0:
        loop = asyncio.get_running_loop()
        timer = None if seconds == float("inf") else loop.call_later(seconds, wake.set)
        await wake.wait()
        if timer is not None:
            timer.cancel()
    else:
        await asyncio.sleep(0)
    wake.clear()


async def _watched(watch: Watch, count: Count, wake: asyncio.Event) -> None:
    """Ends when ``watch`` says stop."""
    while not watch(count):
        await asyncio.sleep(WATCH_S)
    wake.set()
