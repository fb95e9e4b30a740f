"""Which data-parallel rank of an instance takes a request: vLLM's balancer between its ranks, with what it
knows.

The API process sends a request to the rank with the least ``4 · waiting + running``, the lowest rank among
equals (``vllm/v1/engine/core_client.py``, ``DPLBAsyncMPClient``), and counts it as waiting there until it
hears better. It hears from the coordinator (``coordinator.py``), which ranks report to after each step in
which their counts changed: 100 ms after it has last spoken if anything changed since, else after 5 s. When a
report of a new step comes, the coordinator keeps a copy of the counts before it and speaks of those; without
such a copy it first waits until nothing has come for 50 ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

WAITING_WEIGHT = 4
INTERVAL_S = 0.1
QUIET_INTERVAL_S = 5.0
SETTLE_S = 0.05

Counts = tuple[int, int]
"""Requests that wait, requests that run."""


class Balancer:
    """One API process and one coordinator in front of ``ranks`` ranks."""

    def __init__(self, ranks: int) -> None:
        self._seen = [[0, 0] for _ in range(ranks)]  # by the API process
        self._counts: list[Counts] = [(0, 0)] * ranks  # by the coordinator
        self._before: list[Counts] | None = None
        self._changed = False
        self._spoken_s = 0.0
        self._due_s = 0.0  # when the coordinator speaks if nothing comes
        self._reported: list[Counts] = [(0, 0)] * ranks
        self._reports: deque[tuple[float, list[Counts]]] = deque()
        self._wait(0.0)

    def report(self, time: float, counts: Sequence[Counts]) -> None:
        """A step of all ranks is over at ``time``, and these are their counts; times never go back."""
        counts = list(counts)
        if counts != self._reported:
            self._reported = counts
            self._reports.append((time, counts))

    def choose(self, now: float) -> int:
        """The rank that takes the request that is sent at ``now``."""
        self._catch_up(now)
        seen = self._seen
        best, least = 0, -1
        for rank, (waiting, running) in enumerate(seen):
            score = WAITING_WEIGHT * waiting + running
            if least < 0 or score < least:
                best, least = rank, score
        seen[best][0] += 1
        return best

    def _catch_up(self, now: float) -> None:
        """All that has happened up to ``now``."""
        reports = self._reports
        while reports and reports[0][0] <= now:
            time, counts = reports.popleft()
            self._speak_until(time)
            if self._changed:
                self._before = self._counts
            self._counts, self._changed = counts, True
            self._wait(time)
        self._speak_until(now)

    def _speak_until(self, now: float) -> None:
        """The coordinator speaks whenever it is due up to ``now``."""
        while self._due_s <= now:
            due = self._due_s
            if self._before is None:
                counts, self._changed = self._counts, False
            else:
                counts, self._before = self._before, None
            self._seen = [list(pair) for pair in counts]
            self._spoken_s = due
            self._wait(due)

    def _wait(self, now: float) -> None:
        """Something came, or the coordinator spoke: when it speaks next."""
        interval = INTERVAL_S if self._changed else QUIET_INTERVAL_S
        settle = 0.0 if self._before is not None else SETTLE_S
        self._due_s = now + max(settle, self._spoken_s + interval - now)
