"""The running requests of one step, one by one, when they have more on their way than one token.

As ``walk.py``, with what pipelines and speculation add: who sits out because its token is in flight, drafts,
slots ahead, and a second budget for what a draft model adds to its own batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.errors import SimulationError
from tokensim.scheduling.local.flight import FlightStep, Row
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.in_flight import InFlightBatching


def serve_in_order(policy: InFlightBatching, step: FlightStep, cap: int, deferred: bool) -> tuple[int, int]:
    """Serve ``policy.running`` in ``step``; returns what is left of the token and of the input budget.

    HOT PATH.
    """
    index = step.index
    pool, size, rules, flights = policy.pool, policy.block_size, policy.rules, policy.flights
    max_len, slots, lookahead = policy.limits.max_model_len, policy.draft_slots, policy.lookahead
    goes_on = rules.self_preemption_goes_on and policy.limits.scheduling_policy == "priority"
    tokens_left, input_left = policy.budget, policy.limits.max_num_batched_tokens
    running = list(policy.running)
    served: dict[Request, Row] = {}
    at = 0
    while at < len(running) and tokens_left > 0 and input_left > slots:
        request = running[at]
        flight = flights[request]
        computed, placeholders = request.computed, flight.placeholders
        tokens = request.tokens + flight.drafts + placeholders - computed
        if (
            tokens <= 0
            or index < flight.eligible
            or (placeholders and _ends(request, placeholders))
            or (deferred and flight.chunk)
        ):
            at += 1
            continue
        if tokens > 1:
            if cap and tokens > cap:
                tokens = cap
            tokens = min(tokens, tokens_left, input_left - slots)
        if tokens >= max_len - computed:
            tokens = max_len - computed - 1
            if tokens <= 0:
                at += 1
                continue
        end = computed + tokens + lookahead
        need = -(-(end if end < max_len else max_len) // size) - request.blocks
        while need > pool.free:
            victim = policy.victim(running)
            if victim not in running:
                raise SimulationError(f"victim must return one of the running requests, not {victim!r}")
            place = running.index(victim)
            given = served.pop(victim, None)
            if given is not None:
                tokens_left += given.tokens
                input_left += given.tokens + slots
            del running[place]
            policy.send_back(step, victim, given)
            if victim is request:
                break
            if place < at and (given is not None or not rules.index_moves_only_for_served):
                at -= 1
        else:
            if need > 0:
                pool.take(need, request)
                request.blocks += need
            end = computed + tokens
            if (flight.full + 1) * size <= end:
                policy.enter(request, flight, min(end, request.tokens))
            drafts = 0
            if flight.drafts:
                drafts = max(0, min(flight.drafts, end - request.tokens - placeholders))
                flight.drafts = 0
            served[request] = Row(request, flight, tokens, computed, drafts, True)
            tokens_left -= tokens
            input_left -= tokens + slots
            at += 1
            continue
        if not goes_on:
            break
    step.rows = list(served.values())
    return tokens_left, input_left


def _ends(request: Request, placeholders: int) -> bool:
    """Whether its last token is in flight."""
    return request.computed + 2 - placeholders >= request.length
