"""One memory tier: which blocks of which prefixes it holds, and which go when it is full.

Blocks have ``block_tokens`` tokens and are found by content, each at most once, in a tree of token runs like
that of the device's pool (``memory/prefix.py``). They are kept as *pieces*: consecutive blocks of one run
that were last used together. A prompt of 100,000 tokens is a handful of pieces, and every call costs the
number of pieces and runs that it touches, not of blocks.

The order of eviction is that of (value, last use, −place in the prompt). One heap holds an entry for each
piece. Keys only rise, so an entry may be old: it is brought up to date when it comes to the top.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import NamedTuple

from tokensim.memory.prefix import Content
from tokensim.memory.tiers.eviction import Eviction
from tokensim.memory.tiers.leaving import merged


class Flight:
    """A copy on its way: its blocks have their place, but nobody can read them until it has ``landed``."""

    __slots__ = ("landed",)

    def __init__(self) -> None:
        self.landed = False

    def land(self, now: float) -> None:
        """It has come."""
        self.landed = True


class Run:
    """A token run behind a prefix (its ``key``: the token at which it begins, and its id) and the pieces of
    it that are here, in order."""

    __slots__ = ("children", "held", "key", "parent", "pieces")

    def __init__(self, parent: Run | None, key: tuple[int, int]) -> None:
        self.parent = parent
        self.key = key
        self.children: dict[tuple[int, int], Run] = {}
        self.pieces: list[Piece] = []
        self.held = False  # stays in the tree though nothing is here

    def prune(self) -> None:
        """Leave the tree if nothing is here or below; likewise the parents."""
        run = self
        while run.parent is not None and not (run.pieces or run.children or run.held):
            run.parent.children.pop(run.key, None)
            run = run.parent

    def walk(self) -> Iterator[Run]:
        """This run and all below it."""
        stack = [self]
        while stack:
            run = stack.pop()
            yield run
            stack.extend(run.children.values())


class Piece:
    """Blocks ``first … first + count − 1`` of ``run``, of one value, last used together at ``used``."""

    __slots__ = ("count", "first", "flight", "run", "used", "value")

    def __init__(
        self, run: Run, first: int, count: int, value: float, used: int, flight: Flight | None
    ) -> None:
        self.run = run
        self.first = first
        self.count = count
        self.value = value
        self.used = used
        self.flight = flight


class Put(NamedTuple):
    """What came in: ``blocks``; and what went for it, in order: (content, first, stop), the blocks ``first …
    stop − 1`` of ``content``, the last one first. It is only filled where the tier ``tells``."""

    blocks: int
    gone: list[tuple[Content, int, int]]


NOTHING = Put(0, [])

Entry = tuple[float, int, int, int, Piece]  # value, last use, −first, a number, the piece


class Tier:
    """``capacity`` blocks of ``block_tokens`` tokens under ``eviction``.

    ``whole``: contiguous granularity. What was last used together is one thing: it goes as a whole, and what
    does not fit as a whole does not come in (CachedAttention's granularity, a session; ATC 2024).
    ``tells``: somebody wants to know what is evicted.
    """

    def __init__(
        self,
        capacity: int,
        block_tokens: int,
        eviction: Eviction,
        *,
        whole: bool = False,
        tells: bool = False,
    ) -> None:
        self.capacity = capacity
        self.block_tokens = block_tokens
        self.eviction = eviction
        self.whole = whole
        self.tells = tells
        self.used = 0
        self.evicted = 0
        """Blocks evicted so far."""
        self.root = Run(None, (0, 0))
        self._now = 0  # counts uses
        self._heap: list[Entry] = []
        self._pushed = 0  # since the heap was last cleaned
        self._entries = 0

    def reach(self, content: Content, first: int, stop: int) -> int:
        """The block, at most ``stop``, up to which all of ``content`` from block ``first`` on can be read
        here."""
        size, run, start, block = self.block_tokens, self.root, 0, first
        for key, end in zip(content.ids, content.ends, strict=True):
            child = run.children.get((start, key))
            if child is None:
                break
            until = min(end // size, stop)
            if block < until:
                for piece in child.pieces:
                    if piece.first > block:
                        return block
                    last = piece.first + piece.count
                    if last > block:
                        if piece.flight is not None and not piece.flight.landed:
                            return block
                        block = min(last, until)
                        if block == until:
                            break
                else:
                    return block
            if block >= stop:
                break
            run, start = child, end
        return block

    def use(self, content: Content, stop: int, worth: float = 0.0) -> None:
        """The blocks of ``content`` before ``stop`` that are here are used now."""
        if self.eviction.refreshes:
            self._now += 1
            self._use(content, 0, stop, stop, worth, False)

    def put(
        self,
        content: Content,
        first: int,
        stop: int,
        worth: float = 0.0,
        flight: Flight | None = None,
        *,
        begin: int = 0,
    ) -> Put:
        """Blocks ``first … stop − 1`` of ``content`` come in; of those before, the ones from ``begin`` on are
        used too.

        Those that are here stay as they are; for the others as many blocks are evicted as it takes. What does
        not fit even so, the end of the prompt, stays out.
        """
        self._now += 1
        leaf, gaps = self._use(content, begin, first, stop, worth, True)
        wanted = sum(high - low for _, low, high in gaps)
        room = 0 if self.whole and wanted > self.capacity else min(wanted, self.capacity)
        if not room:
            leaf.prune()
            return NOTHING
        leaf.held = True
        gone = self._evict(room - (self.capacity - self.used))
        leaf.held = False
        self._enter(gaps, room, worth, flight)
        leaf.prune()
        return Put(room, gone)

    def clear(self) -> None:
        """Lose everything, telling nobody."""
        self.root = Run(None, (0, 0))
        self._heap.clear()
        self.used = 0

    def check_integrity(self) -> None:
        """Raise ``AssertionError`` unless every block is counted once, can be evicted, and all fit."""
        live = {id(entry[4]): entry for entry in self._heap if entry[4].count}
        total = 0
        for run in self.root.walk():
            assert run is self.root or run.pieces or run.children, "an empty run stays in the tree"
            end = 0
            for piece in run.pieces:
                assert piece.run is run and piece.count > 0 and piece.first >= end, "pieces overlap"
                end = piece.first + piece.count
                total += piece.count
                entry = live.pop(id(piece), None)
                assert entry is not None, "a piece that can never be evicted"
                assert entry[:3] <= (piece.value, piece.used, -piece.first), "an entry ahead of its piece"
        assert not live, "entries of pieces that are not here"
        assert total == self.used <= self.capacity, f"{total} blocks, {self.used} counted of {self.capacity}"

    def _use(
        self, content: Content, begin: int, first: int, stop: int, worth: float, create: bool
    ) -> tuple[Run, list[tuple[Run, int, int]]]:
        """Blocks ``begin … stop − 1`` that are here are used now; the last run that holds any of them, and
        the gaps from ``first`` on: (run, first, stop). ``create``: runs that are not there are made, so that
        there are all gaps. HOT PATH."""
        size, start, block = self.block_tokens, 0, begin
        refreshes, now = self.eviction.refreshes, self._now
        gaps: list[tuple[Run, int, int]] = []
        run = self.root
        for key, end in zip(content.ids, content.ends, strict=True):
            child = run.children.get((start, key))
            if child is None:
                if not create:
                    break
                child = run.children[(start, key)] = Run(run, (start, key))
            run, start = child, end
            until = end // size
            if until > stop:
                until = stop
            if block < until:
                pieces = run.pieces
                if len(pieces) == 1 and pieces[0].first == block and block + pieces[0].count == until:
                    if refreshes:
                        piece = pieces[0]
                        piece.value = self.eviction.use(piece.value, worth)
                        piece.used = now
                    block = until
                else:
                    for piece in tuple(pieces):
                        last = piece.first + piece.count
                        if last <= block:
                            continue
                        if piece.first >= until:
                            break
                        if piece.first > block and piece.first > first:
                            gaps.append((run, max(block, first), piece.first))
                        if refreshes:
                            self._touch(piece, max(block, piece.first), min(last, until), worth)
                        block = min(last, until)
                        if block == until:
                            break
                    if block < until:
                        if until > first:
                            gaps.append((run, max(block, first), until))
                        block = until
            if until >= stop:
                break
        return run, gaps

    def _touch(self, piece: Piece, first: int, stop: int, worth: float) -> None:
        """Blocks ``first … stop − 1``, all of them of ``piece``, are used now. HOT PATH."""
        if first > piece.first:
            piece = self._split(piece, first)
        if stop < piece.first + piece.count:
            self._split(piece, stop)
        piece.value = self.eviction.use(piece.value, worth)
        piece.used = self._now
        if piece.flight is not None and piece.flight.landed:
            piece.flight = None
        pieces = piece.run.pieces
        if len(pieces) > 1:
            self._join(pieces, pieces.index(piece))

    def _split(self, piece: Piece, at: int) -> Piece:
        """Cut before block ``at``; the head keeps its entry in the heap, the tail is returned."""
        tail = Piece(piece.run, at, piece.first + piece.count - at, piece.value, piece.used, piece.flight)
        piece.count = at - piece.first
        pieces = piece.run.pieces
        pieces.insert(pieces.index(piece) + 1, tail)
        self._push(tail)
        return tail

    def _join(self, pieces: list[Piece], place: int) -> None:
        """Make one of the piece at ``place`` and the one before it if nothing tells them apart."""
        if not place:
            return
        before, piece = pieces[place - 1], pieces[place]
        if (
            before.first + before.count == piece.first
            and before.used == piece.used
            and before.value == piece.value
            and before.flight is piece.flight
        ):
            before.count += piece.count
            piece.count = 0  # its entry in the heap is dropped when it comes up
            del pieces[place]

    def _enter(
        self, gaps: list[tuple[Run, int, int]], room: int, worth: float, flight: Flight | None
    ) -> None:
        """The first ``room`` blocks of the ``gaps`` come in; there is room for them."""
        value, now = self.eviction.enter(worth), self._now
        self.used += room
        for run, low, high in gaps:
            count = min(high - low, room)
            piece = Piece(run, low, count, value, now, flight)
            pieces = run.pieces
            place = len(pieces)
            while place and pieces[place - 1].first > low:
                place -= 1
            pieces.insert(place, piece)
            self._push(piece)
            self._join(pieces, place)
            room -= count
            if not room:
                return

    def _push(self, piece: Piece) -> None:
        heap = self._heap
        if len(heap) > 64 and self._pushed > len(heap):  # drop what joined others meanwhile
            heap[:] = [entry for entry in heap if entry[4].count]
            heapify(heap)
            self._pushed = 0
        self._pushed += 1
        heappush(heap, (piece.value, piece.used, -piece.first, self._number(), piece))

    def _number(self) -> int:
        self._entries += 1
        return self._entries

    def _evict(self, blocks: int) -> list[tuple[Content, int, int]]:
        """Evict ``blocks`` blocks (``whole``: and what belongs with the last of them); what went, where
        somebody wants to know."""
        gone: list[tuple[Run, int, int]] = []
        heap = self._heap
        last: tuple[float, int] | None = None
        while heap:
            value, used, first, _, piece = heap[0]
            if not piece.count:
                heappop(heap)
                continue
            if (piece.value, piece.used, -piece.first) != (value, used, first):
                heapreplace(heap, (piece.value, piece.used, -piece.first, self._number(), piece))
                continue
            if blocks <= 0 and not (self.whole and last == (value, used)):
                break
            last = (value, used)
            count = piece.count if self.whole else min(piece.count, blocks)
            piece.count -= count
            blocks -= count
            self.used -= count
            self.evicted += count
            self.eviction.evicted(value)
            run = piece.run
            if self.tells:
                gone.append((run, piece.first + piece.count, count))
            if not piece.count:
                heappop(heap)
                run.pieces.remove(piece)
                if not run.pieces:
                    run.prune()
        return merged(gone, self.block_tokens)
