"""Continuous batching when a request has more on its way than one token: pipelines and speculation.

With a pipeline several batches are in flight, and a request whose token has not come back yet sits out the
next ones; with speculation a step gives it drafts that may be rejected. So what a request will have computed
is no longer arithmetic: this form of the policy keeps an account for each (``Flight``) and walks the running
requests one by one, as the real scheduler does (sections 2, 6, 8 and 9 of its specification).

``forms.form_for`` makes this form of any policy that says no more than ``ContinuousBatching`` asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokensim.memory import Content
from tokensim.scheduling.local import elsewhere, in_flight_admit, in_flight_walk
from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.cadence import prefill_cap
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.flight import Flight, FlightStep, Row
from tokensim.scheduling.local.outlook import Outlook
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.speculation import Verify


class InFlightBatching(ContinuousBatching):
    """The policy with an account for each request; see ``ContinuousBatching`` for what it decides."""

    def __init__(
        self, limits: Limits, version: str = "0.33.0", *, exact_steps: bool = False, **options: Any
    ) -> None:
        super().__init__(limits, version, exact_steps=exact_steps, **options)
        speculation = limits.speculation
        self.drafts = 0 if speculation is None else speculation.tokens
        self.lookahead = 0 if speculation is None else speculation.lookahead
        self.draft_slots = 0 if speculation is None else speculation.slots
        self.flights: dict[Request, Flight] = {}
        self.flying: dict[int, FlightStep] = {}  # scheduled, their output not processed yet
        self._asynchronous = limits.async_scheduling
        self._every = (  # steps between two decodes of a request, at least
            limits.pipeline
            if limits.async_scheduling and limits.v2_model_runner and self.rules.decodes_once_a_round
            else 0
        )

    def add(self, request: Request) -> bool:
        """See ``LocalScheduler.add``; every step is decided anew."""
        self.flights[request] = Flight()
        super().add(request)
        return True

    def schedule(self, now: float) -> FlightStep:
        """See ``LocalScheduler.schedule``."""
        self.index = index = self.index + 1
        step = FlightStep(index)
        cap = prefill_cap(self.limits, self.rules, len(self.running) + len(self.waiting))
        deferred = self.cadence.interval > 1 and self.cadence.defers(
            decoding=any(not self.flights[request].chunk for request in self.running)
        )
        budgets = in_flight_walk.serve_in_order(self, step, cap, deferred)
        prefilled = any(row.flight.chunk for row in step.rows)
        if not step.preempted:
            aside = in_flight_admit.admit(self, step, now, budgets, cap, deferred)
            prefilled = prefilled or step.prefills
            if not deferred:
                self.cadence.capacity_bound = len(self.waiting) > aside
        self._launch(step)
        if step.rows:
            self.cadence.note(prefilled)
        self.flying[index] = step
        return step

    def run_length(self, step: Step) -> int:
        """See ``LocalScheduler.run_length``: what is accepted decides each step anew."""
        return 1

    def update(self, index: int) -> Sequence[Request]:
        """See ``LocalScheduler.update``."""
        step = self.flying.pop(index)
        done = []
        self._verify(step)
        for row in step.rows:
            request, flight = row.request, row.flight
            if request.finished:
                continue
            flight.tokens -= row.tokens
            stale = flight.stale > 0
            if stale:
                flight.stale -= row.tokens
            if row.samples:
                known = request.tokens
                if self._take_output(request, flight, row, stale):
                    done.append(request)
                step.put_out.append((request, request.tokens - known))
        return done

    def served(self, step: Step) -> Iterable[Request]:
        """See ``LocalScheduler.served``: who gets tokens is known when the output is there."""
        return ()

    def remove(self, request: Request, *, keep: bool = False) -> None:
        """See ``LocalScheduler.remove``."""
        flight = self.flights.pop(request, None)
        if request not in self.running:
            elsewhere.remove(self, request, keep)
            return
        assert flight is not None
        computed = request.lost_tokens = request.computed
        request.decoding = False
        del self.running[request]
        self._blocked = False
        if keep:
            self._keep(request, computed)
            return
        self._make_findable(request, flight)
        self._free_blocks(request, flight)
        if request.content is not None:
            self.pool.forget(request.content)
        request.computed = 0
        request.loaded = False

    def loaded(self, request: Request) -> None:
        """See ``LocalScheduler.loaded``."""
        self.flights[request].full = request.computed // self.block_size
        super().loaded(request)

    def _keep(self, request: Request, computed: int) -> None:
        """``request`` is over here, but its KV stays; others may find it in the prefix cache."""
        content = elsewhere.findable(self, request)
        if content is not None:
            self.pool.register(request, content, computed // self.block_size)
        request.computed = computed
        self.holding[request] = None

    def outlook(self) -> Outlook:
        """See ``LocalScheduler.outlook``; output counts as left until it has come back."""
        prefill = decode = decoding = context = 0
        for request in (*self.running, *self.waiting, *self.loading):
            if request.decoding:
                decoding += 1
            else:
                prefill += max(request.tokens - request.computed, 0)
            decode += request.length - request.tokens
            context += request.computed if request in self.running else 0
        return Outlook(
            running=len(self.running),
            waiting=len(self.waiting) + len(self.loading),
            prefill_tokens=prefill,
            decode_tokens=decode,
            decoding=decoding,
            context=context,
            free_blocks=self.pool.free,
            phase=(0,) * self.block_size,  # each step is a run of its own
        )

    def computed(self, request: Request) -> int:
        """See ``ContinuousBatching.computed``; drafts that are not verified yet are among them."""
        return request.computed

    def check_integrity(self) -> None:
        """See ``LocalScheduler.check_integrity``."""
        for request in self.running:
            flight, own = self.flights[request], self.limits.max_model_len + self.lookahead
            flown = sum(row.tokens for s in self.flying.values() for row in s.rows if row.request is request)
            assert flight.tokens == flown, f"{request}: {flight.tokens} tokens in flight, steps have {flown}"
            assert request.computed <= min(own, request.blocks * self.block_size), f"{request} has no room"
            assert flight.stale == 0 and not request.finished, f"{request} runs, but is not running"
        loaded = [request for request in self.waiting if request.loaded]
        for request in self.waiting:
            assert request.loaded or request.blocks == 0, f"{request} waits with {request.blocks} blocks"
        assert set(self.flights) == {*self.running, *self.waiting, *self.loading}, "accounts of others"
        holders = [*self.running, *loaded, *self.loading, *self.holding]
        blocks = sum(request.blocks for request in holders)
        shared = any(request.extents() for request in holders) or self.exact_steps
        self.pool.check_integrity(holders, None if shared else blocks)

    def stay_out(self, blocked: bool | None = None) -> None:
        """The head of the queue does not fit: whether it stays out until somebody leaves (None: unless its
        need may shrink by itself)."""
        if blocked is None:
            blocked = self.limits.scheduler_reserve_full_isl and not self._growing
        self._blocked = blocked

    def take_seat(self, request: Request) -> None:
        """``request`` runs from now on."""
        self._admissions = request.seq = self._admissions + 1
        self.running[request] = None

    def _settle(self, growers: Iterable[object]) -> None:
        """Nothing is left to enter into the prefix cache: each step does it for its own."""

    def enter(self, request: Request, flight: Flight, tokens: int) -> None:
        """Enter the full blocks of the first ``tokens`` of ``request`` into the prefix cache."""
        full = tokens // self.block_size
        if full > flight.full:
            flight.full = full
            if request.content is not None:
                self.pool.register(request, request.content, full)

    def send_back(self, step: FlightStep, request: Request, served: Row | None) -> None:
        """Take everything from ``request``, which was given ``served`` in this step before."""
        flight, pool = self.flights[request], self.pool
        self._make_findable(request, flight)
        pool.release(request)
        del self.running[request]
        request.lost_tokens = request.computed
        request.computed = 0
        request.loaded = False
        request.preemptions += 1
        request.decoding = False
        flight.drafts = flight.full = 0
        if self.rules.recalls_output:
            flight.placeholders = 0
            flight.stale = flight.tokens
        self.waiting.put_back(request)
        step.preempted = [*step.preempted, (request, not flight.chunk)]

    def _launch(self, step: FlightStep) -> None:
        """The step is decided: what it gives each request is on its way. HOT PATH."""
        window, asynchronous, drafts = self.limits.window, self._asynchronous, self.drafts
        index = step.index
        builds_on = 0
        for row in step.rows:
            request, flight, tokens = row.request, row.flight, row.tokens
            decodes = row.served_running and not flight.chunk
            request.computed = computed = row.before + tokens
            flight.tokens += tokens
            flight.chunk = computed < request.tokens + flight.placeholders
            row.samples = request.decoding = samples = not flight.chunk
            if decodes:
                step.decode += 1
                step.drafts += tokens - 1
                step.context += computed
                if computed > step.longest:
                    step.longest = computed
                if window is not None:
                    step.window_context += computed if computed < window else window
                if flight.sampled_in > builds_on:
                    builds_on = flight.sampled_in
            else:
                step.chunks.append((tokens, row.before))
                step.chunk_requests.append(request)
                if samples:
                    step.firsts.append(request)
            if samples:
                flight.sampled_in = index
                if asynchronous:
                    flight.placeholders += 1 + row.drafts
                    flight.drafts = drafts
                    flight.eligible = index + self._every
        step.builds_on = builds_on

    def _make_findable(self, request: Request, flight: Flight) -> None:
        """``request`` loses its place: it may come back and look for its own blocks."""
        if request.content is None and self.pool.caching:
            request.content = Content.unique(request.index)
            self.pool.register(request, request.content, flight.full)

    def _verify(self, step: FlightStep) -> None:
        """How many drafts of each row of ``step`` are accepted."""
        speculation = self.limits.speculation
        rows = [row for row in step.rows if row.drafts and row.samples and not row.request.finished]
        if not rows or speculation is None:
            return
        asked = [
            Verify(row.request.index, row.request.tokens - row.request.input_tokens, row.drafts, row.padded)
            for row in rows
        ]
        for row, accepted in zip(rows, speculation.acceptance.accepted(asked), strict=True):
            row.accepted = accepted
            if not row.padded:
                self.verified += 1
                self.drafted += row.drafts
                self.accepted += accepted

    def _take_output(self, request: Request, flight: Flight, row: Row, stale: bool) -> bool:
        """The tokens that ``row`` sampled are there; whether ``request`` ends with them. HOT PATH."""
        running, accepted = request in self.running, row.accepted
        expected = flight.placeholders > 0
        row.returned = accepted + 1
        kept = min(accepted + 1, request.length - request.tokens)
        request.tokens += kept
        if not stale:
            rejected = row.drafts - accepted
            back = accepted + 1 - kept if self.rules.recalls_output else 0
            if request.computed:
                request.computed -= rejected + back
            if expected:
                flight.placeholders -= rejected + back + kept
            if running and self.rules.registers_all_output:
                if self.drafts or expected:
                    self.enter(request, flight, request.computed - flight.tokens)
            elif running and self._asynchronous:
                self.enter(request, flight, request.computed - flight.placeholders)
        if request.tokens >= request.length:
            self._finish(request, flight, running)
            return True
        if self.drafts and not self._asynchronous:
            flight.drafts = self.drafts
        return False

    def _finish(self, request: Request, flight: Flight, running: bool) -> None:
        """``request`` has all its tokens: free what it holds."""
        request.finished = True
        del self.flights[request]
        if not running:  # it was preempted while its last token was in flight
            self.waiting.remove(request)
        else:
            del self.running[request]
            if request.held:
                self._keep(request, request.length - 1)
                return
            self._free_blocks(request, flight)
        if request.content is not None:
            self.pool.forget(request.content)

    def _free_blocks(self, request: Request, flight: Flight) -> None:
        if request.content is None:
            self.pool.discard(request, request.blocks, flight.full)
            request.blocks = 0
        else:
            self.pool.release(request)
