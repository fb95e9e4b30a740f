"""A step for every running request at once, without a look at those that decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensim.scheduling.local.base import Step
from tokensim.scheduling.local.request import Request

if TYPE_CHECKING:
    from tokensim.scheduling.local.continuous import ContinuousBatching


def serve_all(policy: ContinuousBatching, step: Step, cap: int, deferred: bool) -> int:
    """Give every running request what it wants; the budget left, or −1 (nothing done) if not all can have
    it."""
    shares: list[tuple[Request, int, int]] = []
    decoding, pool = policy.decoding, policy.pool
    budget = policy.budget - decoding.n
    if policy.prefilling and not deferred:
        need = decoding.blocks_at(step.index)
        for request in policy.prefilling:
            tokens = request.tokens - request.computed
            if cap and tokens > cap:
                tokens = cap
            if tokens > budget:
                if not last_in_line(policy):
                    return -1
                tokens = budget
                if tokens <= 0:
                    break
            budget -= tokens
            blocks = -(-(request.computed + tokens) // policy.block_size) - request.blocks
            need += blocks
            shares.append((request, tokens, blocks))
        if need > pool.free:
            return -1
    if not policy._serve_decodes(step):
        return -1
    for request, tokens, blocks in shares:
        pool.take(blocks, request)
        request.blocks += blocks
        policy.run_chunk(step, request, tokens)
    return budget


def last_in_line(policy: ContinuousBatching) -> bool:
    """Whether the prefilling requests are the last of the running ones."""
    return all(a is b for a, b in zip(reversed(policy.prefilling), reversed(policy.running), strict=False))
