"""The pool by hand: who is evicted first, which copy is hit, and how far a hit goes."""

from __future__ import annotations

import pytest

from tokensim.memory import BlockPool, Content, Table
from tokensim.memory.prefix import Extent, lookup

SIZE = 4  # tokens in a block


def pool_of(blocks: int, *, caching: bool = True, unhashed_first: bool = True) -> BlockPool:
    return BlockPool(blocks + 1, SIZE, caching=caching, unhashed_first=unhashed_first)


def prompt(*runs: tuple[int, int]) -> Content:
    return Content.of_runs(runs, -1)


def hold(pool: BlockPool, content: Content, blocks: int, registered: int | None = None) -> Table:
    """A request with ``blocks`` fresh blocks, of which all (or the first ``registered``) are full."""
    table = Table()
    pool.take(blocks, table)
    table.blocks = blocks
    pool.register(table, content, blocks if registered is None else registered)
    return table


def cached(pool: BlockPool, content: Content, limit: int = 100) -> int:
    return pool.find(content, limit)[1]


def test_the_null_block_is_never_handed_out() -> None:
    assert BlockPool(10, SIZE, caching=True, unhashed_first=True).free == 9


def test_the_least_recently_freed_request_is_evicted_first() -> None:
    pool, a, b = pool_of(4), prompt((1, 100)), prompt((2, 100))
    first, second = hold(pool, a, 2), hold(pool, b, 2)
    pool.release(second)
    pool.release(first)
    pool.take(2)
    assert (cached(pool, a), cached(pool, b)) == (2, 0)


def test_a_hit_that_is_used_again_becomes_the_most_recent() -> None:
    pool, a, b = pool_of(4), prompt((1, 100)), prompt((2, 100))
    for content in (a, b):
        pool.release(hold(pool, content, 2))
    table = Table()
    pool.touch(table, pool.find(a, 100)[0])
    pool.release(table)
    pool.take(2)
    assert (cached(pool, a), cached(pool, b)) == (2, 0)


def test_a_look_up_alone_changes_no_order() -> None:
    pool, a, b = pool_of(4), prompt((1, 100)), prompt((2, 100))
    for content in (a, b):
        pool.release(hold(pool, content, 2))
    assert cached(pool, a) == 2
    pool.take(2)
    assert (cached(pool, a), cached(pool, b)) == (0, 2)


def test_of_one_request_the_tail_is_evicted_first() -> None:
    pool, a = pool_of(5), prompt((1, 100))
    pool.release(hold(pool, a, 5))
    seen = [cached(pool, a)]
    for _ in range(5):
        pool.take(1)
        seen.append(cached(pool, a))
    assert seen == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(("unhashed_first", "survivors"), [(True, 2), (False, 1)])
def test_a_partial_block_is_reused_before_older_cached_ones_in_newer_versions_only(
    unhashed_first: bool, survivors: int
) -> None:
    pool, a, b = pool_of(3, unhashed_first=unhashed_first), prompt((1, 100)), prompt((2, 2))
    old, partial = hold(pool, a, 2), hold(pool, b, 1, registered=0)
    pool.release(old)
    pool.release(partial)
    pool.take(1)
    assert cached(pool, a) == survivors


def test_without_caching_nothing_is_found_and_all_comes_back() -> None:
    pool, a = pool_of(3, caching=False), prompt((1, 100))
    table = hold(pool, a, 3)
    assert (pool.free, table.registered, cached(pool, a)) == (0, 0, 0)
    pool.release(table)
    assert (pool.free, cached(pool, a)) == (3, 0)
    pool.check_integrity([])


def test_of_equal_blocks_the_oldest_is_hit_and_the_younger_survives_it() -> None:
    pool = pool_of(4)
    a, same = prompt((1, 100)), prompt((1, 100))
    old, young = hold(pool, a, 2), hold(pool, same, 2)
    assert pool.cached_keys() == 2
    assert pool.find(a, 100)[1:] == (2, 0)
    pool.release(old)
    assert pool.find(a, 100)[1:] == (2, 2)  # still the old ones, though they are idle now
    pool.take(2)
    assert pool.find(a, 100)[1:] == (2, 0)  # the copy in use serves
    pool.check_integrity([young], 4)


