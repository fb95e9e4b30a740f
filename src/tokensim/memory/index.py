"""Which of several pools cache something of which prefix: one tree for all of them, kept by their own events.

Each node stands for a token run behind a prefix, as in ``prefix.py``, and has one bit for each pool that
caches blocks of it. Walking down a prompt once, and-ing the bits, says for every pool how far it can match at
most; only the most promising ones need to be looked into. This is what a router makes of the KV events of
its engines (llm-d's precise prefix cache, NVIDIA Dynamo's KV router).
"""

from __future__ import annotations

from collections.abc import Iterator

from tokensim.memory.pool import BlockPool
from tokensim.memory.prefix import Content, Node


class Place:
    """A run behind a prefix; ``mask`` has a bit for each pool that caches something of it."""

    __slots__ = ("children", "key", "mask", "parent")

    def __init__(self, parent: Place | None, key: tuple[int, int]) -> None:
        self.parent = parent
        self.key = key
        self.children: dict[tuple[int, int], Place] = {}
        self.mask = 0


class PoolEvents:
    """Writes what one pool caches into the tree, as its ``bit``."""

    def __init__(self, root: Place, bit: int) -> None:
        self._root = root
        self._bit = bit

    def cached(self, node: Node) -> None:
        """See ``memory.base.Watcher``."""
        self._place(node).mask |= self._bit

    def dropped(self, node: Node) -> None:
        """See ``memory.base.Watcher``."""
        place = node.place
        if not isinstance(place, Place):
            return
        place.mask &= ~self._bit
        while place.parent is not None and not (place.mask or place.children):
            parent, place.parent = place.parent, None
            del parent.children[place.key]
            place = parent

    def _place(self, node: Node) -> Place:
        """Where ``node`` of the pool stands in the tree, made if it is not there (any more)."""
        if node.parent is None:
            return self._root
        place = node.place
        if isinstance(place, Place) and place.parent is not None:
            return place
        above = self._place(node.parent)
        place = above.children.get(node.key)
        if place is None:
            place = above.children[node.key] = Place(above, node.key)
        node.place = place
        return place


class PrefixIndex:
    """The tree of several pools with equal ``block_size``; pool ``i`` has bit ``1 << i``."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self._root = Place(None, (0, 0))

    def add(self, pool: BlockPool, number: int) -> None:
        """Watch ``pool`` as pool ``number``."""
        pool.watcher = events = PoolEvents(self._root, 1 << number)
        for node in pool.root.walk():
            if node.extents or node.growers:
                events.cached(node)

    def matches(self, content: Content, max_blocks: int, mask: int) -> list[tuple[int, int]]:
        """(blocks, pools) of each depth of ``content``, up to ``max_blocks``, first to last: those pools, of
        the ones in ``mask``, may cache that many blocks of it, the others less."""
        size = self.block_size
        found: list[tuple[int, int]] = []
        place: Place | None = self._root
        start, before = 0, 0
        for key, end in zip(content.ids, content.ends, strict=True):
            assert place is not None
            place = place.children.get((start, key))
            if place is None:
                break
            blocks = min(end // size, max_blocks)
            if blocks > before:
                mask &= place.mask
                if not mask:
                    break
                found.append((blocks, mask))
                before = blocks
                if blocks == max_blocks:
                    break
            start = end
        return found


def bits(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, smallest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
