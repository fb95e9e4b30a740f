"""The running batch: the requests that decode, one token each a step, all of them or none.

``RunningBatch`` says what the scheduler needs to know of them; ``DecodeBatch`` knows it without looking at
them one by one. The whole batch decodes or sits out, so one count ``k`` of its decode steps tells all: a row
that joined with ``base + k`` tokens in memory has as many at any later ``k``. ``walked.py`` has the same
batch row by row, for exact single steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from tokensim.scheduling.local.base import Limits, Step
from tokensim.scheduling.local.decoding import FAR, DecodeSet, LongestBase, WindowedDecodeSet
from tokensim.scheduling.local.request import Request
from tokensim.scheduling.local.sglang.remaining import Remaining
from tokensim.scheduling.local.sglang.row import Flight, Row


class RunningBatch(ABC):
    """SGLang's ``running_batch``. ``full`` is its sticky flag ``batch_is_full``; ``over`` are rows that have
    finished and still stand in it; ``queued`` is the batch whose output has not been processed, if any.
    """

    def __init__(self, limits: Limits, clip: int) -> None:
        self.page = limits.block_size
        self.clip = clip
        self.rows: dict[Request, Row] = {}
        self.full = False
        self.over: list[Row] = []
        self.queued: Flight | None = None
        self._first = 0
        self._last = 0
        self._ends = LongestBase()  # of the rows: prompt and clipped declared outputs

    def __len__(self) -> int:
        return len(self.rows)

    def join(self, rows: list[Row], *, front: bool) -> None:
        """Rows whose prefill was launched come, at the end or at the front."""
        if front:
            self._first -= len(rows)
        for place, row in enumerate(rows):
            row.seq = self._first + place if front else self._last + 1 + place
            self.rows[row.request] = row
            self._ends.add(row.prompt + min(row.max_new, self.clip))
            self._enter(row)
        if not front:
            self._last += len(rows)

    def leave(self, row: Row) -> None:
        """``row`` goes, with its counts up to date."""
        del self.rows[row.request]
        self._ends.remove(row.prompt + min(row.max_new, self.clip))
        self._exit(row)

    def drop_over(self) -> bool:
        """Drop those that have finished; whether there were any."""
        over, self.over = self.over, []
        for row in over:
            self.leave(row)
        return bool(over)

    def in_order(self) -> list[Row]:
        """The rows in the batch's own order."""
        return sorted(self.rows.values(), key=_place)

    def reorder(self, rows: Iterable[Row]) -> None:
        """The batch's rows stand in this order from now on."""
        self._first, self._last = 0, -1
        for row in rows:
            self._last += 1
            row.seq = self._last

    def in_flight(self, row: Row) -> bool:
        """Whether the queued batch brings ``row`` a token."""
        queued = self.queued
        return queued is not None and (queued.decodes or row.step == queued.index)

    def estimate(self, ratio: float) -> float:
        """Outputs still to come, summed row by row in the batch's order as SGLang does, in floating point."""
        return sum(
            min(row.max_new - self.outs(row), self.clip) * (1.0 if row.ignore_eos else ratio)
            for row in self.in_order()
        )

    def longest_end(self) -> int:
        """The most tokens that any row may come to."""
        return self._ends.value() if self.rows else 0

    @abstractmethod
    def context(self) -> int:
        """Tokens in KV slots, of all rows."""

    @abstractmethod
    def _enter(self, row: Row) -> None: ...

    @abstractmethod
    def _exit(self, row: Row) -> None: ...

    @abstractmethod
    def alloc(self, row: Row) -> int:
        """Tokens of ``row`` that hold KV slots."""

    @abstractmethod
    def outs(self, row: Row) -> int:
        """Outputs of ``row`` that the scheduler knows of."""

    @abstractmethod
    def need(self) -> int:
        """Tokens of the pages that the next decode of the batch needs."""

    @abstractmethod
    def remaining(self, ignore_eos: bool) -> int:
        """Sum of the clipped remaining outputs of rows that do, or do not, ignore EOS."""

    @abstractmethod
    def most_remaining(self) -> int:
        """No row has more outputs to come than this."""

    @abstractmethod
    def going_on(self) -> int:
        """How many rows will decode again: all but those that end with the queued batch."""

    @abstractmethod
    def foreseen(self) -> list[Row]:
        """Rows that end by length with the queued batch."""

    @abstractmethod
    def launch(self, step: Step, flight: Flight) -> None:
        """The batch decodes in ``step``."""

    @abstractmethod
    def process(self, flight: Flight) -> list[Row]:
        """The output of ``flight`` has come: rows of the running batch that end with it, in its order."""

    @abstractmethod
    def withdraw(self, row: Row) -> None:
        """``row`` is about to be retracted: it does not end in the steps in flight."""


