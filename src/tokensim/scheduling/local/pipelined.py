"""Continuous batching over pipeline stages, decided by cohorts, not request by request.

The same rules as ``InFlightBatching``, which it falls back to whenever a step cannot serve everybody, or what
a preempted request had on its way is still to come. Where requests may have two tokens in flight when a step
is decided (asynchronous scheduling without the rule of one decode a round), it always walks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokensim.scheduling.local import cohorts, in_flight_admit
from tokensim.scheduling.local.base import Limits
from tokensim.scheduling.local.cadence import prefill_cap
from tokensim.scheduling.local.cohorts import Cohort
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.decoding import FAR
from tokensim.scheduling.local.flight import Flight, FlightStep, Row
from tokensim.scheduling.local.in_flight import InFlightBatching
from tokensim.scheduling.local.outlook import Outlook
from tokensim.scheduling.local.queues import Backlog
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.rotation import Rotation, rotation
from tokensim.scheduling.local.serve import last_in_line


class PipelinedBatching(InFlightBatching):
    """The policy; while ``gathered``, requests that decode stand in ``cohorts``."""

    def __init__(
        self, limits: Limits, version: str = "0.33.0", *, exact_steps: bool = False, **options: Any
    ) -> None:
        super().__init__(limits, version, exact_steps=exact_steps, **options)
        self.cohorts: list[Cohort] = []
        self.gathered = False
        self.ready: list[Cohort] = []  # whose turn it is
        self.recalled: dict[Request, Flight] = {}  # preempted since the last time that cohorts were made
        self._growers: set[Request] = set()
        self.asynchronous = self._asynchronous
        self.every = self._every
        self.walks = (  # every step
            exact_steps
            or limits.prefill_schedule_interval > 1
            or (limits.async_scheduling and not self._every)
        )

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``."""
        self.flights[request] = Flight()
        return ContinuousBatching.add(self, request)

    def schedule(self, now: float) -> FlightStep:
        """See ``LocalScheduler.schedule``. HOT PATH."""
        if self.walks or not (self.gathered or cohorts.gather(self)):
            return self._walk(now)
        self.index = index = self.index + 1
        step = FlightStep(index)
        cap = prefill_cap(self.limits, self.rules, len(self.running) + len(self.waiting))
        budget = cohorts.serve(self, step, cap)
        if budget < 0:
            self.index -= 1
            return self._walk(now)
        if self.waiting:
            in_flight_admit.admit(self, step, now, (budget, budget), cap, False)
        self._launch_chunks(step)
        if not step.empty:
            self.cadence.note(False)
        self.flying[index] = step
        return step

    @property
    def blocked(self) -> bool:
        """Whoever waits stays out until somebody leaves."""
        return self._blocked

    def foresight(self) -> int:
        """How many steps may follow before the policy wants to be asked again though nothing happened."""
        return self.horizon() - 1 if self._asks else FAR

    def rotation(self, most: int) -> Rotation | None:
        """At most ``most`` steps that follow, if they can be foreseen."""
        return None if self.walks else rotation(self, most)

    def walk_from_now_on(self) -> None:
        """Somebody looks at every step."""
        if self.gathered:
            cohorts.scatter(self)
        self.walks = True

    def _walk(self, now: float) -> FlightStep:
        if self.gathered:
            cohorts.scatter(self)
        return super().schedule(now)

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``. HOT PATH."""
        step = self.flying[index]
        cohort = step.cohort
        if cohort is None:
            done = super().update(index)
            if isinstance(self.waiting, Backlog):
                for request in self.recalled:
                    self.waiting.look_again(request)
            if done:
                self._blocked = False
            return done
        del self.flying[index]
        for row in step.rows:
            row.flight.tokens -= row.tokens
        cohort.received = step.turn
        if self.asynchronous and step.turn > cohort.level:
            cohort.level = step.turn
        done = step.last
        if done:
            if len(done) > 1:
                done.sort(key=_admission)
            for request in done:
                self._end(request)
            self._blocked = False
        return done

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``."""
        if self.gathered:
            cohorts.scatter(self)
        self.recalled.pop(request, None)
        super().remove(request, keep=keep)
        self._blocked = False

    def send_back(self, step: FlightStep, request: Request, served: Row | None) -> None:
        """See ``InFlightBatching.send_back``."""
        super().send_back(step, request, served)
        self.recalled[request] = self.flights[request]

    def computed(self, request: Request) -> int:
        """See ``ContinuousBatching.computed``."""
        flight = self.flights.get(request)
        if flight is None or flight.cohort is None:
            return request.computed
        return request.base + min(flight.cohort.turn, request.finish_step)

    def check_integrity(self) -> None:
        """See ``LocalScheduler.check_integrity``; looks at every request, and so keeps an account for each
        until the next step."""
        if self.gathered:
            for cohort in self.cohorts:
                assert cohort.sums.n == len(cohort.members) > 0, "a cohort has lost somebody"
                bases = sum(request.base for request in cohort.members)
                assert bases == cohort.sums.base_sum, "the sum of a cohort is wrong"
            cohorts.scatter(self)
        super().check_integrity()

    def rows(self, step: FlightStep) -> list[Row]:
        """What ``step``, the last one scheduled, has of each request, in order."""
        cohort, firsts = step.cohort, set(step.firsts)
        if cohort is None:
            return step.rows
        decoded = [
            Row(request, self.flights[request], 1, request.base + step.turn - 1, 0, True)
            for request in (*cohort.members, *step.last)
            if request not in firsts
        ]
        return sorted([*decoded, *step.rows], key=lambda row: row.request.seq)

    def outlook(self) -> Outlook:
        """See ``LocalScheduler.outlook``; output counts as left until it has come back."""
        waiting = self.waiting
        if not self.gathered or not isinstance(waiting, Backlog):
            if self.gathered:
                cohorts.scatter(self)
            return super().outlook()
        prefill, decode, decoding, context = waiting.prefill_tokens, waiting.decode_tokens, 0, 0
        for request in self.prefilling:
            prefill += request.tokens - request.computed
            decode += request.length - request.tokens
            context += request.computed
        for request in self.loading:
            prefill += request.tokens - request.computed
            decode += request.length - request.tokens
        for cohort in self.cohorts:
            sums, turn = cohort.sums, cohort.turn
            decoding += sums.n
            context += sums.base_sum + sums.n * turn
            decode += sums.finish_sum - sums.n * cohort.received
            if cohort.received < turn - 1:
                decode -= cohort.fresh
        for step in self.flying.values():
            if step.last and step.cohort is not None:
                decoding += len(step.last)
                context += sum(request.length - 1 for request in step.last)
                firsts = sum(request in step.last for request in step.firsts)
                decode += firsts + (len(step.last) - firsts) * (step.turn - step.cohort.received)
        return Outlook(
            running=len(self.running),
            waiting=len(waiting) + len(self.loading),
            prefill_tokens=prefill,
            decode_tokens=decode,
            decoding=decoding,
            context=context,
            free_blocks=self.pool.free,
            phase=(0,) * self.block_size,
        )

    # What cohorts ask for.

    def enter_chunk(self, request: Request, flight: Flight, computed: int) -> None:
        """A prefill chunk that comes to ``computed`` enters the prefix cache, in turn."""
        self._registering = request
        self.enter(request, flight, computed)
        self._registering = None

    def last_in_line(self) -> bool:
        """Whether the prefilling requests are the last of the running ones."""
        return last_in_line(self)

    def start_growing(self, request: Request) -> None:
        """Others may look up what ``request`` generates."""
        if request.shared_output and request.content is not None:
            self.pool.start_growing(request.content, request)
            self._growers.add(request)
            self._growing = True

    def stop_growing(self, request: Request) -> None:
        """What ``request`` generates is entered as it comes, or it ends."""
        if request in self._growers:
            assert request.content is not None
            self._growers.remove(request)
            self.pool.stop_growing(request.content, request)

    def _launch_chunks(self, step: FlightStep) -> None:
        """What the step gives those that prefill is on its way. HOT PATH."""
        for row in step.rows:
            request, flight, tokens = row.request, row.flight, row.tokens
            request.computed = computed = row.before + tokens
            flight.tokens += tokens
            step.chunks.append((tokens, row.before))
            step.chunk_requests.append(request)
            if computed < request.tokens:
                self.prefilling[request] = None
                continue
            self.prefilling.pop(request, None)
            row.samples = request.decoding = True
            flight.chunk = False
            step.firsts.append(request)
            cohorts.join(self, step, request)

    def _end(self, request: Request) -> None:
        """``request`` has all its tokens: free what it holds."""
        request.finished = True
        pool, content, computed = self.pool, request.content, request.length - 1
        del self.flights[request], self.running[request]
        full = computed // self.block_size
        if request.held:
            request.blocks = -(-computed // self.block_size)
            self.stop_growing(request)
            self._keep(request, computed)
            return
        if content is None:
            pool.discard(request, -(-computed // self.block_size), full)
            request.blocks = 0
            return
        request.blocks = -(-computed // self.block_size)
        pool.register(request, content, full)
        self.stop_growing(request)
        pool.release(request)
        pool.forget(content)

    def _settle(self, growers: Iterable[object]) -> None:
        """Enter what these requests have generated up to the last scheduled step into the prefix cache."""
        chunk = self._registering
        for request in growers:
            assert isinstance(request, Request)
            flight = self.flights.get(request)
            if flight is None or flight.cohort is None or request.content is None:
                continue
            cohort = flight.cohort
            level = cohorts.level_of(self, request, flight, cohort)
            # In this step, who stands behind the prefill that registers has not had its turn yet.
            later = chunk is not None and request.seq > chunk.seq
            if later and cohort.sampled_in == self.index and request.finish_step >= cohort.turn:
                level = cohort.level_before
            tokens = request.base + min(level, request.finish_step)
            self.pool.register(request, request.content, tokens // self.block_size)


def _admission(request: Request) -> int:
    return request.seq
