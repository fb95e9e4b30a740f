"""Both pools against a plain one that keeps every block by itself: same hits, same evictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from plain_pool import Key, PlainPool, Runs, keys_of

from tokensim.memory import BlockByBlockPool, BlockPool, Content, Node, Table

NUM_BLOCKS = 25
BLOCK_SIZE = 4
LONER = -1_000_000  # runs of requests that nobody shares anything with are below

prompts = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([2, 4, 7, 8, 13])), max_size=4)
places = st.integers(0, 1 << 16)


@dataclass
class Live:
    """One request in both pools."""

    runs: Runs
    content: Content
    keys: list[Key]
    table: Table = field(default_factory=Table)
    blocks: list[int] = field(default_factory=list)  # the same table, block by block


def tokens_of_node(node: Node, end: int) -> Key:
    """All tokens before ``end``, which lies in ``node``."""
    if node.parent is None:
        return ()
    start, run = node.key
    return (*tokens_of_node(node.parent, start), *((run, i) for i in range(end - start)))


def cached_keys(pool: BlockPool) -> set[Key]:
    """What the tree of the pool says is cached, as keys."""
    return {
        tokens_of_node(node, (block + 1) * pool.block_size)
        for node in pool.root.walk()
        for extent in node.extents
        for block in range(extent.first, extent.first + extent.count)
    }


class AgainstPlain(RuleBasedStateMachine):
    """Random requests come, grow, are sent back, return and leave, in the pool and in the plain one."""

    make: type[BlockPool] | type[BlockByBlockPool]

    @initialize(caching=st.sampled_from([True, True, True, False]), unhashed_first=st.booleans())
    def start(self, caching: bool, unhashed_first: bool) -> None:
        self.pool = self.make(NUM_BLOCKS, BLOCK_SIZE, caching=caching, unhashed_first=unhashed_first)
        self.plain = PlainPool(NUM_BLOCKS, caching=caching, unhashed_first=unhashed_first)
        self.evicted: list[Key] = []
        self.pool.evicting = self.note_evicted
        self.live: list[Live] = []
        self.sent_back: list[Live] = []
        self.loners: list[tuple[Table, list[int], int]] = []  # (…, blocks, full ones): found by nobody
        self.number = 0

    def note_evicted(self, node: Node, first: int, count: int) -> None:
        for block in reversed(range(first, first + count)):
            self.evicted.append(tokens_of_node(node, (block + 1) * BLOCK_SIZE))

    def look_up(self, request: Live, limit: int) -> None:
        """Both pools find the same prefix; the request takes it."""
        hits, blocks, idle = self.pool.find(request.content, limit)
        found = self.plain.find(request.keys[:limit])
        assert blocks == len(found)
        assert idle == sum(not self.plain.refs[block] for block in found)
        self.compare_hits(hits, found)
        self.pool.touch(request.table, hits)
        self.plain.touch(found)
        request.blocks = found
        assert (request.table.blocks, request.table.registered) == (blocks, blocks)

    def grow_by(self, request: Live, count: int, full: bool) -> None:
        """``count`` more blocks; with ``full`` all of them are."""
        count = min(count, self.pool.free, len(request.keys) - len(request.blocks))
        self.pool.take(count, request.table)
        request.table.blocks += count
        first = request.table.registered
        request.blocks = request.blocks + self.plain.take(count)
        end = max(first, len(request.blocks) - (not full))
        self.pool.register(request.table, request.content, end)
        self.plain.register(request.blocks, request.keys[:end], first)

    @rule(runs=prompts, limit=st.integers(0, 12), count=st.integers(0, 8), full=st.booleans())
    def admit(self, runs: Runs, limit: int, count: int, full: bool) -> None:
        content = Content.of_runs(runs, -1 - self.number)
        keys = keys_of([*runs, (-1 - self.number, 30)], BLOCK_SIZE)
        self.number += 1
        request = Live(runs, content, keys)
        self.look_up(request, limit)
        self.live.append(request)
        self.grow_by(request, count, full)

    @precondition(lambda self: self.live)
    @rule(at=places, count=st.integers(0, 6), full=st.booleans())
    def grow(self, at: int, count: int, full: bool) -> None:
        self.grow_by(self.live[at % len(self.live)], count, full)

    @precondition(lambda self: self.live)
    @rule(at=places)
    def finish(self, at: int) -> None:
        request = self.live.pop(at % len(self.live))
        self.pool.release(request.table)
        self.pool.forget(request.content)
        self.plain.release(request.blocks)

    @precondition(lambda self: self.live)
    @rule(at=places)
    def send_back(self, at: int) -> None:
        request = self.live.pop(at % len(self.live))
        self.pool.release(request.table)
        self.plain.release(request.blocks)
        self.sent_back.append(request)

    @precondition(lambda self: self.sent_back)
    @rule(at=places, limit=st.integers(0, 12), count=st.integers(0, 8))
    def return_(self, at: int, limit: int, count: int) -> None:
        request = self.sent_back.pop(at % len(self.sent_back))
        self.look_up(request, limit)
        self.live.append(request)
        self.grow_by(request, count, full=True)

    @rule(count=st.integers(1, 8), tail=st.booleans())
    def start_alone(self, count: int, tail: bool) -> None:
        count, table = min(count, self.pool.free), Table()
        self.pool.take(count, table)
        table.blocks = count
        self.loners.append((table, self.plain.take(count), max(0, count - tail)))

    @precondition(lambda self: self.loners)
    @rule(at=places)
    def finish_alone(self, at: int) -> None:
        table, blocks, full = self.loners.pop(at % len(self.loners))
        self.number += 1
        self.plain.register(blocks, keys_of([(LONER - self.number, full * BLOCK_SIZE)], BLOCK_SIZE), 0)
        self.plain.release(blocks)
        self.discard(table, len(blocks), full)

    @rule(runs=prompts)
    def look(self, runs: Runs) -> None:
        """A look-up that comes to nothing changes nothing."""
        keys = keys_of([*runs, (-1000, 8)], BLOCK_SIZE)
        _, blocks, _ = self.pool.find(Content.of_runs(runs, -1000), 100)
        assert blocks == len(self.plain.find(keys))

    def compare_hits(self, hits: Any, found: list[int]) -> None:
        raise NotImplementedError

    def discard(self, table: Table, blocks: int, full: int) -> None:
        raise NotImplementedError

    def compare_contents(self) -> None:
        raise NotImplementedError

    def compare_evictions(self) -> None:
        raise NotImplementedError

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert self.pool.free == len(self.plain.queue)
        self.compare_contents()
        self.compare_evictions()
        tables = [request.table for request in self.live] + [table for table, _, _ in self.loners]
        self.pool.check_integrity(tables)

    def teardown(self) -> None:
        """What is left is evicted in the same order, block by block."""
        if not hasattr(self, "pool"):
            return
        while self.pool.free:
            self.pool.take(1, Table())
            self.plain.take(1)
            self.compare_contents()
            self.compare_evictions()


class ByExtents(AgainstPlain):
    make = BlockPool

    def compare_hits(self, hits: Any, found: list[int]) -> None:
        """Extents have no ids: what is found shows when it is freed and evicted."""

    def discard(self, table: Table, blocks: int, full: int) -> None:
        self.pool.discard(table, blocks, full)

    def compare_contents(self) -> None:
        """The same keys are cached; what loners left has none here."""
        in_tree = cached_keys(self.pool)
        assert self.pool.cached_keys() == len(in_tree)
        assert in_tree == {key for key in self.plain.cache if key[0][0] > LONER}

    def compare_evictions(self) -> None:
        """The same ones in the same order; it may stop short of a loner's blocks that cache nothing."""
        assert self.evicted == [key for key in self.plain.evicted if key[0][0] > LONER]
        assert self.pool.spare <= self.plain.spare()


