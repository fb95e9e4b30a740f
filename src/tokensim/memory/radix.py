"""SGLang's KV pool: slots in pages, and a radix tree of what is cached, over runs of tokens.

A node holds a slice ``[start, end)`` of some request's content, in whole pages; below it hangs whatever goes
on from there. Nodes on the path of a running request are locked; the leaves that nobody locks can be evicted,
the one that was used longest ago first. Two contents are compared run by run, so that a look-up, a split or
an insertion costs the number of runs and nodes that it passes, never the number of tokens.

Models ``UnifiedRadixCache`` and the paged allocators of SGLang 0.5.23. All amounts are tokens, in multiples
of the page.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from tokensim.memory.prefix import Content

Key = tuple[int, ...]


class RadixNode:
    """Tokens ``[start, end)`` of ``content`` behind those of ``parent``; used ``locks`` times, last at
    ``time``."""

    __slots__ = ("children", "content", "end", "locks", "parent", "queued", "start", "time")

    def __init__(self, parent: RadixNode | None, content: Content, start: int, end: int, time: int) -> None:
        self.parent = parent
        self.content = content
        self.start = start
        self.end = end
        self.children: dict[Key, RadixNode] = {}
        self.locks = 0
        self.time = time
        self.queued = False  # stands in the heap of those that may be evicted

    def walk(self) -> Iterator[RadixNode]:
        """This node and all below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())


