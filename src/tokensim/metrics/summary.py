"""The account of a run: every figure that a person or a script wants from it, in one tree of plain data.

Rates are over the makespan: from the first arrival to the last finish (to the end of the simulated time,
when the run was interrupted or nothing finished). Nothing in a summary depends on the machine that ran the
simulation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokensim.metrics.attribution import TimeShares, time_shares
from tokensim.metrics.energy import InstanceFacts
from tokensim.metrics.gaps import gaps_of
from tokensim.metrics.latency import Distribution, distribution, request_latency
from tokensim.metrics.log import STATUSES, RequestColumns, RunLog, Verified
from tokensim.metrics.operations import Operations, ReplicaLife, operations_of
from tokensim.metrics.slo import Slo, SloReport, judge
from tokensim.metrics.spending import Electricity, Spending, spending_of
from tokensim.metrics.tenants import Tenants, tenants_of
from tokensim.metrics.tiers import TierReport, tier_reports
from tokensim.metrics.transfers import LinkShare, TransferTotals, link_shares, transfer_totals
from tokensim.metrics.usage import Standing, Usage, always, usage_of

SIGNIFICANT_DIGITS = 12
"""Digits of a float in ``to_dict``: sums in another order differ beyond them, and files should not."""


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Every request of the workload, once, by how it ended (see ``STATUSES``)."""

    total: int
    finished: int
    truncated: int
    rejected: int
    failed: int
    cancelled: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class Latency:
    """TTFT, TPOT, E2E and queue time over the requests that have one; ITL over all gaps. Seconds."""

    ttft_s: Distribution
    tpot_s: Distribution
    itl_s: Distribution
    e2e_s: Distribution
    queue_s: Distribution


