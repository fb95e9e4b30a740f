"""Who is admitted, with how many tokens: schedules worked out by hand."""

from __future__ import annotations

from functools import partial

import pytest
from drive import Drive

New = partial[Drive]


def test_a_long_prompt_is_computed_in_chunks_of_the_budget(drive: New) -> None:
    engine = drive(max_num_batched_tokens=10)
    engine.add(25, output=2)
    assert engine.steps(3) == [[[0, 10, 0]], [[0, 10, 10]], [[0, 5, 20]]]
    assert engine.step() == ([[0, 1, 25]], [], [], [], [0])
    assert engine.free == 40


def test_decodes_come_first_and_the_rest_of_the_budget_is_for_prefills(drive: New) -> None:
    engine = drive(max_num_batched_tokens=6)
    engine.add(4)
    assert engine.steps(1) == [[[0, 4, 0]]]
    engine.add(12)
    assert engine.steps(4) == [
        [[0, 1, 4], [1, 5, 0]],
        [[0, 1, 5], [1, 5, 5]],
        [[0, 1, 6], [1, 2, 10]],
        [[0, 1, 7], [1, 1, 12]],
    ]


def test_several_prompts_may_be_chunked_in_one_step(drive: New) -> None:
    engine = drive(max_num_batched_tokens=8)
    engine.add(10)
    engine.add(10)
    assert engine.steps(3) == [[[0, 8, 0]], [[0, 2, 8], [1, 6, 0]], [[0, 1, 10], [1, 4, 6]]]


def test_the_budget_may_be_lower_than_the_batch(drive: New) -> None:
    engine = drive(max_num_scheduled_tokens=7)
    engine.add(10)
    assert engine.steps(2) == [[[0, 7, 0]], [[0, 3, 7]]]


def test_more_decodes_than_budget_take_turns_by_seniority(drive: New) -> None:
    engine = drive(max_num_batched_tokens=2, max_num_seqs=3)
    for _ in range(3):
        engine.add(1, output=3)
    assert engine.steps(6) == [
        [[0, 1, 0], [1, 1, 0]],
        [[0, 1, 1], [1, 1, 1]],
        [[0, 1, 2], [1, 1, 2]],
        [[2, 1, 0]],
        [[2, 1, 1]],
        [[2, 1, 2]],
    ]


def test_the_head_of_the_queue_holds_up_smaller_requests_behind_it(drive: New) -> None:
    engine = drive(blocks=10)
    engine.add(24, output=3)  # 6 blocks
    engine.add(20)  # 5 blocks do not fit beside it
    engine.add(4)  # 1 block would
    rows = [engine.step() for _ in range(4)]
    assert [row.admitted for row in rows] == [[0], [], [], [1, 2]]
    assert rows[2].finished == [0]


def test_a_prompt_is_admitted_only_if_all_of_it_fits_now(drive: New) -> None:
    engine = drive(blocks=10, max_num_batched_tokens=8)
    engine.add(4)
    engine.step()
    engine.add(36)  # 9 blocks; 9 are free now, but the first request takes one of them for its next token
    assert engine.step() == ([[0, 1, 4]], [], [], [], [])


def test_without_the_reservation_the_first_chunk_is_enough(drive: New) -> None:
    engine = drive(blocks=10, max_num_batched_tokens=8, scheduler_reserve_full_isl=False)
    engine.add(4)
    engine.step()
    engine.add(36)
    assert engine.step() == ([[0, 1, 4], [1, 7, 0]], [1], [], [], [])
    assert engine.free == 10 - 2 - 2


def test_the_reservation_is_a_check_and_sets_nothing_aside(drive: New) -> None:
    engine = drive(blocks=10, long_prefill_token_threshold=4)
    for prompt in (20, 28, 32):  # 5, 7 and 8 blocks: each fits when it is admitted, together they do not
        engine.add(prompt)
    assert engine.step().ran == [[0, 4, 0], [1, 4, 0], [2, 4, 0]]
    engine.steps(2)
    row = engine.step()
    assert row.ran == [[0, 4, 12], [1, 4, 12]]
    assert row.preempted == [2]


