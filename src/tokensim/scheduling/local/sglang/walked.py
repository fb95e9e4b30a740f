"""The running batch row by row: every step is walked and every token counted, as in the real engine.

Runs with ``exact_steps`` use it; it is the reference for the closed forms of ``batch.py`` and takes nothing
from them.
"""

from __future__ import annotations

from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.sglang.batch import RunningBatch
from tokensim.scheduling.local.sglang.row import Flight, Row


class WalkedBatch(RunningBatch):
    """See ``RunningBatch``."""

    def __init__(self, limits: Limits, clip: int) -> None:
        super().__init__(limits, clip)
        self.window = limits.window
        self.longest = limits.longest

    def _enter(self, row: Row) -> None:
        pass

    def _exit(self, row: Row) -> None:
        pass

    def alloc(self, row: Row) -> int:
        """See ``RunningBatch.alloc``."""
        return row.alloc

    def outs(self, row: Row) -> int:
        """See ``RunningBatch.outs``."""
        return row.outs

    def context(self) -> int:
        """See ``RunningBatch.context``."""
        return sum(row.alloc for row in self.rows.values())

    def need(self) -> int:
        """See ``RunningBatch.need``."""
        return self.page * sum(row.alloc % self.page == 0 for row in self.rows.values())

    def remaining(self, ignore_eos: bool) -> int:
        """See ``RunningBatch.remaining``."""
        return sum(
            min(row.max_new - row.outs, self.clip)
            for row in self.rows.values()
            if row.ignore_eos == ignore_eos
        )

    def most_remaining(self) -> int:
        """See ``RunningBatch.most_remaining``."""
        return max((row.max_new - row.outs for row in self.rows.values()), default=0)

    def going_on(self) -> int:
        """See ``RunningBatch.going_on``."""
        return sum(row.outs + self.in_flight(row) < row.goal for row in self.rows.values())

    def foreseen(self) -> list[Row]:
        """See ``RunningBatch.foreseen``."""
        rows = self.rows.values()
        return [row for row in rows if self.in_flight(row) and row.outs + 1 >= row.max_new]

    def launch(self, step: Step, flight: Flight) -> None:
        """See ``RunningBatch.launch``."""
        flight.decoded = self.in_order()
        for row in flight.decoded:
            row.alloc += 1
            step.decode += 1
            step.context += row.alloc
            if self.longest:
                step.longest = max(step.longest, row.alloc)
            if self.window is not None:
                step.window_context += min(row.alloc, self.window)
                step.window_growth += row.alloc < self.window
            step.idle += row.outs + self.in_flight(row) >= row.goal

    def process(self, flight: Flight) -> list[Row]:
        """See ``RunningBatch.process``."""
        ended = []
        for row in flight.decoded:
            if row.finished or row.retracted:
                continue
            row.outs += 1
            if row.outs >= row.goal:
                ended.append(row)
        return ended

    def withdraw(self, row: Row) -> None:
        """See ``RunningBatch.withdraw``."""
