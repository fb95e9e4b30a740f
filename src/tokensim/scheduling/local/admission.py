"""Admission of waiting requests by continuous batching: in order, until the head does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokensim.scheduling.local import elsewhere
from tokensim.scheduling.local.base import Step

if TYPE_CHECKING:
    from tokensim.scheduling.local.continuous import ContinuousBatching


def admit(policy: ContinuousBatching, step: Step, now: float, budget: int, cap: int, deferred: bool) -> None:
    """Admit waiting requests until the head does not fit. HOT PATH."""
    limits, pool, waiting, running = policy.limits, policy.pool, policy.waiting, policy.running
    size = policy.block_size
    reserve, source = limits.scheduler_reserve_full_isl, policy.source
    policy._blocked = True
    if policy.adapters is not None and policy.adapters.all_wait:
        return
    hits: Any
    while waiting and budget > 0 and len(running) < policy.max_active:
        request = waiting.head()
        if policy.adapters is not None and not policy.adapters.admits(request):
            policy.adapters.passed_over.append(waiting.pop())
            continue
        content = request.content
        offer = None
        if request.loaded:
            hits, hit, idle = None, request.blocks, 0
            computed = request.computed
        else:
            if content is None:
                hits, hit, idle = None, 0, 0
            else:
                hits, hit, idle = pool.find(content, (request.tokens - 1) // size)
            computed = hit * size
            if source is not None:
                offer = source.offer(request, computed, now)
                if offer is not None:
                    if offer.overlap_s is None:
                        if elsewhere.begin_load(policy, request, hits, hit, idle, offer, now):
                            continue
                        if elsewhere.make_room(policy):
                            continue
                        policy._blocked = reserve and not policy._growing
                        return
                    computed = min(computed + offer.tokens, request.tokens - 1)
        tokens = request.tokens - computed
        if deferred and tokens > 1:
            policy._blocked = False
            return
        if cap and tokens > cap:
            tokens = cap
        if tokens > budget:
            if not limits.enable_chunked_prefill:
                # What a source offers may change at any time, and with it what is left to compute.
                policy._blocked = not limits.long_prefill_token_threshold_adaptive and source is None
                return
            tokens = budget
        blocks = -(-(computed + tokens) // size)
        free = pool.free - idle - (policy.watermark if running else 0)
        whole = blocks
        if reserve and computed + tokens < request.tokens:
            whole = -(-min(request.tokens, limits.max_model_len) // size)
            if policy.holds_whole_prompts:
                blocks = whole
        if whole - hit > free or blocks - hit > free:
            if source is not None and elsewhere.make_room(policy):
                continue
            policy._blocked = reserve and not policy._growing  # else its need may shrink by itpolicy
            return
        if policy._claims and not policy.claim(request):
            return
        waiting.pop()
        if hits:
            pool.touch(request, hits)
        pool.take(blocks - hit, request)
        request.blocks = blocks
        request.computed = computed
        if offer is not None and source is not None:
            source.load(request, offer, now)
            step.overlap_s += offer.overlap_s or 0.0
        policy._admissions = request.seq = policy._admissions + 1
        running[request] = None
        if policy.adapters is not None:
            step.stall_s += policy.adapters.enter(request)
        step.admitted.append((request, computed))
        if request.scheduled_s == request.scheduled_s:  # not for the first time
            request.recomputed_tokens += max(0, request.lost_tokens - computed)
        else:
            request.scheduled_s = now
            request.cached_tokens = computed
        if computed + tokens < request.tokens:
            policy.prefilling[request] = None
        budget -= tokens
        policy.run_chunk(step, request, tokens)
