"""SGLang's two loops on the time axis, with steps of one second: worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from axis import ConstantCost

from tokensim.engine import Instance, Simulation
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import RunLog
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import Limits, Sglang
from tokensim.workload import Workload


def run(
    arrivals: list[float],
    outputs: list[int],
    *,
    asynchronous: bool,
    exact_steps: bool = False,
    tokens: int = 1000,
    prompts: list[int] | None = None,
    options: Any = (),
) -> tuple[RunLog, Sglang]:
    """Prompts of 4 tokens unless given, pages of one token, chunks of 100."""
    prompts = prompts or [4] * len(outputs)
    workload = Workload(np.array(arrivals, float), np.array(prompts), np.array(outputs))
    limits = Limits(
        num_gpu_blocks=tokens, block_size=1, max_num_batched_tokens=100, async_scheduling=asynchronous
    )
    simulation = Simulation(workload, RoundRobin())
    scheduler = Sglang(limits, exact_steps=exact_steps, **dict(options))
    simulation.add_instance(
        Instance(
            0,
            scheduler,
            ConstantCost(),
            simulation.recorder,
            max_model_len=scheduler.rejects_from(limits.max_model_len),
            caching=True,
            asynchronous=asynchronous,
            pause_before_idle=False,
            on_finish=simulation.on_finish,
        )
    )
    return simulation.run(), scheduler


def test_the_normal_loop_takes_an_arrival_into_the_next_batch() -> None:
    log, _ = run([0.0, 2.5], [10, 2], asynchronous=False)
    assert log.requests.first_token_s.tolist() == [1.0, 4.0]


def test_the_overlap_loop_takes_it_into_the_one_after_that() -> None:
    log, _ = run([0.0, 2.5], [10, 2], asynchronous=True)
    assert log.requests.first_token_s.tolist() == [1.0, 5.0]


def test_on_an_idle_server_it_starts_at_once_and_there_is_no_pause() -> None:
    log, _ = run([0.0, 3.5, 5.5, 6.0], [3, 2, 1, 1], asynchronous=True)
    assert log.requests.finish_s.tolist() == [3.0, 5.5, 6.5, 7.5]


def test_the_ratio_starts_anew_when_the_server_was_idle_but_not_without_a_break() -> None:
    """An arrival in the last step finds no empty iteration between."""
    for asynchronous in (False, True):
        _, kept = run([0.0, 4.5], [5, 1], asynchronous=asynchronous)
        assert kept.ratio.value == kept.ratio.initial, "idle at the end"
        values = []
        for second in (4.5, 5.5):
            seen: list[float] = []
            prefill = Sglang._prefill

            def watched(self: Sglang, *rest: Any, seen: list[float] = seen, prefill: Any = prefill) -> Any:
                seen.append(self.ratio.value)
                return prefill(self, *rest)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Sglang, "_prefill", watched)
                run([0.0, second], [5, 1], asynchronous=asynchronous)
            values.append(seen[-1])
        assert values[0] < values[1] == kept.ratio.initial


@pytest.mark.parametrize("exact_steps", [True, False])
def test_the_gap_over_a_prefill_counts_for_everyone_who_waited(exact_steps: bool) -> None:
    """Requests 0 and 1 decode; the prefill of request 2 at 4 s makes one gap of two seconds for each."""
    log, _ = run([0.0, 0.0, 3.5], [6, 6, 3], asynchronous=False, exact_steps=exact_steps)
    gaps = gaps_of(log)
    assert gaps.count == 5 + 5 + 2
    assert gaps.within(1.0) == 10 and gaps.within(2.0) == 12
    assert log.requests.finish_s.tolist() == [7.0, 7.0, 7.0]


@pytest.mark.parametrize("exact_steps", [True, False])
def test_gaps_over_several_prefills_count_from_each_ones_last_token(exact_steps: bool) -> None:
    """Request 1 is prefilled at 2 s, request 2 at 3 s; then all decode. They wait three, two, one second."""
    log, _ = run([0.0, 1.5, 2.5], [4, 4, 4], asynchronous=False, exact_steps=exact_steps)
    gaps = gaps_of(log)
    assert gaps.count == 9
    assert [gaps.within(x) for x in (0.5, 1.0, 2.0, 3.0)] == [0, 7, 8, 9]


@pytest.mark.parametrize("exact_steps", [True, False])
def test_a_token_past_eos_is_nobodys(exact_steps: bool) -> None:
    log, _ = run(
        [0.0, 0.0],
        [3, 6],
        asynchronous=True,
        exact_steps=exact_steps,
        options={"max_new_tokens": 50},
    )
    assert log.steps.what.decode.max() == 2
    rows = int((log.steps.what.decode * log.steps.what.steps).sum())
    assert rows == (2 + 1) + (5 + 1), "a row each for nothing"
    assert gaps_of(log).count == 2 + 5
    assert log.requests.finish_s.tolist() == [3.0, 6.0]


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("exact_steps", [True, False])
def test_gaps_and_first_tokens_add_up_however_often_requests_are_retracted(
    asynchronous: bool, exact_steps: bool
) -> None:
    log, _ = run(
        [0.0, 0.5, 1.5, 2.5, 9.5],
        [30, 40, 25, 33, 21],
        asynchronous=asynchronous,
        exact_steps=exact_steps,
        tokens=70,
        options={"schedule_conservativeness": 0.02, "ignore_eos": False, "clip_max_new_tokens": 5},
    )
    requests = log.requests
    assert requests.preemptions.sum() >= 2
    assert requests.output_tokens.tolist() == [30, 40, 25, 33, 21]
    gaps = gaps_of(log)
    assert gaps.count == int((requests.output_tokens - 1).sum())
    assert gaps.total_s == pytest.approx(float((requests.finish_s - requests.first_token_s).sum()))
