"""The parts of SGLang's policy that are arithmetic: ratio, remaining outputs, options."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensim.errors import InputError
from tokensim.scheduling.local.sglang.options import Options
from tokensim.scheduling.local.sglang.ratio import NewTokenRatio
from tokensim.scheduling.local.sglang.remaining import Remaining


def test_the_ratio_falls_by_a_constant_to_its_floor() -> None:
    ratio = NewTokenRatio(Options(new_token_ratio_decay_steps=2))
    values = [ratio.value]
    for _ in range(4):
        ratio.fall()
        values.append(ratio.value)
    assert values == pytest.approx([0.7, 0.399, 0.098, 0.098, 0.098])


@given(st.floats(0.01, 3), st.floats(0, 1), st.lists(st.integers(0, 700), max_size=6), st.integers(0, 10**6))
def test_the_ratio_after_many_steps_is_that_of_repeated_subtraction(
    conservativeness: float, factor: float, falls: list[int], seed: int
) -> None:
    rng = random.Random(seed)
    options = Options(schedule_conservativeness=conservativeness, min_new_token_ratio_factor=factor)
    ratio = NewTokenRatio(options)
    value = ratio.initial
    for steps in falls:
        if rng.random() < 0.3:
            value = rng.choice([ratio.initial, rng.random(), 0.0])
            if value == ratio.initial:
                ratio.reset()
            else:
                ratio.retracted(value)
        ratio.fall(steps)
        for _ in range(steps):
            value = max(value - ratio.decay, ratio.least)
        assert ratio.value == value


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_the_remaining_outputs_are_the_clipped_sum(clip: int, seed: int) -> None:
    rng = random.Random(seed)
    remaining, rows, k = Remaining(clip), [], 0
    for _ in range(60):
        if rng.random() < 0.5:
            rows.append(k + rng.randrange(1, 60))
            remaining.add(rows[-1])
        elif rows and rng.random() < 0.5:
            remaining.remove(rows.pop(rng.randrange(len(rows))))
        k += rng.choice([0, 1, 5])
        assert remaining.sum_at(k) == sum(min(total - k, clip) for total in rows)


@pytest.mark.parametrize(
    ("options", "where", "says", "hint"),
    [
        ({"schedule_polcy": "lpm"}, "schedule_polcy", "no option", "schedule_policy"),
        ({"page_size": 16}, "page_size", "general option", "engine.block_size"),
        ({"schedule_policy": "lmp"}, "schedule_policy", "'lmp'", "lpm"),
        ({"enable_mixed_chunk": 1}, "enable_mixed_chunk", "is 1", "true or false"),
        ({"prefill_max_requests": 0}, "prefill_max_requests", "is 0", "at least 1"),
        ({"max_prefill_tokens": "8k"}, "max_prefill_tokens", "'8k'", "a whole number"),
        ({"max_prefill_tokens": None}, "max_prefill_tokens", "None", "a whole number"),
        ({"schedule_conservativeness": -1.0}, "schedule_conservativeness", "-1.0", "at least 0"),
        ({"max_new_tokens_factor": 0.5}, "max_new_tokens_factor", "0.5", "at least 1"),
        ({"max_new_tokens": 5, "ignore_eos": True}, "ignore_eos", "length", "ignore_eos: false"),
        (
            {"max_new_tokens": 5, "max_new_tokens_factor": 2.0},
            "max_new_tokens_factor",
            "together",
            "leave out",
        ),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], where: str, says: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        Options.of(options)
    assert error.value.where == f"policy_options.{where}"
    assert says in error.value.message and hint in str(error.value.hint)


def test_requests_run_to_the_end_only_if_they_declare_what_they_produce() -> None:
    assert Options().runs_to_the_end
    assert not Options(max_new_tokens=100).runs_to_the_end
    assert not Options(max_new_tokens_factor=2.0).runs_to_the_end
    assert not Options(ignore_eos=False).runs_to_the_end
