"""The account by tenant, and how fairly they were served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tokensim.metrics.latency import percentile, request_latency
from tokensim.metrics.log import STATUSES, RequestColumns


@dataclass(frozen=True, slots=True)
class TenantReport:
    """One tenant: how its requests ended, TTFT (None: nothing came), tokens of prompts whose answer began and
    tokens produced. ``tokens_per_s`` of both, from its first arrival to its last finish."""

    tenant: int
    requests: int
    finished: int
    rejected: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    input_tokens: int
    output_tokens: int
    tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Tenants:
    """All of them, by number. ``fairness`` is Jain's index (Jain, Chiu, Hawe, DEC-TR-301, 1984) of the rates
    ``tokens_per_s`` by weight: 1 if all are equal, 1/n if one gets everything; None if nobody got any."""

    fairness: float | None
    tenants: tuple[TenantReport, ...]


def tenants_of(requests: RequestColumns, weights: Mapping[int, float]) -> Tenants | None:
    """The account of ``requests`` by tenant, with the ``weights`` of fair sharing (1 where none is given);
    None if the workload has no tenants."""
    if requests.tenant is None:
        return None
    ttft_s = request_latency(requests).ttft_s
    reports = []
    for tenant in np.unique(requests.tenant).tolist():
        own = requests.tenant == tenant
        status = requests.status[own]
        began = own & ~np.isnan(requests.first_token_s)
        given, made = int(requests.input_tokens[began].sum()), int(requests.output_tokens[own].sum())
        ends, arrivals = requests.last_delivery_s[own], requests.arrival_s[own]
        seconds = 0.0
        if not np.isnan(ends).all():
            seconds = float(np.nanmax(ends) - np.nanmin(arrivals))
        reports.append(
            TenantReport(
                tenant=tenant,
                requests=int(own.sum()),
                finished=int((status == STATUSES.index("finished")).sum()),
                rejected=int((status == STATUSES.index("rejected")).sum()),
                ttft_p50_s=percentile(ttft_s[own], 50),
                ttft_p99_s=percentile(ttft_s[own], 99),
                input_tokens=given,
                output_tokens=made,
                tokens_per_s=(given + made) / seconds if seconds > 0 else None,
            )
        )
    rates = [(report.tokens_per_s or 0.0) / weights.get(report.tenant, 1.0) for report in reports]
    return Tenants(jain(rates), tuple(reports))


def jain(shares: Sequence[float]) -> float | None:
    """Jain's fairness index of ``shares`` ≥ 0; None if all are 0."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares > 0 else None
