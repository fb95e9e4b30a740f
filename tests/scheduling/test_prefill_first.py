"""vLLM V0: prompts first; whoever finds no block is recomputed or swapped. Blocks hold 4 tokens."""

from __future__ import annotations

from functools import partial

import pytest
from story import Story

from tokensim.errors import InputError
from tokensim.scheduling.local import Limits, VllmV0

New = partial[Story]


def test_decodes_sit_out_while_prompts_run(story: New) -> None:
    engine = story("vllm-v0")
    engine.add(4, 3)
    assert engine.step() == "| 0:4"
    assert engine.step() == "0"
    engine.add(8, 2)
    assert engine.step() == "| 1:8"
    assert engine.last.paused == 1
    assert engine.step() == "0 1 !0 !1"


def test_prompts_are_not_cut_and_share_the_budget(story: New) -> None:
    engine = story("vllm-v0", max_num_batched_tokens=10)
    for prompt in (6, 5, 5):
        engine.add(prompt, 2)
    assert engine.steps(3) == ["| 0:6", "| 1:5 2:5", "0 1 2 !0 !1 !2"]


def test_the_watermark_stays_free_unless_nothing_runs(story: New) -> None:
    engine = story("vllm-v0", blocks=10, options={"watermark": 0.2})
    engine.add(32, 3)  # 8 of 10 blocks, leaving 2
    engine.add(1, 1)
    assert engine.steps(3) == ["| 0:32", "0", "0 !0"]
    engine.add(36, 1)
    assert engine.steps(2) == ["| 1:1 !1", "| 2:36 !2"]


def test_a_decode_must_find_a_free_block_even_if_it_needs_none(story: New) -> None:
    engine = story("vllm-v0", blocks=4, options={"watermark": 0.0})
    engine.add(6, 4)  # two blocks, with room for two more tokens
    engine.add(7, 4)
    assert engine.step() == "| 0:6 1:7"
    assert engine.step() == "0 -1"  # nothing is free: the last one admitted goes
    assert engine.waiting == [1]
    assert engine.step() == "| 1:8"  # its prompt, and the one token that it has given
    assert engine.step() == "0 -1"
    assert engine.steps(3) == ["0 !0", "| 1:9", "1 !1"]


def test_prompts_and_one_token_more_come_back_first(story: New) -> None:
    engine = story("vllm-v0", blocks=5, options={"watermark": 0.0})
    engine.add(8, 5)
    engine.add(8, 3)
    assert engine.step() == "| 0:8 1:8"
    assert engine.step() == "0 -1"  # request 0 takes the fifth block
    engine.add(1, 1)
    assert engine.waiting == [1, 2]
    assert engine.steps(4) == ["0", "0", "0 !0", "| 1:9 2:1 !2"]


class TestSwapping:
    def swapping(self, story: New, host: int = 10, s_per_block: float = 0.5, blocks: int = 5) -> Story:
        return story(
            "vllm-v0",
            blocks=blocks,
            options={"watermark": 0.0},
            swap_blocks=host,
            swap_s_per_block=s_per_block,
        )

    def test_it_goes_on_where_it_was_as_soon_as_there_is_room(self, story: New) -> None:
        engine = self.swapping(story)
        engine.add(8, 5)
        swapped = engine.add(8, 3)
        assert engine.step() == "| 0:8 1:8"
        assert engine.step() == "0 -1"
        assert engine.last.stall_s == 1.0  # two blocks out
        assert (engine.waiting, engine.scheduler.host_free) == ([1], 8)
        assert engine.steps(3) == ["0", "0", "0 !0"]
        assert engine.step() == "1"  # its second token, after three blocks were taken for two that come back
        assert engine.last.stall_s == 1.0
        assert engine.last.came_back == [swapped]
        assert engine.last.context == 9
        assert (engine.free, engine.scheduler.host_free) == (2, 10)
        assert engine.step() == "1 !1"
        assert (swapped.preemptions, swapped.recomputed_tokens) == (1, 0)

    def test_prompts_wait_until_all_are_back(self, story: New) -> None:
        engine = self.swapping(story)
        engine.add(8, 5)
        engine.add(8, 3)
        engine.steps(2)
        engine.add(1, 1)  # would fit
        assert engine.steps(3) == ["0", "0", "0 !0"]
        assert engine.steps(3) == ["1", "| 2:1 !2", "1 !1"]

    def test_it_is_recomputed_when_the_host_is_full(self, story: New) -> None:
        engine = self.swapping(story, host=1)
        engine.add(8, 5)
        engine.add(8, 3)
        assert engine.steps(2) == ["| 0:8 1:8", "0 -1"]
        assert engine.last.stall_s == 0.0
        assert engine.steps(4)[-1] == "| 1:9"

    def test_who_is_taken_out_while_swapped_frees_the_host(self, story: New) -> None:
        engine = self.swapping(story)
        engine.add(8, 5)
        swapped = engine.add(8, 3)
        engine.steps(2)
        engine.scheduler.remove(swapped)
        assert (engine.waiting, engine.scheduler.host_free) == ([], 10)
        assert (swapped.tokens, swapped.computed) == (9, 0)
        assert engine.steps(3) == ["0", "0", "0 !0"]

    def test_the_prefix_cache_cannot_keep_swapped_blocks(self) -> None:
        with pytest.raises(InputError, match="swapped blocks are not kept"):
            VllmV0(Limits(10, swap_blocks=5))


def test_a_run_ends_before_the_last_block_is_taken() -> None:
    engine = Story("vllm-v0", exact_steps=False, blocks=3, options={"watermark": 0.0})
    engine.add(4, 30)
    engine.steps(2)  # 5 tokens in 2 blocks, 1 free: 3 more fit, then the next takes the last one
    assert engine.scheduler.run_length(engine.last) == 4


@pytest.mark.parametrize("watermark", [-0.1, 1.0])
def test_a_watermark_is_a_share(watermark: float) -> None:
    with pytest.raises(InputError, match="is no share"):
        VllmV0(Limits(10, enable_prefix_caching=False), watermark=watermark)
