"""The virtual token counter, worked out by hand: a prompt token counts 1, a decoded one 2."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from story import Story

from tokensim.errors import InputError
from tokensim.scheduling.local import Fair, Limits

New = partial[Story]


def levels(engine: Story) -> dict[int, float]:
    """The counters of all tenants, rounded."""
    scheduler = engine.scheduler
    return {tenant: round(c.level(scheduler.index), 9) for tenant, c in scheduler.counters.items()}


def test_prompts_count_at_admission_and_decoded_tokens_in_every_step(story: New) -> None:
    engine = story("fair")
    engine.add(6, 4, tenant=0)
    engine.add(3, 2, tenant=1)
    engine.step()
    assert levels(engine) == {0: 6.0, 1: 3.0}
    engine.step()
    assert levels(engine) == {0: 8.0, 1: 5.0}  # tenant 1 is done
    engine.steps(2)
    assert levels(engine) == {0: 12.0, 1: 5.0}


def test_the_tenant_served_least_comes_next(story: New) -> None:
    engine = story("fair", max_num_seqs=1)
    for _ in range(3):
        engine.add(8, 1, tenant=0)
    engine.add(3, 1, tenant=1)
    engine.add(3, 1, tenant=1)
    engine.add(3, 1, tenant=1)
    engine.add(3, 1, tenant=1)
    # Counters: 8 and 0, then 3, 6, 9: now 0 is behind; 16: 1 catches up with 12.
    assert engine.steps(7) == [f"| {i}:{8 if i < 3 else 3} !{i}" for i in (0, 3, 4, 5, 1, 6, 2)]


def test_who_comes_back_cannot_have_saved_up(story: New) -> None:
    engine = story("fair", max_num_seqs=1)
    engine.add(4, 1, tenant=1)
    engine.step()  # tenant 1 has 4
    for _ in range(4):
        engine.add(10, 1, tenant=0)
    engine.steps(2)
    assert levels(engine) == {0: 24.0, 1: 4.0}  # 0 was lifted to 4 first, to that of who waited last
    engine.add(4, 1, tenant=1)
    engine.add(4, 1, tenant=1)
    # 1 is lifted to 24. The two are equal then: who waits for longer goes first, then 28 stands against 34.
    assert engine.steps(4) == ["| 3:10 !3", "| 5:4 !5", "| 6:4 !6", "| 4:10 !4"]
    assert levels(engine) == {0: 44.0, 1: 32.0}


def test_shares_weigh(story: New) -> None:
    engine = story("fair", max_num_seqs=1, options={"weights": {0: 2.0}})
    for tenant in (0, 0, 0, 1, 1):
        engine.add(4, 1, tenant=tenant)
    # 0 pays half: 2 against 0, 2 against 4, 4 against 4, 6 against 4.
    assert [line[2] for line in engine.steps(5)] == ["0", "3", "1", "2", "4"]


def test_a_preempted_prompt_counts_once(story: New) -> None:
    engine = story("fair", blocks=3)
    engine.add(4, 4, tenant=0)
    request = engine.add(4, 4, tenant=1)
    engine.steps(10)
    assert request.preemptions == 1
    assert levels(engine) == {0: 4 + 2 * 3, 1: 4 + 2 * 2}  # one token of it came with the second prefill


def test_a_run_ends_where_another_tenant_falls_behind() -> None:
    engine = Story("fair", exact_steps=False, blocks=10)
    engine.add(4, 30, tenant=0)
    engine.step()  # tenant 0 has 4
    engine.add(1, 1, tenant=1)
    engine.add(37, 1, tenant=0)  # too long for the memory that is left
    assert engine.step() == "0 | 1:1 !1"
    engine.add(37, 1, tenant=1)  # so is this; tenant 1 is lifted to 6, where tenant 0 is
    engine.step()
    assert engine.waiting == [2, 3]
    assert engine.scheduler.run_length(engine.last) == 1  # 2 was tried, but now tenant 0 is ahead by 2
    engine.step()
    assert engine.scheduler.waiting.head().index == 3
    assert engine.scheduler.run_length(engine.last) == 27  # as it decodes, it stays ahead


def test_a_run_ends_before_the_lines_cross() -> None:
    engine = Story("fair", exact_steps=False, blocks=20)
    for _ in range(2):
        engine.add(4, 30, tenant=0)
    engine.add(20, 30, tenant=1)
    engine.step()  # 8 and 20; 2 decode for 0, 1 for 1
    engine.add(60, 1, tenant=0)
    engine.add(61, 1, tenant=1)
    engine.step()
    assert engine.scheduler.waiting.least() == 0
    assert levels(engine) == {0: 12.0, 1: 22.0}
    # 10 apart, and 2 a step closer: equal after five more.
    assert engine.scheduler.horizon() == 5


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"input_weight": 0.0}, "policy_options.input_weight"),
        ({"output_weight": -1.0}, "policy_options.output_weight"),
        ({"weights": {3: 0.0}}, "policy_options.weights.3"),
    ],
)
def test_weights_are_positive(options: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as error:
        Fair(Limits(10), **options)
    assert error.value.where == where
