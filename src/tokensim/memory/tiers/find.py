"""Where KV that the device lacks can be read: stretch by stretch, the first tier from the top that has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tokensim.memory.prefix import Content
from tokensim.memory.tiers.tier import Tier


class Part(NamedTuple):
    """Tokens ``first … stop − 1`` of a prompt lie in ``blocks`` blocks of the tier number ``tier``."""

    tier: int
    first: int
    stop: int
    blocks: int


def find(tiers: Sequence[Tier], content: Content, first: int, limit: int, tokens: int) -> list[Part]:
    """What of ``content`` lies in ``tiers`` from token ``first`` on, without a gap, up to token ``limit``.

    Only the first ``tokens`` of the content are known, so a block that ends beyond them can be nowhere. A
    block is read as a whole even if ``first`` or ``limit`` lies within it.
    """
    parts: list[Part] = []
    at = first
    while at < limit:
        for number, tier in enumerate(tiers):
            size = tier.block_tokens
            block = at // size
            reached = tier.reach(content, block, min(-(-limit // size), tokens // size))
            if reached > block:
                stop = min(reached * size, limit)
                parts.append(Part(number, at, stop, reached - block))
                at = stop
                break
        else:
            break
    return parts
