"""Who loses its place when memory runs out, and how it comes back: schedules worked out by hand.

Blocks hold 4 tokens; a request of 16 prompt tokens holds 4 blocks and needs a fifth for its first decode.
"""

from __future__ import annotations

from functools import partial

import pytest
from drive import Drive

New = partial[Drive]


def test_the_last_admitted_gives_way(drive: New) -> None:
    engine = drive(blocks=12)
    for _ in range(3):
        engine.add(16)
    engine.step()
    row = engine.step()
    assert row.ran == [[0, 1, 16], [1, 1, 16]]  # the four blocks of request 2 serve both
    assert row.preempted == [2]
    assert engine.free == 2


def test_a_request_without_juniors_gives_way_itself(drive: New) -> None:
    engine = drive(blocks=9)
    engine.add(16)
    engine.add(16)
    engine.step()
    row = engine.step()
    assert row.ran == [[0, 1, 16]]
    assert row.preempted == [1]
    assert engine.free == 4


def test_a_preempted_request_goes_to_the_front_and_nobody_is_admitted_in_that_step(drive: New) -> None:
    engine = drive(blocks=9)
    engine.add(16, output=4)
    engine.add(16)
    engine.step()
    engine.add(1)  # would fit into the blocks that are freed
    assert engine.step() == ([[0, 1, 16]], [], [1], [], [])
    assert engine.waiting == [1, 2]
    assert [engine.step().admitted for _ in range(3)] == [[], [], [1, 2]]


def test_several_preempted_at_once_keep_their_order(drive: New) -> None:
    engine = drive(blocks=10, max_num_seqs=8)
    engine.add(28)
    for _ in range(3):
        engine.add(4)
    engine.step()
    assert engine.free == 0
    row = engine.step()  # 0 takes a block of 3, then 1 those of 2, which stands last by then
    assert row.preempted == [3, 2]
    assert row.ran == [[0, 1, 28], [1, 1, 4]]
    assert engine.waiting == [2, 3]


def test_what_was_generated_is_kept_and_computed_again(drive: New) -> None:
    engine = drive(blocks=9)
    engine.add(16, output=2)
    second = engine.add(16, output=4)
    engine.steps(2)
    assert second.preemptions == 1
    row = engine.step()  # its first output token is part of what it prefills now
    assert row.ran == [[1, 17, 0]]
    assert [engine.step().finished for _ in range(2)] == [[], [1]]  # tokens 3 and 4
    assert engine.free == 9


def test_it_finds_its_own_blocks_again(drive: New) -> None:
    engine = drive(blocks=9, enable_prefix_caching=True)
    engine.add(16, output=3)
    engine.add(16, output=4)
    engine.steps(2)
    assert engine.step() == ([[0, 1, 17]], [], [], [], [0])
    assert engine.step() == ([[1, 1, 16]], [1], [], [(1, 16)], [])


def test_it_finds_only_what_nobody_has_taken_since(drive: New) -> None:
    engine = drive(blocks=9, enable_prefix_caching=True)
    engine.add(16, output=10)  # grows into two of the four freed blocks: those that held the tail
    engine.add(16, output=4)
    engine.steps(2)
    rows = [engine.step() for _ in range(9)]
    assert rows[7].finished == [0]
    assert rows[8].hits == [(1, 8)]
    assert rows[8].ran == [[1, 9, 8]]


def test_a_chunk_may_be_preempted_too(drive: New) -> None:
    engine = drive(blocks=9, max_num_batched_tokens=20)
    engine.add(16)
    engine.add(20)
    assert engine.step().ran == [[0, 16, 0], [1, 4, 0]]
    row = engine.step()  # its other 16 tokens need 4 blocks; 3 are left
    assert row.preempted == [1]
    assert row.ran == [[0, 1, 16]]
    assert engine.free == 4


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_that_is_preempted_with_its_last_token_in_flight_still_finishes(
    drive: New, asynchronous: bool
) -> None:
    engine = drive(blocks=9, async_scheduling=asynchronous)
    engine.add(16, output=9)
    engine.add(13, output=2)  # its last token is scheduled in step 2 (within its four blocks)
    rows = [engine.step() for _ in range(2)]
    engine.add(4)
    rows += [engine.step() for _ in range(4)]
    finished = [row.finished for row in rows]
    assert finished[2 if asynchronous else 1] == [1]
    assert sum(1 in done for done in finished) == 1


