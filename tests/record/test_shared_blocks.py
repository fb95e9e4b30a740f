"""What prompts share, as ids of blocks: whatever lengths the server counts, what is shared stays shared."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokensim.record.blocks import CLOSE, fitted, hash_ids, shares
from tokensim.workload.base import Segments, Workload

ANSWER = 1000
"""The answer to request k is run ``ANSWER + k``."""


def workload(prompts: list[list[tuple[int, int]]], answers: list[int]) -> Workload:
    """Requests whose prompts are these runs (an id, its planned tokens), and the planned tokens of their
    answers."""
    flat = np.array([run for prompt in prompts for run in prompt]).reshape(-1, 2)
    return Workload(
        np.zeros(len(prompts)),
        np.array([sum(tokens for _, tokens in prompt) for prompt in prompts]),
        np.array(answers),
        segments=Segments(
            np.cumsum([0, *map(len, prompts)]),
            flat[:, 0].copy(),
            flat[:, 1].copy(),
            ANSWER + np.arange(len(prompts)),
        ),
    )


def conversation(news: list[int], answers: list[int], system: int) -> Workload:
    """Rounds that each hold all before them and ``news`` tokens more, behind a system prompt (run 0)."""
    prompt, prompts = [(0, system)], []
    for number, (new, answer) in enumerate(zip(news, answers, strict=True)):
        prompt = [*prompt, (number + 1, new)]
        prompts.append(prompt)
        prompt = [*prompt, (ANSWER + number, answer)]
    return workload(prompts, answers)


def common(one: list[int], other: list[int]) -> int:
    """How many ids both begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def test_equal_beginnings_have_equal_ids_of_blocks() -> None:
    first, other = [(0, 12), (1, 8)], [(0, 12), (3, 8)]
    load = workload([first, [*first, (ANSWER, 10), (2, 15)], other], [10, 5, 5])
    assert shares(load)
    ids = hash_ids(load, [0, 1, 2], [20, 45, 20], {0: 10, 1: 5, 2: 5}, block=4)
    assert [len(own) for own in ids] == [5, 11, 5]
    assert ids[1][:5] == ids[0]
    assert ids[2][:3] == ids[0][:3] and ids[2][3] != ids[0][3]
    assert not shares(replace(load, segments=None))


def test_a_run_has_in_every_prompt_the_length_that_it_had_in_the_first() -> None:
    """Words are half as many tokens again as planned; each prompt by itself would be stretched otherwise."""
    seen: dict[int, tuple[int, int]] = {}
    assert fitted([(0, 100), (1, 20)], 180, {}, seen) == [(0, 150), (1, 30)]
    assert fitted([(0, 100), (2, 40)], 200, {}, seen) == [(0, 150), (2, 50)]
    third = fitted([(0, 100), (1, 20), (9, 10), (3, 20)], 230, {9: 12}, seen)
    assert third == [(0, 150), (1, 30), (9, 12), (3, 38)]
    assert fitted([(0, 50), (4, 10)], 90, {}, seen) == [(0, 75), (4, 15)]  # a part of a run is its beginning


def test_what_does_not_add_up_is_cut_off_or_put_at_the_end() -> None:
    seen = {0: (150, 100)}
    assert fitted([(0, 100), (1, 20)], 140, {}, seen) == [(0, 140)]
    assert fitted([(0, 100)], 160, {}, seen) == [(0, 160)]
    assert seen == {0: (150, 100)}


def test_a_few_tokens_that_nobody_planned_stand_at_the_end() -> None:
    seen: dict[int, tuple[int, int]] = {}
    assert fitted([(0, 100), (1, 20)], 120 + CLOSE, {}, seen) == [(0, 100), (1, 20 + CLOSE)]
    assert fitted([(0, 100), (2, 2)], 102 - CLOSE, {}, {0: (90, 100)}) == [(0, 90), (2, 4)]


ROUNDS = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100), st.integers(1, 100)),
    min_size=1,
    max_size=6,
)
"""Of each round: what is new in its prompt, planned and counted; its answer, planned and as it came."""


@given(ROUNDS, st.integers(1, 500), st.integers(1, 900), st.sampled_from([1, 4, 16]))
@example([(6, 1, 1, 1), (1, 1, 1, 1)], 2, 1, 1)  # nothing is left of a run in the first prompt
def test_rounds_of_a_session_share_what_they_hold_of_each_other(
    rounds: list[tuple[int, int, int, int]], system: int, counted: int, block: int
) -> None:
    load = conversation([new for new, *_ in rounds], [answer for _, _, answer, _ in rounds], system)
    lengths, length = [], counted
    for _, new, _, answer in rounds:
        lengths.append(length + new)
        length += new + answer
    came = {row: answer for row, (*_, answer) in enumerate(rounds)}
    ids = hash_ids(load, range(len(rounds)), lengths, came, block)
    assert [len(own) for own in ids] == [tokens // block for tokens in lengths]
    for before, after in itertools.pairwise(ids):
        assert after[: len(before)] == before


@given(
    st.integers(20, 400),
    st.lists(st.tuples(st.integers(8, 200), st.integers(8, 200)), min_size=2, max_size=6),
    st.floats(0.5, 2.0),
)
def test_prompts_with_one_beginning_share_it_and_no_more(
    system: int, own: list[tuple[int, int]], stretch: float
) -> None:
    load = workload([[(0, system), (k + 1, new)] for k, (new, _) in enumerate(own)], [1] * len(own))
    first = round(stretch * (system + own[0][0]))
    shared = fitted([(0, system), (1, own[0][0])], first, {}, {})[0][1]
    lengths = [first, *(shared + counted for _, counted in own[1:])]
    ids = hash_ids(load, range(len(own)), lengths, {}, block=4)
    for one, other in itertools.combinations(ids, 2):
        assert common(one, other) == shared // 4


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=6),
    st.integers(1, 2000),
    st.dictionaries(st.integers(0, 5), st.tuples(st.integers(1, 500), st.integers(1, 300))),
    st.dictionaries(st.integers(0, 5), st.integers(0, 400)),
)
def test_runs_are_fitted_to_the_length_that_was_served(
    sizes: list[int], length: int, seen: dict[int, tuple[int, int]], came: dict[int, int]
) -> None:
    runs = fitted(list(enumerate(sizes)), length, came, seen)
    assert sum(tokens for _, tokens in runs) == length
    assert [run for run, _ in runs] == sorted(run for run, _ in runs)
    assert all(tokens > 0 for _, tokens in runs)


@pytest.mark.parametrize("came", [{0: 40}, {0: 24}])
def test_an_answer_is_as_long_as_it_came_not_as_it_was_asked_for(came: dict[int, int]) -> None:
    held = [(1, 32), (ANSWER, 40)]
    load = workload([held[:1], [*held, (2, 16)], [*held, (3, 64)]], [40, 1, 1])
    end = 32 + came[0]
    ids = hash_ids(load, [0, 1, 2], [32, end + 16, end + 64], came, block=8)
    assert common(ids[1], ids[2]) == end // 8
