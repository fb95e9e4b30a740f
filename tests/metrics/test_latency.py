from __future__ import annotations

import math

import numpy as np
import pytest

from handmade import NAN, floats, request_columns
from tokensim.metrics.latency import distribution, percentile, request_latency


def test_latencies_follow_their_definitions() -> None:
    latency = request_latency(request_columns())
    nan = pytest.approx(NAN, nan_ok=True)
    assert list(latency.ttft_s) == pytest.approx([0.1, 0.2, 0.5, NAN, 0.2], nan_ok=True)
    assert list(latency.tpot_s) == pytest.approx([0.1, 0.2, NAN, NAN, 0.1], nan_ok=True)
    assert list(latency.e2e_s) == pytest.approx([0.5, 0.6, 0.5, NAN, 1.0], nan_ok=True)
    assert list(latency.queue_s) == pytest.approx([0.0, 0.1, 0.2, NAN, 0.0], nan_ok=True)
    assert latency.tpot_s[2] == nan, "one output token has no time per output token"


def test_percentiles_interpolate_between_ranks() -> None:
    d = distribution(floats(*range(1, 12), NAN))  # 1 to 11: rank p/100·10
    assert d.count == 11
    assert d.mean == 6
    assert (d.p50, d.p90, d.p95, d.p99, d.max) == pytest.approx((6, 10, 10.5, 10.9, 11))
    assert percentile(floats(1, 2, NAN), 25) == pytest.approx(1.25)


def test_an_empty_sample_has_no_figures() -> None:
    d = distribution(np.array([math.nan]))
    assert (d.count, d.mean, d.p50, d.max) == (0, None, None, None)
    assert percentile(floats(), 99) is None
