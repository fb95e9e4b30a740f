"""The agenda: what happens next. A heap of (time, kind, number, who); nothing in it knows what the kinds
mean.

At one instant the kinds go in this order, after the arrivals that were due then anyway: transfers that end;
actions (of the control plane, and what follows from something earlier in another instance); both count in a
decision at that instant; instances deciding on their next step; what follows from these decisions in other
instances at once (it misses theirs); outputs that reach a front end; arrivals that the client sends because
something finished then (a round trip takes time, so they miss that decision), and what a gateway does about
it; requests that a front end hands to its engine (they miss it too); instances that were idle and were woken
by an arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

TRANSFER, ACTION, DECISION, REACTION, DELIVERY, FOLLOW_UP, RELEASE, INTAKE, WAKE = range(9)


class Agenda:
    """Pending events in ``heap``: the next one is popped from there by ``heapq.heappop``."""

    __slots__ = ("_numbered", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, int, Any]] = []
        self._numbered = 0

    @property
    def quiet(self) -> bool:
        """Nothing is due but actions, and decisions of instances that were idle."""
        return all(
            kind in (ACTION, REACTION, WAKE) or (kind in (DECISION, TRANSFER) and who.due_s != time)
            for time, kind, _, who in self.heap  # those that are not due at their time are out of date
        )

    def transfer(self, time: float, network: Any) -> None:
        """A transfer of ``network`` ends, if it is due then."""
        self._put(time, TRANSFER, network)

    def action(self, time: float, act: Callable[[float], None]) -> None:
        """``act`` is called with ``time`` when it comes; first put, first taken."""
        self._put(time, ACTION, act)

    def reaction(self, time: float, act: Callable[[float], None]) -> None:
        """``act`` is called with ``time``, after the decisions of that instant; first put, first taken."""
        self._put(time, REACTION, act)

    def decision(self, instance: Any) -> None:
        """``instance`` decides when it is due; of several at one instant, the one with the smallest index
        first."""
        heappush(self.heap, (instance.due_s, DECISION, instance.index, instance))

    def wake(self, instance: Any) -> None:
        """``instance``, which was idle, decides when it is due."""
        heappush(self.heap, (instance.due_s, WAKE, instance.index, instance))

    def follow_up(self, time: float, request: int) -> None:
        """The client sends ``request``, by index; of several at one instant, first put, first taken."""
        self._put(time, FOLLOW_UP, request)

    def release(self, time: float, act: Callable[[float], None]) -> None:
        """A gateway acts at ``time``: ``act`` is called with it; first put, first taken."""
        self._put(time, RELEASE, act)

    def intake(self, time: float, request: Any, instance: Any) -> None:
        """The engine of ``instance`` gets ``request`` from its front end; first put, first taken."""
        self._put(time, INTAKE, (request, instance))

    def delivery(self, time: float, front_end: Any) -> None:
        """Outputs reach ``front_end`` for which a client waits."""
        self._put(time, DELIVERY, front_end)

    def _put(self, time: float, kind: int, who: Any) -> None:
        self._numbered += 1
        heappush(self.heap, (time, kind, self._numbered, who))
