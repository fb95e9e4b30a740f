"""The KV pool of one instance as its scheduler sees it, and the block table of a request.

Two classes have this interface: ``pool.py`` keeps extents and is what simulations use; ``blocks.py`` keeps
single blocks, as the real engine does, and is the reference for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tokensim.memory.prefix import Content, Extent, Node


class Table:
    """The block table of one request: ``blocks`` held, of which the first ``registered`` have a hash.

    ``entries`` are the registered ones in order: (extent, blocks), where an extent that was split since goes
    on in ``extent.next``.
    """

    __slots__ = ("blocks", "entries", "registered")

    def __init__(self) -> None:
        self.blocks = 0
        self.registered = 0
        self.entries: list[tuple[Extent, int]] = []

    def extents(self) -> list[Extent]:
        """The registered extents, first to last."""
        found = []
        for extent, blocks in self.entries:
            piece: Extent | None = extent
            while blocks > 0 and piece is not None:
                found.append(piece)
                blocks -= piece.count
                piece = piece.next
        return found


class Watcher(Protocol):
    """Who wants to know which runs a pool caches something of (``BlockPool.watcher``)."""

    def cached(self, node: Node) -> None:
        """Something of ``node`` is cached, or about to be; may be told more than once."""
        ...

    def dropped(self, node: Node) -> None:
        """Nothing of ``node`` is cached any more."""
        ...


class Pool(Protocol):
    """What anybody may ask a KV pool."""

    num_blocks: int
    """Usable blocks: the engine's null block is not among them."""
    caching: bool
    """Prefix caching is on."""

    @property
    def free(self) -> int:
        """Free blocks, those that still cache something included."""
        ...

    def find(self, content: Content, max_blocks: int) -> tuple[Any, int, int]:
        """The cached prefix of ``content``, at most ``max_blocks``: (pieces for ``touch``, blocks, blocks of
        them now free)."""
        ...


class KvPool(Pool, Protocol):
    """Free queue, references, prefix cache. Semantics of vLLM's ``BlockPool`` with one
    full-attention group.
    """

    settle: Callable[[Iterable[object]], None]
    """Called with the growers of a run before a look-up reads it, so that they register what they have."""
    evicting: Callable[[Node, int, int], None] | None
    """Set by whoever wants to know what is evicted: called with (the run that they lie in, first, count) of
    blocks that lose what they cache, in order, a request's last one first. None: nobody does."""

    @property
    def spare(self) -> int:
        """Free blocks that can be taken before the first one that caches something."""
        ...

    def touch(self, table: Table, hits: Any) -> None:
        """Give a found prefix to ``table``: its blocks leave the free queue and gain a reference."""
        ...

    def take(self, blocks: int, table: Table | None = None) -> None:
        """Take ``blocks`` from the front of the free queue, evicting what they cached. There must be that
        many.

        ``table``: who gets them (None: several requests, a step run).
        """
        ...

    def register(self, table: Table, content: Content, blocks: int) -> None:
        """Enter the request's blocks up to ``blocks`` (full ones) into the prefix cache."""
        ...

    def discard(self, table: Table, blocks: int, full: int) -> None:
        """Free ``blocks`` of a finished request of which the first ``full`` have a hash that nobody will look
        up."""
        ...

    def release(self, table: Table) -> None:
        """Free all blocks of a request (it finished or was preempted) and empty its table."""
        ...

    def forget(self, content: Content) -> None:
        """The request is over: what is known of its content need not be kept for its sake."""
        ...

    def start_growing(self, content: Content, grower: object) -> None:
        """Announce that ``grower`` generates the last run of ``content``, which others may look up."""
        ...

    def stop_growing(self, content: Content, grower: object) -> None:
        """Take back ``start_growing``."""
        ...

    def cached_keys(self) -> int:
        """Number of distinct blocks in the prefix cache (for checks only)."""
        ...

    def check_integrity(self, tables: Iterable[Table], blocks_in_use: int | None = None) -> None:
        """Raise ``AssertionError`` unless blocks are conserved, none shared by accident and none leaked.

        ``tables`` are those of all live requests; ``blocks_in_use`` replaces the sum of their ``blocks``
        where the scheduler keeps those of decoding requests in closed form.
        """
        ...
