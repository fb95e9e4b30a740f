"""The agenda: what happens next. A heap of (time, kind, number, who); nothing in it knows what the kinds
mean.

At one instant the kinds go in this order, after the arrivals that were due then anyway: instances deciding on
their next step; arrivals that the client sends because something finished then (a round trip takes time, so
they miss that decision); instances that were idle and were woken by an arrival.
"""

from __future__ import annotations

from heapq import heappush
from typing import Any

DECISION, FOLLOW_UP, WAKE = range(3)


class Agenda:
    """Pending events in ``heap``: the next one is popped from there by ``heapq.heappop``."""

    __slots__ = ("_count", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, int, Any]] = []
        self._count = 0

    def put(self, time: float, kind: int, who: Any) -> None:
        """Add an event; among equals of time and kind, first put, first taken."""
        self._count += 1
        heappush(self.heap, (time, kind, self._count, who))
