from __future__ import annotations

import numpy as np
import pytest

from handmade import empty_log, run_log
from tokensim.metrics.usage import series_of, usage_of


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
