"""The index of several pools says what each caches at most; random use of the pools does not fool it."""

from __future__ import annotations

import random

import pytest

from tokensim.memory import BlockPool, Content, Table
from tokensim.memory.index import PrefixIndex, bits


def pool(blocks: int = 60) -> BlockPool:
    return BlockPool(blocks + 1, 4, caching=True, unhashed_first=True)


def content(rng: random.Random, number: int) -> Content:
    """One of a few families of prompts, which share their beginnings; runs of 2 to 9 tokens."""
    family, runs = rng.randrange(3), []
    for position in range(rng.randrange(1, 6)):
        own = rng.random() < 0.15
        runs.append((1000 + number if own else 10 * family + position, 2 + (family + position) % 8))
    return Content.of_runs(runs, -1 - number)


def tokens_of(what: Content) -> int:
    return what.ends[-2]


def test_it_never_promises_too_little_and_knows_who_has_nothing() -> None:
    rng = random.Random(4)
    index, pools = PrefixIndex(4), [pool() for _ in range(3)]
    for number, one in enumerate(pools):
        index.add(one, number)
    live: list[tuple[BlockPool, Table, Content]] = []
    exact = 0
    for step in range(4000):
        asked = content(rng, step)
        limit = (tokens_of(asked) - 1) // 4
        depths = index.matches(asked, limit, 0b111)
        for number, one in enumerate(pools):
            found = one.find(asked, limit)[1]
            promised = max((blocks for blocks, mask in depths if mask >> number & 1), default=0)
            assert found <= promised
            exact += found == promised
        if live and rng.random() < 0.5:
            one, table, mine = live.pop(rng.randrange(len(live)))
            one.release(table)
            one.forget(mine)
        else:
            one, table = rng.choice(pools), Table()
            blocks = -(-tokens_of(asked) // 4)
            hits, hit, idle = one.find(asked, limit)
            if blocks - hit <= one.free - idle:
                one.touch(table, hits)
                one.take(blocks - hit, table)
                table.blocks = blocks
                one.register(table, asked, tokens_of(asked) // 4)
                live.append((one, table, asked))
    assert exact > 3 * 4000 * 0.9, "it is hardly ever too optimistic"
    for one, table, mine in live:
        one.release(table)
        one.forget(mine)
    for one in pools:
        one.take(one.free)  # evict everything
    assert not index._root.children, "nothing is left of what nobody caches"


def test_a_pool_that_comes_later_is_read_as_it_stands() -> None:
    one, table, what = pool(), Table(), Content.of_runs([(1, 8), (2, 8)], -1)
    one.take(4, table)
    table.blocks = 4
    one.register(table, what, 4)
    index = PrefixIndex(4)
    index.add(one, 5)
    assert index.matches(Content.of_runs([(1, 8), (3, 8)], -2), 3, 1 << 5) == [(2, 1 << 5)]


def test_runs_that_end_within_a_block_do_not_break_the_chain() -> None:
    one, table, what = pool(), Table(), Content.of_runs([(1, 2), (2, 1), (3, 9)], -1)
    one.take(3, table)
    table.blocks = 3
    index = PrefixIndex(4)
    index.add(one, 0)
    one.register(table, what, 3)
    assert index.matches(Content.of_runs([(1, 2), (2, 1), (3, 9)], -2), 3, 1) == [(3, 1)]


@pytest.mark.parametrize(("mask", "numbers"), [(0, []), (0b1011, [0, 1, 3]), (1 << 500, [500])])
def test_bits_of_a_mask(mask: int, numbers: list[int]) -> None:
    assert list(bits(mask)) == numbers
