"""Latencies as figures want them: distribution functions, percentiles over time, a sample of requests."""

from __future__ import annotations

import numpy as np

from tokensim.metrics.gaps import Gaps, gaps_of
from tokensim.metrics.latency import RequestLatency, request_latency
from tokensim.metrics.log import RunLog
from tokensim.report.series.base import Columns, columns, joined
from tokensim.workload.base import Floats

SHARES = np.unique(
    np.concatenate([np.linspace(0, 1, 161), np.linspace(0.9, 1, 41), np.linspace(0.99, 1, 21)]).round(6)
)
"""At which shares of the requests a distribution is read: closer together in the tail."""

GAP_POINTS = 80
"""Durations at which the gaps between tokens are counted; each takes a pass over the step log."""

TIME_BINS, IN_A_BIN = 60, 50
"""Intervals of percentiles over time at most, and requests in each on average at least."""

SAMPLE = 1_000
"""Requests that are drawn one by one."""


def latency_cdfs(log: RunLog) -> Columns:
    """``metric``, ``seconds``, ``share``: the distribution function of each latency that anybody has."""
    latency = request_latency(log.requests)
    named = {
        "ttft": latency.ttft_s,
        "tpot": latency.tpot_s,
        "e2e": latency.e2e_s,
        "queue": latency.queue_s,
    }
    tables = []
    for metric, values in named.items():
        known = values[~np.isnan(values)]
        if len(known):
            tables.append(_cdf(metric, np.quantile(known, SHARES), SHARES))
    gaps = gaps_of(log)
    if gaps.count > 0:
        seconds = _gap_grid(gaps)
        within = [0.0, *(gaps.within(x) / gaps.count for x in seconds)]
        tables.append(_cdf("itl", np.insert(seconds, 0, seconds[0]), np.array(within)))
    return joined(tables) or columns(metric=[], seconds=[], share=[])


def _cdf(metric: str, seconds: Floats, shares: Floats) -> Columns:
    return columns(metric=[metric] * len(shares), seconds=seconds, share=shares)


def _gap_grid(gaps: Gaps) -> Floats:
    """Durations that part the gaps about evenly: quantiles of the ends of the step runs, and their edges."""
    values = np.concatenate([gaps.point_s, gaps.low_s, gaps.high_s])
    weights = np.concatenate(
        [np.diff(gaps.point_count, prepend=0), gaps.steps * gaps.weight / 2, gaps.steps * gaps.weight / 2]
    )
    order = np.argsort(values, kind="stable")
    values, share = values[order], np.cumsum(np.maximum(weights[order], 0.0))
    wanted = np.append(np.linspace(0, 1, GAP_POINTS), [0.99, 0.995, 0.999])
    at = np.searchsorted(share / share[-1], wanted).clip(0, len(values) - 1)
    return np.unique(values[at])


def latency_over_time(log: RunLog) -> Columns:
    """``metric``, ``time_s``, ``p50``, ``p99``, ``requests``: percentiles of those that arrived in each
    interval, which ``time_s`` is the middle of; intervals without any are left out."""
    arrival_s = log.requests.arrival_s
    latency = request_latency(log.requests)
    tables = []
    for metric, values in (("ttft", latency.ttft_s), ("tpot", latency.tpot_s)):
        known = np.flatnonzero(~np.isnan(values) & ~np.isnan(arrival_s))
        if not len(known):
            continue
        at, seconds = arrival_s[known], values[known]
        low, high = float(at.min()), float(at.max())
        bins = int(np.clip(len(known) // IN_A_BIN, min(10, len(known)), TIME_BINS))
        width = (high - low) / bins
        where = np.minimum(((at - low) / width).astype(np.int64), bins - 1) if width > 0 else at * 0
        order = np.argsort(where, kind="stable")
        filled, starts = np.unique(where[order], return_index=True)
        groups = np.split(seconds[order], starts[1:])
        marks = np.array([np.percentile(group, [50, 99]) for group in groups])
        tables.append(
            columns(
                metric=[metric] * len(filled),
                time_s=low + (filled + 0.5) * width,
                p50=marks[:, 0],
                p99=marks[:, 1],
                requests=[len(group) for group in groups],
            )
        )
    return joined(tables) or columns(metric=[], time_s=[], p50=[], p99=[], requests=[])


def latency_sample(log: RunLog, instances: list[str]) -> Columns:
    """At most ``SAMPLE`` requests, evenly spread: ``time_s`` of arrival, ``ttft``, ``tpot`` (s), tokens,
    ``instance``, and the ``tenant`` where requests have one."""
    r = log.requests
    latency: RequestLatency = request_latency(r)
    served = np.flatnonzero(~np.isnan(latency.ttft_s))
    every = max(1, -(-len(served) // SAMPLE))
    shown = served[::every]
    tenant = {} if r.tenant is None else {"tenant": r.tenant[shown]}
    return columns(
        **tenant,
        time_s=r.arrival_s[shown],
        ttft=latency.ttft_s[shown],
        tpot=latency.tpot_s[shown],
        input_tokens=r.input_tokens[shown],
        output_tokens=r.output_tokens[shown],
        instance=[instances[i] if i >= 0 else None for i in r.instance[shown].tolist()],
    )
