"""Which blocks a memory tier gives up, worked out by hand."""

from __future__ import annotations

import pytest

from tokensim.memory import Content
from tokensim.memory.tiers import Flight, Part, Tier, find
from tokensim.registry import register


def tier(capacity: int, policy: str, block_tokens: int = 1, *, whole: bool = False) -> Tier:
    return Tier(capacity, block_tokens, register.eviction.get(policy)(), whole=whole, tells=True)


def prompt(*runs: tuple[int, int]) -> Content:
    return Content.of_runs(runs, -1)


def here(memory: Tier, content: Content, blocks: int) -> int:
    """How many of the first blocks of ``content`` can be read."""
    return memory.reach(content, 0, blocks)


A, B, C = prompt((1, 4)), prompt((2, 4)), prompt((3, 2))


def gone(memory: Tier, content: Content, blocks: int, worth: float = 0.0) -> list[tuple[int, int, int]]:
    """Put ``content``; what went for it: (id of the prompt, first, stop)."""
    evicted = memory.put(content, 0, blocks, worth).gone
    return [(lost.ids[0], first, stop) for lost, first, stop in evicted]


def test_lru_gives_up_the_end_of_what_was_used_longest_ago() -> None:
    memory = tier(8, "lru")
    memory.put(A, 0, 4)
    memory.put(B, 0, 4)
    memory.use(A, 4)
    assert gone(memory, C, 2) == [(2, 2, 4)]
    assert (here(memory, A, 4), here(memory, B, 4), here(memory, C, 2)) == (4, 2, 2)


def test_fifo_does_not_care_for_uses() -> None:
    memory = tier(8, "fifo")
    memory.put(A, 0, 4)
    memory.put(B, 0, 4)
    memory.use(A, 4)
    assert gone(memory, C, 2) == [(1, 2, 4)]


def test_lfu_gives_up_what_was_used_least_often_then_what_was_used_longest_ago() -> None:
    memory = tier(8, "lfu")
    memory.put(A, 0, 4)
    memory.put(B, 0, 4)
    memory.use(A, 4)
    memory.use(B, 1)  # B's first block twice, its other three once
    assert gone(memory, C, 2) == [(2, 2, 4)]
    assert gone(memory, prompt((4, 3)), 3) == [(2, 1, 2), (3, 0, 2)]


def test_cost_aware_keeps_what_is_dear_until_cheaper_things_have_come_and_gone() -> None:
    memory = tier(4, "cost-aware")
    memory.put(prompt((1, 2)), 0, 2, worth=3.0)
    memory.put(prompt((2, 2)), 0, 2, worth=2.0)
    assert gone(memory, prompt((3, 2)), 2, worth=0.5) == [(2, 0, 2)]  # inflation 2, so (3) is worth 2.5
    assert gone(memory, prompt((4, 2)), 2, worth=0.5) == [(3, 0, 2)]  # inflation 2.5, so (4) is worth 3
    assert gone(memory, prompt((5, 2)), 2, worth=0.5) == [(1, 0, 2)]  # 3, as (4), but used longer ago


def test_prompts_share_what_they_begin_with() -> None:
    memory = tier(10, "lru", block_tokens=4)
    assert memory.put(prompt((1, 8), (2, 4)), 0, 3).blocks == 3
    assert memory.put(prompt((1, 8), (3, 8)), 0, 4).blocks == 2
    assert memory.used == 5
    assert here(memory, prompt((1, 8), (3, 8)), 4) == 4
    assert here(memory, prompt((1, 8), (4, 8)), 4) == 2
    assert here(memory, prompt((1, 6), (3, 8)), 3) == 1  # a block of four tokens, two of them others


def test_what_is_on_its_way_cannot_be_read_but_is_not_copied_twice() -> None:
    memory, flight = tier(8, "lru"), Flight()
    assert memory.put(A, 0, 4, flight=flight).blocks == 4
    assert here(memory, A, 4) == 0
    assert memory.put(A, 0, 4).blocks == 0
    flight.land(1.0)
    assert here(memory, A, 4) == 4


def test_contiguous_memory_gives_up_whole_requests_and_takes_no_parts() -> None:
    memory = tier(8, "lru", whole=True)
    memory.put(A, 0, 4)
    memory.put(B, 0, 4)
    assert gone(memory, C, 1) == [(1, 0, 4)]
    assert memory.put(prompt((4, 9)), 0, 9).blocks == 0
    assert memory.used == 5


def test_a_prompt_larger_than_the_tier_leaves_its_beginning_there() -> None:
    memory = tier(3, "lru")
    assert memory.put(A, 0, 4).blocks == 3
    assert here(memory, A, 4) == 3


def test_a_prefix_is_read_from_the_first_tier_that_has_it() -> None:
    host, disk = tier(2, "lru"), tier(8, "lru", block_tokens=2)
    host.put(A, 0, 2)
    disk.put(A, 0, 2)
    assert find([host, disk], A, 0, 4, 4) == [Part(0, 0, 2, 2), Part(1, 2, 4, 1)]
    assert find([host, disk], A, 1, 3, 4) == [Part(0, 1, 2, 1), Part(1, 2, 3, 1)]
    assert find([host, disk], A, 0, 3, 3) == [Part(0, 0, 2, 2)]  # of three tokens, the block has one
    assert find([host, disk], B, 0, 4, 4) == []


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu", "cost-aware"])
def test_what_is_dropped_leaves_nothing_behind(policy: str) -> None:
    memory = tier(6, policy)
    for content in (A, B, C, prompt((1, 4), (5, 3))):
        memory.put(content, 0, 4, worth=1.0)
    memory.clear()
    memory.check_integrity()
    assert memory.used == 0
    assert memory.put(A, 0, 4).blocks == 4
