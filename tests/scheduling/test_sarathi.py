"""Sarathi-Serve: decodes first, then chunks within the token budget. Blocks hold 4 tokens."""

from __future__ import annotations

from functools import partial

from story import Story

New = partial[Story]


def test_chunks_fill_what_the_decodes_leave_of_the_budget(story: New) -> None:
    engine = story("sarathi", max_num_batched_tokens=10)
    engine.add(4, 5)
    assert engine.step() == "| 0:4"
    engine.add(20, 2)
    engine.add(3, 2)
    assert engine.steps(4) == ["0 | 1:9", "0 | 1:9", "0 | 1:2 2:3", "0 1 2 !0 !1 !2"]


def test_a_prompt_gets_all_its_blocks_when_it_is_admitted(story: New) -> None:
    engine = story("sarathi", max_num_batched_tokens=8)
    engine.add(24, 2)
    engine.step()
    assert engine.free == 34


def test_the_watermark_stays_free(story: New) -> None:
    engine = story("sarathi", blocks=10, options={"watermark": 0.3})
    engine.add(8, 4)
    engine.add(24, 1)  # 6 of the 8 blocks that are left, but 3 must stay
    assert engine.steps(4) == ["| 0:8", "0", "0", "0 !0"]
    assert engine.step() == "| 1:24 !1"


def test_who_arrived_last_gives_way_and_admission_goes_on(story: New) -> None:
    engine = story("sarathi", blocks=6, options={"watermark": 0.0})
    engine.add(8, 5)
    engine.add(7, 5)
    engine.add(7, 2)
    assert engine.step() == "| 0:8 1:7 2:7"
    # Nothing is free: 2 goes, 0 takes one of its blocks, and 1 finds the other, which it does not need. Then
    # 2 would need two blocks and finds one.
    assert engine.step() == "0 1 -2"
    assert engine.step() == "0 1"
    # Again nothing is free: 1 loses three blocks, and gets them back at once for its 10 tokens.
    assert engine.step() == "0 | 1:10 -1"
    assert engine.steps(2) == ["0 | 1:11 -1 !0 !1", "| 2:8 !2"]


def test_a_prefill_under_way_may_be_preempted(story: New) -> None:
    engine = story("sarathi", blocks=7, max_num_batched_tokens=8, options={"watermark": 0.0})
    engine.add(8, 4)
    engine.step()
    request = engine.add(16, 1)  # takes the last four blocks
    assert engine.step() == "0 | 1:7"
    assert engine.free == 0
    assert engine.step() == "0 | 1:7 -1"  # it starts anew
    assert (request.preemptions, request.lost_tokens) == (1, 7)


def test_a_run_of_decodes_ends_where_a_free_block_may_lack() -> None:
    engine = Story("sarathi", exact_steps=False, blocks=3, options={"watermark": 0.0})
    engine.add(4, 30)
    engine.steps(2)
    assert engine.scheduler.run_length(engine.last) == 4
