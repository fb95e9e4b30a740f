"""Checks that the state of a continuous-batching scheduler does not contradict itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokensim.scheduling.local.continuous import ContinuousBatching


def check(policy: ContinuousBatching) -> None:
    """Raise ``AssertionError`` if requests, closed forms and KV pool disagree."""
    size = policy.block_size
    used = 0
    seen: set[int] = set()
    for request in policy.running:
        assert not request.finished, f"{request} runs though it finished"
        assert (request in policy.prefilling) == (not request.decoding), f"{request}: prefilling or decoding?"
        computed = policy.computed(request)
        blocks = -(-computed // size)
        if policy.holds_whole_prompts and not request.decoding:
            blocks = -(-request.tokens // size)
        counted = policy.exact_steps or not request.decoding
        assert not counted or blocks == request.blocks, (
            f"{request}: {request.blocks} blocks for {computed} tokens"
        )
        used += blocks - request.registered
        for extent in request.extents():
            if id(extent) not in seen:
                seen.add(id(extent))
                used += extent.count
    for request in (*policy.waiting, *policy.loading, *policy.holding):
        assert request.blocks == 0 or request.loaded or request not in policy.waiting, (
            f"{request} waits with {request.blocks} blocks"
        )
        used += request.blocks - request.registered
        for extent in request.extents():
            if id(extent) not in seen:
                seen.add(id(extent))
                used += extent.count
    active = [
        r for r in policy.running if r.decoding and r.finish_step >= policy.index and r not in policy.leaving
    ]
    decoding = policy.decoding
    assert decoding.n == len(active), f"{decoding.n} decode, {len(active)} in the list"
    assert decoding.base_sum == sum(request.base for request in active), "sum of contexts is off"
    longest = max((request.base for request in active), default=0) + policy.index if active else 0
    assert not policy.limits.longest or decoding.longest_context(policy.index) == longest, "longest is off"
    if policy.adapters is not None:
        policy.adapters.check_integrity()
    tables = (*policy.running, *policy.waiting, *policy.loading, *policy.holding)
    policy.pool.check_integrity(tables, None if policy.exact_steps else used)
