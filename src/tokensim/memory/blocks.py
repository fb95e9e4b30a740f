"""The KV pool block by block, in the data structures of the real engine: the reference for the extents of
``pool.py``.

Every block has an id, a reference count and perhaps a key; the free queue is a list of ids; the prefix cache
maps a key to the blocks that hold it, the oldest first. Runs with ``exact_steps`` use it, so their physical
block ids are the engine's own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from tokensim.memory.base import Table
from tokensim.memory.prefix import Content, Node

Key = int
Piece = tuple[int, int, int]  # (run id, offset in the run, tokens)


class BlockByBlockPool:
    """See ``KvPool``. ``unhashed_first``: freed blocks without a key are reused first (vLLM
    0.33), not last.
    """

    def __init__(self, num_blocks: int, block_size: int, *, caching: bool, unhashed_first: bool) -> None:
        self.num_blocks = num_blocks - 1
        self.block_size = block_size
        self.caching = caching
        self.unhashed_first = unhashed_first
        self.settle: Callable[[Iterable[object]], None] = lambda growers: None
        self.evicting: Callable[[Node, int, int], None] | None = None
        self.queue: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self._refs = [0] * num_blocks
        self._key: list[Key | None] = [None] * num_blocks
        self._cached: dict[Key, dict[int, None]] = {}
        self._keys: dict[tuple[Key, tuple[Piece, ...]], Key] = {}
        self._chains: dict[Content, list[Key]] = {}
        self._tables: dict[Table, list[int]] = {}
        self._places: dict[Key, tuple[Node, int]] = {-1: (Node(None, (0, 0)), -1)}

    @property
    def free(self) -> int:
        """See ``KvPool.free``."""
        return len(self.queue)

    @property
    def spare(self) -> int:
        """See ``KvPool.spare``."""
        spare = 0
        for block in self.queue:
            if self._key[block] is not None:
                break
            spare += 1
        return spare

    def held(self, table: Table) -> tuple[int, ...]:
        """The ids of the blocks of ``table``, first to last."""
        return tuple(self._tables.get(table, ()))

    def find(self, content: Content, max_blocks: int) -> tuple[list[int], int, int]:
        """See ``KvPool.find``; the pieces are block ids."""
        hits: list[int] = []
        for key in self._chain(content, max_blocks):
            holders = self._cached.get(key)
            if not holders:
                break
            hits.append(next(iter(holders)))
        return hits, len(hits), sum(self._refs[block] == 0 for block in hits)

    def touch(self, table: Table, hits: list[int]) -> None:
        """See ``KvPool.touch``."""
        for block in hits:
            if self._refs[block] == 0:
                del self.queue[block]
            self._refs[block] += 1
        self._tables.setdefault(table, []).extend(hits)
        table.blocks += len(hits)
        table.registered = table.blocks

    def take(self, blocks: int, table: Table | None = None) -> None:
        """See ``KvPool.take``; ``table`` must be given."""
        assert table is not None
        held = self._tables.setdefault(table, [])
        for _ in range(blocks):
            block, _ = self.queue.popitem(last=False)
            key = self._key[block]
            if key is not None:
                if self.evicting is not None:
                    self.evicting(*self._places[key], 1)
                self._key[block] = None
                holders = self._cached[key]
                del holders[block]
                if not holders:
                    del self._cached[key]
            self._refs[block] = 1
            held.append(block)

    def register(self, table: Table, content: Content, blocks: int) -> None:
        """See ``KvPool.register``."""
        if not self.caching or blocks <= table.registered:
            return
        held, chain = self._tables[table], self._chain(content, blocks)
        for place in range(table.registered, blocks):
            block, key = held[place], chain[place]
            self._key[block] = key
            self._cached.setdefault(key, {})[block] = None
        table.registered = blocks

    def discard(self, table: Table, blocks: int, full: int) -> None:
        """See ``KvPool.discard``; here every block that has a key was registered, so it is the same as
        ``release``."""
        self.release(table)

    def release(self, table: Table) -> None:
        """See ``KvPool.release``."""
        unhashed: list[int] = []
        for block in reversed(self._tables.pop(table, [])):
            self._refs[block] -= 1
            if self._refs[block] == 0:
                self.queue[block] = None
                if self._key[block] is None:
                    unhashed.append(block)
        if self.unhashed_first:
            for block in reversed(unhashed):
                self.queue.move_to_end(block, last=False)
        table.blocks = table.registered = 0

    def forget(self, content: Content) -> None:
        """See ``KvPool.forget``."""
        self._chains.pop(content, None)

    def start_growing(self, content: Content, grower: object) -> None:
        """See ``KvPool.start_growing``: nothing to do, since every block is registered when it fills."""

    def stop_growing(self, content: Content, grower: object) -> None:
        """See ``KvPool.stop_growing``."""

    def cached_keys(self) -> int:
        """See ``KvPool.cached_keys``."""
        return len(self._cached)

    def check_integrity(self, tables: Iterable[Table], blocks_in_use: int | None = None) -> None:
        """See ``KvPool.check_integrity``."""
        refs = [0] * (self.num_blocks + 1)
        for table in tables:
            held = self._tables.get(table, [])
            assert len(held) == table.blocks, f"{len(held)} blocks held, {table.blocks} in the table"
            for place, block in enumerate(held):
                refs[block] += 1
                assert (place < table.registered) == (self._key[block] is not None), "key and table differ"
        assert refs == self._refs, "reference counts and tables differ"
        for block in range(1, self.num_blocks + 1):
            assert (refs[block] == 0) == (block in self.queue), f"block {block} leaked or shared by accident"
        used = self.num_blocks - len(self.queue)
        assert blocks_in_use is None or used == blocks_in_use, f"{used} blocks in use, not {blocks_in_use}"

    def _chain(self, content: Content, blocks: int) -> list[Key]:
        """The keys of the first ``blocks`` blocks: equal keys, equal tokens up to the block's end."""
        chain = self._chains.setdefault(content, [])
        size = self.block_size
        while len(chain) < blocks:
            first = len(chain) * size
            end = first + size
            pieces: list[Piece] = []
            start = 0
            for run, stop in zip(content.ids, content.ends, strict=True):
                low, high = max(first, start), min(end, stop)
                if low < high:
                    pieces.append((run, low - start, high - low))
                start = stop
                if start >= end:
                    break
            before = chain[-1] if chain else -1
            key = self._keys.setdefault((before, tuple(pieces)), len(self._keys))
            chain.append(key)
            if self.evicting is not None and key not in self._places:
                self._places[key] = self._place(before, pieces)
        return chain[:blocks]

    def _place(self, before: Key, pieces: list[Piece]) -> tuple[Node, int]:
        """The run that a block of ``pieces`` behind the block of the key ``before`` lies in, and its place in
        the prompt; only kept for those who want to know what is evicted."""
        node, block = self._places[before]
        block += 1
        at = block * self.block_size
        for run, offset, tokens in pieces:
            key = (at - offset, run)
            if node.parent is None or node.key != key:
                node = node.children.setdefault(key, Node(node, key))
            at += tokens
        return node, block
