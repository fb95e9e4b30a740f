"""Cohorts: requests of a pipeline that decode in the same steps, kept as sums, not one by one.

A request is decoded again when the token that it got last is back (synchronous), or a round of the pipeline
later (asynchronous). So those that got a token in the same step stay together from then on: step after step
takes up one cohort, which gains who has just finished its prompt there and loses who is done. What a cohort
needs of the next *turn* (the steps that it is in, counted by itself) is arithmetic, as in ``decoding.py``.

``gather`` makes cohorts of accounts kept request by request, ``scatter`` turns them back, whenever a step has
to look at everybody: when memory is short, or the budget.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tokensim.scheduling.local.decoding import DecodeSet, WindowedDecodeSet
from tokensim.scheduling.local.flight import Flight, FlightStep, Row
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.pipelined import PipelinedBatching


NOBODY: Counter[float] = Counter()  # never changed


class Cohort:
    """``members`` have computed ``base + turn`` tokens each (``Request.base``), and end with turn
    ``finish_step``.

    ``received`` is the last turn whose tokens are back, ``sampled_in`` the step of the last turn. KV up to
    turn ``level`` is in the prefix cache (``level_before``: before the step that is being made).
    ``last_s``: when the members' last tokens came; None: each has its own (``Request.last_token_s``), and
    ``waited`` says how many have which. ``fresh``: so many joined in the last turn.
    """

    __slots__ = (
        "fresh",
        "last_s",
        "level",
        "level_before",
        "members",
        "received",
        "sampled_in",
        "sums",
        "turn",
        "waited",
    )

    def __init__(self, sums: DecodeSet, turn: int, sampled_in: int) -> None:
        self.sums = sums
        self.members: dict[Request, None] = {}
        self.turn = turn
        self.received = 0
        self.sampled_in = sampled_in
        self.level = self.level_before = 0
        self.last_s: float | None = None
        self.waited: Counter[float] = NOBODY
        self.fresh = 0

    def join(self, request: Request, computed: int) -> bool:
        """``request`` has ``computed`` tokens after this turn; False if its last token comes with it."""
        request.base = computed - self.turn
        request.finish_step = request.length - 1 - request.base
        if request.finish_step <= self.turn:
            return False
        self.members[request] = None
        self.sums.join(request, self.turn)
        return True


def new_cohort(policy: PipelinedBatching, turn: int, sampled_in: int) -> Cohort:
    """A cohort of nobody yet."""
    limits = policy.limits
    sums = (
        DecodeSet(limits.block_size, limits.longest)
        if limits.window is None
        else WindowedDecodeSet(limits.block_size, limits.window, limits.longest)
    )
    return Cohort(sums, turn, sampled_in)


def serve(policy: PipelinedBatching, step: FlightStep, cap: int) -> int:
    """Give everybody who runs what it wants in ``step``; the budget left, or −1 (nothing done) if not all can
    have it, or somebody has to be looked at. HOT PATH."""
    cohort = _ready(policy, step.index)
    if cohort is None and len(policy.ready) > 1:
        return -1
    budget, need, size = policy.budget, 0, policy.block_size
    if cohort is not None:
        budget -= cohort.sums.n
        if budget < 0:
            return -1
        need = cohort.sums.phase[cohort.turn % size]
    shares: list[tuple[Request, int]] = []
    for request in policy.prefilling:
        tokens = request.tokens - request.computed
        if cap and tokens > cap:
            tokens = cap
        if tokens > budget:
            if not policy.last_in_line():
                return -1
            tokens = budget
            if tokens <= 0:
                break
        budget -= tokens
        need += -(-(request.computed + tokens) // size) - request.blocks
        shares.append((request, tokens))
    if need > policy.pool.free:
        return -1
    if cohort is not None:
        _take_turn(policy, step, cohort)
    for request, tokens in shares:
        flight, before = policy.flights[request], request.computed
        blocks = -(-(before + tokens) // size)
        policy.pool.take(blocks - request.blocks, request)
        request.blocks = blocks
        policy.enter_chunk(request, flight, before + tokens)
        step.rows.append(Row(request, flight, tokens, before, 0, True))
    return budget


def _ready(policy: PipelinedBatching, index: int) -> Cohort | None:
    """The cohort whose turn it is in step ``index``; None if there is none, or there are several
    (``policy.ready``) that cannot be one."""
    every = policy.every
    ready = policy.ready
    ready.clear()
    for cohort in policy.cohorts:
        if index >= cohort.sampled_in + every if every else cohort.received == cohort.turn:
            ready.append(cohort)
    if len(ready) < 2:
        return ready[0] if ready else None
    if any(cohort.received != cohort.turn for cohort in ready):
        return None
    ready.sort(key=lambda cohort: -cohort.sums.n)
    largest = ready[0]
    waited: Counter[float] = Counter()
    for cohort in ready:
        waited += cohort.waited if cohort.last_s is None else Counter({cohort.last_s: cohort.sums.n})
        for request in cohort.members:
            if cohort.last_s is not None:
                request.last_token_s = cohort.last_s
            if cohort is not largest:
                largest.join(request, request.base + cohort.turn)
                policy.flights[request].cohort = largest
        if cohort is not largest:
            largest.sampled_in = max(largest.sampled_in, cohort.sampled_in)
            policy.cohorts.remove(cohort)
    largest.waited, largest.last_s = waited, None
    return largest


def _take_turn(policy: PipelinedBatching, step: FlightStep, cohort: Cohort) -> None:
    """``cohort`` decodes in ``step``. HOT PATH."""
    sums = cohort.sums
    cohort.turn = turn = cohort.turn + 1
    cohort.fresh = 0
    cohort.level_before = cohort.level
    # Tokens that are not known yet cannot be looked up: at most the one that the last turn gave is.
    known = turn if turn <= cohort.received + 1 else cohort.received + 1
    if known > cohort.level:
        cohort.level = known
    step.decode = sums.n
    step.context = sums.base_sum + sums.n * turn
    if policy.limits.window is not None:
        step.window_context, _ = sums.window_context(turn)
    if policy.limits.longest:
        step.longest = sums.longest_context(turn)
    need = sums.phase[(turn - 1) % policy.block_size]
    if need:
        policy.pool.take(need)
    step.cohort, step.turn = cohort, turn
    step.builds_on, cohort.sampled_in = cohort.sampled_in, step.index
    step.waited, cohort.waited = cohort.waited, NOBODY
    for request in sums.finishing.pop(turn, ()):
        sums.leave(request, turn)
        del cohort.members[request]
        policy.flights[request].level = cohort.level
        step.last.append(request)
    if not sums.n:
        policy.cohorts.remove(cohort)


def join(policy: PipelinedBatching, step: FlightStep, request: Request) -> None:
    """``request`` gets its first token in ``step``: it decodes with those that get one there too."""
    cohort = step.cohort
    if cohort is None:
        cohort = step.cohort = new_cohort(policy, 1, step.index)
        step.turn = 1
        cohort.level = 1
    nobody = not cohort.sums.n
    flight = policy.flights[request]
    flight.cohort = cohort
    if not cohort.join(request, request.computed):
        flight.level = cohort.level
        step.last.append(request)
        return
    cohort.fresh += 1
    if nobody:
        policy.cohorts.append(cohort)
    policy.start_growing(request)


def level_of(policy: PipelinedBatching, request: Request, flight: Flight, cohort: Cohort) -> int:
    """Up to which turn of ``cohort`` the KV of ``request`` is in the prefix cache. Who has had its last turn
    is given nothing by the later ones, only by what comes back (asynchronous scheduling)."""
    if request in cohort.members:
        return cohort.level
    level = max(flight.level, cohort.received) if policy.asynchronous else flight.level
    return min(level, request.finish_step)


def scatter(policy: PipelinedBatching) -> None:
    """Keep an account for each request again."""
    flying = list(policy.flying.values())
    joined = {r: step.turn for step in flying if step.cohort is not None for r in step.firsts}
    ended = {r: step.cohort for step in flying if step.cohort is not None for r in step.last}
    everybody = [(r, cohort) for cohort in policy.cohorts for r in cohort.members]
    everybody += [(r, cohort) for r, cohort in ended.items() if cohort is not None]
    for request, cohort in everybody:
        flight = policy.flights[request]
        level = level_of(policy, request, flight, cohort)
        last = min(cohort.turn, request.finish_step)
        known = max(cohort.received, joined.get(request, 0) - 1)
        request.computed = computed = request.base + last
        request.tokens = request.base + known + 1
        request.blocks = -(-computed // policy.block_size)
        flight.placeholders = last - known if policy.asynchronous else 0
        flight.cohort = None
        flight.chunk = False
        flight.sampled_in = cohort.sampled_in - (
            policy.every * (cohort.turn - last) if cohort.turn > last else 0
        )
        flight.eligible = flight.sampled_in + policy.every
        policy.stop_growing(request)
        policy.enter(request, flight, request.base + min(level, last))
        if cohort.last_s is not None and joined.get(request, 0) <= cohort.received:
            request.last_token_s = cohort.last_s
    for step in flying:
        served, turn = step.cohort, step.turn
        if served is None:
            continue
        decoded = [
            request
            for request, own in everybody
            if own is served and joined.get(request, 0) < turn <= request.finish_step
        ]
        for request in decoded:
            flight = policy.flights[request]
            row = Row(request, flight, 1, request.base + turn - 1, 0, True)
            row.samples = True
            flight.tokens += 1
            step.rows.append(row)
        step.rows.sort(key=lambda row: row.request.seq)
        step.cohort, step.waited, step.last = None, NOBODY, []
    policy.cohorts.clear()
    policy.prefilling.clear()
    policy.gathered = False


def gather(policy: PipelinedBatching) -> bool:
    """Make cohorts of the accounts, before a step is decided; False (nothing done) if something of a request
    is on its way that cohorts do not have."""
    for request, flight in policy.recalled.items():
        if not request.finished and (flight.tokens or flight.stale or flight.placeholders):
            return False
    flights, asynchronous = policy.flights, policy.asynchronous
    flown: dict[Request, FlightStep] = {}
    for step in policy.flying.values():
        for row in step.rows:
            if row.samples:
                if row.request in flown or row.request.finished:
                    return False
                flown[row.request] = step
    for request in policy.running:
        flight = flights[request]
        on_its_way = request in flown
        if flight.chunk:
            if flight.placeholders or on_its_way:
                return False
        elif request.tokens + on_its_way != request.computed + 1 or (
            flight.placeholders != (on_its_way and asynchronous)
        ):
            return False
    policy.recalled.clear()
    policy.gathered = True
    ready: dict[int, Cohort] = {}
    for request in policy.running:
        flight = flights[request]
        if flight.chunk:
            policy.prefilling[request] = None
            continue
        flight.placeholders = 0
        if request in flown:
            continue
        cohort = ready.get(flight.sampled_in)
        if cohort is None:
            cohort = ready[flight.sampled_in] = new_cohort(policy, 0, flight.sampled_in)
            cohort.waited = Counter()
            policy.cohorts.append(cohort)
        cohort.waited[request.last_token_s] += 1
        flight.cohort = cohort
        cohort.join(request, request.computed)
        policy.start_growing(request)
    for step in policy.flying.values():
        _gather_step(policy, step)
    return True


def _gather_step(policy: PipelinedBatching, step: FlightStep) -> None:
    """``step`` is in flight: those that it gives a token become a cohort."""
    rows = [row for row in step.rows if row.samples]
    if not rows:
        return
    cohort = step.cohort = new_cohort(policy, 1, step.index)
    cohort.level = 0 if policy.asynchronous else 1
    step.turn, step.last, step.waited = 1, [], Counter()
    firsts = set(step.firsts)
    for row in rows:
        request, flight = row.request, row.flight
        flight.cohort = cohort
        if request in firsts:
            cohort.fresh += 1
        else:
            flight.tokens -= row.tokens
            step.waited[request.last_token_s] += 1
        if cohort.join(request, request.computed):
            policy.start_growing(request)
        else:
            flight.level = cohort.level
            step.last.append(request)
    if cohort.sums.n:
        policy.cohorts.append(cohort)
    step.rows = [row for row in step.rows if not row.samples or row.request in firsts]
