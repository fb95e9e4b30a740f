"""Service-level objectives: who met the bounds, and the goodput.

Goodput is the number of requests a second that meet every bound (Zhong et al., DistServe, OSDI 2024). A
request with one output token has no TPOT and meets any TPOT bound. Rejected requests meet nothing; requests
that were still running when a partial run ended are not judged. The bound on ITL is judged over all gaps of
the run: gaps are not kept by request, so it does not enter goodput.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.metrics.gaps import Gaps
from tokensim.metrics.latency import RequestLatency, percentile
from tokensim.metrics.log import STATUSES, RequestColumns


@dataclass(frozen=True, slots=True)
class Slo:
    """Bounds in seconds (None: no bound), to be met at ``percentile`` (0 to 100)."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    itl_s: float | None = None
    percentile: float = 99.0

    def bounded(self) -> bool:
        """Whether any bound is given."""
        return any(b is not None for b in (self.ttft_s, self.tpot_s, self.e2e_s, self.itl_s))


@dataclass(frozen=True, slots=True)
class BoundReport:
    """One bound: the metric is ``value_s`` at the SLO's percentile; ``share`` of those judged are within
    (ITL: of all gaps).

    ``value_s`` and ``met`` are over the requests that have the metric; None when there is none.
    """

    metric: str  # ttft | tpot | e2e | itl
    bound_s: float
    value_s: float | None
    met: bool | None
    share: float | None


@dataclass(frozen=True, slots=True)
class SloReport:
    """``good_requests`` of ``judged_requests`` met all bounds; ``met``: each holds at ``percentile``."""

    percentile: float
    bounds: tuple[BoundReport, ...]
    met: bool | None
    judged_requests: int
    good_requests: int
    good_share: float | None
    goodput_per_s: float | None


LOST = ("rejected", "failed")
"""Statuses of requests that were sent and got no answer: they count as judged, and never as good."""


def judge(
    slo: Slo, requests: RequestColumns, latency: RequestLatency, gaps: Gaps, duration_s: float
) -> SloReport:
    """How the run stands to ``slo``; goodput is over ``duration_s`` seconds."""
    ended = np.isin(requests.status, [STATUSES.index(s) for s in ("finished", "truncated")])
    judged = int(ended.sum()) + int(np.isin(requests.status, [STATUSES.index(s) for s in LOST]).sum())
    good = ended.copy()
    bounds: list[BoundReport] = []
    for metric, bound, values in (
        ("ttft", slo.ttft_s, latency.ttft_s),
        ("tpot", slo.tpot_s, latency.tpot_s),
        ("e2e", slo.e2e_s, latency.e2e_s),
    ):
        if bound is None:
            continue
        within = ended & ((values <= bound) | (np.isnan(values) & (metric == "tpot")))
        good &= within
        value = percentile(values[ended], slo.percentile)
        share = int(within.sum()) / judged if judged else None
        bounds.append(BoundReport(metric, bound, value, None if value is None else value <= bound, share))
    if slo.itl_s is not None:
        value = gaps.quantile(slo.percentile / 100)
        share = gaps.within(slo.itl_s) / gaps.count if gaps.count else None
        bounds.append(
            BoundReport("itl", slo.itl_s, value, None if value is None else value <= slo.itl_s, share)
        )
    verdicts = [b.met for b in bounds if b.met is not None]
    good_requests = int(good.sum())
    return SloReport(
        percentile=slo.percentile,
        bounds=tuple(bounds),
        met=all(verdicts) if verdicts else None,
        judged_requests=judged,
        good_requests=good_requests,
        good_share=good_requests / judged if judged else None,
        goodput_per_s=good_requests / duration_s if duration_s > 0 else None,
    )
