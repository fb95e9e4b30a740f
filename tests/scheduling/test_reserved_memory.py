"""Static batching and Orca: schedules worked out by hand. Blocks hold 4 tokens."""

from __future__ import annotations

from functools import partial

import pytest
from story import Story

from tokensim.errors import InputError, SimulationError
from tokensim.scheduling.local import Limits, Orca

New = partial[Story]


class TestStatic:
    def test_the_batch_runs_to_the_end_of_its_longest(self, story: New) -> None:
        engine = story("static", max_num_seqs=2)
        engine.add(4, 2)
        engine.add(8, 4)
        engine.add(4, 1)
        assert engine.steps(5) == ["| 0:4 1:8", "0 1 !0", "1", "1 !1", "| 2:4 !2"]

    def test_finished_rows_go_on_being_computed_and_keep_their_memory(self, story: New) -> None:
        engine = story("static")
        engine.add(4, 2)
        engine.add(8, 4)
        told = []
        for _ in range(4):
            engine.step()
            step = engine.last
            told.append((step.decode, step.idle, step.context, engine.free))
        # Two rows of 8 + 4 tokens are 6 blocks; contexts 5 and 9, 6 and 10, 7 and 11.
        assert told == [(0, 0, 0, 34), (2, 0, 14, 34), (2, 1, 16, 34), (2, 1, 18, 40)]

    def test_nobody_joins_a_batch_that_runs(self, story: New) -> None:
        engine = story("static")
        engine.add(4, 3)
        engine.step()
        engine.add(4, 1)
        assert engine.steps(3) == ["0", "0 !0", "| 1:4 !1"]

    def test_every_row_holds_the_longest_prompt_and_the_longest_answer(self, story: New) -> None:
        engine = story("static", blocks=10)
        engine.add(12, 1)
        engine.add(1, 4)  # two rows of 12 + 4 tokens: 8 blocks
        engine.add(1, 1)  # a third would need 12
        assert engine.step() == "| 0:12 1:1 !0"
        assert engine.free == 2
        assert engine.waiting == [2]

    def test_the_prompts_of_a_batch_share_the_token_budget(self, story: New) -> None:
        engine = story("static", max_num_batched_tokens=10)
        for _ in range(3):
            engine.add(5, 1)
        assert engine.steps(2) == ["| 0:5 1:5 !0 !1", "| 2:5 !2"]

    def test_a_run_ends_where_a_row_falls_idle(self) -> None:
        engine = Story("static", exact_steps=False)
        engine.add(4, 6)
        engine.add(4, 11)
        engine.steps(2)
        assert engine.scheduler.run_length(engine.last) == 5
        engine.scheduler.advance(4)
        assert [r.index for r in engine.scheduler.update(engine.last.index + 4)] == [0]
        engine.step()
        assert (engine.last.idle, engine.scheduler.run_length(engine.last)) == (1, 5)

    def test_one_that_is_taken_out_leaves_an_idle_row(self, story: New) -> None:
        engine = story("static")
        first = engine.add(4, 5)
        engine.add(4, 3)
        engine.steps(2)
        engine.scheduler.remove(first)
        assert (first.tokens, first.computed, first.decoding) == (6, 0, False)
        assert engine.step() == "1 !1"
        assert engine.last.idle == 1
        assert engine.free == 40
        with pytest.raises(SimulationError, match="does not keep KV"):
            engine.scheduler.remove(first, keep=True)


class TestOrca:
    def test_requests_join_and_leave_at_every_iteration(self, story: New) -> None:
        engine = story("orca", max_num_seqs=2)
        engine.add(4, 2)
        engine.add(8, 4)
        engine.add(4, 2)
        assert engine.steps(5) == ["| 0:4 1:8", "0 1 !0", "1 | 2:4", "1 2 !1 !2", ""]

    def test_memory_is_reserved_to_the_end(self, story: New) -> None:
        engine = story("orca", blocks=10)
        engine.add(4, 20)  # 6 blocks
        engine.add(4, 20)
        engine.add(4, 1)  # would fit, but comes after
        assert engine.step() == "| 0:4"
        assert engine.free == 4
        assert engine.steps(19)[-1] == "0 !0"
        assert engine.step() == "| 1:4 2:4 !2"

    @pytest.mark.parametrize(("reserve", "blocks"), [("oracle", 3), ("pow2", 4), ("max", 10)])
    def test_what_is_reserved(self, story: New, reserve: str, blocks: int) -> None:
        engine = story("orca", options={"reserve": reserve}, max_model_len=40)
        engine.add(7, 5)  # 12 tokens; 7 + 8; 40
        engine.step()
        assert engine.free == 40 - blocks

    def test_a_prompt_waits_for_the_budget_whole(self, story: New) -> None:
        engine = story("orca", max_num_batched_tokens=10)
        engine.add(6, 2)
        engine.add(6, 2)
        assert engine.steps(3) == ["| 0:6", "0 | 1:6 !0", "1 !1"]

    def test_a_request_that_is_taken_out_frees_what_it_reserved(self, story: New) -> None:
        engine = story("orca")
        request, other = engine.add(4, 20), engine.add(4, 3)
        engine.steps(2)
        engine.scheduler.remove(request)
        assert engine.step() == "1 !1"
        assert engine.free == 40
        engine.scheduler.add(other)
        engine.scheduler.remove(other)
        assert engine.waiting == []

    def test_a_throttled_scheduler_admits_fewer(self, story: New) -> None:
        engine = story("orca")
        engine.scheduler.throttle(1)
        engine.add(4, 1)
        engine.add(4, 1)
        assert engine.step() == "| 0:4 !0"
        engine.scheduler.throttle(None)
        engine.add(4, 1)
        assert engine.step() == "| 1:4 2:4 !1 !2"

    def test_an_unknown_reserve_is_refused(self) -> None:
        with pytest.raises(InputError, match="did you mean 'oracle'"):
            Orca(Limits(10), reserve="oracel")
