"""One row a rank: where it stands in its run of equal steps, and what was left to do when the run began.

At any instant of the run, how many of its steps have been scheduled is the root of a quadratic, and what is
left is linear in that number (KV blocks: periodic). Everything here is a handful of operations on columns.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from struct import Struct
from typing import Any

import numpy as np

from tokensim.engine.axis import TimeAxis
from tokensim.workload.base import Floats

START, FIRST, GROWTH, RUN, LINEAR, SQUARE, DECODING, PREFILL, DECODE, RUNNING, WAITING, FREE, DECODE_S = (
    range(13)
)
"""The run (seconds, seconds, seconds a step, steps), ``first − growth/2`` and its square, ``Outlook``, and
seconds for one token of output."""

WRITE = Struct("13d").pack_into
ROW_BYTES = Struct("13d").size

CHUNK = 2048
"""Tokens of the prefill chunk that prices prompts, where the budget of a step allows it: vLLM's smallest
default budget, from which on prefill is bound by arithmetic and its price a token constant."""

TINY = 1e-200  # instead of dividing by zero where no step has ever run


class Rows:
    """The rows of all ranks. With ``staleness_s``, as of its last multiple."""

    def __init__(self, staleness_s: float) -> None:
        self.staleness_s = staleness_s
        self._parts: list[tuple[TimeAxis, Any, Any]] = []  # axis, scheduler and cost of each row
        self._rows_of: dict[TimeAxis, list[int]] = {}
        self._starts: list[int] = []  # the first row of each target
        self._moved: list[TimeAxis] = []  # whose rows are out of date
        self._kept_s: dict[TimeAxis, float] = {}  # as of when the rows stand, with a staleness
        self._period_s = 0.0  # as of when all rows stand
        self._dear = staleness_s > 0.0  # whether what only ``DEAR`` columns need is kept
        self._now = 0.0
        self._follows = False
        self._columns: dict[str, Any] = {}  # of this instant
        self._table = np.zeros((13, 0))  # by column; in memory, row after row
        self._memory = memoryview(bytearray())
        self._late = np.zeros(0)  # 1 where the next step is scheduled as one starts
        self._seats = np.zeros(0)
        self._blocks = np.zeros(0)
        self._sizes = np.zeros(0, np.int64)
        self._prefill_s = np.zeros(0)
        self._alone_s = np.zeros(0)  # a step of one request
        self._taken = np.zeros((0, 1))  # blocks that the next 0, 1, … steps of a run take

    def add(self, target: Any) -> None:
        """The ranks of ``target``, which are idle."""
        self._starts.append(len(self._parts))
        for rank in target.ranks:
            axis = rank.axis
            self._rows_of.setdefault(axis, []).append(len(self._parts))
            self._parts.append((axis, rank.scheduler, rank.estimate))
            self._kept_s[axis] = 0.0
            axis.before_change = self._on_event if self.staleness_s == 0.0 else self._keep
            axis.in_view = True
            self._grow(rank.scheduler, rank.estimate)
            self._write(axis)
        self._columns.clear()

    def at(self, now: float, follows: bool) -> None:
        """It is ``now``; ``follows``: decisions of this very instant have been taken."""
        self._now, self._follows = now, follows
        self._columns.clear()

    def total(self, name: str) -> Floats:
        """Column ``name``, summed over the ranks of each target."""
        column = self._column(name)
        if len(self._starts) == len(self._parts):
            return column
        key = f"total {name}"
        if key not in self._columns:
            self._columns[key] = np.add.reduceat(column, self._starts)
        summed: Floats = self._columns[key]
        return summed

    def mean(self, name: str) -> Floats:
        """Column ``name``, averaged over the ranks of each target."""
        if len(self._starts) == len(self._parts):
            return self._column(name)
        ends = [*self._starts[1:], len(self._parts)]
        return self.total(name) / (np.array(ends) - self._starts)

    def lacking_s(self, tokens: int) -> Floats:
        """How long a request of ``tokens`` would wait, by target, for the seats and blocks that are lacking
        to it and those before it: as many finishes as that takes, at the pace at which requests finish."""
        running, waiting = self.total("running"), self.total("waiting")
        free, blocks = self.total("free"), self.total("blocks")
        there = running + waiting
        seats = there + 1 - self.total("seats")
        need = (self.total("prefill") + tokens) / self.mean("sizes") - free
        held = (blocks - free) / np.maximum(running, 1)
        finishes = np.maximum(np.maximum(seats, need / np.maximum(held, 1)), 0)
        pace: Floats = self.total("decode") * self.mean("decode_s") / np.maximum(there, 1)
        return finishes * pace

    def _column(self, name: str) -> Floats:
        column = self._columns.get(name)
        if column is None:
            if name in DEAR and not self._dear:
                self._dear = True
                self._moved = list(self._rows_of)
            self._catch_up()
            column = self._columns[name] = COLUMNS[name](self)
        result: Floats = column
        return result

    # Keeping rows.

    def _on_event(self, axis: TimeAxis, now: float) -> None:
        """``axis`` decides, or takes a request: its row is out of date."""
        axis.in_view = False
        self._moved.append(axis)

    def _keep(self, axis: TimeAxis, now: float) -> None:
        """The same with a staleness: the row as it stood until now is the one that routers go on seeing."""
        as_of = self._as_of(now)
        if self._kept_s[axis] < as_of:
            self._kept_s[axis] = as_of
            self._write(axis)

    def _as_of(self, now: float) -> float:
        return floor(now / self.staleness_s) * self.staleness_s

    def _catch_up(self) -> None:
        if self.staleness_s:
            as_of = self._as_of(self._now)
            if self._period_s < as_of:
                self._period_s = as_of
                for axis in self._rows_of:
                    self._keep(axis, self._now)
            return
        moved, self._moved = self._moved, []
        for axis in moved:
            if axis.settle(self._now, self._follows):
                self._moved.append(axis)  # a pipeline, whose steps are worked out already
            else:
                axis.in_view = True
            self._write(axis)

    def _write(self, axis: TimeAxis) -> None:
        """What stands in the rows of ``axis``."""
        run = axis.run
        linear = run[1] - run[2] / 2
        for row in self._rows_of[axis]:
            _, scheduler, cost = self._parts[row]
            (running, waiting, prefill, decode, decoding, context, free, phase) = scheduler.outlook()
            there = running + waiting
            decode_s = 0.0
            if there and self._dear:
                # Every token of theirs, computed or to be computed: that does not change in a run.
                batch = min(there, int(self._seats[row]))
                mean = max(1.0, (context + prefill + decode) / there)
                window = 0.0 if cost.window is None else batch * min(mean, cost.window)
                decode_s = cost.decode_run(batch, batch * mean, window, 0.0, mean)[0] / batch
            WRITE(
                self._memory,
                row * ROW_BYTES,
                *run,
                linear,
                linear * linear,
                decoding,
                prefill,
                decode,
                running,
                waiting,
                free,
                decode_s,
            )
            if run[3] > 1 and self._dear:
                self._taken[row, 1 : len(phase) + 1] = np.cumsum(phase)

    def _grow(self, scheduler: Any, cost: Any) -> None:
        limits, pool = getattr(scheduler, "limits", None), scheduler.pool
        size = getattr(pool, "block_size", 1)
        budget = min(CHUNK, getattr(limits, "max_num_batched_tokens", CHUNK))
        table = np.zeros((len(self._parts), len(self._table)))
        table[:-1] = self._table.T
        self._table, self._memory = table.T, table.data.cast("B")
        self._late = np.append(self._late, 1.0 if self._parts[-1][0].asynchronous else 0.0)
        self._seats = np.append(self._seats, float(getattr(limits, "max_num_seqs", 1 << 30)))
        self._blocks = np.append(self._blocks, float(pool.num_blocks))
        self._sizes = np.append(self._sizes, size)
        alone = cost.decode_run(1, 1.0, 0.0 if cost.window is None else 1.0, 0.0, 1.0)[0]
        self._alone_s = np.append(self._alone_s, alone)
        self._prefill_s = np.append(
            self._prefill_s, cost.step_time(0, 0.0, 0.0, 0.0, [(budget, 0)], 1) / budget
        )
        taken = np.zeros((len(self._taken) + 1, max(self._taken.shape[1], size + 1)))
        taken[:-1, : self._taken.shape[1]] = self._taken
        self._taken = taken

    # Columns.

    def _scheduled(self) -> Floats:
        """Steps of each run that have been scheduled by now, after the first one."""
        now, follows = (self._period_s, False) if self.staleness_s else (self._now, self._follows)
        start, first, growth, run, linear, square = self._table[:6]
        ahead = 2 * np.maximum(now - start, 0.0)
        root = np.sqrt(np.maximum(square + growth * ahead, 0.0))
        # The nearest whole number is the only one in doubt: the end of that step decides.
        steps = np.rint(np.minimum(ahead / np.maximum(linear + root, TINY), run))
        end = start + steps * first + growth * (steps * (steps - 1) / 2)
        steps -= end > now if follows else end >= now
        steps = np.maximum(steps, 0.0) + self._late * (start <= now if follows else start < now)
        scheduled: Floats = np.minimum(steps, run - 1)
        return scheduled

    def _tokens(self) -> Floats:
        tokens: Floats = self._table[PREFILL] + self._left()
        return tokens

    def _left(self) -> Floats:
        left: Floats = self._table[DECODE] - self._table[DECODING] * self._column("steps")
        return left

    def _free(self) -> Floats:
        steps = self._column("steps").astype(np.int64)
        rounds, rest = np.divmod(steps, self._sizes)
        row = np.arange(len(rest))
        taken = rounds * self._taken[row, self._sizes] + self._taken[row, rest]
        free: Floats = self._table[FREE] - np.where(steps > 0, taken, 0.0)
        return free

    def _work_s(self) -> Floats:
        work: Floats = self._table[PREFILL] * self._prefill_s + self._left() * self._table[DECODE_S]
        return work

    def _next_decode_s(self) -> Floats:
        """One token of output of a request more: a step hardly gets longer, and one more shares it."""
        batch = np.minimum(self._table[RUNNING] + self._table[WAITING], self._seats)
        shared = self._table[DECODE_S] * batch / (batch + 1)
        return np.where(batch > 0, shared, self._alone_s)

    def _ahead_s(self) -> Floats:
        """Until the last step that has been scheduled by now ends, and the prompts in the queue."""
        start, first, growth = self._table[:3]
        steps = self._column("steps") + 1
        end = start + steps * first + growth * (steps * (steps - 1) / 2)
        now = self._period_s if self.staleness_s else self._now
        ahead: Floats = np.maximum(end - now, 0.0) + self._table[PREFILL] * self._prefill_s
        return ahead


COLUMNS: dict[str, Callable[[Rows], Floats]] = {
    "steps": Rows._scheduled,
    "tokens": Rows._tokens,
    "running": lambda rows: rows._table[RUNNING],
    "waiting": lambda rows: rows._table[WAITING],
    "prefill": lambda rows: rows._table[PREFILL],
    "decode": Rows._left,
    "free": Rows._free,
    "free_tokens": lambda rows: rows._column("free") * rows._sizes,
    "blocks": lambda rows: rows._blocks,
    "sizes": lambda rows: rows._sizes.astype(np.float64),
    "seats": lambda rows: rows._seats,
    "work_s": Rows._work_s,
    "ahead_s": Rows._ahead_s,
    "prefill_s": lambda rows: rows._prefill_s,
    "decode_s": lambda rows: rows._table[DECODE_S],
    "next_decode_s": Rows._next_decode_s,
}
"""What can be read, by name."""

DEAR = {"free", "work_s", "decode_s", "next_decode_s"}
"""Columns for which a row takes more to write: kept from the first time that one of them is read."""
