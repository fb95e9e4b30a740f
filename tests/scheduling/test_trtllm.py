"""TensorRT-LLM's two capacity schedulers, worked out by hand. Blocks hold 4 tokens."""

from __future__ import annotations

from functools import partial

import pytest
from story import Story

from tokensim.errors import InputError
from tokensim.scheduling.local import Limits, TensorRtLlm

New = partial[Story]


class TestGuaranteedNoEvict:
    def test_a_request_is_admitted_only_if_everybody_can_come_to_an_end(self, story: New) -> None:
        engine = story("trtllm", blocks=10)
        engine.add(4, 20)  # 6 blocks in the end
        engine.add(4, 13)  # 5 blocks in the end: its prompt would fit now
        engine.add(4, 1)
        assert engine.step() == "| 0:4"
        assert engine.free == 9
        assert engine.steps(19)[-1] == "0 !0"
        assert engine.step() == "| 1:4 2:4 !2"

    def test_nobody_is_ever_paused(self, story: New) -> None:
        engine = story("trtllm", blocks=10)
        requests = [engine.add(4, 16) for _ in range(4)]
        engine.steps(40)
        assert all(request.finished and not request.preemptions for request in requests)

    def test_contexts_run_whole_beside_generations_within_the_budget(self, story: New) -> None:
        engine = story("trtllm", max_num_batched_tokens=10)
        engine.add(6, 3)
        engine.add(9, 2)
        engine.add(1, 2)
        assert engine.steps(4) == ["| 0:6", "0 | 1:9", "0 1 | 2:1 !0 !1", "2 !2"]

    def test_what_a_request_was_promised_comes_back_with_it(self, story: New) -> None:
        engine = story("trtllm", blocks=10)
        request = engine.add(4, 30)
        engine.steps(2)
        engine.add(4, 30)
        assert engine.step() == "0"
        engine.scheduler.remove(request)
        assert engine.step() == "| 1:4"


class TestMaxUtilization:
    def evicting(self, story: New, blocks: int) -> Story:
        return story("trtllm", blocks=blocks, options={"capacity": "max_utilization"})

    def test_a_request_is_admitted_when_its_prompt_fits(self, story: New) -> None:
        engine = self.evicting(story, 10)
        for _ in range(3):
            engine.add(4, 20)
        assert engine.step() == "| 0:4 1:4 2:4"

    def test_the_last_one_pauses_when_two_steps_do_not_fit(self, story: New) -> None:
        engine = self.evicting(story, 3)
        engine.add(4, 5)
        engine.add(3, 4)
        assert engine.step() == "| 0:4 1:3"
        # 0 needs the third block now; 1 fills its own now and needs one in the next step: there is none.
        assert engine.step() == "0 -1"
        # One block is free for its four tokens; the next token has none, and then the five need two.
        assert engine.steps(4) == ["0 | 1:4", "0 -1", "0 !0", "| 1:5"]

    def test_a_prompt_leaves_the_blocks_of_the_next_step(self, story: New) -> None:
        engine = self.evicting(story, 3)
        engine.add(7, 4)
        assert engine.step() == "| 0:7"
        engine.add(4, 1)
        # The 8th token fits into the second block, the 9th, of the next step, needs the third.
        assert engine.steps(3) == ["0", "0", "0 !0"]
        assert engine.step() == "| 1:4 !1"

    def test_one_that_finishes_needs_no_block_for_a_next_step(self, story: New) -> None:
        engine = self.evicting(story, 3)
        engine.add(7, 2)
        assert engine.step() == "| 0:7"
        engine.add(4, 1)
        assert engine.step() == "0 | 1:4 !0 !1"

    def test_a_run_ends_one_step_before_memory_does(self) -> None:
        engine = Story("trtllm", exact_steps=False, blocks=3, options={"capacity": "max_utilization"})
        engine.add(4, 30)
        engine.steps(2)  # 5 tokens; the 13th has no block, and the step of the 12th looks ahead to it
        assert engine.scheduler.run_length(engine.last) == 7


def test_an_unknown_capacity_scheduler_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'max_utilization'"):
        TensorRtLlm(Limits(10), capacity="max_utilisation")
