"""The time of a step that data-parallel ranks take together, because they share experts.

Every rank runs its own tokens through attention and dense layers; before each expert layer the ranks wait for
one another, exchange their tokens, and run all of them through the experts. So a step lasts as long as the
slowest rank's own operators and the pooled ones (``operators.*.pooled``): the experts, for the tokens of all
ranks, and the exchange. Ranks with unequal tokens send each other what they have (grouped broadcasts and
reductions: ``all_gatherv``, ``reduce_scatterv`` of vLLM's communicator), so that it takes as long as the one
that gets, or sends, most. A rank without work runs a dummy of one token, without logits.

With CUDA graphs vLLM pads all ranks to the largest padded token count, as long as every rank is within the
captured sizes; else all run eagerly, with the tokens that they have (``vllm/v1/worker/dp_utils.py``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from tokensim.cost.host import at_least
from tokensim.cost.step import CLOCKED, FAR, FIRST_SIZE, CompiledStepCost, Line, RowPart
from tokensim.model.operators import Collective

DUMMY_TOKENS = 1
"""Tokens of a dummy step (``execute_dummy_batch``)."""

Share = Literal["own", "pooled", "exchange"]


class RankStep(NamedTuple):
    """What one rank runs; the quantities are those of ``StepCost``."""

    decode: int
    context: float
    window_context: float
    window_growth: float
    longest: float
    chunks: Sequence[tuple[int, int]]
    samples: int


@dataclass(frozen=True, slots=True)
class GroupRun:
    """Steps of a group: the first lasts ``first_s``, each later one ``growth_s`` longer, for ``steps`` steps.

    ``rows`` tokens are what each rank runs, padding included; ``pooled_rows`` their mean; ``exchanged_rows``
    the equal number for which the exchange would take as long. ``waits`` are what each rank waits for the
    slowest: (seconds in the first step, what each later step adds).
    """

    first_s: float
    growth_s: float
    steps: int
    rows: tuple[int, ...]
    pooled_rows: float
    exchanged_rows: float
    waits: tuple[tuple[float, float], ...]


class RanksCost(Protocol):
    """The price of steps that ranks take together."""

    def price(self, ranks: Sequence[RankStep | None]) -> GroupRun:
        """Steps like ``ranks`` (None: a dummy), of which at least one has work. With chunks: a single one."""
        ...

    def compute_times(self, run: GroupRun) -> tuple[tuple[float, ...], float]:
        """Seconds of a step that arithmetic binds and a falling clock prolongs: of each rank's own operators,
        and of the pooled ones."""
        ...


class CompiledRanksCost:
    """Implements ``RanksCost`` from the cost of one rank's steps."""

    def __init__(self, cost: CompiledStepCost, ranks: int) -> None:
        self.cost = cost
        self.ranks = ranks
        self._own_s: list[float] = []
        self._pooled_s: list[float] = []  # by the total of all ranks
        self._exchange_s: list[float] = []  # by the total less the smallest
        self._sample_s: list[float] = []
        self._lines: dict[int, tuple[Line, ...]] = {}
        self._largest = cost.graph_sizes[-1] if cost.graph_sizes else 0
        self._compute_s: tuple[list[float], list[float]] | None = None  # own, pooled
        self._grow(FIRST_SIZE)

    def price(self, ranks: Sequence[RankStep | None]) -> GroupRun:
        """See ``RanksCost.price``. HOT PATH."""
        rows = self._rows(ranks)
        if max(rows) >= len(self._own_s):
            self._grow(max(rows) + 1)
        total = sum(rows)
        moved = total - min(rows)
        pooled_s = self._pooled_s[total] + self._exchange_s[moved]
        mixed = any(step is not None and step.chunks for step in ranks)
        alone = [
            self._step(own, step) if mixed else self._line(own, step)
            for own, step in zip(rows, ranks, strict=True)
        ]
        slowest_s, growth, _ = max(alone)
        steps = 1 if mixed else min(line[2] for line in alone)
        if not mixed:
            for first, by, _ in alone:
                if by > growth:  # it becomes the slowest when it has caught up
                    steps = min(steps, int((slowest_s - first) / (by - growth)) + 1)
        first_s, growth_s, steps = self._on_host(slowest_s + pooled_s, growth, steps, ranks)
        return GroupRun(
            first_s,
            growth_s,
            steps,
            rows,
            total / self.ranks,
            moved / (self.ranks - 1),
            tuple((slowest_s - first, growth - by) for first, by, _ in alone),
        )

    def compute_times(self, run: GroupRun) -> tuple[tuple[float, ...], float]:
        """See ``RanksCost.compute_times``."""
        if self._compute_s is None:
            size = len(self._own_s)
            self._compute_s = (
                _tabulated(parts_of(self.cost, "own"), size, 1, clocked=True),
                _tabulated(parts_of(self.cost, "pooled"), size, self.ranks, clocked=True),
            )
        own_s, pooled_s = self._compute_s
        return tuple(own_s[rows] for rows in run.rows), pooled_s[sum(run.rows)]

    def _rows(self, ranks: Sequence[RankStep | None]) -> tuple[int, ...]:
        """Tokens that each rank runs, padding included."""
        rows = [
            DUMMY_TOKENS if step is None else step.decode + sum(new for new, _ in step.chunks)
            for step in ranks
        ]
        largest = max(rows)
        if largest > self._largest:
            return tuple(rows)
        sizes = self.cost.graph_sizes
        return (sizes[bisect_left(sizes, largest)],) * len(rows)

    def _line(self, rows: int, step: RankStep | None) -> tuple[float, float, int]:
        """A rank's own operators while it decodes: (seconds of the first step, growth, for how many
        steps)."""
        first, growth, steps = self._own_s[rows], 0.0, FAR
        if step is None:
            return first, growth, steps
        first += self._sample_s[step.samples]
        lines = self._lines.get(step.decode)
        if lines is None:
            parts = self.cost.attention_parts
            lines = tuple(line for part in parts for line in self.cost.decode_lines(part, step.decode))
            self._lines[step.decode] = lines
        along = (
            (step.context, float(step.decode)),
            (step.window_context, step.window_growth),
            (step.longest, 1.0),
        )
        for line in lines:
            seconds, slope, ahead = line.ahead(*along[line.of])
            first += seconds
            growth += slope
            steps = min(steps, ahead)
        return first, growth, steps

    def _step(self, rows: int, step: RankStep | None) -> tuple[float, float, int]:
        """A rank's own operators in a step in which some rank has prefill chunks."""
        if step is None or not step.chunks:
            first, _, _ = self._line(rows, step)
            return first, 0.0, 1
        seconds = self._own_s[rows] + self._sample_s[step.samples]
        for part in self.cost.attention_parts:
            window = part.op.window
            if window is None:
                seconds += part.time.mixed(step.chunks, step.decode, step.context, step.longest)
            else:
                longest = min(step.longest, window)
                seconds += part.time.mixed(step.chunks, step.decode, step.window_context, longest)
        return seconds, 0.0, 1

    def _on_host(
        self, device_s: float, growth: float, steps: int, ranks: Sequence[RankStep | None]
    ) -> tuple[float, float, int]:
        """Steps that keep the devices busy for so long, with the host's time: (first, growth, for how many).

        Each rank has a host of its own; the one with most requests is the slowest.
        """
        host = self.cost.host
        requests = max(0 if step is None else step.decode + len(step.chunks) for step in ranks)
        if not host.asynchronous:
            return host.step(device_s, requests), growth, steps
        first_s, growth, steps = at_least(device_s, growth, steps, host.busy_s(requests))
        return first_s + host.gap_s, growth, steps

    def _grow(self, size: int) -> None:
        """Tabulate up to ``size`` rows a rank, and beyond."""
        size = max(size, 2 * len(self._own_s))
        self._own_s = _tabulated(parts_of(self.cost, "own"), size, 1)
        self._pooled_s = _tabulated(parts_of(self.cost, "pooled"), size, self.ranks)
        self._exchange_s = _tabulated(parts_of(self.cost, "exchange"), size, self.ranks - 1)
        self._sample_s = _tabulated(self.cost.sample_parts, size, 1)
        self._compute_s = None


def _tabulated(parts: Sequence[RowPart], size: int, ranks: int, clocked: bool = False) -> list[float]:
    """Seconds of ``parts`` together by the sum of the rows of ``ranks`` ranks with up to ``size`` each.

    ``clocked``: only what a falling clock prolongs.
    """
    rows = np.maximum(np.arange(1, ranks * size, dtype=np.float64) / ranks, 1.0)
    seconds = np.zeros(len(rows) + 1)
    for part in parts:
        if not clocked:
            seconds[1:] += part.time.seconds(rows)
        elif part.kind in CLOCKED:
            seconds[1:] += np.where(part.compute_bound(rows), part.time.seconds(rows), 0.0)
    return seconds.tolist()


def parts_of(cost: CompiledStepCost, share: Share) -> list[RowPart]:
    """The operators by tokens that a rank runs on its own, those that the ranks run for the tokens of all of
    them, or the collectives by which they exchange them."""
    return [part for part in cost.token_parts if _share(part) == share]


def _share(part: RowPart) -> Share:
    if not getattr(part.op, "pooled", False):
        return "own"
    return "exchange" if isinstance(part.op, Collective) else "pooled"
