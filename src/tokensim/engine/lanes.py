"""Copies of KV between memory tiers: each direction of a link is a lane, on which one copy follows another.

A copy stream of a device, a queue of an SSD and a connection to a pool work so: in order. The end of a copy
is then known when it is asked for, even where several instances share a lane, and needs no event of its own.
A copy over several lanes (SSD to host to device) streams through all of them at once, so the slowest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Lane:
    """One direction of a link: ``free_s`` is when the copies asked for so far are done."""

    __slots__ = ("bandwidth_bytes_per_s", "bytes", "free_s")

    def __init__(self, bandwidth_bytes_per_s: float) -> None:
        self.bandwidth_bytes_per_s = bandwidth_bytes_per_s
        self.free_s = 0.0
        self.bytes = 0.0

    def backlog_bytes(self, now: float) -> float:
        """What is still to be copied."""
        return max(0.0, self.free_s - now) * self.bandwidth_bytes_per_s


class Copy(NamedTuple):
    """``bytes`` over ``lanes``; ``latency_s`` is not shortened by any bandwidth, and holds up nobody else."""

    lanes: Sequence[Lane]
    bytes: float
    latency_s: float = 0.0


def end_of(copies: Iterable[Copy], now: float, *, book: bool) -> float:
    """When ``copies``, asked for at ``now`` in this order, have all come; ``book``: they are really asked
    for."""
    free: dict[Lane, float] = {}
    end_s = now
    for copy in copies:
        for lane in copy.lanes:
            start_s = max(now, free.get(lane, lane.free_s))
            free[lane] = done_s = start_s + copy.bytes / lane.bandwidth_bytes_per_s
            end_s = max(end_s, done_s + copy.latency_s)
            if book:
                lane.bytes += copy.bytes
    if book:
        for lane, free_s in free.items():
            lane.free_s = free_s
    return end_s
