"""When each request leaves: the simulator's own client, asked in real time.

``engine.client.Client`` decides in a simulation what is sent when: arrivals, the cap on requests in flight,
users of a closed loop with their pauses, requests that wait for the answer of another. Here the very same
object decides, so that a recorded load and its replay cannot mean different things.
"""

from __future__ import annotations

from heapq import heappop
from typing import NamedTuple

from tokensim.engine.agenda import Agenda
from tokensim.engine.client import Client
from tokensim.workload.base import Workload


class Release(NamedTuple):
    """``request`` (its index) should leave at ``due_s``."""

    request: int
    due_s: float


class Schedule:
    """What leaves next; times are seconds from the start of the load.

    ``cause`` of a request in a closed loop: the request whose end let its user go on.
    """

    def __init__(self, workload: Workload) -> None:
        self._agenda = _Noting()
        self._client = Client(workload, self._agenda)
        self._after = None if workload.after is None else workload.after.tolist()
        self.cause: dict[int, int] = {}
        roots = len(workload) if self._after is None else self._after.count(-1)
        self._starters = set() if workload.concurrency is None else self._first(workload.concurrency, roots)

    def _first(self, users: int, roots: int) -> set[int]:
        """The requests with which the users begin."""
        if self._after is None:
            return set(range(min(users, roots)))
        return {
            i for i, above in enumerate(self._after) if above < 0 and users > 0 and (users := users - 1) >= 0
        }

    @property
    def due_s(self) -> float:
        """When the next request is due (``inf``: none until an answer ends)."""
        heap = self._agenda.heap
        return min(self._client.due_s, heap[0][0]) if heap else self._client.due_s

    def take(self, now: float) -> list[Release]:
        """All that should have left by ``now``, in order; what the cap holds back comes when there is
        room."""
        client, heap = self._client, self._agenda.heap
        released = []
        while (due := self.due_s) <= now:
            if client.due_s <= due:
                index = client.take()
                if index >= 0:
                    released.append(Release(index, due))
                continue
            _, _, _, index = heappop(heap)
            if client.lets_go(index, due):
                released.append(Release(index, due))
        return released

    def finished(self, index: int, now: float) -> None:
        """The answer to ``index`` ended at ``now``."""
        self._client.finished(index, now)
        self._note(index)

    def failed(self, index: int, now: float) -> list[int]:
        """``index`` failed at ``now``; returns those that will never be sent because they waited for it."""
        cancelled = self._client.failed(index, now)
        self._note(index)
        return cancelled

    def _note(self, ended: int) -> None:
        """A user of a closed loop goes on with a request that depends on nothing else."""
        for index in self._agenda.followed:
            waits = self._after is not None and self._after[index] >= 0
            if self._client.closed and not waits and index not in self._starters:
                self.cause.setdefault(index, ended)
        self._agenda.followed.clear()


class _Noting(Agenda):
    """An agenda that notes what the client puts on it."""

    def __init__(self) -> None:
        super().__init__()
        self.followed: list[int] = []

    def follow_up(self, time: float, request: int) -> None:
        """See ``Agenda``."""
        self.followed.append(request)
        super().follow_up(time, request)
