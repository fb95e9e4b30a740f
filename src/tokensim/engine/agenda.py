"""The agenda: what happens next. A heap of (time, kind, number, who); nothing in it knows what the kinds mean.

At one instant the kinds go in this order: arrivals that were due then anyway; instances deciding on their next step; arrivals
that the client sends because something finished then (a round trip takes time, so they miss that decision); instances that
were idle and were woken by an arrival.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

ARRIVAL, DECISION, FOLLOW_UP, WAKE = range(4)


class Agenda:
    """Pending events; ``now`` is the time of the last one taken."""

    __slots__ = ("_count", "heap", "now")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, int, Any]] = []
        self._count = 0
        self.now = 0.0

    def put(self, time: float, kind: int, who: Any) -> None:
        """Add an event; among equals of time and kind, first put, first taken."""
        self._count += 1
        heappush(self.heap, (time, kind, self._count, who))

    def take(self) -> tuple[float, int, int, Any]:
        """Remove and return the next event."""
        event = heappop(self.heap)
        self.now = event[0]
        return event