class RadixPool:
    """``num_blocks`` pages of ``block_size`` tokens, with the radix tree unless ``caching`` is off.

    ``available`` tokens are free, ``evictable`` ones are cached and nobody's, ``protected`` ones are cached
    and locked; what is left belongs to requests alone.
    """

    def __init__(self, num_blocks: int, block_size: int, *, caching: bool) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.caching = caching
        self.available = num_blocks * block_size
        self.evictable = 0
        self.protected = 0
        self.root = RadixNode(None, Content((), ()), 0, 0, 0)
        self.root.locks = 1
        self._clock = 0
        self._leaves: list[tuple[int, int, RadixNode]] = []  # a heap; times in it may be too old
        self._entries = 0

    @property
    def free(self) -> int:
        """Pages that a request could get: free ones and those that may be evicted."""
        return (self.available + self.evictable) // self.block_size

    def find(self, content: Content, max_blocks: int) -> tuple[RadixNode, int, int]:
        """The cached prefix of ``content``, at most ``max_blocks`` pages, without using it: (its last node,
        pages, pages of them that nobody locks)."""
        size, limit = self.block_size, max_blocks * self.block_size
        node, position, idle = self.root, 0, 0
        while position < limit:
            child = node.children.get(key_at(content, position, size))
            if child is None:
                break
            stop = common_end(child.content, content, position, min(child.end, limit))
            stop -= stop % size
            if child.locks == 0:
                idle += stop - position
            position, node = stop, child
            if stop < child.end:
                break
        return node, position // size, idle // size

    def match(self, content: Content, tokens: int) -> tuple[RadixNode, int]:
        """The cached prefix of the first ``tokens`` of ``content``, which counts as used now: (its last node,
        tokens). A node that matches in part is split."""
        size = self.block_size
        tokens -= tokens % size
        if not tokens:
            return self.root, 0
        node, position = self.root, 0
        while position < tokens:
            child = node.children.get(key_at(content, position, size))
            if child is None:
                break
            position = common_end(child.content, content, position, min(child.end, tokens))
            position -= position % size
            node = child
            if position < child.end:
                node = self._split(child, position)
                break
        self._clock = now = self._clock + 1
        used: RadixNode | None = node
        while used is not None:
            used.time = now
            used = used.parent
        return node, position

    def insert(self, node: RadixNode, content: Content, tokens: int) -> tuple[RadixNode, int]:
        """Enter the first ``tokens`` of ``content`` in whole pages; all on their way counts as used now.

        ``node`` is one that they pass, or the root. Returns the node that they end with, and how many of them
        were there before.
        """
        size = self.block_size
        tokens -= tokens % size
        self._clock = now = self._clock + 1
        above: RadixNode | None = node
        while above is not None:
            above.time = now
            above = above.parent
        position = node.end
        while position < tokens:
            key = key_at(content, position, size)
            child = node.children.get(key)
            if child is None:
                leaf = RadixNode(node, content, position, tokens, self._tick())
                node.children[key] = leaf
                self.evictable += tokens - position
                self._queue(leaf)
                return leaf, position
            child.time = self._tick()
            position = common_end(child.content, content, position, min(child.end, tokens))
            position -= position % size
            node = self._split(child, position) if position < child.end else child
        return node, position

    def divide(self, node: RadixNode, at: int) -> None:
        """Some node begins at token ``at`` of the way to ``node``: the one that it lies in is split."""
        while node.start > at:
            assert node.parent is not None
            node = node.parent
        if node.start < at:
            self._split(node, at)

    def lock(self, node: RadixNode) -> None:
        """Somebody uses ``node`` and all above it."""
        at: RadixNode | None = node
        while at is not None:
            if at.locks == 0:
                self.evictable -= at.end - at.start
                self.protected += at.end - at.start
            at.locks += 1
            at = at.parent

    def unlock(self, node: RadixNode) -> None:
        """Take back ``lock``."""
        at: RadixNode | None = node
        while at is not None:
            at.locks -= 1
            if at.locks == 0:
                self.evictable += at.end - at.start
                self.protected -= at.end - at.start
                if not at.children:
                    self._queue(at)
            at = at.parent

    def evict(self, tokens: int) -> bool:
        """Evict leaves, the one used longest ago first, until ``tokens`` are available; whether they are."""
        leaves = self._leaves
        while self.available < tokens and leaves:
            time, _, leaf = heappop(leaves)
            leaf.queued = False
            if leaf.locks or leaf.children:
                continue
            if leaf.time != time:
                self._queue(leaf)
                continue
            parent = leaf.parent
            assert parent is not None
            del parent.children[key_at(leaf.content, leaf.start, self.block_size)]
            self.available += leaf.end - leaf.start
            self.evictable -= leaf.end - leaf.start
            if not parent.locks and not parent.children:
                self._queue(parent)
        return self.available >= tokens

    def take(self, tokens: int) -> None:
        """A request gets ``tokens`` of those available."""
        self.available -= tokens

    def give(self, tokens: int) -> None:
        """A request gives back ``tokens`` that are not in the tree."""
        self.available += tokens

    def check_integrity(self, owned: int) -> None:
        """Raise ``AssertionError`` unless all is conserved; ``owned`` tokens belong to requests alone."""
        assert self.available >= 0, f"{-self.available} tokens overcommitted"
        size = self.block_size
        evictable = protected = 0
        for node in self.root.walk():
            assert node is self.root or node.start < node.end, "an empty node"
            assert node.start % size == node.end % size == 0, "a node that does not end with a page"
            for key, child in node.children.items():
                assert child.parent is node and child.start == node.end, "a child that hangs elsewhere"
                assert key == key_at(child.content, child.start, size), "a child under another key"
                assert node.locks >= child.locks or node is self.root, "locked below, but not above"
            if node.locks:
                protected += node.end - node.start
            else:
                evictable += node.end - node.start
                assert node.queued or node.children, "a leaf that nobody could evict"
        assert (evictable, protected) == (self.evictable, self.protected), "sums over the tree differ"
        total = self.available + evictable + protected + owned
        assert total == self.num_blocks * size, f"{total} tokens of {self.num_blocks * size}"

    def _split(self, node: RadixNode, at: int) -> RadixNode:
        """Cut ``node`` before its token ``at``; returns the upper part, a new node."""
        parent, size = node.parent, self.block_size
        assert parent is not None
        upper = RadixNode(parent, node.content, node.start, at, self._tick())
        upper.locks = node.locks
        parent.children[key_at(node.content, node.start, size)] = upper
        upper.children[key_at(node.content, at, size)] = node
        node.start, node.parent, node.time = at, upper, self._tick()
        return upper

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _queue(self, leaf: RadixNode) -> None:
        if not leaf.queued:
            leaf.queued = True
            self._entries += 1
            heappush(self._leaves, (leaf.time, self._entries, leaf))


def key_at(content: Content, position: int, tokens: int) -> Key:
    """What tells the ``tokens`` tokens from ``position`` on from others at the same place: each run in them,
    with its start."""
    ends = content.ends
    at = bisect_right(ends, position)
    key: Key = (content.ids[at], ends[at - 1] if at else 0)
    while ends[at] < position + tokens:
        key = (*key, content.ids[at + 1], ends[at])
        at += 1
    return key


def common_end(one: Content, other: Content, position: int, limit: int) -> int:
    """Where two contents that are equal up to ``position`` part, at most ``limit``."""
    if one is other:
        return limit
    ends, others = one.ends, other.ends
    i, j = bisect_right(ends, position), bisect_right(others, position)
    while position < limit:
        if one.ids[i] != other.ids[j] or _start(ends, i) != _start(others, j):
            return position
        position = min(ends[i], others[j])
        i += ends[i] == position
        j += others[j] == position
    return limit


def _start(ends: Sequence[int], run: int) -> int:
    return ends[run - 1] if run else 0
