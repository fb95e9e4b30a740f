"""KV that comes from elsewhere into the pool of a continuous-batching instance, or stays for somebody else.

Coming: a request whose KV lies in another instance or in a memory tier gets its blocks at admission, but does
not run: it stands in ``loading`` until the copies have come, then at the head of the queue with its blocks
(vLLM's ``WAITING_FOR_REMOTE_KVS``; it recomputes the last token of a prompt that is there as a whole).
Staying: a ``held`` request has finished here, but its blocks wait in ``holding`` for whoever fetches them
(vLLM's delayed free of a KV connector). Leaving: a request that goes on in another instance, or is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokensim.memory import Content
from tokensim.scheduling.local.base import Offer
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.continuous import ContinuousBatching


def begin_load(
    policy: ContinuousBatching, request: Request, hits: Any, hit: int, idle: int, offer: Offer, now: float
) -> bool:
    """Give the head of the queue blocks for its prefix hit and what ``offer`` brings, and start the load;
    False (nothing done) if they are not free."""
    pool, size, limits = policy.pool, policy.block_size, policy.limits
    loaded = hit * size + offer.tokens
    blocks = -(-loaded // size)
    whole = blocks
    if limits.scheduler_reserve_full_isl:
        whole = max(blocks, -(-min(request.tokens, limits.max_model_len) // size))
    if whole - hit > pool.free - idle - (policy.watermark if policy.running else 0):
        return False
    if not policy.grant(request):
        return False
    policy.waiting.pop()
    if hits:
        pool.touch(request, hits)
    pool.take(blocks - hit, request)
    request.blocks = blocks
    request.computed = min(loaded, request.tokens - 1)
    policy.loading[request] = None
    assert policy.source is not None
    policy.source.load(request, offer, now)
    return True


def loaded(policy: ContinuousBatching, request: Request) -> None:
    """What ``request`` waited for has come: it is next in line."""
    del policy.loading[request]
    request.loaded = True
    policy.register_output(request, request.computed)
    policy.waiting.put_back(request)
    if policy.adapters is not None:
        policy.adapters.all_wait = False
    policy._blocked = False


def make_room(policy: ContinuousBatching, blocked: Request | None = None) -> bool:
    """The head of the queue (``blocked``: another one) does not fit though nothing runs, since requests
    behind it hold what was loaded for them: the last of these gives it up. Returns whether there was one."""
    if policy.running:
        return False
    holders = [request for request in policy.waiting if request.loaded]
    if not holders or holders[-1] is (blocked or policy.waiting.head()):
        return False
    last = holders[-1]
    last.recomputed_tokens += last.computed
    policy.pool.release(last)
    policy.revoke(last)
    last.computed = 0
    last.loaded = False
    return True


def hold(policy: ContinuousBatching, request: Request) -> None:
    """``request`` has finished, but its KV stays; others may find it in the prefix cache."""
    findable(policy, request)
    request.computed = request.length - 1
    complete(policy, request, request.computed)
    policy.holding[request] = None


def complete(policy: ContinuousBatching, request: Request, computed: int) -> None:
    """``request`` has finished with ``computed`` tokens: these are its blocks, and others may find them."""
    size, content = policy.block_size, request.content
    request.blocks = -(-computed // size)
    if content is not None:
        if request.shared_output:
            policy.pool.stop_growing(content, request)
        policy.pool.register(request, content, computed // size)


def release(policy: ContinuousBatching, request: Request) -> None:
    """Nobody needs the KV of the held ``request`` any more."""
    del policy.holding[request]
    policy.revoke(request)
    _free(policy, request)
    policy._blocked = False


def remove(policy: ContinuousBatching, request: Request, keep: bool) -> None:
    """Take ``request`` out, wherever it stands; ``keep``: its KV stays. What it has produced counts as prompt
    from now on, as after a preemption."""
    findable(policy, request)
    if request in policy.running:
        if request.decoding:
            index = policy.index
            request.computed = computed = policy.computed(request)
            policy.decoding.leave(request, index)
            policy.decoding.withdraw(request)
            request.blocks = -(-computed // policy.block_size)
            if request.shared_output and request.content is not None:
                policy.pool.stop_growing(request.content, request)
            request.tokens = computed + 1
            request.decoding = False
        else:
            computed = request.computed
            policy.prefilling.pop(request, None)
        policy.register_output(request, computed)
        request.lost_tokens = computed
        del policy.running[request]
        policy.sitting_out.pop(request, None)
        if policy.adapters is not None:
            policy.adapters.leave(request)
        policy._blocked = False
        if keep:
            policy.holding[request] = None
            return
    elif request in policy.loading:
        del policy.loading[request]
    elif request in policy.holding:
        del policy.holding[request]
    else:
        policy.waiting.remove(request)
    policy.revoke(request)
    _free(policy, request)
    request.computed = 0
    request.loaded = False
    policy._blocked = False


def findable(policy: ContinuousBatching, request: Request) -> Content | None:
    """What ``request`` consists of; it may come back and look for its own blocks."""
    if request.content is None and policy.pool.caching:
        request.content = Content.unique(request.index)
    return request.content


def _free(policy: ContinuousBatching, request: Request) -> None:
    pool, content = policy.pool, request.content
    if request.blocks:
        if content is None:
            full = request.computed // policy.block_size
            pool.discard(request, request.blocks, min(full, request.blocks))
            request.blocks = 0
        else:
            pool.release(request)
    if content is not None:
        pool.forget(content)