class BlockByBlock(AgainstPlain):
    make = BlockByBlockPool

    def compare_hits(self, hits: list[int], found: list[int]) -> None:
        assert hits == found

    def discard(self, table: Table, blocks: int, full: int) -> None:
        self.pool.register(table, Content.unique(1_000_000 + self.number), full)
        self.pool.discard(table, blocks, full)

    def compare_contents(self) -> None:
        """The very same blocks are free, in the same order, and as many keys are cached."""
        assert list(self.pool.queue) == self.plain.queue
        assert self.pool.cached_keys() == len(self.plain.cache)

    def compare_evictions(self) -> None:
        """The same ones in the same order, loners' among them."""
        mine = [key for key in self.evicted if not self.is_loner(key)]
        assert mine == [key for key in self.plain.evicted if key[0][0] > LONER]
        assert len(self.evicted) == len(self.plain.evicted)
        assert self.pool.spare == self.plain.spare()

    def is_loner(self, key: Key) -> bool:
        """A loner's content was made unique with a large number."""
        return key[0][0] < -1_000_000


ALIKE = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
ByExtents.TestCase.settings = ALIKE
BlockByBlock.TestCase.settings = ALIKE
TestByExtents = ByExtents.TestCase
TestBlockByBlock = BlockByBlock.TestCase