class TestPriority:
    def test_the_least_urgent_gives_way_wherever_it_stands(self, drive: New) -> None:
        engine = drive(blocks=12, scheduling_policy="priority")
        for priority in (0, 5, 1):
            engine.add(16, priority=priority, at=0.0)
        assert engine.step().admitted == [0, 2, 1]
        row = engine.step()
        assert row.preempted == [1]
        assert row.ran == [[0, 1, 16], [2, 1, 16]]

    def test_of_equally_urgent_ones_the_latest_to_arrive(self, drive: New) -> None:
        engine = drive(blocks=12, scheduling_policy="priority")
        engine.add(16, priority=1, at=3.0)
        engine.step()
        engine.add(12, priority=1, at=1.0)
        engine.add(12, priority=1, at=2.0)
        assert engine.step().admitted == [1, 2]
        row = engine.step()
        assert row.preempted == [0]  # it was admitted first, but arrived last
        assert row.ran == [[1, 1, 12], [2, 1, 12]]

    def test_of_two_alike_the_one_admitted_first(self, drive: New) -> None:
        engine = drive(blocks=8, scheduling_policy="priority")
        engine.add(16, priority=1, at=1.0)
        engine.add(16, priority=1, at=1.0)
        engine.step()
        assert engine.step().preempted == [0]

    def test_one_already_served_returns_its_token_to_the_budget(self, drive: New) -> None:
        engine = drive(
            blocks=10,
            scheduling_policy="priority",
            max_num_batched_tokens=18,
            scheduler_reserve_full_isl=False,
        )
        engine.add(16, priority=5)
        engine.step()
        engine.add(16, priority=0)
        engine.add(60, priority=1)
        assert engine.step().ran == [[0, 1, 16], [1, 16, 0], [2, 1, 0]]
        row = engine.step()  # 1 needs a block, 0 has had its token: 17 of 18 are left for the chunk of 2
        assert row.preempted == [0]
        assert row.ran == [[1, 1, 16], [2, 17, 1]]

    def test_one_already_served_loses_its_place_in_the_step(self, drive: New) -> None:
        engine = drive(blocks=11, scheduling_policy="priority", max_num_seqs=3, max_num_batched_tokens=36)
        engine.add(16, priority=5)  # served first, with the last block, and then sent back
        engine.step()
        engine.add(12, priority=0)
        engine.add(12, priority=0)
        engine.step()
        assert engine.free == 0
        row = engine.step()
        assert row.preempted == [0]
        assert row.ran == [[1, 1, 12], [2, 1, 12]]

    @pytest.mark.parametrize(("version", "ran"), [("0.33.0", [[1, 1, 16]]), ("0.23.0", []), ("0.19.0", [])])
    def test_after_preempting_itself_the_others_go_on_in_newer_versions_only(
        self, drive: New, version: str, ran: list[list[int]]
    ) -> None:
        engine = drive(blocks=9, version=version, scheduling_policy="priority")
        engine.add(16, priority=5)
        engine.step()
        engine.add(13, priority=0)
        engine.steps(4)  # 0 holds five blocks, 1 four: all full, and both need one more
        assert engine.free == 0
        row = engine.step()
        assert row.preempted == [0]
        assert row.ran == ran

    @pytest.mark.parametrize("version", ["0.33.0", "0.23.0"])
    def test_a_more_urgent_arrival_preempts_nobody(self, drive: New, version: str) -> None:
        engine = drive(blocks=9, version=version, scheduling_policy="priority")
        engine.add(20, priority=5)
        engine.step()
        engine.add(20, priority=0)
        assert engine.step() == ([[0, 1, 20]], [], [], [], [])


def test_a_chunk_taken_back_in_its_own_step_is_found_again(drive: New) -> None:
    """In the third step request 0 gets the blocks 5 and 6; then the more urgent request 1 needs one."""
    engine = drive(
        version="0.23.0",
        blocks=7,
        scheduling_policy="priority",
        long_prefill_token_threshold=8,
        enable_prefix_caching=True,
    )
    engine.add(28, output=1, priority=1)
    assert engine.step().ran == [[0, 8, 0]]
    engine.add(4, output=3, priority=0)
    assert engine.step().ran == [[0, 8, 8], [1, 4, 0]]
    assert engine.step() == ([[1, 1, 4]], [], [0], [], [])
    assert engine.step().finished == [1]
    assert engine.step().hits == [(0, 20)]  # 24 tokens less the block that request 1 took
