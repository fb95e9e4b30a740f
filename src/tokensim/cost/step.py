"""The cost of a step, compiled: dense arrays by the number of rows, straight lines by context.

A step of ``m`` tokens, ``s`` samples, ``n`` decodes (contexts summing to C, the longest L) and prefill chunks
keeps the device busy for

    rows(m) + samples(s) + attention(n, C, L, chunks)

and lasts ``host.step`` of that. ``rows`` and ``samples`` are sums over operators, tabulated once for every
count; decode attention of ``n`` requests is piecewise linear in C (and in L, if unequal contexts cost
something), so that a run of decode steps is a closed form up to the next knot. Where CUDA graphs are used a
step is padded to the next captured size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tokensim.cost.base import Activity, AttentionTime, DecodeCurve, OperatorTime, RowTime, StepColumns
from tokensim.cost.host import Host, at_least
from tokensim.cost.lora import AdapterCost
from tokensim.cost.work import AttentionWork, RowWork
from tokensim.errors import InputError
from tokensim.model.operators import Attention, Operator
from tokensim.workload.base import Floats

FAR = 1 << 60
"""Steps: no knot ahead."""

CLOCKED = ("gemm", "moe")
"""Kinds of operators that the device's clock slows down where arithmetic binds them."""

FIRST_SIZE = 2048
"""Rows tabulated at first; the table doubles when a step is larger."""


@dataclass(frozen=True, slots=True)
class RowPart:
    """An operator that depends on rows alone, its time and its work (of one run; ``op.count`` runs a step).

    ``ideal_s_per_flop`` and ``ideal_s_per_byte`` are the device's peaks, which say what binds it.
    """

    op: Operator
    kind: str  # gemm | moe | elementwise | collective
    time: RowTime
    work: RowWork
    ideal_s_per_flop: float
    ideal_s_per_byte: float

    def compute_bound(self, rows: Floats) -> npt.NDArray[np.bool_]:
        """Whether arithmetic at the peak would take longer than traffic at the peak."""
        compute_s = self.work.flops(rows) * self.ideal_s_per_flop
        return np.asarray(compute_s > self.work.bytes(rows) * self.ideal_s_per_byte)