def test_an_older_copy_takes_over_in_the_middle_of_a_younger_one() -> None:
    older, younger = Extent(None, 2, 2, 0), Extent(None, 0, 4, 0)
    assert lookup([older, younger], 0) == (younger, 0, 2)
    assert lookup([older, younger], 2) == (older, 2, 2)
    assert lookup([younger, older], 0) == (younger, 0, 4)
    assert lookup([older], 0) is None


def test_a_hit_in_the_middle_of_an_extent_in_use_splits_it() -> None:
    pool, a = pool_of(6), prompt((1, 100))
    long = hold(pool, a, 6)
    short = Table()
    pool.touch(short, pool.find(a, 2)[0])
    assert [extent.count for extent in long.extents()] == [2, 4]
    assert [extent.refs for extent in long.extents()] == [2, 1]
    pool.release(long)
    assert pool.free == 4
    pool.take(4)
    assert cached(pool, a) == 2
    pool.check_integrity([short], 6)
    pool.release(short)
    pool.check_integrity([], 4)


def test_a_hit_in_the_middle_of_an_idle_extent_leaves_the_tail_in_its_place() -> None:
    pool, a, b = pool_of(6), prompt((1, 100)), prompt((2, 100))
    pool.release(hold(pool, a, 4))
    pool.release(hold(pool, b, 2))
    head = Table()
    pool.touch(head, pool.find(a, 2)[0])
    assert pool.free == 4
    pool.take(2)  # the tail of the older one is still the first to go
    assert (cached(pool, a), cached(pool, b)) == (2, 2)
    pool.check_integrity([head], 4)


def test_requests_share_up_to_where_their_runs_part_inside_a_block() -> None:
    pool = pool_of(8)
    hold(pool, prompt((1, 10), (2, 10)), 5)
    assert cached(pool, prompt((1, 10), (3, 10))) == 2  # the third block holds two tokens of run 2
    assert cached(pool, prompt((1, 8), (2, 10))) == 2  # run 2 starts elsewhere
    assert cached(pool, prompt((1, 10), (2, 4), (3, 9))) == 3  # the shorter run is a prefix of the longer
    assert cached(pool, prompt((2, 10))) == 0


def test_a_hit_never_exceeds_the_limit_that_keeps_the_last_token_to_compute() -> None:
    pool, a = pool_of(4), prompt((1, 16))
    pool.release(hold(pool, a, 4))
    for tokens, blocks in ((16, 3), (15, 3), (13, 3), (12, 2), (5, 1), (4, 0), (1, 0)):
        assert pool.find(a, (tokens - 1) // SIZE)[1:] == (blocks, blocks)


def test_blocks_in_use_are_not_evicted_and_a_found_prefix_counts_as_used() -> None:
    pool, a = pool_of(6), prompt((1, 100))
    pool.release(hold(pool, a, 4))
    table = Table()
    pool.touch(table, pool.find(a, 2)[0])
    pool.take(4)
    assert (pool.free, cached(pool, a)) == (0, 2)
    pool.release(table)
    pool.take(2)
    assert (cached(pool, a), pool.cached_keys()) == (0, 0)


def test_what_nobody_looks_up_is_freed_in_the_same_places() -> None:
    pool, a = pool_of(6), prompt((1, 100))
    pool.release(hold(pool, a, 2))
    table = Table()
    pool.take(4, table)
    pool.discard(table, 4, 3)  # three full blocks and a partial one
    pool.take(1)  # the partial one
    assert cached(pool, a) == 2
    pool.take(2)  # then the oldest cached ones
    assert cached(pool, a) == 0
    assert pool.free == 3


def test_a_finished_request_leaves_no_empty_branch_in_the_tree() -> None:
    pool, a = pool_of(4), prompt((1, 4), (2, 100))
    table = hold(pool, a, 3)
    pool.release(table)
    pool.forget(a)
    pool.take(4)
    assert list(pool.root.walk()) == [pool.root]


def test_integrity_notices_a_lost_block_and_a_leaked_table() -> None:
    pool, a = pool_of(4), prompt((1, 100))
    table = hold(pool, a, 2)
    pool.check_integrity([table])
    with pytest.raises(AssertionError, match="reference without a table"):
        pool.check_integrity([])
    pool.take(1)
    with pytest.raises(AssertionError, match="free"):
        pool.check_integrity([table])
