"""Latency of each request, and a sample told in six figures.

TTFT = first token - arrival. TPOT = (finish - first token)/(output tokens - 1). E2E = finish - arrival.
Queue time = first scheduled - arrival. Percentiles over requests interpolate linearly between the two
nearest ranks (numpy's default; Hyndman and Fan 1996, definition 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.metrics.log import RequestColumns
from tokensim.workload.base import Floats

PERCENTILES = (50, 90, 95, 99)
"""The percentiles that ``Distribution`` holds."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A sample of ``count`` durations (seconds) in six figures; all None when the sample is empty."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class RequestLatency:
    """Latencies in seconds as the client sees them, one entry a request, NaN where the request has none.

    A request has a TTFT once its first token came, an E2E once it finished, a TPOT if it finished with two or
    more output tokens, a queue time once it was scheduled.
    """

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    queue_s: Floats


def request_latency(requests: RequestColumns) -> RequestLatency:
    """The latencies of each request, in the order of the columns."""
    gaps = requests.output_tokens - 1
    decode_s = requests.last_delivery_s - requests.first_delivery_s
    return RequestLatency(
        ttft_s=requests.first_delivery_s - requests.arrival_s,
        tpot_s=np.where(gaps > 0, decode_s / np.maximum(gaps, 1), np.nan),
        e2e_s=requests.last_delivery_s - requests.arrival_s,
        queue_s=requests.scheduled_s - requests.arrival_s,
    )


def distribution(values: Floats) -> Distribution:
    """``values`` in six figures; NaN entries are left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Distribution(0, None, None, None, None, None, None)
    p50, p90, p95, p99, largest = (float(v) for v in np.percentile(known, [*PERCENTILES, 100]))
    return Distribution(len(known), float(known.mean()), p50, p90, p95, p99, largest)


def percentile(values: Floats, percent: float) -> float | None:
    """The ``percent``-th percentile (0 to 100) of ``values`` without its NaN entries; None if nothing is
    left.
    """
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent)) if len(known) else None
