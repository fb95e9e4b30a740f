"""Continuous batching when a request has more on its way than one token: pipelines and speculation.

With a pipeline several batches are in flight, and a request whose token has not come back yet sits out the
next ones; with speculation a step gives it drafts that may be rejected. So what a request will have computed
is no longer arithmetic: this form of the policy keeps an account for each (``Flight``) and walks the running
requests one by one, as the real scheduler does (sections 2, 6, 8 and 9 of its specification).

``form_for`` makes this form of any policy that says no more than ``ContinuousBatching`` asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokensim.memory import Content
from tokensim.scheduling.local import in_flight_walk
from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.cadence import prefill_cap
from tokensim.scheduling.local.continuous import ContinuousBatching
from tokensim.scheduling.local.flight import Flight, FlightStep, Row
from tokensim.scheduling.local.outlook import Outlook
from tokensim.scheduling.local.request import Request


class InFlightBatching(ContinuousBatching):
    """The policy with an account for each request; see ``ContinuousBatching`` for what it decides."""

    can_load = False
    can_tier = False

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
            aside = self._admit_in_flight(step, now, budgets, cap, deferred)
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
        """See ``LocalScheduler.remove``; nothing can be kept."""
        assert not keep, "KV of requests in flight is not kept for others"
        flight = self.flights.pop(request)
        if request in self.running:
            self._make_findable(request, flight)
            request.lost_tokens = request.computed
            self._free_blocks(request, flight)
            del self.running[request]
        else:
            self.waiting.remove(request)
        if request.content is not None:
            self.pool.forget(request.content)
        request.computed = 0
        request.decoding = False

    def outlook(self) -> Outlook:
        """See ``LocalScheduler.outlook``; output counts as left until it has come back."""
        prefill = decode = decoding = context = 0
        for request in (*self.running, *self.waiting):
            if request.decoding:
                decoding += 1
            else:
                prefill += max(request.tokens - request.computed, 0)
            decode += request.length - request.tokens
            context += request.computed
        return Outlook(
            running=len(self.running),
            waiting=len(self.waiting),
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
        for request in self.waiting:
            assert request.blocks == 0, f"{request} waits with {request.blocks} blocks"
        assert set(self.flights) == {*self.running, *self.waiting}, "accounts of others are kept"
        blocks = sum(request.blocks for request in self.running)
        shared = any(request.extents() for request in self.running) or self.exact_steps
        self.pool.check_integrity(self.running, None if shared else blocks)

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
        request.preemptions += 1
        request.decoding = False
        flight.drafts = flight.full = 0
        if self.rules.recalls_output:
            flight.placeholders = 0
            flight.stale = flight.tokens
        self.waiting.put_back(request)
        step.preempted = [*step.preempted, (request, not flight.chunk)]

    def _make_findable(self, request: Request, flight: Flight) -> None:
        """``request`` loses its place: it may come back and look for its own blocks."""
        if request.content is None and self.pool.caching:
            request.content = Content.unique(request.index)
            self.pool.register(request, request.content, flight.full)

    def _admit_in_flight(
        self, step: FlightStep, now: float, budgets: tuple[int, int], cap: int, deferred: bool
    ) -> int:
        """Admit waiting requests until the head does not fit; returns how many were passed over."""
        limits, pool, waiting, running = self.limits, self.pool, self.waiting, self.running
        tokens_left, input_left = budgets
        size, slots, max_len = self.block_size, self.draft_slots, limits.max_model_len
        aside: list[Request] = []
        while waiting and tokens_left > 0 and input_left > slots and len(running) < self.max_active:
            request = waiting.head()
            flight = self.flights[request]
            if flight.stale:
                aside.append(waiting.pop())
                continue
            hits, hit, idle = self._look_up(request)
            computed = hit * size
            tokens = request.tokens - computed
            if deferred and tokens > 1:
                break
            budget = min(tokens_left, input_left - slots)
            drafts = 0
            if tokens == 1 and self._pads(step, computed):
                if 1 + self.drafts > budget:
                    break
                drafts = self.drafts
                tokens += drafts
            if cap and tokens > cap:
                tokens = cap
            if tokens > budget:
                if not limits.enable_chunked_prefill:
                    break
                tokens = budget
            held = -(-min(computed + tokens + self.lookahead, max_len) // size)
            whole = held
            if limits.scheduler_reserve_full_isl:
                whole = max(held, -(-min(request.tokens, max_len) // size))
            if whole - hit > pool.free - idle - (self.watermark if running else 0):
                break
            waiting.pop()
            if hits:
                pool.touch(request, hits)
                flight.full = hit
            pool.take(held - hit, request)
            request.blocks = held
            self._admissions = request.seq = self._admissions + 1
            running[request] = None
            step.admitted.append((request, computed))
            step.prefills = step.prefills or computed < request.tokens - 1
            self.enter(request, flight, min(computed + tokens, request.tokens))
            if request.scheduled_s == request.scheduled_s:  # not for the first time
                request.recomputed_tokens += max(0, request.lost_tokens - computed)
            else:
                request.scheduled_s = now
                request.cached_tokens = computed
            request.computed = computed
            flight.chunk = True
            row = Row(request, flight, tokens, computed, drafts, False)
            row.padded = drafts > 0
            step.rows.append(row)
            tokens_left -= tokens
            input_left -= tokens + slots
        for request in reversed(aside):
            waiting.put_back(request)
        return len(aside)

    def _look_up(self, request: Request) -> tuple[Any, int, int]:
        """The cached prefix of ``request``: (pieces, blocks, blocks of them now free)."""
        if request.content is None:
            return None, 0, 0
        limit = (request.tokens - 1) // self.block_size
        found = self.pool.find(request.content, limit)
        speculation = self.limits.speculation
        if found[1] and speculation is not None and speculation.drops_last_block:
            found = self.pool.find(request.content, found[1] - 1)
        return found

    def _pads(self, step: FlightStep, computed: int) -> bool:
        """Whether an admission of one token is filled up with drafts, so that all rows have one size."""
        return (
            self.drafts > 0
            and self.rules.pads_admissions
            and not any(row.flight.chunk for row in step.rows if row.served_running)
            and (computed > 0 or any(row.served_running for row in step.rows))
            and computed + 2 + self.drafts <= self.limits.max_model_len
        )

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

    def _take_output(self, request: Request, flight: Flight, row: Row, stale: bool) -> bool:
        """The tokens that ``row`` sampled are there; whether ``request`` ends with them. HOT PATH."""
        speculation, running = self.limits.speculation, request in self.running
        accepted = 0
        if row.drafts:
            assert speculation is not None
            accepted = speculation.acceptance.accepted(
                request.index, request.tokens - request.input_tokens, row.drafts, row.padded
            )
            if not row.padded:
                self.verified += 1
                self.drafted += row.drafts
                self.accepted += accepted
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
            self._free_blocks(request, flight)
        if request.content is not None:
            self.pool.forget(request.content)

    def _free_blocks(self, request: Request, flight: Flight) -> None:
        if request.content is None:
            self.pool.discard(request, request.blocks, flight.full)
            request.blocks = 0
        else:
            self.pool.release(request)


HOOKS = ("__init__", "admission_order", "victim", "horizon")
"""What a policy may say of its own and still run in this form: its options, and what it is asked."""


def form_for(policy: Any, limits: Limits) -> Any:
    """The class ``policy`` in the form that ``limits`` need: as it is, or with an account for each request.

    Raises ``TypeError`` if it is no continuous batching, or changes how that works.
    """
    if not limits.in_flight:
        return policy
    plain = isinstance(policy, type) and issubclass(policy, ContinuousBatching)
    own = [c for c in policy.__mro__ if issubclass(c, ContinuousBatching)] if plain else []
    changed = {
        name
        for c in own
        for name, value in vars(c).items()
        if c is not ContinuousBatching and callable(value) and name not in HOOKS
    }
    if not plain or changed:
        raise TypeError(
            "only continuous batching of which nothing but "
            + ", ".join(HOOKS)
            + " is changed keeps account of"
            " what is in flight" + (f" (changed: {', '.join(sorted(changed))})" if changed else "")
        )
    own_module = {"__module__": policy.__module__}  # whose it is, decides whether it is watched
    return type(f"InFlight{policy.__name__}", (InFlightBatching, policy), own_module)
