"""Gaps between tokens of requests that sit out whole steps, or rows that give no token, worked out by hand.

Every step lasts one second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.axis import run, workload
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import RunLog
from tokensim.scheduling.local import Limits, Static, VllmV0


def gaps(log: RunLog) -> dict[float, int]:
    """How many gaps there are of each whole number of seconds."""
    all_gaps = gaps_of(log)
    counts = {s: all_gaps.within(s + 0.5) - all_gaps.within(s - 0.5) for s in range(20)}
    assert sum(counts.values()) == all_gaps.count
    return {float(s): count for s, count in counts.items() if count}


@pytest.mark.parametrize("exact_steps", [False, True])
def test_each_waits_since_its_own_last_token(exact_steps: bool) -> None:
    requests = workload([0.0, 1.5, 2.5], [4, 3, 2])
    log = run(requests, policy=VllmV0, exact_steps=exact_steps)
    # Prompts at 0, 2 and 3; decodes at 1, 4, 5. Tokens: 1 2 5 6; 3 5 6; 4 5.
    assert log.requests.first_token_s.tolist() == [1.0, 3.0, 4.0]
    assert log.requests.finish_s.tolist() == [6.0, 6.0, 5.0]
    assert gaps(log) == {1.0: 4, 2.0: 1, 3.0: 1}


@pytest.mark.parametrize("exact_steps", [False, True])
def test_who_is_preempted_after_a_pause_waits_since_its_own_last_token(exact_steps: bool) -> None:
    requests = workload([0.0, 1.5, 2.5], [5, 3, 1], prompts=[7, 8, 4])
    log = run(requests, policy=VllmV0, exact_steps=exact_steps, blocks=5)
    # Prompts at 0, 2 and 3 take all five blocks; that of 2 is free again at 4. There 0 needs it for its ninth
    # token, and 1, whose only token came at 3, gives way until 0 is done at 7. Tokens: 1 2 5 6 7; 3 8 9; 4.
    assert log.requests.preemptions.tolist() == [0, 1, 0]
    assert log.requests.finish_s.tolist() == [7.0, 9.0, 4.0]
    assert gaps(log) == {1.0: 4, 3.0: 1, 5.0: 1}


@pytest.mark.parametrize("exact_steps", [False, True])
def test_rows_of_finished_requests_give_no_token(exact_steps: bool) -> None:
    log = run(workload([0.0, 0.0], [2, 5]), policy=Static, exact_steps=exact_steps)
    assert log.requests.finish_s.tolist() == [2.0, 5.0]
    assert gaps(log) == {1.0: 5}
    assert int((log.steps.what.decode * log.steps.what.steps).sum()) == 8
    idle = log.steps.idle
    assert idle is not None
    assert int((idle * log.steps.what.steps).sum()) == 3


class Swapping(VllmV0):
    """Copies take a quarter of a second a block."""

    def __init__(self, limits: Limits, version: str = "0.33.0", **options: Any) -> None:
        swap = {"swap_blocks": 10, "swap_s_per_block": 0.25}
        named = {name: getattr(limits, name) for name in limits.__slots__}
        super().__init__(Limits(**{**named, **swap}), version, watermark=0.0, **options)


@pytest.mark.parametrize("exact_steps", [False, True])
def test_copies_to_the_host_and_back_hold_up_the_step(exact_steps: bool) -> None:
    requests = workload([0.0, 0.0], [5, 3], prompts=[8, 8])
    log = run(requests, policy=Swapping, exact_steps=exact_steps, blocks=5)
    # Prompts until 1; a decode of 0 and two blocks out until 2.5; its others until 5.5; then two blocks in.
    assert log.requests.first_token_s.tolist() == [1.0, 1.0]
    assert log.requests.finish_s.tolist() == [5.5, 8.0]
    assert log.requests.preemptions.tolist() == [0, 1]
    all_gaps = gaps_of(log)
    assert (all_gaps.count, all_gaps.total_s) == (6, pytest.approx(4.5 + 7.0))
    assert all_gaps.quantile(1.0) == 6.0
    assert np.isclose(float(all_gaps.quantile(0.8) or 0.0), 1.5)
