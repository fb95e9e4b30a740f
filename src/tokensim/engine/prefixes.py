"""How much of a prompt each instance has in its prefix cache, and which one has most of it.

The index of all pools (``memory.index``) says in one walk how much each can have at most; the instance's own
look-up, which is exact, is then asked of as few as possible. Where a pool keeps no such tree (single steps,
other kinds of pools, ranks), all are asked: slower, never different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokensim.memory import BlockPool
from tokensim.memory.index import PrefixIndex, bits
from tokensim.scheduling.local import Request
from tokensim.workload.base import Ints


class Prefixes:
    """Of the targets added, in the order of their slots."""

    def __init__(self) -> None:
        self._index: PrefixIndex | None = None
        self._indexed = 0  # of the targets; −1 if one of them cannot be
        self._targets: list[Any] = []
        self._now = 0.0
        self._follows = False

    def add(self, target: Any) -> None:
        """``target`` has the next slot."""
        self._targets.append(target)

    def at(self, now: float, follows: bool) -> None:
        """It is ``now``; ``follows``: decisions of this very instant have been taken."""
        self._now, self._follows = now, follows

    def tokens(self, request: Request, instances: Sequence[Any], slots: Mapping[Any, int], mask: int) -> Ints:
        """Cached tokens of ``request``, in the order of ``instances``, which are those of ``mask``."""
        if request.content is None:
            return np.zeros(len(instances), np.int64)
        depths = self._depths(request, mask)
        some = None if depths is None else depths[0][1] if depths else 0
        return np.array(
            [
                self._cached(target, request) if some is None or some >> slots[target] & 1 else 0
                for target in instances
            ],
            np.int64,
        )

    def longest(
        self, request: Request, instances: Sequence[Any], slots: Mapping[Any, int], mask: int, busy: Ints
    ) -> tuple[int, int]:
        """(position in ``instances``, tokens) of the one that caches most; of several the first with the
        fewest ``busy`` requests."""
        if request.content is None:
            return int(busy.argmin()), 0
        depths = self._depths(request, mask)
        if depths is None:
            cached = self.tokens(request, instances, slots, mask)
            order = np.lexsort((busy, -cached))
            return int(order[0]), int(cached[order[0]])
        return self._deepest(request, instances, slots, busy, depths)

    def _deepest(
        self,
        request: Request,
        instances: Sequence[Any],
        slots: Mapping[Any, int],
        busy: Ints,
        depths: Sequence[tuple[int, int]],
    ) -> tuple[int, int]:
        """The same with the ``depths`` that the index tells: the deepest first, the idlest of them first."""
        assert self._index is not None
        idlest = int(busy.argmin())
        positions = (
            None if len(instances) == len(self._targets) else {slots[t]: i for i, t in enumerate(instances)}
        )
        best = (0, -int(busy[idlest]), -idlest)
        seen = 0
        for blocks, mask in reversed(depths):
            bound = blocks * self._index.block_size
            if best[0] > bound:
                break
            todo, seen = mask & ~seen, seen | mask
            while todo:
                slot = slots[instances[idlest]]
                if not todo >> slot & 1:
                    slot = min(bits(todo), key=lambda s: busy[s if positions is None else positions[s]])
                todo &= ~(1 << slot)
                at = slot if positions is None else positions[slot]
                tokens = self._cached(instances[at], request)
                best = max(best, (tokens, -int(busy[at]), -at))
                if tokens == bound:
                    break
        return -best[2], best[0]

    def _depths(self, request: Request, mask: int) -> list[tuple[int, int]] | None:
        """See ``PrefixIndex.matches``; None where there is no index."""
        if 0 <= self._indexed < len(self._targets):
            self._extend_index()
        if self._index is None:
            return None
        assert request.content is not None
        return self._index.matches(request.content, (request.tokens - 1) // self._index.block_size, mask)

    def _extend_index(self) -> None:
        """Index the pools of the targets that came last, if they can be."""
        for slot in range(self._indexed, len(self._targets)):
            target = self._targets[slot]
            pool = target.ranks[0].scheduler.pool
            if self._index is None and isinstance(pool, BlockPool):
                self._index = PrefixIndex(pool.block_size)
            if (
                self._index is None
                or len(target.ranks) > 1
                or not isinstance(pool, BlockPool)
                or pool.block_size != self._index.block_size
            ):
                self._index, self._indexed = None, -1
                return
            self._index.add(pool, slot)
        self._indexed = len(self._targets)

    def _cached(self, target: Any, request: Request) -> int:
        """Exact: the most that a rank of ``target`` has."""
        most = 0
        for rank in target.ranks:
            steps = rank.axis.scheduled(self._now, self._follows)
            most = max(most, rank.scheduler.cached_tokens(request, steps))
        return most