@pytest.mark.parametrize(("prompt", "admitted"), [(20, [1]), (24, [])])
def test_the_watermark_keeps_blocks_free_while_somebody_runs(
    drive: New, prompt: int, admitted: list[int]
) -> None:
    engine = drive(blocks=10, watermark=0.3)  # int(0.3 × 11) = 3 blocks
    engine.add(4)
    engine.step()
    engine.add(prompt)  # the other one takes its second block first, so 8 are free: 5 + 3 fit, 6 + 3 do not
    assert engine.step().admitted == admitted


def test_the_watermark_does_not_bind_when_nobody_runs(drive: New) -> None:
    engine = drive(blocks=10, watermark=0.3)
    engine.add(40)
    assert engine.step().admitted == [0]


@pytest.mark.parametrize("limits", [{"max_num_seqs": 2}, {"max_num_active_seqs": 2}])
def test_no_more_run_than_there_are_slots(drive: New, limits: dict[str, int]) -> None:
    engine = drive(**limits)
    for output in (3, 9, 9):
        engine.add(4, output)
    rows = [engine.step() for _ in range(4)]
    assert [row.admitted for row in rows] == [[0, 1], [], [], [2]]
    assert rows[2].finished == [0]


def test_a_long_prefill_is_capped(drive: New) -> None:
    engine = drive(long_prefill_token_threshold=8)
    engine.add(20)
    engine.add(10)
    assert engine.steps(3) == [
        [[0, 8, 0], [1, 8, 0]],
        [[0, 8, 8], [1, 2, 8]],
        [[0, 4, 16], [1, 1, 10]],
    ]


@pytest.mark.parametrize(
    ("version", "first"), [("0.33.0", [[0, 20, 0]]), ("0.23.0", [[0, 8, 0]]), ("0.19.0", [[0, 8, 0]])]
)
def test_a_lone_request_is_capped_in_older_versions_only(
    drive: New, version: str, first: list[list[int]]
) -> None:
    engine = drive(version=version, long_prefill_token_threshold=8)
    engine.add(20)
    assert engine.steps(1) == [first]


def test_the_adaptive_cap_shares_the_batch_among_all_requests(drive: New) -> None:
    engine = drive(
        blocks=60,
        max_num_batched_tokens=60,
        long_prefill_token_threshold=8,
        long_prefill_token_threshold_adaptive=True,
    )
    engine.add(50)
    engine.add(50)
    assert engine.steps(1) == [[[0, 30, 0], [1, 30, 0]]]
    engine.add(30)  # three in the system: 20 each
    assert engine.steps(1) == [[[0, 20, 30], [1, 20, 30], [2, 20, 0]]]


def test_without_chunking_a_prompt_waits_until_it_fits_the_budget_whole(drive: New) -> None:
    engine = drive(enable_chunked_prefill=False, max_num_batched_tokens=20)
    engine.add(15)
    engine.add(15)
    assert engine.steps(2) == [[[0, 15, 0]], [[0, 1, 15], [1, 15, 0]]]


def test_without_chunking_the_long_prefill_cap_still_chunks(drive: New) -> None:
    engine = drive(enable_chunked_prefill=False, max_num_batched_tokens=10, long_prefill_token_threshold=8)
    engine.add(15)
    engine.add(15)
    assert engine.steps(3) == [[[0, 8, 0]], [[0, 7, 8]], [[0, 1, 15], [1, 8, 0]]]


def test_prefills_wait_out_the_interval_while_others_decode(drive: New) -> None:
    engine = drive(prefill_schedule_interval=3)
    engine.add(4)
    engine.step()
    engine.add(4)
    assert [engine.step().admitted for _ in range(3)] == [[], [], [1]]


