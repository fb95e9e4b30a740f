"""The running requests of one step, served one by one in order of admission, with preemption.

The plain form of the rules (section 2a of the scheduler's specification). ``ContinuousBatching`` uses it when
not everybody can be served, and for every step of an exact single-step run. There it is the reference for the
aggregated form, so it counts: each request's computed tokens, its blocks and what of them is registered go up
token by token, as in the real engine, and nothing is taken from the closed forms of ``decoding.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.errors import SimulationError
from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.continuous import ContinuousBatching


def serve_in_order(policy: ContinuousBatching, step: Step, cap: int, deferred: bool) -> int:
    """Serve ``policy.running`` in ``step``; returns the token budget left for admissions."""
    pool, size, index = policy.pool, policy.block_size, step.index
    room = policy.limits.max_model_len - 1
    running = list(policy.running)
    goes_on = policy.rules.self_preemption_goes_on and policy.limits.scheduling_policy == "priority"
    served: dict[Request, tuple[int, int]] = {}  # request → (tokens, computed before)
    counting = policy.exact_steps
    budget = policy.budget
    at = 0
    while at < len(running) and budget > 0:
        request = running[at]
        if request.decoding:
            before = request.computed if counting else request.base + index - 1
            tokens = 1 if before < request.length - 1 else 0  # else its last token is in flight
        else:
            before = request.computed
            tokens = 0 if deferred else min(request.tokens - before, budget, room - before)
            if cap and tokens > cap:
                tokens = cap
        if tokens <= 0:
            at += 1
            continue
        need = -(-(before + tokens) // size) - (-(-before // size))
        while policy.lacks(request, need):
            victim = policy.victim(running)
            if victim not in running:
                raise SimulationError(f"victim must return one of the running requests, not {victim!r}")
            place = running.index(victim)
            was_served = victim in served
            given = served.pop(victim)[0] if was_served else 0
            budget += given
            del running[place]
            policy.preempt(step, victim, given)
            if victim is request:
                break
            if place < at and (was_served or not policy.rules.index_moves_only_for_served):
                at -= 1
        else:
            if need:
                pool.take(need, request)
            if not request.decoding:
                request.blocks += need
                policy.register_chunk(request, before + tokens)
            elif counting:
                request.blocks += need
                lag = 0 if request in policy.sitting_out else policy.lag
                policy.register_output(request, before + tokens - lag)
            served[request] = (tokens, before)
            budget -= tokens
            at += 1
            continue
        if not goes_on:
            break
    write_down(policy, step, served, running)
    return budget


def write_down(
    policy: ContinuousBatching, step: Step, served: dict[Request, tuple[int, int]], running: list[Request]
) -> None:
    """Write down what was decided: contexts of the decodes, chunks, and who sat out."""
    window, longest = policy.limits.window, policy.limits.longest
    for request, (tokens, before) in served.items():
        if request.decoding:
            step.decode += 1
            step.context += before + 1
            if policy.exact_steps:
                request.computed = before + 1
            if longest and before >= step.longest:
                step.longest = before + 1
            if window is not None:
                step.window_context += min(before + 1, window)
                step.window_growth += before + 1 < window
        else:
            policy.run_chunk(step, request, tokens)
    for request in [r for r in policy.sitting_out if r in served]:
        policy.come_back(step, request)
    for request in running:
        if request.decoding and request not in served and request.finish_step >= step.index:
            _sit_out(policy, step, request)


def _sit_out(policy: ContinuousBatching, step: Step, request: Request) -> None:
    """A decoding request got no token in this step: everything about it comes one step later."""
    decoding = policy.decoding
    decoding.leave(request, step.index - 1)
    decoding.withdraw(request)
    request.base -= 1
    request.finish_step += 1
    decoding.join(request, step.index)
    step.whole = False
    if request not in policy.sitting_out:
        policy.sitting_out[request] = None
        step.sat_out = [*step.sat_out, request]
