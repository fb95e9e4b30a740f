"""Shortest job first, earliest deadline first, priority with preemption. Blocks hold 4 tokens."""

from __future__ import annotations

from functools import partial

import pytest
from story import Story

from tokensim.errors import InputError
from tokensim.scheduling.local import Limits, ShortestJobFirst

New = partial[Story]


class TestShortestJobFirst:
    def test_the_shortest_answer_is_admitted_first(self, story: New) -> None:
        engine = story("sjf", max_num_seqs=1)
        for prompt, output in ((1, 3), (9, 1), (2, 2)):
            engine.add(prompt, output)
        assert engine.steps(6) == ["| 1:9 !1", "| 2:2", "2 !2", "| 0:1", "0", "0 !0"]

    def test_the_prompt_may_be_part_of_the_job(self, story: New) -> None:
        engine = story("sjf", max_num_seqs=1, options={"count_prompt": True})
        for prompt, output in ((1, 3), (9, 1), (2, 1)):
            engine.add(prompt, output)
        assert engine.steps(5) == ["| 2:2 !2", "| 0:1", "0", "0 !0", "| 1:9 !1"]

    def test_predicted_lengths_may_be_wrong(self, story: New) -> None:
        engine = story("sjf", max_num_seqs=1, options={"lengths": "predicted"})
        engine.add(1, 1, predicted_tokens=9)
        engine.add(1, 2, predicted_tokens=5)
        assert engine.steps(3) == ["| 1:1", "1 !1", "| 0:1 !0"]

    def test_without_predictions_it_says_so(self, story: New) -> None:
        engine = story("sjf", options={"lengths": "predicted"})
        with pytest.raises(InputError, match="request 0 has no predicted length"):
            engine.add(1, 1)

    def test_a_shorter_one_pushes_out_a_longer_one_if_told_so(self, story: New) -> None:
        engine = story("sjf", max_num_seqs=1, options={"preemptive": True})
        engine.add(4, 5)
        engine.steps(2)
        engine.add(4, 5)
        assert engine.step() == "0"
        engine.add(4, 2)
        assert engine.steps(3) == ["| 2:4 -0", "2 !2", "| 0:7"]

    def test_unknown_lengths_are_refused(self) -> None:
        with pytest.raises(InputError, match="did you mean 'predicted'"):
            ShortestJobFirst(Limits(10), lengths="predict")


class TestEarliestDeadlineFirst:
    def test_who_is_due_first_is_admitted_first_and_who_is_not_due_last(self, story: New) -> None:
        engine = story("edf", max_num_seqs=1)
        engine.add(1, 1)
        engine.add(2, 1, deadline_s=9.0)
        engine.add(3, 1, deadline_s=4.0)
        assert engine.steps(3) == ["| 2:3 !2", "| 1:2 !1", "| 0:1 !0"]

    def test_nobody_is_pushed_out_unless_told_so(self, story: New) -> None:
        for preemptive, told in ((False, ["0", "0 !0"]), (True, ["| 1:4 -0 !1", "| 0:6"])):
            engine = story("edf", max_num_seqs=1, options={"preemptive": preemptive})
            engine.add(4, 4, deadline_s=50.0)
            engine.steps(2)
            engine.add(4, 1, deadline_s=10.0)
            assert engine.steps(2) == told


class TestPriority:
    def test_a_more_urgent_arrival_takes_the_place_of_the_least_urgent(self, story: New) -> None:
        engine = story("priority", max_num_seqs=2)
        engine.add(4, 9, priority=1)
        engine.add(4, 9, priority=2)
        assert engine.steps(2) == ["| 0:4 1:4", "0 1"]
        engine.add(4, 1, priority=0)
        assert engine.step() == "0 | 2:4 -1 !2"
        assert engine.step() == "0 | 1:6"  # its prompt and the two tokens that it has given

    def test_equals_wait(self, story: New) -> None:
        engine = story("priority", max_num_seqs=1)
        engine.add(4, 3, priority=1)
        engine.step()
        engine.add(4, 1, priority=1)
        assert engine.steps(3) == ["0", "0 !0", "| 1:4 !1"]

    def test_it_takes_as_many_as_its_memory_needs(self, story: New) -> None:
        engine = story("priority", blocks=8)
        for priority in (3, 2, 1):
            engine.add(7, 9, priority=priority)  # two blocks each
        assert engine.step() == "| 2:7 1:7 0:7"
        engine.add(16, 1, priority=0)  # four blocks; two are free
        assert engine.step() == "2 1 | 3:16 -0 !3"

    def test_nobody_more_urgent_is_pushed_out(self, story: New) -> None:
        engine = story("priority", blocks=8)
        engine.add(16, 3, priority=1)
        engine.step()
        engine.add(20, 1, priority=2)
        assert engine.steps(3) == ["0", "0 !0", "| 1:20 !1"]

    def test_who_gives_its_last_token_anyway_is_left_alone(self, story: New) -> None:
        engine = story("priority", max_num_seqs=1)
        engine.add(4, 2, priority=5)
        engine.step()
        engine.add(4, 1, priority=0)
        assert engine.steps(2) == ["0 !0", "| 1:4 !1"]

    def test_without_preemption_it_is_an_order_only(self, story: New) -> None:
        engine = story("priority", max_num_seqs=1, options={"preemptive": False})
        engine.add(4, 3, priority=5)
        engine.step()
        engine.add(4, 1, priority=3)
        engine.add(4, 1, priority=0)
        assert engine.steps(4) == ["0", "0 !0", "| 2:4 !2", "| 1:4 !1"]

    def test_memory_that_runs_out_is_taken_from_the_least_urgent(self, story: New) -> None:
        engine = story("priority", blocks=3)
        engine.add(4, 9, priority=1)
        engine.add(4, 9, priority=0)
        assert engine.steps(2) == ["| 1:4 0:4", "1 -0"]


def test_a_run_goes_on_when_nobody_can_be_pushed_out() -> None:
    engine = Story("priority", exact_steps=False, max_num_seqs=1)
    engine.add(4, 20, priority=0)
    engine.steps(2)
    assert not engine.scheduler.add(engine.add(4, 1, priority=1))
    engine.step()
    assert engine.scheduler.run_length(engine.last) == 18
