"""The client: which request is sent when. Open loop, under a cap on requests in flight, or a closed loop of users."""

from __future__ import annotations

from array import array
from collections import deque

from tokensim.engine.agenda import ARRIVAL, FOLLOW_UP, Agenda
from tokensim.workload.base import Workload


class Client:
    """Puts the arrivals of ``workload`` on the agenda, one at a time, by request index."""

    def __init__(self, workload: Workload, agenda: Agenda) -> None:
        self._agenda = agenda
        self._times = array("d", workload.arrival_s.tobytes())
        self._count = len(workload)
        self._next = 0
        self._cap = workload.max_in_flight
        self._in_flight = 0
        self._held: deque[int] = deque()
        self._closed = workload.concurrency is not None
        self._think = None if workload.think_s is None else array("d", workload.think_s.tobytes())
        if workload.concurrency is not None:
            for _ in range(min(workload.concurrency, self._count)):
                self._send_next(ARRIVAL, 0.0)
        elif self._count:
            self._send_next(ARRIVAL, 0.0)

    def due(self, index: int, kind: int) -> bool:
        """Request ``index`` is due: put the next one on the agenda; whether this one is sent now (else it is held)."""
        if kind == ARRIVAL and not self._closed and self._next < self._count:
            self._send_next(ARRIVAL, 0.0)
        if self._cap is None:
            return True
        if kind == ARRIVAL and self._in_flight >= self._cap:
            self._held.append(index)
            return False
        if kind == ARRIVAL:
            self._in_flight += 1
        return True

    def finished(self, time: float) -> None:
        """Some request ended at ``time``: a held one, or the same user's next one, follows."""
        if self._closed:
            if self._next < self._count:
                self._send_next(FOLLOW_UP, time)
        elif self._held:
            self._agenda.put(time, FOLLOW_UP, self._held.popleft())
        else:
            self._in_flight -= 1

    def _send_next(self, kind: int, after: float) -> None:
        index = self._next
        self._next = index + 1
        if self._closed:
            time = after + (0.0 if self._think is None or kind == ARRIVAL else self._think[index])
        else:
            time = self._times[index]
        self._agenda.put(time, kind, index)