@dataclass(frozen=True, slots=True)
class AttentionPart:
    """An attention operator, its time and its work (of one layer); peaks as for ``RowPart``."""

    op: Attention
    time: AttentionTime
    work: AttentionWork
    ideal_s_per_flop: float
    ideal_s_per_byte: float

    def arithmetic_s(self, pairs: float) -> float:
        """Seconds of the arithmetic of ``pairs`` of query and context in all layers, at the peak."""
        return pairs * self.work.flops_pair * self.op.count * self.ideal_s_per_flop


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds as a function of one quantity of a decode step, linear between ``knots``.

    Piece i reaches up to ``knots[i]`` (the last one for ever): ``base[i] + slope[i] · x``. ``of`` is the
    quantity: 0 = C, 1 = W, 2 = L.
    """

    of: int
    knots: tuple[float, ...]
    base: tuple[float, ...]
    slope: tuple[float, ...]

    def at(self, x: float) -> float:
        """Seconds at ``x``."""
        i = bisect_left(self.knots, x)
        return self.base[i] + self.slope[i] * x

    def ahead(self, x: float, by: float) -> tuple[float, float, int]:
        """From ``x`` on in steps of ``by`` ≥ 0: (seconds at ``x``, what a step adds, for how many steps)."""
        i = bisect_left(self.knots, x)
        steps = int((self.knots[i] - x) / by) + 1 if i < len(self.knots) and by > 0 else FAR
        return self.base[i] + self.slope[i] * x, self.slope[i] * by, steps


NO_LINE = Line(0, (), (0.0,), (0.0,))
"""No seconds, whatever the context."""

Compiled = tuple[float, float, tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[Line, ...]]


class CompiledStepCost:
    """Implements ``cost.base.StepCost`` for one rank.

    Where the time went is told by ``cost.breakdown`` (of a run) and ``cost.explain`` (of a step).

    ``graph_sizes`` are the row counts for which CUDA graphs were captured, ascending (empty: none);
    ``adapters`` prices LoRA adapters. Raises ``InputError`` if layers have different sliding windows.
    """

    window: int | None
    needs_longest: bool

    def __init__(
        self,
        rows: Sequence[RowPart],
        attention: Sequence[AttentionPart],
        host: Host,
        *,
        graph_sizes: Sequence[int] = (),
        adapters: AdapterCost | None = None,
    ) -> None:
        self.host = host
        self.adapters = adapters
        self.graph_sizes = tuple(graph_sizes)
        self.token_parts = [part for part in rows if getattr(part.op, "rows", "tokens") == "tokens"]
        self.sample_parts = [part for part in rows if getattr(part.op, "rows", "tokens") == "samples"]
        self.attention_parts = list(attention)
        self.window = _single_window([part.op for part in attention])
        self._mixed = tuple((part.op.window, part.time) for part in attention)
        self.needs_longest = any(part.time.needs_longest for part in attention)
        self._token_s: list[float] = []
        self._sample_s: list[float] = []
        self._compute_s: list[float] = []
        self._grow(FIRST_SIZE)
        self._lines: dict[int, Compiled] = {}
        self._lines_by_part: dict[int, list[list[Line]]] = {}

    # Hot path: the two methods below run once or twice a simulated request.

    def decode_run(
        self, decode: int, context: float, window_context: float, window_growth: float, longest: float
    ) -> tuple[float, float, int]:
        """See ``StepCost.decode_run``. HOT PATH."""
        try:
            first, least, knots, bases, slopes, others = self._lines[decode]
        except KeyError:
            first, least, knots, bases, slopes, others = self._compile(decode)
        i = bisect_left(knots, context)
        slope = slopes[i]
        first += bases[i] + slope * context
        growth = slope * decode
        steps = int((knots[i] - context) / decode) + 1 if i < len(knots) else FAR
        for line in others:
            seconds, more, ahead = line.ahead(
                *((window_context, window_growth) if line.of == 1 else (longest, 1.0))
            )
            first += seconds
            growth += more
            if ahead < steps:
                steps = ahead
        if first >= least and growth >= 0.0:
            return first, growth, steps
        return at_least(first, growth, steps, least)

    def step_time(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
        samples: int,
    ) -> float:
        """See ``StepCost.step_time``. HOT PATH."""
        tokens = decode
        for new, _ in chunks:
            tokens += new
        try:
            device_s = self._token_s[tokens] + self._sample_s[samples]
        except IndexError:
            self._grow(max(tokens, samples) + 1)
            device_s = self._token_s[tokens] + self._sample_s[samples]
        device_s += self.mixed_attention(decode, context, window_context, longest, chunks)
        if not device_s >= 0.0:
            raise InputError(
                f"a step with the prefill chunks {list(chunks)} beside {decode} decodes takes {device_s} s",
                where="performance.operators",
                hint="run `tokensim explain` to see which operator's time is negative or not a number",
            )
        return self.host.step(device_s, decode + len(chunks))

    def mixed_attention(
        self,
        decode: int,
        context: float,
        window_context: float,
        longest: float,
        chunks: Sequence[tuple[int, int]],
    ) -> float:
        """Seconds of attention in a step with prefill ``chunks``. HOT PATH."""
        seconds = 0.0
        for window, time in self._mixed:
            if window is None:
                seconds += time.mixed(chunks, decode, context, longest)
            else:
                seconds += time.mixed(chunks, decode, window_context, min(longest, window))
        return seconds

    def decode_attention(
        self, decode: int, context: float, window_context: float, longest: float
    ) -> list[float]:
        """Seconds of each attention operator in a step in which ``decode`` requests decode."""
        lines = self._lines_by_part.get(decode)
        if lines is None:
            lines = [self.decode_lines(part, decode) for part in self.attention_parts]
            self._lines_by_part[decode] = lines
        along = (context, window_context, longest)
        return [sum(line.at(along[line.of]) for line in part) for part in lines]

    def rows_time(self, tokens: int, samples: int) -> float:
        """Seconds of what depends on the number of tokens and of samples alone."""
        if max(tokens, samples) >= len(self._token_s):
            self._grow(max(tokens, samples) + 1)
        return self._token_s[tokens] + self._sample_s[samples]

    def compute_time(self, tokens: int) -> float:
        """See ``StepCost.compute_time``."""
        if tokens >= len(self._compute_s):
            self._tabulate_compute(max(tokens + 1, 2 * len(self._compute_s), FIRST_SIZE))
        return self._compute_s[tokens]

    def adapters_time(self, tokens: int, adapters: int) -> float:
        """See ``StepCost.adapters_time``."""
        return self.adapters.seconds(tokens, adapters) if self.adapters is not None else 0.0

    # Compilation.

    def padded(self, rows: Floats) -> Floats:
        """``rows``, each padded to the next captured size; beyond the largest they run as they are."""
        if not self.graph_sizes:
            return rows
        sizes = np.asarray(self.graph_sizes, float)
        index = np.searchsorted(sizes, rows)
        return np.where(index < len(sizes), sizes[np.minimum(index, len(sizes) - 1)], rows)

    def _grow(self, size: int) -> None:
        """Tabulate rows up to ``size`` and beyond."""
        size = max(size, 2 * len(self._token_s))
        rows = np.arange(1, size, dtype=np.float64)
        padded = self.padded(rows)
        token_s, sample_s = np.zeros(size), np.zeros(size)
        for part in self.token_parts:
            token_s[1:] += part.time.seconds(padded)
        for part in self.sample_parts:
            sample_s[1:] += part.time.seconds(rows)
        for seconds in (token_s, sample_s):
            if not np.isfinite(seconds).all() or (seconds < 0).any():
                raise InputError(
                    "an operator's time is negative or not finite",
                    where="performance.operators",
                    hint="run `tokensim explain` to see which",
                )
        self._token_s, self._sample_s = token_s.tolist(), sample_s.tolist()

    def _tabulate_compute(self, size: int) -> None:
        rows = self.padded(np.arange(1, size, dtype=np.float64))
        compute_s = np.zeros(size)
        for part in self.token_parts:
            if part.kind in CLOCKED:
                compute_s[1:] += np.where(part.compute_bound(rows), part.time.seconds(rows), 0.0)
        self._compute_s = compute_s.tolist()

    def _compile(self, decode: int) -> Compiled:
        """What ``decode_run`` adds up for ``decode`` requests: seconds at no context, the least a step lasts
        (what the host needs), the line in C, and the other lines."""
        if decode >= len(self._token_s):
            self._grow(decode + 1)
        host = self.host
        device_s = self._token_s[decode] + self._sample_s[decode]
        least = host.busy_s(decode) + host.gap_s if host.asynchronous else 0.0
        first = device_s + (host.gap_s if host.asynchronous else host.step(0.0, decode))
        lines = [line for part in self.attention_parts for line in self.decode_lines(part, decode)]
        whole = next((line for line in lines if line.of == 0), NO_LINE)
        others = tuple(line for line in lines if line is not whole)
        self._lines[decode] = compiled = (first, least, whole.knots, whole.base, whole.slope, others)
        return compiled

    def decode_lines(self, part: AttentionPart, decode: int) -> list[Line]:
        """The curve of ``part`` for ``decode`` requests as lines in C (or W) and, if skewed, L."""
        curve = part.time.decode(decode)
        _check(curve, part, decode)
        if part.op.window is not None:  # contexts capped at a window are nearly equal: no skew
            return [_line(curve, 1, decode, 1.0)]
        lines = [_line(curve, 0, decode, 1.0 - curve.skew)]
        if curve.skew:
            lines.append(_line(curve, 2, 1, curve.skew))
        return lines

    def breakdown(self, steps: StepColumns) -> list[OperatorTime]:
        """See ``StepCost.breakdown``."""
        from tokensim.cost.breakdown import breakdown

        return breakdown(self, steps)

    def activity(self, steps: StepColumns) -> Activity:
        """See ``StepCost.activity``."""
        from tokensim.cost.activity import activity

        return activity(self, steps)


def _check(curve: DecodeCurve, part: AttentionPart, decode: int) -> None:
    """Refuse a ``curve`` that is none: raises ``InputError``."""
    x, y = np.asarray(curve.contexts, float), np.asarray(curve.seconds, float)
    rises = len(x) == len(y) >= 2 and bool((np.diff(x) > 0).all())
    if not rises or not (y >= 0).all() or not np.isfinite([*x, *y, curve.skew]).all():
        raise InputError(
            f"the times of '{part.op.name}' for {decode} decodes are no curve: {curve}",
            where="performance.operators",
            hint="two contexts or more, ascending, with times of 0 or more",
        )


def _line(curve: DecodeCurve, of: int, decode: int, scale: float) -> Line:
    """``curve`` as a line in the sum of contexts of ``decode`` requests, times ``scale``."""
    x = [context * decode for context in curve.contexts]
    y = [seconds * scale for seconds in curve.seconds]
    slope = [(y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in range(len(x) - 1)]
    base = [y[i] - slope[i] * x[i] for i in range(len(slope))]
    return Line(of, tuple(x[1:-1]), tuple(base), tuple(slope))


def _single_window(attention: Sequence[Attention]) -> int | None:
    """The one sliding window of the model, or None; raises ``InputError`` if layers have different ones."""
    windows = sorted({op.window for op in attention if op.window is not None})
    if len(windows) > 1:
        raise InputError(
            f"layers with different sliding windows: {windows}",
            where="model",
            hint="all layers with a window must share one",
        )
    return windows[0] if windows else None
