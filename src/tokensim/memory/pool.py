"""The paged KV pool of one instance: free queue, reference counts, prefix hits and LRU eviction, by extents.

Semantics of vLLM's ``BlockPool`` and ``KVCacheManager`` (one full-attention group). Free blocks wait in one
queue. Blocks without a hash that are freed go to its front (vLLM 0.33; older versions: to its end), hashed
ones to its end, a request's last block first. Taking a block from the front drops its hash: this is the only
eviction there is. A prefix hit lifts its blocks out of the queue. Everything is done to whole extents, so a
call costs the number of extents that it touches, not of blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tokensim.memory.base import Table, Watcher
from tokensim.memory.prefix import Content, Extent, Hit, Node, lookup


class BlockPool:
    """``num_blocks`` blocks of ``block_size`` tokens, of which block 0 is the engine's null block and never
    used.

    See ``KvPool``. ``unhashed_first``: freed blocks without a hash are reused first (vLLM 0.33), not last.
    """

    def __init__(self, num_blocks: int, block_size: int, *, caching: bool, unhashed_first: bool) -> None:
        self.num_blocks = num_blocks - 1
        self.block_size = block_size
        self.caching = caching
        self.unhashed_first = unhashed_first
        self.free = self.num_blocks
        self.root = Node(None, (0, 0))
        self.settle: Callable[[Iterable[object]], None] = lambda growers: None
        self.watcher: Watcher | None = None
        self.evicting: Callable[[Node, int, int], None] | None = None
        self._loose = self.num_blocks  # blocks without a hash at the front of the queue
        self._queue = Extent(None, 0, 0, 0)  # ring: its `after` is the front, its `before` the end
        self._queue.before = self._queue.after = self._queue

    @property
    def spare(self) -> int:
        """See ``KvPool.spare``."""
        return self._loose

    def find(self, content: Content, max_blocks: int) -> tuple[list[Hit], int, int]:
        """See ``KvPool.find``."""
        hits: list[Hit] = []
        node, start, block, idle = self.root, 0, 0, 0
        size = self.block_size
        for key, end in zip(content.ids, content.ends, strict=True):
            child = node.children.get((start, key))
            if child is None:
                break
            if child.growers is not None:
                self.settle(child.growers)
            stop = min(end // size, max_blocks)
            while block < stop:
                hit = lookup(child.extents, block)
                if hit is None:
                    return hits, block, idle
                if block + hit.blocks > stop:
                    hit = Hit(hit.extent, block, stop - block)
                hits.append(hit)
                block += hit.blocks
                if hit.extent.refs == 0:
                    idle += hit.blocks
            if block >= max_blocks:
                break
            node, start = child, end
        return hits, block, idle

    def touch(self, table: Table, hits: list[Hit]) -> None:
        """See ``KvPool.touch``."""
        for hit in hits:
            extent = self._isolate(hit)
            if extent.refs == 0:
                self._unlink(extent)
                self.free -= extent.count
            extent.refs += 1
            table.entries.append((extent, hit.blocks))
            table.blocks += hit.blocks
        table.registered = table.blocks

    def take(self, blocks: int, table: Table | None = None) -> None:
        """See ``KvPool.take``; who gets the blocks does not matter to extents. HOT PATH."""
        self.free -= blocks
        if self._loose >= blocks:
            self._loose -= blocks
            return
        blocks -= self._loose
        self._loose = 0
        while blocks > 0:
            extent = self._queue.after
            assert extent is not None
            assert extent is not self._queue, "more KV blocks are taken than are free"
            node = extent.node
            if self.evicting is not None and node is not None:
                count = min(extent.count, blocks)
                self.evicting(node, extent.first + extent.count - count, count)
            if extent.count > blocks:
                extent.count -= blocks
                return
            blocks -= extent.count
            self._unlink(extent)
            if node is not None:
                node.extents.remove(extent)
                if not node.extents:
                    if self.watcher is not None and node.growers is None:
                        self.watcher.dropped(node)
                    node.prune()

    def register(self, table: Table, content: Content, blocks: int) -> None:
        """See ``KvPool.register``."""
        first = table.registered
        if blocks <= first or not self.caching:
            return
        table.registered = blocks
        size = self.block_size
        nodes = content.nodes
        i = 0
        while first < blocks:
            end = content.ends[i] // size
            if end > first:
                if len(nodes) <= i:
                    self._descend(content, i)
                node = nodes[i]
                stop = min(end, blocks)
                self._enter(table, node, first, stop - first)
                first = stop
            i += 1

    def discard(self, table: Table, blocks: int, full: int) -> None:
        """See ``KvPool.discard``. HOT PATH."""
        self.free += blocks
        if not self.caching:
            self._loose += blocks
            return
        if self.unhashed_first:
            self._loose += blocks - full
            blocks = full
        self._append_anonymous(blocks)

    def release(self, table: Table) -> None:
        """See ``KvPool.release``."""
        unhashed = table.blocks - table.registered
        if unhashed:
            self.free += unhashed
            if self.unhashed_first or not self.caching:
                self._loose += unhashed
            else:
                self._append_anonymous(unhashed)
        if table.entries:
            for extent in reversed(table.extents()):
                extent.refs -= 1
                if extent.refs == 0:
                    extent.next = None
                    self.free += extent.count
                    self._append(extent)
            table.entries.clear()
        table.blocks = table.registered = 0

    def forget(self, content: Content) -> None:
        """See ``KvPool.forget``: its path need not stay in the tree for its sake."""
        if content.nodes:
            leaf = content.nodes[-1]
            leaf.users -= 1
            content.nodes = []
            if not leaf.extents:
                leaf.prune()

    def start_growing(self, content: Content, grower: object) -> None:
        """See ``KvPool.start_growing``."""
        if len(content.nodes) < len(content.ids):
            self._descend(content, len(content.ids) - 1)
        node = content.nodes[-1]
        node.growers = [*(node.growers or ()), grower]
        if self.watcher is not None and not node.extents:
            self.watcher.cached(node)

    def stop_growing(self, content: Content, grower: object) -> None:
        """See ``KvPool.stop_growing``."""
        node = content.nodes[-1]
        node.growers = [g for g in node.growers or () if g is not grower] or None
        if self.watcher is not None and node.growers is None and not node.extents:
            self.watcher.dropped(node)

    def cached_keys(self) -> int:
        """See ``KvPool.cached_keys``; walks the tree."""
        return sum(node.covers() for node in self.root.walk())

    def check_integrity(self, tables: Iterable[Table], blocks_in_use: int | None = None) -> None:
        """See ``KvPool.check_integrity``."""
        queued, extent = 0, self._queue.after
        while extent is not self._queue:
            assert extent is not None and extent.refs == 0 and extent.count > 0, (
                "queued extent is in use or empty"
            )
            assert extent.after is not None and extent.after.before is extent, "free queue is broken"
            queued += extent.count
            extent = extent.after
        assert self._loose >= 0
        assert self.free == self._loose + queued, f"free {self.free} != {self._loose} + {queued} queued"
        refs: dict[Extent, int] = {}
        private = 0
        for table in tables:
            private += table.blocks - table.registered
            assert table.registered == sum(e.count for e in table.extents()), "table and extents differ"
            for extent in table.extents():
                refs[extent] = refs.get(extent, 0) + 1
        for extent, count in refs.items():
            assert extent.refs == count, f"extent has {extent.refs} references, {count} tables"
            assert extent.node is None or extent in extent.node.extents, "extent is not in its node"
        for node in self.root.walk():
            for extent in node.extents:
                assert extent.node is node
                assert extent.refs == refs.get(extent, 0), "reference without a table"
                assert extent.refs > 0 or extent.before is not None, "idle extent outside the free queue"
        shared = sum(extent.count for extent in refs)
        used = shared + private if blocks_in_use is None else blocks_in_use
        assert self.free + used == self.num_blocks, f"{self.free} free + {used} used != {self.num_blocks}"

    def _descend(self, content: Content, last: int) -> None:
        nodes = content.nodes
        if nodes:
            nodes[-1].users -= 1
        node = nodes[-1] if nodes else self.root
        for i in range(len(nodes), last + 1):
            key = (content.ends[i - 1] if i else 0, content.ids[i])
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = Node(node, key)
            nodes.append(child)
            node = child
        node.users += 1

    def _enter(self, table: Table, node: Node, first: int, count: int) -> None:
        if node.growers is not None:
            self.settle(node.growers)
        if table.entries and node.extents:
            extent, held = table.entries[-1]
            if (
                extent is node.extents[-1]
                and extent.refs == 1
                and extent.count == held
                and extent.first + held == first
            ):
                extent.count += count
                table.entries[-1] = (extent, held + count)
                return
        if self.watcher is not None and not node.extents:
            self.watcher.cached(node)
        extent = Extent(node, first, count, 1)
        node.extents.append(extent)
        table.entries.append((extent, count))

    def _isolate(self, hit: Hit) -> Extent:
        extent = hit.extent
        while hit.first >= extent.first + extent.count:  # an earlier piece of the same look-up split it
            assert extent.next is not None
            extent = extent.next
        if hit.first + hit.blocks < extent.first + extent.count:
            extent, _ = self._split(extent, hit.first + hit.blocks - extent.first)
        if hit.first > extent.first:
            _, extent = self._split(extent, hit.first - extent.first)
        return extent

    def _split(self, extent: Extent, at: int) -> tuple[Extent, Extent]:
        """Cut after ``at`` blocks. In use: the object stays the head, which tables refer to. Idle: it stays
        the tail, which keeps its place in the queue, with the head right behind it."""
        node = extent.node
        assert node is not None
        place = node.extents.index(extent)
        if extent.refs:
            tail = Extent(node, extent.first + at, extent.count - at, extent.refs)
            tail.next = extent.next
            extent.next = tail
            extent.count = at
            node.extents.insert(place + 1, tail)
            return extent, tail
        head = Extent(node, extent.first, at, 0)
        extent.first += at
        extent.count -= at
        node.extents.insert(place, head)
        self._link(head, extent)
        return head, extent

    def _link(self, extent: Extent, before: Extent) -> None:
        after = before.after
        assert after is not None
        extent.before, extent.after = before, after
        before.after = after.before = extent

    def _append_anonymous(self, blocks: int) -> None:
        """Blocks that nobody will look up go to the end: neighbours of that kind are one extent."""
        last = self._queue.before
        assert last is not None
        if last.node is None and last is not self._queue:
            last.count += blocks
        elif blocks:
            self._append(Extent(None, 0, blocks, 0))

    def _append(self, extent: Extent) -> None:
        queue = self._queue
        last = queue.before
        assert last is not None
        extent.before, extent.after = last, queue
        last.after = queue.before = extent

    def _unlink(self, extent: Extent) -> None:
        before, after = extent.before, extent.after
        assert before is not None and after is not None
        before.after, after.before = after, before
        extent.before = extent.after = None