def test_the_interval_does_not_bind_when_nobody_decodes(drive: New) -> None:
    engine = drive(prefill_schedule_interval=3, max_num_batched_tokens=8)
    engine.add(20)
    assert engine.steps(3) == [[[0, 8, 0]], [[0, 8, 8]], [[0, 4, 16]]]


def test_the_more_urgent_and_then_the_earlier_is_admitted_first(drive: New) -> None:
    engine = drive(scheduling_policy="priority", max_num_seqs=1)
    for priority in (2, 1, 1, 0):
        engine.add(4, 1, priority=priority)
    assert [engine.step().admitted for _ in range(4)] == [[3], [1], [2], [0]]


def test_a_request_ends_at_the_length_of_the_context(drive: New) -> None:
    engine = drive(max_model_len=10)
    engine.add(8, output=50)
    rows = [engine.step() for _ in range(2)]
    assert [row.ran for row in rows] == [[[0, 8, 0]], [[0, 1, 8]]]
    assert rows[1].finished == [0]


def test_one_output_token_needs_no_decode_step(drive: New) -> None:
    engine = drive()
    engine.add(8, output=1)
    assert engine.step() == ([[0, 8, 0]], [0], [], [], [0])
    assert engine.free == 40


class TestPrefixHits:
    def test_of_a_request_admitted_earlier_in_the_same_step(self, drive: New) -> None:
        engine = drive(enable_prefix_caching=True)
        engine.add(16, run=7)
        engine.add(16, run=7)  # all 4 blocks are cached, but its last token must be computed: 3
        engine.add(18, run=7)
        row = engine.step()
        assert row.ran == [[0, 16, 0], [1, 4, 12], [2, 2, 16]]
        assert row.hits == [(1, 12), (2, 16)]

    def test_cost_no_blocks_as_long_as_they_are_in_use(self, drive: New) -> None:
        engine = drive(enable_prefix_caching=True, blocks=6)
        engine.add(16, run=7)
        engine.add(18, run=7)
        assert engine.step().admitted == [0, 1]
        assert engine.free == 6 - 4 - 1

    def test_cost_their_blocks_when_nobody_uses_them(self, drive: New) -> None:
        engine = drive(enable_prefix_caching=True, blocks=6)
        engine.add(16, output=1, run=7)
        engine.step()
        assert engine.free == 6
        engine.add(12, run=8)
        engine.add(
            18, run=7
        )  # 4 cached and 1 new, of the 3 that are left: two cached ones are evicted by then
        assert engine.step().admitted == [1]

    def test_take_less_of_the_budget(self, drive: New) -> None:
        engine = drive(enable_prefix_caching=True, max_num_batched_tokens=16)
        engine.add(16, output=1, run=7)
        engine.step()
        engine.add(20, run=7)
        engine.add(20, run=8)
        assert engine.step().ran == [[1, 4, 16], [2, 12, 0]]


class TestAsynchronous:
    def test_the_last_token_is_foreseen_so_that_no_step_is_wasted(self, drive: New) -> None:
        engine = drive(async_scheduling=True)
        engine.add(4, output=2)
        rows = [engine.step() for _ in range(3)]
        assert [row.ran for row in rows] == [[[0, 4, 0]], [[0, 1, 4]], []]
        assert [row.finished for row in rows] == [[], [], [0]]

    def test_a_slot_is_free_one_schedule_later(self, drive: New) -> None:
        for asynchronous, expected in ((False, [[0], [], [1]]), (True, [[0], [], [], [1]])):
            engine = drive(async_scheduling=asynchronous, max_num_seqs=1)
            engine.add(4, output=2)
            engine.add(4, output=2)
            assert [engine.step().admitted for _ in expected] == expected

    def test_blocks_are_free_one_schedule_later(self, drive: New) -> None:
        for asynchronous, expected in ((False, [[0], [], [1]]), (True, [[0], [], [], [1]])):
            engine = drive(async_scheduling=asynchronous, blocks=5)
            engine.add(12, output=2)
            engine.add(12, output=2)
            assert [engine.step().admitted for _ in expected] == expected
