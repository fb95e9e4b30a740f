"""Preemption by recomputation: a running request loses all it has and goes back into the queue.

Its outputs are kept: on resumption, prompt and outputs are one long prompt, of which the prefix cache may
still hold a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.memory import Content
from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.continuous import ContinuousBatching


def preempt(policy: ContinuousBatching, step: Step, request: Request, served: int) -> None:
    """Take everything from ``request``, which was given ``served`` tokens in this step before."""
    pool, size = policy.pool, policy.block_size
    decoding, sat_out = request.decoding, request in policy.sitting_out
    if request.content is None and pool.caching:
        request.content = Content.unique(request.index)  # it may find its own blocks again
    if decoding:
        computed = request.base + step.index - 1
        assert not policy.exact_steps or request.computed == computed, f"{request} has {request.computed}"
        request.blocks = -(-(computed + served) // size)
        if request.finish_step >= step.index:
            policy.decoding.leave(request, step.index - 1)
            policy.decoding.withdraw(request)
        if request.shared_output:
            assert request.content is not None
            pool.stop_growing(request.content, request)
        known = computed + served - (0 if sat_out else policy.lag)
        policy.register_output(request, max(known, request.tokens))
        request.tokens = computed + 1
        request.decoding = False
    else:
        computed = request.computed
        del policy.prefilling[request]
        policy.register_output(request, computed + served)
    pool.release(request)
    del policy.running[request]
    if policy.adapters is not None:
        policy.adapters.leave(request)
        policy.adapters.all_wait = False
    request.computed = 0
    request.loaded = False
    request.preemptions += 1
    request.lost_tokens = computed
    policy.waiting.put_back(request)
    policy.sitting_out.pop(request, None)
    step.preempted = [*step.preempted, (request, decoding and not sat_out)]
