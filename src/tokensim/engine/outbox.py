"""What clients of a live simulation get, and when: tokens are announced when their step is scheduled, so they
wait here until their time has come.

All tokens of one step of one instance leave together: one entry a step, not a token. Behind a simulated front
end they leave when its thread has sent them, which it tells step by step (``FrontEnd.on_step``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from heapq import heappop, heappush
from math import inf, nextafter

from tokensim.engine.instance import Instance
from tokensim.engine.ranks import RankGroup

SLACK = 1e-12
"""Relative: the end of a step, worked out twice in different order."""


class Batch:
    """What leaves at ``time_s``: a token for each of ``tokens`` (index; twice: two tokens), then the end of
    each of ``ends`` (index, status), with status −1 for one that begins anew."""

    __slots__ = ("ends", "sent", "time_s", "tokens")

    def __init__(self, time_s: float) -> None:
        self.time_s = time_s
        self.tokens: list[int] = []
        self.ends: list[tuple[int, int]] = []
        self.sent = False


class Outbox:
    """Batches by the time at which they leave."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Batch]] = []
        self._numbered = 0
        self._open: dict[Instance | RankGroup, Batch] = {}  # the last one of each
        self._held: dict[Instance | RankGroup, deque[Batch]] = {}  # behind front ends

    def connect(self, axis: Instance | RankGroup) -> None:
        """``axis`` may have a front end that tells when what it sends leaves."""
        if axis.front_end is not None:
            self._held[axis] = deque()
            axis.front_end.on_step = partial(self._release, axis)

    def batch(self, axis: Instance | RankGroup, time_s: float) -> Batch:
        """What ``axis`` puts out at ``time_s``, to be added to. HOT PATH."""
        batch = self._open.get(axis)
        if batch is None or batch.time_s != time_s or batch.sent:
            batch = self._open[axis] = Batch(time_s)
            held = self._held.get(axis)
            if held is None:
                self._put(time_s, batch)
            else:
                held.append(batch)
        return batch

    def end(self, index: int, status: int, time_s: float) -> None:
        """Request ``index`` ends at ``time_s`` in no instance, or begins anew: what is still on its way to
        its client (its replica has died) is not sent."""
        waiting = [batch for *_, batch in self._due]
        waiting += (batch for held in self._held.values() for batch in held)
        for batch in waiting:
            if index in batch.tokens:
                batch.tokens = [one for one in batch.tokens if one != index]
        batch = Batch(time_s)
        batch.ends.append((index, status))
        self._put(time_s, batch)

    @property
    def next_s(self) -> float:
        """When to look again: something leaves then, or it will be known when."""
        due = self._due[0][0] if self._due else inf
        for held in self._held.values():
            if held:
                due = min(due, nextafter(held[0].time_s, inf))
        return due

    def take(self, now: float) -> Iterator[Batch]:
        """What leaves up to ``now``, in order of time."""
        for axis, held in self._held.items():
            if held and axis.front_end is not None:
                axis.front_end.catch_up(now)
        due = self._due
        while due and due[0][0] <= now:
            batch = heappop(due)[2]
            batch.sent = True
            yield batch

    def _release(self, axis: Instance | RankGroup, end_s: float, leaves_s: float) -> None:
        held = self._held[axis]
        while held and held[0].time_s <= end_s * (1 + SLACK):
            batch = held.popleft()
            batch.sent = True  # what comes now comes later
            batch.time_s = leaves_s
            self._put(leaves_s, batch)

    def _put(self, time_s: float, batch: Batch) -> None:
        self._numbered += 1
        heappush(self._due, (time_s, self._numbered, batch))
