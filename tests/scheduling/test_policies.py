"""Policies of a user's own: another order, another victim, a horizon; and some that make no sense."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pytest
from drive import Drive

from tokensim.errors import SimulationError
from tokensim.registry import register
from tokensim.scheduling.local import ContinuousBatching, Request, Vllm

New = partial[Drive]


class ShortestFirst(ContinuousBatching):
    def admission_order(self, waiting: list[Request]) -> Iterable[Request]:
        return sorted(waiting, key=lambda request: request.input_tokens)


class OldestGivesWay(ContinuousBatching):
    def victim(self, running: list[Request]) -> Request:
        return running[0]


class AskMeEvery(ContinuousBatching):
    steps = 4

    def horizon(self) -> int:
        return self.steps


def test_the_built_in_policy_is_registered_and_takes_the_same_decisions_as_its_base(drive: New) -> None:
    assert register.local_scheduler.get("vllm") is Vllm
    runs = []
    for policy in (Vllm, ContinuousBatching):
        engine = drive(policy=policy, blocks=12)
        for _ in range(3):
            engine.add(16, output=5)
        runs.append([engine.step() for _ in range(12)])
    assert runs[0] == runs[1]


def test_shortest_first_admits_the_shortest(drive: New) -> None:
    engine = drive(policy=ShortestFirst, max_num_seqs=1)
    for prompt in (9, 3, 6):
        engine.add(prompt, output=1)
    assert [engine.step().admitted for _ in range(3)] == [[1], [2], [0]]


def test_an_arrival_goes_to_where_the_order_puts_it(drive: New) -> None:
    engine = drive(policy=ShortestFirst, max_num_seqs=1)
    engine.add(9, output=2)
    engine.add(6, output=1)
    assert engine.step().admitted == [1]
    engine.add(3, output=1)
    assert [engine.step().admitted for _ in range(2)] == [[2], [0]]


def test_another_victim_is_preempted(drive: New) -> None:
    engine = drive(policy=OldestGivesWay, blocks=12)
    for _ in range(3):
        engine.add(16)
    engine.step()
    row = engine.step()
    assert row.preempted == [0]  # by itself: memory lacks when the first one is served
    assert engine.waiting == [0]


@pytest.mark.parametrize(("horizon", "steps"), [(4, 4), (1, 1), (0, 1), (-5, 1), (10**9, 18)])
def test_a_run_of_steps_ends_at_the_horizon_and_has_one_step_at_least(horizon: int, steps: int) -> None:
    class Mine(AskMeEvery):
        pass

    Mine.steps = horizon
    engine = Drive(exact_steps=False, policy=Mine)
    engine.add(4, output=20)
    engine.steps(2)  # the prefill, then the first of 19 decodes: 18 equal steps follow one another after it
    engine.step()
    assert engine.scheduler.run_length(engine.last) == steps


def test_a_run_of_steps_ends_where_memory_does() -> None:
    engine = Drive(exact_steps=False, blocks=3)
    engine.add(4, output=50)
    engine.steps(2)  # 5 tokens in 2 blocks: 7 more fit, and the one that this step has computed
    assert engine.scheduler.run_length(engine.last) == 8


def test_a_walked_scheduler_is_asked_at_every_step() -> None:
    engine = Drive(exact_steps=True)
    engine.add(4, output=20)
    engine.steps(2)
    assert engine.scheduler.run_length(engine.last) == 1


def test_a_run_is_the_same_as_its_steps() -> None:
    """``advance`` by the length of a run leads to where single steps lead."""
    one, other = Drive(exact_steps=False), Drive(exact_steps=False)
    for engine in (one, other):
        engine.add(4, output=20)
        engine.add(7, output=12)
        engine.steps(2)
    length = one.scheduler.run_length(one.last)
    assert length == 11
    one.scheduler.advance(length - 1)
    other.steps(length - 1)
    done = one.scheduler.update(one.scheduler.index)
    assert [r.index for r in done] == [1]
    assert one.free == other.free
    assert one.step() == other.step()


class TestNonsense:
    def test_an_order_that_loses_requests_is_told_so(self, drive: New) -> None:
        class Forgetful(ContinuousBatching):
            def admission_order(self, waiting: list[Request]) -> Iterable[Request]:
                return waiting[1:]

        engine = drive(policy=Forgetful)
        engine.add(4)
        with pytest.raises(
            SimulationError, match="admission_order must return the waiting requests, each once"
        ):
            engine.step()

    def test_a_victim_that_does_not_run_is_told_so(self, drive: New) -> None:
        class Confused(ContinuousBatching):
            def victim(self, running: list[Request]) -> Request:
                return Request(99, 0.0, 1, 1, 2)

        engine = drive(policy=Confused, blocks=9)
        engine.add(16)
        engine.add(16)
        engine.step()
        with pytest.raises(SimulationError, match="victim must return one of the running requests"):
            engine.step()