class DecodeBatch(RunningBatch):
    """The running batch in closed form, after ``k`` decode steps of it."""

    def __init__(self, limits: Limits, clip: int) -> None:
        super().__init__(limits, clip)
        self.k = 0
        self.decoding: DecodeSet = (
            DecodeSet(limits.block_size, limits.longest)
            if limits.window is None
            else WindowedDecodeSet(limits.block_size, limits.window, limits.longest)
        )
        self.windowed = limits.window is not None
        self._expected = {True: Remaining(clip), False: Remaining(clip)}
        self._totals = LongestBase()
        self.past: list[Request] = []  # rows of the last decode that had ended before

    def _enter(self, row: Row) -> None:
        request = row.request
        request.base = row.end - self.k
        row.born = row.made - self.k
        request.finish_step = row.goal - row.born
        self.decoding.join(request, self.k)
        if request.finish_step <= self.k:
            self.decoding.withdraw(request)  # its only token comes with the prefill
        total = row.max_new - row.born
        self._expected[row.ignore_eos].add(total)
        self._totals.add(total)

    def _exit(self, row: Row) -> None:
        request = row.request
        row.alloc, row.outs = self.alloc(row), self.outs(row)
        self.decoding.leave(request, self.k)
        total = row.max_new - row.born
        self._expected[row.ignore_eos].remove(total)
        self._totals.remove(total)

    def alloc(self, row: Row) -> int:
        """See ``RunningBatch.alloc``."""
        return row.request.base + self.k

    def outs(self, row: Row) -> int:
        """See ``RunningBatch.outs``."""
        return min(row.born + self.k, row.goal) - self.in_flight(row)

    def context(self) -> int:
        """See ``RunningBatch.context``."""
        return self.decoding.context(self.k)

    def need(self) -> int:
        """See ``RunningBatch.need``."""
        return self.page * self.decoding.blocks_at(self.k + 1)

    def remaining(self, ignore_eos: bool) -> int:
        """See ``RunningBatch.remaining``."""
        expected, queued = self._expected[ignore_eos], self.queued
        if not expected.n:
            return 0
        if queued is None or not queued.decodes:
            total = expected.sum_at(self.k)
            if queued is not None:  # whoever has just been prefilled has one more to come than ``k`` says
                for row in queued.rows:
                    if row.ignore_eos == ignore_eos and row.request in self.rows:
                        total += row.max_new - row.outs <= self.clip
            return total
        return expected.sum_at(self.k - 1)

    def most_remaining(self) -> int:
        """See ``RunningBatch.most_remaining``."""
        return self._totals.value() - self.k + 1 if self.rows else 0

    def foreseen(self) -> list[Row]:
        """See ``RunningBatch.foreseen``."""
        queued, rows = self.queued, self.rows
        if queued is None:
            return []
        found = [row for row in queued.rows if row.outs + 1 >= row.max_new and row.request in rows]
        if queued.ended:
            found += [row for row in queued.ended if row.goal >= row.max_new]
        return found

    def launch(self, step: Step, flight: Flight) -> None:
        """See ``RunningBatch.launch``. HOT PATH."""
        decoding = self.decoding
        self.k = k = self.k + 1
        step.decode = n = decoding.n
        step.context = decoding.base_sum + n * k
        step.longest = decoding.longest_context(k)
        if self.windowed:
            step.window_context, step.window_growth = decoding.window_context(k)
        self.past = []
        queued = self.queued
        if queued is not None and (queued.ended or queued.rows):
            self.past = self._ended()
            step.idle = len(self.past)
        self.plan(flight)

    def plan(self, flight: Flight) -> None:
        """Note who ends with ``flight``, the last decode, in the batch's order."""
        ended = self.decoding.finishing.get(self.k)
        if ended is not None:
            flight.ended = sorted((self.rows[request] for request in ended), key=_place)

    def horizon(self) -> int:
        """How many steps may follow the last decode until some row ends."""
        last = self.decoding.next_finish()
        if self.windowed:
            last = min(last, self.decoding.next_crossing(self.k))
        return max(0, min(last, FAR) - self.k)

    def _ended(self) -> list[Request]:
        """Who gets the last token from the queued batch, and still stands here."""
        queued, rows = self.queued, self.rows
        if queued is None:
            return []
        ended = [row.request for row in queued.rows if row.goal <= row.outs + 1 and row.request in rows]
        return [*ended, *(row.request for row in queued.ended if row.request in rows)]

    def going_on(self) -> int:
        """See ``RunningBatch.going_on``."""
        return len(self.rows) - len(self._ended())

    def advance(self, steps: int) -> None:
        """``steps`` further decodes of the batch were launched."""
        self.k += steps

    def process(self, flight: Flight) -> list[Row]:
        """See ``RunningBatch.process``."""
        if not flight.ended:
            return flight.ended
        ended = [row for row in flight.ended if not row.finished and not row.retracted]
        for row in ended:
            self.decoding.finishing.pop(row.request.finish_step, None)
        return ended

    def withdraw(self, row: Row) -> None:
        """See ``RunningBatch.withdraw``."""
        bucket = self.decoding.finishing.get(row.request.finish_step)
        if bucket is not None and row.request in bucket:
            self.decoding.withdraw(row.request)


def _place(row: Row) -> int:
    return row.seq
