"""Memory tiers in a summary: what each of them saved, and what it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokensim.metrics.latency import Distribution, distribution
from tokensim.metrics.log import RunLog, TierUse
from tokensim.workload.base import Ints


@dataclass(frozen=True, slots=True)
class TierReport:
    """One memory tier in the summary.

    ``hit_tokens`` of prompts came from it, ``hit_share`` of all input; ``loads`` of ``loaded_bytes`` took
    ``load_s`` each, waiting for other copies included. The rest: see ``TierUse``.
    """

    use: TierUse
    hit_tokens: int
    hit_share: float | None
    loads: int
    loaded_bytes: float
    load_s: Distribution


def tier_reports(log: RunLog, input_tokens: int) -> tuple[TierReport, ...]:
    """One entry a tier, from the top; ``input_tokens`` of all requests that started."""
    reports = []
    for number, use in enumerate(log.tiers):
        loads = log.loads
        own = loads.tier == number if loads is not None else np.zeros(0, dtype=bool)
        hits = int(loads.hit_tokens[own].sum()) if loads is not None else 0
        reports.append(
            TierReport(
                use=use,
                hit_tokens=hits,
                hit_share=hits / input_tokens if input_tokens else None,
                loads=int(own.sum()),
                loaded_bytes=float(loads.bytes[own].sum()) if loads is not None else 0.0,
                load_s=distribution((loads.end_s - loads.start_s)[own] if loads is not None else np.zeros(0)),
            )
        )
    return tuple(reports)


def hits_by_tier(log: RunLog) -> dict[str, Ints]:
    """The tokens of each request that came from each tier at its first admission."""
    hits: dict[str, Ints] = {}
    for number, use in enumerate(log.tiers):
        column = np.zeros(len(log.requests.status), np.int64)
        if log.loads is not None:
            own = log.loads.tier == number
            np.add.at(column, log.loads.request[own], log.loads.hit_tokens[own])
        hits[use.name] = column
    return hits
