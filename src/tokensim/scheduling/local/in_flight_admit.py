"""Admission of waiting requests when those that run may have more on their way than one token.

As ``ContinuousBatching`` does it, with what drafts add: slots ahead, a second budget, rows filled up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokensim.scheduling.local import elsewhere
from tokensim.scheduling.local.flight import FlightStep, Row
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.in_flight import InFlightBatching


def admit(
    policy: InFlightBatching,
    step: FlightStep,
    now: float,
    budgets: tuple[int, int],
    cap: int,
    deferred: bool,
) -> int:
    """Admit waiting requests until the head does not fit; returns how many were passed over."""
    limits, pool, waiting, running = policy.limits, policy.pool, policy.waiting, policy.running
    source = policy.source
    tokens_left, input_left = budgets
    size, slots, max_len = policy.block_size, policy.draft_slots, limits.max_model_len
    aside: list[Request] = []
    policy.stay_out(False)
    while waiting and tokens_left > 0 and input_left > slots and len(running) < policy.max_active:
        request = waiting.head()
        flight = policy.flights[request]
        if flight.stale:
            aside.append(waiting.pop())
            continue
        if request.loaded:
            hits, hit, idle, computed = None, request.blocks, 0, request.computed
        else:
            hits, hit, idle = look_up(policy, request)
            computed = hit * size
        offer = None
        if source is not None and not request.loaded:
            offer = source.offer(request, computed, now)
            if offer is not None:
                if offer.overlap_s is None:
                    if elsewhere.begin_load(policy, request, hits, hit, idle, offer, now):
                        continue
                    if elsewhere.make_room(policy):
                        continue
                    policy.stay_out()
                    break
                computed = min(computed + offer.tokens, request.tokens - 1)
        tokens = request.tokens - computed
        if deferred and tokens > 1:
            break
        budget = min(tokens_left, input_left - slots)
        drafts = 0
        if tokens == 1 and pads(policy, step, computed):
            if 1 + policy.drafts > budget:
                break
            drafts = policy.drafts
            tokens += drafts
        if cap and tokens > cap:
            tokens = cap
        if tokens > budget:
            if not limits.enable_chunked_prefill:
                break
            tokens = budget
        held = -(-min(computed + tokens + policy.lookahead, max_len) // size)
        whole = held
        if limits.scheduler_reserve_full_isl:
            whole = max(held, -(-min(request.tokens, max_len) // size))
        if whole - hit > pool.free - idle - (policy.watermark if running else 0):
            if source is not None and elsewhere.make_room(policy):
                continue
            policy.stay_out()
            break
        waiting.pop()
        if hits:
            pool.touch(request, hits)
            flight.full = hit
        pool.take(max(0, held - hit), request)
        request.blocks = max(held, hit)
        if offer is not None and source is not None:
            source.load(request, offer, now)
            step.overlap_s += offer.overlap_s or 0.0
        policy.take_seat(request)
        step.admitted.append((request, computed))
        step.prefills = step.prefills or computed < request.tokens - 1
        policy.enter(request, flight, min(computed + tokens, request.tokens))
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
    if len(running) >= policy.max_active:
        policy.stay_out(True)
    for request in reversed(aside):
        waiting.put_back(request)
    return len(aside)


def look_up(policy: InFlightBatching, request: Request) -> tuple[Any, int, int]:
    """The cached prefix of ``request``: (pieces, blocks, blocks of them now free)."""
    if request.content is None:
        return None, 0, 0
    limit = (request.tokens - 1) // policy.block_size
    found = policy.pool.find(request.content, limit)
    speculation = policy.limits.speculation
    if found[1] and speculation is not None and speculation.drops_last_block:
        found = policy.pool.find(request.content, found[1] - 1)
    return found


def pads(policy: InFlightBatching, step: FlightStep, computed: int) -> bool:
    """Whether an admission of one token is filled up with drafts, so that all rows have one size."""
    return (
        policy.drafts > 0
        and policy.rules.pads_admissions
        and not any(row.flight.chunk for row in step.rows if row.served_running)
        and (computed > 0 or any(row.served_running for row in step.rows))
        and computed + 2 + policy.drafts <= policy.limits.max_model_len
    )
