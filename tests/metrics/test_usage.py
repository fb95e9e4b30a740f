from __future__ import annotations

import numpy as np
import pytest

from handmade import empty_log, floats, run_log
from tokensim import Scenario, simulate
from tokensim.metrics.usage import Standing, series_of, usage_of


def test_means_weigh_steps_by_their_time() -> None:
    usage = usage_of(run_log(), 2.0)
    first, second = usage.instances
    # Instance 0: 0.1 s at 10 blocks, 0.4 s at 20, 0.5 s at 40, of 100.
    assert first.kv_mean == pytest.approx((1 + 8 + 20) / 100)
    assert first.kv_max == pytest.approx(0.4)
    assert first.batch_mean == pytest.approx(0.1 + 0.8 + 1.5)
    assert (first.batch_max, first.waiting_max, first.steps, first.requests) == (3, 2, 7, 3)
    assert (first.busy_s, first.busy_share) == pytest.approx((1.0, 0.5))
    # Instance 1: 0.2 s at 5 blocks, 0.8 s at 10, of 50.
    assert second.kv_mean == pytest.approx((1 + 8) / 50)
    assert usage.kv_mean == pytest.approx((0.29 + 0.18) / 2)
    assert usage.batch_mean == pytest.approx((2.4 + 1.0) / 2)
    assert (usage.busy_share, usage.steps) == (pytest.approx(0.5), 16)


def test_the_series_has_the_mean_of_each_interval() -> None:
    series = series_of(run_log(), points=4)
    assert series.interval_s == 0.5
    # [0, 0.5): 0.1 s at 10 and 0.4 s at 20 blocks of 150; then 40; then 0.2 s at 5, 0.3 s at 10; then 10.
    assert series.kv_share == pytest.approx((18 / 150, 40 / 150, 8 / 150, 10 / 150))
    assert series.running == pytest.approx((1.8, 3, 1, 1))
    assert series.waiting == pytest.approx((0.8, 2, 0, 0))
    assert series.busy_share == pytest.approx((0.5, 0.5, 0.5, 0.5))


@pytest.mark.parametrize("points", [1, 3, 7, 60])
def test_the_series_keeps_the_area_under_the_curve(points: int) -> None:
    series = series_of(run_log(), points)
    assert np.sum(series.running) * series.interval_s == pytest.approx(2.4 + 1.0)


def test_a_run_that_did_nothing_has_no_usage() -> None:
    usage = usage_of(empty_log(), 0.0)
    assert (usage.kv_mean, usage.kv_max, usage.batch_mean, usage.busy_share) == (None, None, None, None)
    assert (usage.batch_max, usage.steps, usage.series.running) == (0, 0, ())


LATE = Standing(floats(0.0, 1.0), floats(np.inf, np.inf))
"""Instance 1 comes after half of the run."""


def test_the_busy_share_is_of_the_time_for_which_an_instance_stood() -> None:
    usage = usage_of(run_log(), 2.0, standing=LATE, stood_s=LATE.within(0.0, 2.0), pools=["a", "b"])
    assert [i.stood_s for i in usage.instances] == [2.0, 1.0]
    assert [i.busy_share for i in usage.instances] == pytest.approx([0.5, 1.0])
    assert usage.busy_share == pytest.approx(2 / 3)
    first, second = usage.pools
    assert (first.pool, first.instances_mean, first.busy_share) == ("a", 1.0, pytest.approx(0.5))
    assert (second.pool, second.instances_mean, second.busy_share) == ("b", 0.5, pytest.approx(1.0))
    assert (first.kv_mean, second.kv_max) == pytest.approx((0.29, 0.2))


def test_the_series_counts_the_blocks_and_the_instances_that_stood() -> None:
    series = series_of(run_log(), 4, LATE)
    assert series.kv_share == pytest.approx((18 / 100, 40 / 100, 8 / 150, 10 / 150))
    assert series.busy_share == pytest.approx((1.0, 1.0, 0.5, 0.5))


def test_a_replica_that_died_counts_until_then() -> None:
    scenario = Scenario.model_validate(
        {
            "model": "meta-llama/Llama-3.1-8B",
            "cluster": {
                "pools": [{"hardware": "h100-sxm-80gb", "replicas": 2}],
                "failures": [{"pool": "serve", "at": 2.0, "replica": 0, "recovery": 1.0}],
            },
            "performance": {"operators": "roofline"},
            "workload": {
                "arrivals": {"process": "constant", "rate": 10},
                "input_tokens": 100,
                "output_tokens": 20,
                "num_requests": 50,
            },
        }
    )
    result = simulate(scenario)
    start_s, makespan_s = float(result.log.requests.arrival_s[0]), result.summary.makespan_s
    usage = result.summary.usage
    assert [i.stood_s for i in usage.instances] == pytest.approx(
        [2.0 - start_s, makespan_s, start_s + makespan_s - 3.0]
    )
    (pool,) = usage.pools
    assert pool.instances_mean == pytest.approx(sum(i.stood_s for i in usage.instances) / makespan_s)
    assert all(i.busy_share is not None and i.busy_share <= 1 for i in usage.instances)
    paid_h = sum(i.stood_s for i in usage.instances) / 3600
    assert result.summary.spending.device_hours == pytest.approx(paid_h)
