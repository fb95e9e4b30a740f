"""What a local scheduler still has to do, as of its last scheduled step, and how further equal steps change
that.

A router reads this in the middle of a run of equal steps. In such a step each of ``decoding`` requests gets
one token, so that all that moves is arithmetic: after ``k`` further steps ``decode_tokens`` is smaller and
``context`` larger by ``k · decoding``, and the blocks taken follow from ``phase``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tokensim.scheduling.local.queues import Backlog
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.base import LocalScheduler
    from tokensim.scheduling.local.continuous import ContinuousBatching


class Outlook(NamedTuple):
    """Of the requests in one instance: ``running`` and ``waiting`` (those that wait for KV from elsewhere
    among them); ``prefill_tokens`` of their prompts (and of what preempted ones compute again) and
    ``decode_tokens`` of output not yet scheduled; how many are ``decoding``; ``context``, the tokens computed
    of those that run; ``free_blocks``; ``phase``, the blocks that the next steps take, one entry a step, over
    and over (see ``DecodeSet``).
    """

    running: int
    waiting: int
    prefill_tokens: int
    decode_tokens: int
    decoding: int
    context: int
    free_blocks: int
    phase: tuple[int, ...]


def walked(policy: LocalScheduler, index: int, block_size: int) -> Outlook:
    """Of any policy whose requests follow ``Request``'s description; ``index`` is its last scheduled step.
    Costs a look at every request."""
    prefill = decode = n = context = 0
    phase = [0] * block_size
    for request in (*policy.running, *policy.waiting, *policy.loading):
        if request.decoding:
            left = max(request.finish_step - index, 0)
            decode += left
            context += request.length - 1 - left
            if left:
                n += 1
                phase[-(request.base + index) % block_size] += 1
        else:
            prefill += request.tokens - request.computed
            decode += request.length - request.tokens
            context += request.computed if request in policy.running else 0
    return Outlook(
        len(policy.running),
        len(policy.waiting) + len(policy.loading),
        prefill,
        decode,
        n,
        context,
        policy.pool.free,
        tuple(phase),
    )


def kept(policy: ContinuousBatching) -> Outlook:
    """The same from the sums that continuous batching keeps; costs a look at those that prefill."""
    decoding, index, waiting = policy.decoding, policy.index, policy.waiting
    if not isinstance(waiting, Backlog):
        return walked(policy, index, policy.block_size)
    n, size = decoding.n, policy.block_size
    prefill, decode = waiting.prefill_tokens, waiting.decode_tokens + decoding.finish_sum - n * index
    context = decoding.base_sum + n * index
    for request in policy.prefilling:
        prefill += request.tokens - request.computed
        decode += request.length - request.tokens
        context += request.computed
    for request in policy.loading:
        prefill += request.tokens - request.computed
        decode += request.length - request.tokens
    for request in policy.leaving:
        if request in policy.running:
            context += request.length - 1
    at = index % size
    return Outlook(
        len(policy.running),
        len(waiting) + len(policy.loading),
        prefill,
        decode,
        n,
        context,
        policy.pool.free + policy.taken_ahead,
        (*decoding.phase[at:], *decoding.phase[:at]),
    )


def cached_tokens(policy: LocalScheduler, request: Request) -> int:
    """Tokens of ``request`` that its instance would find in its prefix cache now."""
    pool, content = policy.pool, request.content
    if content is None or not pool.caching:
        return 0
    size: int = getattr(pool, "block_size", 1)
    found: int = pool.find(content, (request.tokens - 1) // size)[1]
    return found * size


def cached_ahead(policy: ContinuousBatching, request: Request, steps: int) -> int:
    """The same after ``steps`` further steps equal to the last one, which have been scheduled: the blocks
    that they take are taken now, as that may evict what ``request`` looks for, and what others generate is
    there up to then."""
    content = request.content
    if content is None or not policy.pool.caching:
        return 0
    if steps:
        blocks = policy.decoding.blocks_over(policy.index + 1, steps) - policy.taken_ahead
        if blocks:
            policy.pool.take(blocks)
            policy.taken_ahead += blocks
    policy.index += steps
    tokens = cached_tokens(policy, request)
    policy.index -= steps
    return tokens