@dataclass(frozen=True, slots=True)
class Tokens:
    """``input``: of the requests whose first token came; ``output``: produced; ``cached``: prefix hits,
    ``cached_share`` of the input; ``recomputed``: thrown away by preemptions and computed again."""

    input: int
    output: int
    total: int
    cached: int
    cached_share: float | None
    recomputed: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """Per second of the makespan (arrivals: of the time from the first to the last arrival)."""

    arrivals_per_s: float | None
    requests_per_s: float | None
    input_tokens_per_s: float | None
    output_tokens_per_s: float | None
    total_tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Speculated:
    """Speculative decoding: ``drafted_tokens`` verified, ``accepted_tokens`` of them; a request got
    ``mean_accepted_length`` tokens from a step that verified drafts of its own, the model's own among them
    (vLLM's figures: ``v1/spec_decode/metrics.py``)."""

    drafted_tokens: int
    accepted_tokens: int
    acceptance_rate: float | None
    mean_accepted_length: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The account of one run. ``slo`` is None when no bound was given, ``speculation`` when nobody
    speculated."""

    complete: bool
    notes: tuple[str, ...]
    simulated_s: float
    makespan_s: float
    requests: RequestCounts
    latency: Latency
    throughput: Throughput
    tokens: Tokens
    preemptions: int
    preempted_requests: int
    slo: SloReport | None
    usage: Usage
    time: TimeShares
    spending: Spending
    transfers: tuple[TransferTotals, ...] | None = None
    """By kind; None: none ended."""
    links: tuple[LinkShare, ...] | None = None
    """Links that carried anything, the fullest first; None: none did."""
    tiers: tuple[TierReport, ...] | None = None
    """Memory tiers behind the devices, from the top; None: there are none."""
    tenants: Tenants | None = None
    """The account by tenant; None: the workload has none."""
    speculation: Speculated | None = None
    operations: Operations | None = None
    """Replicas that came and went; None: all were there from start to end."""

    def to_dict(self) -> dict[str, Any]:
        """The same tree as JSON-ready dicts and lists, in field order; a number that is not finite becomes
        None.
        """
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def summarize(
    log: RunLog,
    instances: Sequence[InstanceFacts],
    slo: Slo | None = None,
    tenant_weights: Mapping[int, float] | None = None,
    *,
    standing: Standing | None = None,
    electricity: Electricity | None = None,
    replicas: Sequence[ReplicaLife] = (),
    turned_away: int = 0,
) -> Summary:
    """The account of the run in ``log``, made by ``instances`` (in the order of ``log.num_blocks``).

    ``tenant_weights``: of tenants that do not weigh 1 in fair sharing. ``standing`` is when each
    instance came and went (default: it stayed), ``replicas`` what became of each of them. The gateway turned
    away ``turned_away`` of the rejected requests.
    """
    requests = log.requests
    latency = request_latency(requests)
    gaps = gaps_of(log)
    counts = _counts(requests)
    start_s, end_s = span(log)
    makespan_s = end_s - start_s
    stood_s = (standing or always(len(instances))).within(start_s, end_s)
    usage = usage_of(
        log, makespan_s, standing=standing, stood_s=stood_s, pools=[facts.pool for facts in instances]
    )
    started = ~np.isnan(requests.first_token_s)
    tokens = _tokens(requests, started)
    completed = counts.finished + counts.truncated
    preempted = int((requests.preemptions > 0).sum())
    return Summary(
        complete=log.complete,
        notes=_notes(log, counts, turned_away),
        simulated_s=log.end_s,
        makespan_s=makespan_s,
        requests=counts,
        latency=Latency(
            ttft_s=distribution(latency.ttft_s),
            tpot_s=distribution(latency.tpot_s),
            itl_s=gaps.distribution(),
            e2e_s=distribution(latency.e2e_s),
            queue_s=distribution(latency.queue_s),
        ),
        throughput=Throughput(
            arrivals_per_s=_arrival_rate(requests),
            requests_per_s=_rate(completed, makespan_s),
            input_tokens_per_s=_rate(tokens.input, makespan_s),
            output_tokens_per_s=_rate(tokens.output, makespan_s),
            total_tokens_per_s=_rate(tokens.total, makespan_s),
        ),
        tokens=tokens,
        preemptions=int(requests.preemptions.sum()),
        preempted_requests=preempted,
        slo=judge(slo, requests, latency, gaps, makespan_s) if slo is not None and slo.bounded() else None,
        usage=usage,
        time=time_shares(log.steps, [f.cost for f in instances]),
        spending=spending_of(
            log.steps,
            requests,
            instances,
            makespan_s,
            alive_s=stood_s,
            electricity=electricity,
            prefilled_on=log.prefilled_on,
        ),
        transfers=None if log.transfers is None else transfer_totals(log.transfers),
        links=link_shares(log.links, makespan_s) or None,
        tiers=tier_reports(log, tokens.input) or None,
        tenants=tenants_of(requests, tenant_weights or {}),
        speculation=_speculated(log.verified),
        operations=operations_of(log, replicas),
    )


def _counts(requests: RequestColumns) -> RequestCounts:
    by_status = np.bincount(requests.status, minlength=len(STATUSES))
    return RequestCounts(
        total=len(requests.status), **{name: int(by_status[i]) for i, name in enumerate(STATUSES)}
    )


def span(log: RunLog) -> tuple[float, float]:
    """When the first request arrived and the last one ended: the makespan is the time between."""
    arrivals = log.requests.arrival_s[~np.isnan(log.requests.arrival_s)]
    if not len(arrivals):
        return 0.0, 0.0
    start_s = float(arrivals.min())
    finishes = log.requests.last_delivery_s[~np.isnan(log.requests.last_delivery_s)]
    end_s = float(finishes.max()) if log.complete and len(finishes) else log.end_s
    return start_s, max(end_s, start_s)


def _tokens(requests: RequestColumns, started: np.typing.NDArray[np.bool_]) -> Tokens:
    given = int(requests.input_tokens[started].sum())
    made = int(requests.output_tokens.sum())
    cached = int(requests.cached_tokens[started].sum())
    return Tokens(
        input=given,
        output=made,
        total=given + made,
        cached=cached,
        cached_share=cached / given if given else None,
        recomputed=int(requests.recomputed_tokens.sum()),
    )


def _speculated(verified: Verified | None) -> Speculated | None:
    if verified is None:
        return None
    rows, drafts, accepted = verified.rows, verified.drafts, verified.accepted
    return Speculated(
        drafts, accepted, accepted / drafts if drafts else None, 1.0 + accepted / rows if rows else None
    )


def _rate(amount: int, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 else None


def _arrival_rate(requests: RequestColumns) -> float | None:
    arrivals = requests.arrival_s[~np.isnan(requests.arrival_s)]
    if len(arrivals) < 2:
        return None
    return _rate(len(arrivals) - 1, float(arrivals.max() - arrivals.min()))


def _notes(log: RunLog, counts: RequestCounts, turned_away: int) -> tuple[str, ...]:
    """What a reader must know before trusting the figures."""
    notes = []
    if not log.complete:
        notes.append(
            f"partial results: the run was interrupted at {log.end_s:.6g} s of simulated time, "
            f"with {counts.unfinished:,} of {counts.total:,} requests not finished"
        )
    elif counts.unfinished:
        notes.append(f"{counts.unfinished:,} of {counts.total:,} requests never finished")
    for number, why in (
        (counts.rejected - turned_away, "rejected on arrival, being longer than the context or the KV pool"),
        (turned_away, "rejected by the gateway (its queue, its timeout, or a limit of the tenant)"),
        (counts.failed, "lost with an instance, or never taken by one"),
        (counts.cancelled, "never sent, since what they wait for did not finish, or given up by the client"),
    ):
        if number:
            notes.append(f"{number:,} of {counts.total:,} requests {why}; latencies leave them out")
    if counts.truncated:
        notes.append(
            f"{counts.truncated:,} of {counts.total:,} requests cut short at the model's context length"
        )
    return tuple(notes)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    return value
