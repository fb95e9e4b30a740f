"""Pipelines: bubbles, full pipes, sends, sleeps of the core; by hand and by property."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.in_flight_runs import run_pipeline, workload
from tokensim.cost.host import Host
from tokensim.engine import Simulation
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.intake import queued_s
from tokensim.metrics.log import RunLog
from tokensim.metrics.usage import usage_of
from tokensim.scheduling.local import PipelinedBatching
from tokensim.scheduling.local.flight import FlightStep

MS = 1e-3


def rows_of(log: RunLog, stage: int) -> list[tuple[float, float]]:
    """(start, end) of what ran on a stage."""
    own = log.steps.instance == stage
    return list(zip(log.steps.start_s[own].tolist(), log.steps.end_s[own].tolist(), strict=True))


def test_a_single_request_leaves_one_stage_idle_and_the_core_asleep() -> None:
    # A step takes 1 s on each stage and 0.25 s between them. The core schedules an empty batch behind it,
    # finds the queue full, waits, and sleeps 1 ms because the last schedule was empty.
    log, _ = run_pipeline(workload([4], [3]), [1.0, 1.0], send_s=0.25)
    starts = [start for start, _ in rows_of(log, 0)]
    assert starts == pytest.approx([0, 2.25 + MS, 4.5 + 2 * MS])
    assert rows_of(log, 1)[0] == pytest.approx((1.25, 2.25))
    assert log.requests.first_token_s[0] == pytest.approx(2.25)
    assert log.requests.finish_s[0] == pytest.approx(6.75 + 2 * MS)


def test_asynchronous_a_decode_waits_for_the_token_it_builds_on() -> None:
    # Scheduled while the prefill runs, it starts when the last stage has sampled and sent the token.
    log, _ = run_pipeline(workload([4], [3]), [1.0, 1.0], send_s=0.25, async_scheduling=True)
    assert [start for start, _ in rows_of(log, 0)] == [0, 2.5, 5.0]
    assert log.requests.finish_s[0] == 7.25


def test_two_batches_fill_two_stages() -> None:
    # The budget holds one prompt, so that the two requests are in different batches.
    log, _ = run_pipeline(workload([4, 4], [3, 3]), [1.0, 1.0], max_num_batched_tokens=4, max_num_seqs=4)
    assert rows_of(log, 0) == [(k, k + 1) for k in range(6)]
    assert rows_of(log, 1) == [(k + 1, k + 2) for k in range(6)]
    assert log.requests.first_token_s.tolist() == [2, 3]
    assert log.requests.finish_s.tolist() == [6, 7]
    gaps = gaps_of(log)
    assert (gaps.count, gaps.total_s, gaps.quantile(0.5)) == (4, 8.0, 2.0)
    usage = usage_of(log, 7.0)
    assert usage.steps == 6 and usage.busy_share == pytest.approx(6 / 7)
    assert usage.batch_max == 2


def test_the_slowest_stage_sets_the_pace() -> None:
    log, _ = run_pipeline(
        workload([4, 4, 4], [4, 4, 4]), [1.0, 3.0, 1.0], max_num_batched_tokens=4, max_num_seqs=4
    )
    starts = [start for start, _ in rows_of(log, 1)]
    assert starts == [1 + 3 * k for k in range(12)]  # never idle once it has begun


def test_one_batch_more_than_stages_hides_the_host_when_asynchronous() -> None:
    # Synchronous, a batch is prepared (0.2 s) after the output of the oldest; the first stage idles for that.
    # Asynchronous, with a batch more in the queue, it is prepared while the stage is busy.
    host = Host(0.0, 0.2, 0.0, asynchronous=True)
    requests = workload([4, 4], [40, 40])
    options = {"max_num_batched_tokens": 4, "max_num_seqs": 4, "host": host}
    sync, _ = run_pipeline(requests, [1.0, 1.0], **options)  # type: ignore[arg-type]
    overlapped, _ = run_pipeline(requests, [1.0, 1.0], async_scheduling=True, **options)  # type: ignore[arg-type]
    assert sync.requests.finish_s.max() == pytest.approx(40 * 2.2 + 1.2, abs=0.3)
    assert overlapped.requests.finish_s.max() == pytest.approx(40 * 2.0 + 1.2, abs=0.3)


def test_an_arrival_waits_for_the_oldest_batch_not_for_all() -> None:
    log, _ = run_pipeline(
        workload([4, 4, 4], [9, 9, 1], [0.0, 0.0, 2.5]), [1.0, 1.0], max_num_batched_tokens=5, max_num_seqs=4
    )
    # Outputs come at 2, 3, 4 …: the core takes it in at 3, with the decode that is due then.
    assert log.requests.scheduled_s[2] == 3.0
    assert queued_s(log).tolist() == [0.0, 0.0, 3.0]
    assert log.requests.first_token_s[2] == 5.0


def test_requests_that_can_never_run_are_told_apart_from_waiting_ones() -> None:
    from tokensim.errors import SimulationError

    with pytest.raises(SimulationError, match="can never run"):
        run_pipeline(workload([60], [2]), [1.0, 1.0], num_gpu_blocks=10)


def test_an_api_process_in_front_adds_its_time_before_and_after() -> None:
    # 0.1 s before the engine has the request, 0.01 s for each output, 0.5 s for the client.
    times = {"request_s": 0.1, "chunk_s": 0.01, "client_s": 0.5}
    log, _ = run_pipeline(workload([4], [2]), [1.0, 1.0], front_end=times, async_scheduling=True)
    requests = log.requests
    assert requests.first_token_s[0] == pytest.approx(2.1)
    assert requests.first_delivery_s[0] == pytest.approx(2.1 + 0.01 + 0.5)
    assert requests.last_delivery_s[0] == pytest.approx(requests.finish_s[0] + 0.01 + 0.5)


def draw(rng: random.Random) -> tuple[dict[str, object], list[float], list[int], list[int], list[float]]:
    stages = rng.choice([2, 2, 3, 4])
    stage_s = [rng.choice([1.0, rng.uniform(0.2, 2.0)]) for _ in range(stages)]
    size, blocks = rng.choice([1, 4]), rng.choice([16, 30, 120])
    version = rng.choice(["0.33.0", "0.23.0", "0.19.0"])
    limits: dict[str, object] = {
        "num_gpu_blocks": blocks + 1,
        "block_size": size,
        "max_num_seqs": rng.choice([2, 5, 30]),
        "max_num_batched_tokens": rng.choice([30, 64]),
        "enable_prefix_caching": rng.random() < 0.5,
        "async_scheduling": rng.random() < 0.5,
        "scheduling_policy": rng.choice(["fcfs", "priority"]),
        "version": version,
        "v2_model_runner": version == "0.33.0" or (version == "0.23.0" and rng.random() < 0.5),
        "send_s": rng.choice([0.0, 0.1]),
        "token_s": rng.choice([0.0, 0.01]),
        "host": Host(0.0, rng.choice([0.0, 0.1]), 0.01, asynchronous=True),
    }
    n = rng.randrange(1, 16)
    room = blocks * size
    prompts = [rng.randrange(1, max(2, min(29, room // 2))) for _ in range(n)]
    outputs = [rng.randrange(1, max(2, min(30, room - prompt))) for prompt in prompts]
    arrivals = np.cumsum([rng.choice([0.0, 0.0, 1.0, rng.uniform(0, 30)]) for _ in range(n)]).tolist()
    return limits, stage_s, prompts, outputs, arrivals


def told(log: RunLog) -> list[object]:
    requests, steps = log.requests, log.steps
    return [
        steps.instance.tolist(),
        steps.what.decode.tolist(),
        steps.what.context.tolist(),
        steps.what.chunk_tokens.tolist(),
        requests.preemptions.tolist(),
        requests.cached_tokens.tolist(),
    ]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_random_pipelines_lose_nothing_and_exact_steps_agree(seed: int) -> None:
    limits, stage_s, prompts, outputs, arrivals = draw(random.Random(seed))
    requests = workload(prompts, outputs, arrivals)
    log, simulation = run_pipeline(requests, stage_s, **limits)  # type: ignore[arg-type]
    exact, _ = run_pipeline(requests, stage_s, exact_steps=True, **limits)  # type: ignore[arg-type]
    assert told(log) == told(exact)
    for name in ("first_token_s", "finish_s", "scheduled_s"):
        np.testing.assert_allclose(
            getattr(log.requests, name), getattr(exact.requests, name), rtol=1e-9, err_msg=name
        )
    check_conservation(log, simulation, outputs)
    for stage in range(len(stage_s)):
        times = rows_of(log, stage)
        assert all(a[1] <= b[0] + 1e-9 for a, b in pairwise(times)), "two at a time"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**48))
def test_long_answers_interrupted_by_arrivals_equal_single_steps(seed: int) -> None:
    rng = random.Random(seed)
    limits, stage_s, *_ = draw(rng)
    limits |= {"num_gpu_blocks": 2000, "max_num_seqs": rng.choice([4, 30]), "max_num_batched_tokens": 8}
    n = rng.randrange(2, 9)
    outputs = [rng.randrange(100, 500) for _ in range(n)]
    arrivals = np.cumsum([rng.uniform(0, 200) for _ in range(n)]).tolist()
    requests = workload([rng.randrange(1, 12) for _ in range(n)], outputs, arrivals)
    front_end = {"request_s": 0.1, "chunk_s": 0.01, "client_s": 0.5} if rng.random() < 0.3 else None
    log, simulation = run_pipeline(requests, stage_s, front_end=front_end, **limits)  # type: ignore[arg-type]
    exact, _ = run_pipeline(requests, stage_s, exact_steps=True, front_end=front_end, **limits)  # type: ignore[arg-type]
    assert told(log) == told(exact)
    for name in ("first_token_s", "finish_s", "scheduled_s", "first_delivery_s", "last_delivery_s"):
        one, other = getattr(log.requests, name), getattr(exact.requests, name)
        np.testing.assert_allclose(one, other, rtol=1e-9, err_msg=name)
    for name in ("start_s", "end_s", "used_blocks", "running", "waiting"):
        one, other = getattr(log.steps, name), getattr(exact.steps, name)
        np.testing.assert_allclose(one, other, rtol=1e-9, err_msg=name)
    order = np.sort(np.repeat(log.gap_s, log.gap_weight))
    np.testing.assert_allclose(order, np.sort(np.repeat(exact.gap_s, exact.gap_weight)), rtol=1e-6, atol=1e-9)
    check_conservation(log, simulation, outputs)


def test_a_full_pipeline_is_worked_out_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    decided = 0
    schedule = PipelinedBatching.schedule

    def count(self: PipelinedBatching, now: float) -> FlightStep:
        nonlocal decided
        decided += 1
        return schedule(self, now)

    monkeypatch.setattr(PipelinedBatching, "schedule", count)
    options: dict[str, object] = {"max_num_batched_tokens": 4, "max_num_seqs": 4, "num_gpu_blocks": 9000}
    log, _ = run_pipeline(workload([4, 4], [4000, 4000]), [1.0, 1.0], **options)  # type: ignore[arg-type]
    assert log.requests.finish_s.tolist() == [8000, 8001]
    assert decided < 30


def check_conservation(log: RunLog, simulation: Simulation, outputs: list[int]) -> None:
    """Everybody got all tokens, gaps add up, all blocks came back."""
    requests = log.requests
    assert (requests.status == 1).all()
    assert requests.output_tokens.tolist() == outputs
    spent = float((requests.finish_s - requests.first_token_s).sum())
    assert gaps_of(log).total_s == pytest.approx(spent, rel=1e-9, abs=1e-9)
    (instance,) = simulation.instances
    scheduler = instance.scheduler
    assert not scheduler.running and not scheduler.waiting
    assert scheduler.pool.free == scheduler.pool.num_blocks  # type: ignore[union-attr]
    scheduler.check_integrity()  # type: ignore[union-attr]
