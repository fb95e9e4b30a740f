"""What is cached under which prefix: a tree of token runs, whose nodes list the extents that hold their
blocks.

The real engine hashes every full block together with all that came before it. Equal hashes mean equal
prefixes, so a tree says the same with far fewer entries: a *run* is a stretch of tokens with one identity (a
trace's hash id, a unique prompt, an output); a node is a run behind a given prefix; a full block belongs to
the node that its last token lies in. Nodes are never split: a child hangs on the token position at which it
leaves its parent.

An *extent* is a stretch of consecutive full blocks of one node in physical memory. Several extents of a node
may hold the same block (the engine does not deduplicate); a look-up takes the one that was registered first,
so a node keeps its extents in the order of registration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Extent:
    """Consecutive blocks ``first … first + count − 1`` of ``node``, used by ``refs`` requests.

    With ``refs`` 0 it stands in the pool's free queue between ``before`` and ``after``; its last block is
    evicted first. ``next`` is the rest of an extent that was split while in use. ``node`` None: blocks
    without a hash.
    """

    __slots__ = ("after", "before", "count", "first", "next", "node", "refs")

    def __init__(self, node: Node | None, first: int, count: int, refs: int) -> None:
        self.node = node
        self.first = first
        self.count = count
        self.refs = refs
        self.next: Extent | None = None
        self.before: Extent | None = None
        self.after: Extent | None = None


class Node:
    """A token run behind a prefix. ``users``: live requests whose content ends here, which keep it in the
    tree.

    ``growers``: running requests that are generating this run while others may look it up. ``place`` is
    where an index of several pools keeps it.
    """

    __slots__ = ("children", "extents", "growers", "key", "parent", "place", "users")

    def __init__(self, parent: Node | None, key: tuple[int, int]) -> None:
        self.parent = parent
        self.key = key
        self.children: dict[tuple[int, int], Node] = {}
        self.extents: list[Extent] = []
        self.users = 0
        self.growers: list[object] | None = None
        self.place: object | None = None

    def prune(self) -> None:
        """Leave the tree if nothing is cached here or below and nobody works here; likewise the parents."""
        node = self
        while node.parent is not None and not (node.extents or node.children or node.users):
            node.parent.children.pop(node.key, None)
            node = node.parent

    def covers(self) -> int:
        """Distinct blocks cached in this node."""
        total, reached = 0, -1
        for first, end in sorted((e.first, e.first + e.count) for e in self.extents):
            total += max(0, end - max(first, reached))
            reached = max(reached, end)
        return total

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())


class Content:
    """The identity of one request's tokens: runs ``ids[i]`` that end before token ``ends[i]``; the last has
    no end.

    ``nodes`` are the tree nodes that exist for its first runs, found or made as the request is registered.
    """

    __slots__ = ("ends", "ids", "nodes")

    def __init__(self, ids: Sequence[int], ends: Sequence[int]) -> None:
        self.ids = ids
        self.ends = ends
        self.nodes: list[Node] = []

    @classmethod
    def unique(cls, number: int) -> Content:
        """Tokens that no other request has; ``number`` ≥ 0 is the request's own."""
        return cls((-1 - number,), (ENDLESS,))

    @classmethod
    def of_runs(cls, runs: Sequence[tuple[int, int]], output_id: int) -> Content:
        """Prompt runs of (id, tokens), then the output as the run ``output_id`` (negative: nobody
        shares it).
        """
        ids, ends, end = [], [], 0
        for run, tokens in runs:
            end += tokens
            ids.append(run)
            ends.append(end)
        ids.append(output_id)
        ends.append(ENDLESS)
        return cls(ids, ends)


ENDLESS = 1 << 60


class Hit(NamedTuple):
    """A piece of a prefix hit: ``blocks`` blocks from ``first`` on, found in ``extent``."""

    extent: Extent
    first: int
    blocks: int


def lookup(extents: Sequence[Extent], block: int) -> Hit | None:
    """The longest stretch from ``block`` on that one extent serves, the oldest registered copy of each block
    first."""
    stop = ENDLESS
    for extent in extents:
        first = extent.first
        if first > block:
            if first < stop:
                stop = first  # an older copy takes over from there
        elif first + extent.count > block:
            return Hit(extent, block, min(first + extent.count, stop) - block)
    return None
