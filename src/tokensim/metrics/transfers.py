"""The network in a summary: what each kind of transfer moved and how long it took; how busy each link was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokensim.metrics.latency import Distribution, distribution
from tokensim.metrics.log import LinkUse, TransferRows


@dataclass(frozen=True, slots=True)
class LinkShare:
    """One link in the summary: ``busy_share`` of the makespan with a transfer in flight, ``used_share`` of
    the bytes that it could have carried in the makespan, ``peak_transfers`` at once."""

    name: str
    bandwidth_bytes_per_s: float
    bytes: float
    busy_share: float | None
    used_share: float | None
    peak_transfers: int


@dataclass(frozen=True, slots=True)
class TransferTotals:
    """All transfers of one kind: ``count`` that arrived, ``cancelled`` ones, ``bytes`` moved by both, and the
    seconds from start to arrival."""

    kind: str
    count: int
    cancelled: int
    bytes: float
    seconds: Distribution


def link_shares(links: Sequence[LinkUse], makespan_s: float) -> tuple[LinkShare, ...]:
    """The links that carried anything, those with the largest share of their bytes first."""

    def share(amount: float) -> float | None:
        return amount / makespan_s if makespan_s > 0 else None

    used = [link for link in links if link.bytes > 0]
    used.sort(key=lambda link: (-link.bytes / link.bandwidth_bytes_per_s, link.name))
    return tuple(
        LinkShare(
            link.name,
            link.bandwidth_bytes_per_s,
            link.bytes,
            share(link.busy_s),
            share(link.bytes / link.bandwidth_bytes_per_s),
            link.peak_transfers,
        )
        for link in used
    )


def transfer_totals(rows: TransferRows) -> tuple[TransferTotals, ...]:
    """One entry a kind, in the order in which they first ended."""
    totals = []
    for index, kind in enumerate(rows.kinds):
        own = rows.kind == index
        arrived = own & rows.arrived
        totals.append(
            TransferTotals(
                kind,
                int(arrived.sum()),
                int((own & ~rows.arrived).sum()),
                float(rows.bytes[own].sum()),
                distribution((rows.end_s - rows.start_s)[arrived]),
            )
        )
    return tuple(totals)
