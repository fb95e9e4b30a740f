"""The client: which request is sent when. Open loop, under a cap on requests in flight, or a closed loop of
users."""

from __future__ import annotations

from array import array
from collections import deque
from heapq import heappop, heappush
from math import inf

from tokensim.engine.agenda import Agenda
from tokensim.workload.base import Workload


class Client:
    """Sends the requests of ``workload``, by index.

    ``due_s`` is when the next one is due whatever happens (``inf``: none); what follows from a finish goes
    onto the agenda. ``reacts``: it must be told of finishes.
    """

    def __init__(self, workload: Workload, agenda: Agenda) -> None:
        self._agenda = agenda
        self._count = len(workload)
        self._cap = workload.max_in_flight
        self._in_flight = 0
        self._held: deque[int] = deque()
        self._freed: list[float] = []  # a heap: when slots that nobody has taken yet are free
        self._think: array[float] | None = None
        self._next = 0
        self.closed = workload.concurrency is not None
        self.reacts = self.closed or self._cap is not None
        if workload.concurrency is None:
            self._times = array("d", workload.arrival_s.tobytes())
        else:
            self._times = array("d", [0.0]) * min(workload.concurrency, self._count)
            if workload.think_s is not None:
                self._think = array("d", workload.think_s.tobytes())
        self._times.append(inf)
        self.due_s = self._times[0]

    def take(self) -> int:
        """The request that is due; −1 if it is held back because too many are in flight. HOT PATH."""
        index = self._next
        now = self.due_s
        self._next = index + 1
        self.due_s = self._times[index + 1]
        if self._cap is None:
            return index
        if self._in_flight < self._cap:
            self._in_flight += 1
            return index
        if not self._freed:
            self._held.append(index)
            return -1
        free_s = heappop(self._freed)
        if free_s < now:
            return index
        self._agenda.follow_up(free_s, index)
        return -1

    def finished(self, index: int, time: float) -> None:
        """Request ``index`` ends at ``time``, now or later: a held one, or the same user's next one,
        follows."""
        if self.closed:
            if self._next < self._count:
                think = 0.0 if self._think is None else self._think[self._next]
                self._agenda.follow_up(time + think, self._next)
                self._next += 1
        elif self._held:
            self._agenda.follow_up(time, self._held.popleft())
        else:
            heappush(self._freed, time)
