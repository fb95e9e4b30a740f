"""Instances that speculate: tokens a step, gaps, ends, by hand; conservation and exact steps by property."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.in_flight_runs import run_speculating, workload
from engine.test_pipeline import check_conservation, told
from tokensim.engine import Instance, Simulation
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.log import RunLog
from tokensim.scheduling.cluster import RoundRobin
from tokensim.scheduling.local import Limits, Vllm
from tokensim.scheduling.local.speculation import (
    Acceptance,
    Recorded,
    Sampled,
    Speculation,
    expected_tokens,
)
from tokensim.workload import Workload


def limits_of(drafts: int, acceptance: Acceptance, **changes: Any) -> Limits:
    options = {"num_gpu_blocks": 400, "block_size": 4, "async_scheduling": False, **changes}
    lookahead = options.pop("lookahead", 0)
    return Limits(speculation=Speculation(drafts, acceptance, lookahead=lookahead), **options)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_accepted_drafts_come_with_the_token_that_follows_them(asynchronous: bool) -> None:
    # Steps of 1 s. The prefill gives a token; then 2 of 3, 0 of 3, 3 of 3 drafts are accepted, so that 3, 1
    # and 4 tokens come. After 1 + 3 + 1 + 4 = 9 of 10 tokens one more step is needed, of which one is kept.
    accepted = Recorded((0, 2, 0, 0, 0, 3, 0, 0, 0, 3))
    limits = limits_of(3, accepted, async_scheduling=asynchronous)
    log, simulation = run_speculating(workload([8], [10]), limits)
    assert log.requests.first_token_s[0] == 1.0
    assert log.requests.finish_s[0] == 5.0
    gaps = gaps_of(log)
    assert (gaps.count, gaps.total_s) == (4, 4.0)  # one an output, however many tokens it has
    assert log.verified is not None
    assert (log.verified.drafts, log.verified.accepted) == (12, 2 + 0 + 3 + 3)
    assert log.requests.output_tokens[0] == 10
    check_conservation(log, simulation, [10])


def test_drafts_are_rows_of_the_step_and_cost_as_such() -> None:
    log, _ = run_speculating(
        workload([8, 8], [9, 9]), limits_of(3, Sampled((0.0,))), base_s=1.0, token_s=0.01
    )
    what = log.steps.what
    assert what.drafting is not None
    assert what.drafting.drafts.tolist() == [0] + [6] * 8
    assert what.samples.tolist() == [2] + [8] * 8
    durations = log.steps.end_s - log.steps.start_s
    assert durations == pytest.approx([1.16] + [1.08] * 8)


def test_with_everything_accepted_steps_are_fewer_by_all_drafts() -> None:
    log, _ = run_speculating(workload([8], [41]), limits_of(4, Sampled((1.0,))))
    assert len(log.steps.start_s) == 1 + 40 // 5
    assert log.verified is not None and log.verified.accepted == log.verified.drafts


@pytest.mark.parametrize("rates", [(0.7,), (0.3,), (0.8, 0.6, 0.5)])
def test_mean_tokens_a_step_are_those_of_the_formula(rates: tuple[float, ...]) -> None:
    # 40 requests of 400 tokens: 6,000 to 12,000 verifications; standard error below 0.02 tokens. The last
    # verification of each is cut short, but counted as accepted, as vLLM counts it.
    log, _ = run_speculating(
        workload([8] * 40, [400] * 40), limits_of(3, Sampled(rates), num_gpu_blocks=9000)
    )
    assert log.verified is not None
    mean = 1 + log.verified.accepted / log.verified.rows
    assert mean == pytest.approx(expected_tokens(rates, 3), abs=0.06)


def test_expected_tokens_is_the_geometric_sum() -> None:
    assert expected_tokens((0.7,), 3) == pytest.approx((1 - 0.7**4) / (1 - 0.7))
    assert expected_tokens((0.8, 0.6, 0.5), 3) == pytest.approx(1 + 0.8 + 0.48 + 0.24)


def plain_run(requests: Workload, limits: Limits) -> RunLog:
    from engine.in_flight_runs import StageCost

    simulation = Simulation(requests, RoundRobin())
    simulation.add_instance(
        Instance(
            0,
            Vllm(limits, exact_steps=True),
            StageCost(2.0),
            simulation.recorder,
            max_model_len=limits.max_model_len,
            caching=limits.enable_prefix_caching,
            asynchronous=limits.async_scheduling,
            pause_before_idle=True,
            on_finish=simulation.on_finish,
        )
    )
    return simulation.run()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_with_nothing_accepted_the_schedule_is_the_plain_one(asynchronous: bool) -> None:
    rng = random.Random(7)
    prompts, outputs = [rng.randrange(1, 40) for _ in range(30)], [rng.randrange(1, 60) for _ in range(30)]
    arrivals = np.cumsum([rng.expovariate(0.2) for _ in prompts]).tolist()
    requests = workload(prompts, outputs, arrivals)
    limits = limits_of(3, Sampled((0.0,)), async_scheduling=asynchronous, num_gpu_blocks=4000)
    log, _ = run_speculating(requests, limits, base_s=2.0)
    from dataclasses import replace

    plain = plain_run(requests, replace(limits, speculation=None))
    for name in ("scheduled_s", "first_token_s"):
        np.testing.assert_allclose(getattr(log.requests, name), getattr(plain.requests, name))
    # Asynchronous, the end is foreseen only if no draft may be accepted: who ends has one step more in
    # flight, whose output is thrown away. It is then still in the batch, but has its tokens in time.
    np.testing.assert_allclose(log.requests.finish_s, plain.requests.finish_s)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_api_process_streams_an_output_a_step(asynchronous: bool) -> None:
    times = {"request_s": 0.1, "chunk_s": 0.01, "client_s": 0.5}
    limits = limits_of(3, Sampled((1.0,)), async_scheduling=asynchronous)
    log, _ = run_speculating(workload([8], [9]), limits, front_end=times)
    assert log.requests.first_token_s[0] == pytest.approx(1.1)
    assert log.requests.finish_s[0] == pytest.approx(3.1)  # 1 + 4 + 4 tokens
    assert log.requests.first_delivery_s[0] == pytest.approx(1.61)
    assert log.requests.last_delivery_s[0] == pytest.approx(3.61)


def draw(rng: random.Random) -> tuple[Limits, str, Workload, list[int]]:
    drafts = rng.choice([1, 2, 3, 5])
    version = rng.choice(["0.33.0", "0.33.0", "0.23.0", "0.19.0"])
    size, blocks = rng.choice([1, 4, 8]), rng.choice([20, 40, 200])
    acceptance: Acceptance = rng.choice([Sampled((0.6,), rng.randrange(99)), Recorded((0, 1, 3, 2, 0, 5))])
    limits = limits_of(
        drafts,
        acceptance,
        num_gpu_blocks=blocks + 1,
        block_size=size,
        max_num_seqs=rng.choice([2, 6, 30]),
        max_num_batched_tokens=rng.choice([30, 31, 64]),
        enable_prefix_caching=rng.random() < 0.5,
        async_scheduling=rng.random() < 0.5,
        scheduling_policy=rng.choice(["fcfs", "priority"]),
        max_model_len=rng.choice([1 << 40, 80]),
        lookahead=rng.choice([0, drafts]),
    )
    n, room = rng.randrange(1, 14), blocks * size - 2 * drafts - 1
    prompts = [rng.randrange(1, max(2, min(29, room // 2))) for _ in range(n)]
    outputs = [rng.randrange(1, max(2, min(40, room - prompt))) for prompt in prompts]
    arrivals = np.cumsum([rng.choice([0.0, 0.0, 1.0, rng.uniform(0, 30)]) for _ in range(n)]).tolist()
    return limits, version, workload(prompts, outputs, arrivals), outputs


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_random_speculation_loses_nothing_and_exact_steps_agree(seed: int) -> None:
    limits, version, requests, outputs = draw(random.Random(seed))
    log, simulation = run_speculating(requests, limits, version=version, token_s=0.01)
    exact, _ = run_speculating(requests, limits, version=version, token_s=0.01, exact_steps=True)
    assert told(log) == told(exact)
    for name in ("first_token_s", "finish_s", "scheduled_s"):
        np.testing.assert_allclose(
            getattr(log.requests, name), getattr(exact.requests, name), rtol=1e-9, err_msg=name
        )
    check_conservation(log, simulation, outputs)


def test_what_is_accepted_does_not_depend_on_what_else_runs() -> None:
    accepts = Sampled((0.7,), seed=3)
    alone, _ = run_speculating(workload([8], [60]), limits_of(3, accepts))
    among, _ = run_speculating(workload([8, 5, 30], [60, 20, 9], [0.0, 0.5, 7.5]), limits_of(3, accepts))
    assert alone.requests.finish_s[0] == among.requests.finish_s[0]
    other, _ = run_speculating(workload([8], [60]), limits_of(3, Sampled((0.7,), seed=4)))
    assert other.requests.finish_s[0] != alone.requests.finish_s[0]
