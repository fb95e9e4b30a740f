"""The client: which request is sent when. Open loop, under a cap on requests in flight, or a closed loop of
users; and requests that wait for another one's finish (the next round of a session, an agent's next call)."""

from __future__ import annotations

from array import array
from collections import deque
from heapq import heappop, heappush
from math import inf

import numpy as np

from tokensim.engine.agenda import Agenda
from tokensim.workload.base import Workload


class Client:
    """Sends the requests of ``workload``, by index.

    ``due_s`` is when the next one is due whatever happens (``inf``: none); what follows from a finish goes
    onto the agenda. ``reacts``: it must be told of finishes.

    A request that depends on another one (``Workload.after``) comes ``delay_s`` after that finished, and not
    before its own ``arrival_s``; then the cap on requests in flight applies to it as to any other. In a
    closed loop a user goes through one *tree* (a request that depends on none, and all that follow from it),
    and takes the next tree when the last request of it has ended.
    """

    def __init__(self, workload: Workload, agenda: Agenda) -> None:
        self._agenda = agenda
        self._cap = workload.max_in_flight
        self._in_flight = 0
        self._held: deque[int] = deque()
        self._freed: list[float] = []  # a heap: when slots that nobody has taken yet are free
        self._without_slot: set[int] = set()  # on the agenda, and the cap still applies to them
        self._think: array[float] | None = None
        self._next = 0
        self._trees = None if workload.after is None else _Trees(workload)
        self.closed = workload.concurrency is not None
        self.reacts = self.closed or self._cap is not None or self._trees is not None
        self._order = None if self._trees is None else self._trees.roots
        self._count = len(workload) if self._order is None else len(self._order)
        if workload.concurrency is None:
            times = workload.arrival_s if workload.after is None else workload.arrival_s[workload.after < 0]
            self._times = array("d", times.tobytes())
        else:
            self._times = array("d", [0.0]) * min(workload.concurrency, self._count)
            if workload.think_s is not None:
                self._think = array("d", workload.think_s.tobytes())
        self._untaken = len(self._times)  # in a closed loop: what no user has taken yet
        self._times.append(inf)
        self.due_s = self._times[0]

    def take(self) -> int:
        """The request that is due; −1 if it is held back because too many are in flight. HOT PATH."""
        index = self._next
        now = self.due_s
        self._next = index + 1
        self.due_s = self._times[index + 1]
        if self._order is not None:
            index = self._order[index]
        if self._cap is None:
            return index
        return index if self._has_slot(index, now, False) else -1

    def lets_go(self, index: int, now: float) -> bool:
        """Whether ``index``, which follows a finish and is due ``now``, is sent; else it is held back."""
        if index not in self._without_slot:
            return True
        self._without_slot.remove(index)
        return self._has_slot(index, now, True)

    def finished(self, index: int, time: float) -> None:
        """Request ``index`` ends at ``time``, now or later: a held one, the same user's next one, and those
        that depend on it follow."""
        trees = self._trees
        if trees is not None:
            for child in trees.children(index):
                self._follow(max(time + trees.delay_s[child], trees.arrival_s[child]), child)
        self._end(index, time)

    def failed(self, index: int, time: float) -> list[int]:
        """Request ``index`` ends at ``time`` without an answer (rejected, lost): what depends on it will
        never be sent. Returns those requests, in order; their fate is settled with this."""
        trees = self._trees
        cancelled = [] if trees is None else trees.below(index)
        if trees is not None:
            for request in cancelled:
                trees.end(request, time)
        self._end(index, time)
        return cancelled

    def _end(self, index: int, time: float) -> None:
        """Request ``index``, which was sent, ends at ``time``: its slot is free, its user may go on."""
        if self._cap is not None:
            if self._held:
                self._agenda.follow_up(time, self._held.popleft())
            else:
                heappush(self._freed, time)
        if self._trees is not None:
            time = self._trees.end(index, time)
        if self.closed and time < inf and self._untaken < self._count:
            following = self._untaken if self._order is None else self._order[self._untaken]
            self._untaken += 1
            self._follow(time + (0.0 if self._think is None else self._think[following]), following)

    def _follow(self, time: float, index: int) -> None:
        """``index`` is due at ``time`` because of a finish."""
        if self._cap is not None:
            self._without_slot.add(index)
        self._agenda.follow_up(time, index)

    def _has_slot(self, index: int, now: float, follows: bool) -> bool:
        """Whether ``index`` may leave ``now`` under the cap; else it waits for a slot.

        A slot that is freed at this very instant is for those that follow a finish (``follows``); an arrival
        takes it as one of them.
        """
        assert self._cap is not None
        if self._in_flight < self._cap:
            self._in_flight += 1
            return True
        if not self._freed:
            self._held.append(index)
            return False
        free_s = heappop(self._freed)
        if free_s < now or (follows and free_s == now):
            return True
        self._agenda.follow_up(free_s, index)
        return False


class _Trees:
    """Which requests depend on which: the columns of the workload as lists of children.

    ``roots`` depend on none, in order.
    """

    def __init__(self, workload: Workload) -> None:
        after = workload.after
        assert after is not None
        n = len(after)
        order = np.argsort(after, kind="stable")
        self.roots = array("q", order[: int((after < 0).sum())].tobytes())
        self._children = array("q", order[len(self.roots) :].tobytes())
        starts = np.searchsorted(after[order], np.arange(n + 1)) - len(self.roots)
        self._starts = array("q", starts.astype(np.int64).tobytes())
        self.arrival_s = array("d", workload.arrival_s.tobytes())
        delay_s = np.zeros(n) if workload.delay_s is None else workload.delay_s
        self.delay_s = array("d", delay_s.tobytes())
        root = np.arange(n)
        above = np.where(after < 0, root, after)
        while (above[root] != root).any():  # a parent comes before its children: the way up doubles each time
            root = above[root]
            above = above[above]
        self._root = array("q", root.tobytes())
        self._left = array("q", np.bincount(root, minlength=n).tobytes())
        self._ended_s = array("d", bytes(8 * n))

    def children(self, index: int) -> array[int]:
        """The requests that depend on ``index``, in order."""
        return self._children[self._starts[index] : self._starts[index + 1]]

    def below(self, index: int) -> list[int]:
        """All that depend on ``index``, directly or not, in order."""
        found: list[int] = []
        stack = [index]
        while stack:
            children = self.children(stack.pop())
            found += children
            stack += children
        return sorted(found)

    def end(self, index: int, time: float) -> float:
        """``index`` ends at ``time``; when its tree has ended with it, else ``inf``."""
        root = self._root[index]
        self._left[root] -= 1
        if time > self._ended_s[root]:
            self._ended_s[root] = time
        return inf if self._left[root] else self._ended_s[root]
