"""What a request holds of the KV pool: pages of its own, and the part of it that the radix tree owns.

A prompt goes into the tree when its prefill is over, chunk by chunk if it has several; what the request made
itself when it finishes. What the tree already had is given back at once. Section 8 of the scheduler's rules
(``cache_unfinished_req``, ``cache_finished_req``).
"""

from __future__ import annotations

from tokensim.memory.radix import RadixNode, RadixPool
from tokensim.scheduling.local.sglang.row import Row


class Kv:
    """Gives pages of ``pool`` to rows and takes them back."""

    def __init__(self, pool: RadixPool) -> None:
        self.pool = pool
        self.page = pool.block_size

    def match(self, row: Row, tokens: int) -> tuple[RadixNode, int]:
        """What the first ``tokens`` of ``row`` hit in the cache, which counts as used now."""
        if row.unseen or not self.pool.caching:
            return self.pool.root, 0
        return self.pool.match(row.content, tokens)

    def extend(self, row: Row) -> None:
        """Slots for the extension of ``row``; eviction has made room."""
        page = self.page
        self.pool.take((-(-row.end // page) - -(-row.prefix // page)) * page)
        row.alloc = row.end

    def checkpoint(self, row: Row, tokens: int) -> None:
        """The first ``tokens`` of ``row`` go into the tree, in whole pages; a node ends with the prompt, so
        that outputs can be evicted without it."""
        pool = self.pool
        if not pool.caching:
            return
        whole = tokens - tokens % self.page
        node, known = pool.insert(row.node, row.content, whole)
        row.unseen = False
        if known > row.owned:
            pool.give(known - row.owned)
        prompt = row.prompt - row.prompt % self.page
        if prompt < whole:
            pool.divide(node, prompt)
        if node is not row.node:
            pool.lock(node)
            pool.unlock(row.node)
            row.node = node
        row.owned = whole

    def free(self, row: Row) -> None:
        """``row`` gives back what it holds alone, and no longer locks what the tree has of it."""
        pool = self.pool
        pool.give(self.held(row, row.alloc))
        pool.unlock(row.node)
        row.node = pool.root
        row.owned = row.prefix = row.end = row.alloc = 0

    def held(self, row: Row, alloc: int) -> int:
        """Tokens of pages that ``row``, with ``alloc`` tokens in slots, holds alone."""
        return -(-alloc // self.page) * self.page - row.owned
