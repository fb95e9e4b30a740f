"""The times of a full pipeline: many rounds at once equal one step after the other."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensim.engine.pace import LEAST_ROUNDS, Pace


def draw(rng: random.Random) -> dict[str, Any]:
    stages, asynchronous = rng.choice([2, 3, 4, 7]), rng.random() < 0.5
    growth = rng.choice([0.0, 1e-5, 1e-3])
    queue = stages + asynchronous
    ends = sorted(rng.uniform(0, stages) for _ in range(queue))
    return {
        "durations": [
            [(rng.uniform(0.2, 2.0), rng.uniform(0, growth)) for _ in range(stages)] for _ in range(stages)
        ],
        "sends_s": [[*(rng.choice([0.0, 0.1]) for _ in range(stages - 1)), 0.0] for _ in range(stages)],
        "busy_s": [rng.choice([0.0, 0.05, 1.0]) for _ in range(stages)],
        "now": ends[0],
        "ends_s": ends,
        "free_s": sorted(rng.uniform(0, ends[-1]) for _ in range(stages)),
        "host_s": 0.0,
        "token_s": rng.choice([0.0, 0.01]) if asynchronous else None,
    }


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_rounds_at_once_equal_step_after_step(seed: int) -> None:
    rng = random.Random(seed)
    given, steps = draw(rng), rng.randrange(1, 1500)
    walked, leapt = Pace(**given), Pace(**given)
    walked.walk(steps)
    leapt.run(steps)
    for name in ("due_s", "host_s", "starts_s", "lasts_s", "ends_s"):
        one, other = getattr(walked, name), getattr(leapt, name)
        assert len(one) == len(other)
        np.testing.assert_allclose(one, other, rtol=1e-12, err_msg=name)


def test_most_steady_pipelines_are_taken_many_rounds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = 0
    walk = Pace.walk

    def count(self: Pace, steps: int) -> None:
        nonlocal walked
        walked += steps
        walk(self, steps)

    monkeypatch.setattr(Pace, "walk", count)
    for seed in range(40):
        Pace(**draw(random.Random(seed))).run(20 * LEAST_ROUNDS)
    assert walked < 0.5 * 40 * 20 * LEAST_ROUNDS


def test_the_pace_changes_where_another_stage_becomes_the_slowest() -> None:
    # One cohort, a queue of two: the first stage takes 2 s, the second 1 s and 0.01 s more in each round.
    pace = Pace(
        [[(2.0, 0.0), (1.0, 0.01)], [(2.0, 0.0), (1.0, 0.01)]],
        [[0.0, 0.0], [0.0, 0.0]],
        [0.0, 0.0],
        now=0.0,
        ends_s=[0.0, 1.0],
        free_s=[0.0, 1.0],
        host_s=0.0,
        token_s=None,
    )
    pace.run(400)
    between = np.diff(pace.ends_s[2:])
    assert between[:190] == pytest.approx(2.0, abs=0.02)  # rounds have two steps: 3 s from round 100 on
    assert between[300] == pytest.approx(2.5, abs=0.02)
